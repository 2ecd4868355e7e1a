//! A server's configuration of many files: the copier merges them as the server does, and finds the same ZooKeeper.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clickhouse_copier::task::{
    ConfigText, Rules, SystemSecrets, in_order, is_piece, merge_folders, merged_outline, outline_of,
};
use lab::{Lab, LabSpec, Release};
use rstest_reuse::apply;

use crate::both;

/// Text at the end of `config.xml`, other files with their text, and text of the file that `<include_from>` names.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const INCLUDED: &str = "<zk><n>1</n><n>2</n></zk><t a=\"7\">text</t><deep><m incl=\"zk\"/></deep><top incl=\"zk\"/>";

/// Files that both releases accept. The merged results are compared. Merging does not depend on the names of elements.
const MERGED: &[Case] = &[
    // Elements are paired by name and attributes, in order.
    ("<x><n>1</n><n>2</n><n>3</n></x>", &[("config.d/z.xml", "<x><n>4</n><n>5</n></x>")], ""),
    ("<x><n>1</n><n>2</n><n>3</n></x>", &[("config.d/z.xml", "<x><n remove='1'/><n remove='1'/></x>")], ""),
    ("<x><n i='1'>1</n><n i='2'>2</n></x>", &[("conf.d/z.xml", "<x><n i='2'>b</n><n>d</n><n i='3'>c</n></x>")], ""),
    ("<x a='1'>1</x>", &[("config.d/z.xml", "<x>2</x>")], ""),
    // Order of the files, and which count.
    ("<x>0</x>", &[("config.d/z.xml", "<x>config</x>"), ("conf.d/z.xml", "<x>conf</x>")], ""),
    (
        "<x>0</x>",
        &[("config.d/b.conf", "<x>b</x>"), ("config.d/a.xml", "<x>a</x>"), ("config.d/B.xml", "<x>B</x>")],
        "",
    ),
    (
        "<x>0</x>",
        &[("config.d/.z.xml", "<x>1</x>"), ("config.d/z.xml.bak", "<x>2</x>"), ("config.d/z", "<x>3</x>")],
        "",
    ),
    ("<x>0</x>", &[("config.d/z.xml", "<x>1</x>"), ("other.d/z.xml", "<x>2</x>")], ""),
    // `replace` and `remove`.
    ("<x><p>0</p></x>", &[("config.d/z.xml", "<x replace='0'><q>1</q></x>")], ""),
    ("<x><p>0</p></x><y>1</y>", &[("config.d/z.xml", "<x remove='1'/><y remove=''/><v remove='1'>2</v>")], ""),
    ("", &[("config.d/z.xml", "<x replace='1'><p>1</p></x>")], ""),
    ("", &[("config.d/z.xml", "<x><p remove='1'>1</p><q replace='1'>2</q></x>")], ""),
    ("<x><p>0</p></x>", &[("config.d/z.xml", "<x replace='1'><p remove='1'>1</p></x>")], ""),
    // Texts.
    ("<x>1</x><y>1</y><v>1</v>", &[("config.d/z.xml", "<x/><y> </y><v>a<!-- c -->b</v>")], ""),
    ("<x><![CDATA[1]]></x><y>1</y>", &[("config.d/z.xml", "<x>2</x><y><![CDATA[2]]></y>")], ""),
    ("<x><p>1</p></x><y>2</y>", &[("config.d/z.xml", "<x>2</x><y><p>1</p></y>")], ""),
    ("<x>&lt;a&amp;&#65;</x><y a='&lt;'>a\r\nb</y>", &[], ""),
    // Inclusions.
    ("<x incl='zk'/><y incl='t'/>", &[], INCLUDED),
    ("<x incl='zk'><n>0</n></x><y incl='t'>own</y>", &[], INCLUDED),
    ("<x incl='zk' replace='1'><n>0</n></x><y incl='t' a='1' replace='1'>own</y>", &[], INCLUDED),
    ("<x incl='no' optional='true'><n>0</n></x> <y incl='zk' optional='1'/>", &[], INCLUDED),
    ("<x incl='no'><n>0</n></x>", &[], INCLUDED),
    ("<x incl='deep'/><y incl='deep/m'/><v incl='zk/n'/>", &[], INCLUDED),
    ("<x incl='top'/>", &[], INCLUDED),
    ("<x from_env='HOME'/><y from_env='HOME' replace='1'>own</y>", &[], ""),
    // Inclusions and merging.
    ("<x incl='zk'/>", &[("config.d/z.xml", "<x><n>9</n></x>")], INCLUDED),
    ("<x incl='zk'/>", &[("config.d/z.xml", "<x> </x>")], INCLUDED),
    ("<x incl='zk'/>", &[("config.d/z.xml", "<x/>")], INCLUDED),
    ("<x><n>9</n></x>", &[("config.d/z.xml", "<x incl='zk'/>")], INCLUDED),
    ("<x><n>9</n></x>", &[("config.d/z.xml", "<x incl='zk' replace='1'/>")], INCLUDED),
    ("<x incl='zk'/>", &[("config.d/z.xml", "<x incl='deep'/>")], INCLUDED),
    ("<x incl='zk' optional='1'/>", &[("config.d/z.xml", "<x><n>9</n></x>")], INCLUDED),
    ("<include incl='zk'/>", &[], INCLUDED),
    ("<x><n>0</n><v/><include incl='deep'/><include incl='zk'/></x>", &[], INCLUDED),
    ("<x><n>0</n><include incl='zk' merge='1'/></x>", &[], INCLUDED),
];

/// Files that at least one release refuses. The copier refuses all of them.
const REFUSED: &[Case] = &[
    ("<x/>", &[("config.d/z.xml", "<x remove='1' replace='1'/>")], ""),
    ("<x/>", &[("config.d/z.xml", "<x>")], ""),
    ("<x incl='zk' from_env='HOME'/>", &[], INCLUDED),
    ("<x from_env='HOME'>own</x>", &[], ""),
    ("<x><include/></x>", &[], ""),
    ("<x><include incl='zk'><p/></include></x>", &[], INCLUDED),
];

/// A server and its files as they were before the cases.
struct Server<'l> {
    server: &'l lab::ClickHouse,
    config: String,
}

impl Server<'_> {
    /// Writes the files and returns what the server makes of them.
    fn with(&self, case: &Case) -> Result<Vec<String>, String> {
        let (end, pieces, included) = case;
        let dir = self.server.dir();
        for folder in ["conf.d", "config.d", "other.d"] {
            fs::remove_dir_all(dir.join(folder))
                .or_else(|_| fs::exists(dir.join(folder)).map(|there| assert!(!there)))
                .unwrap();
            fs::create_dir(dir.join(folder)).unwrap();
        }
        for (path, xml) in *pieces {
            fs::write(dir.join(path), format!("<yandex>{xml}</yandex>")).unwrap();
        }
        fs::write(dir.join("clusters.xml"), format!("<yandex><clusters/>{included}</yandex>")).unwrap();
        fs::write(dir.join("config.xml"), self.config.replace("</yandex>", &format!("{end}</yandex>"))).unwrap();
        self.server.query("SYSTEM RELOAD CONFIG").map_err(|error| error.to_string())?;
        let merged = fs::read_to_string(dir.join("data/preprocessed_configs/config.xml")).unwrap();
        Ok(outline_of(&merged).unwrap())
    }

    /// What the copier makes of the same files.
    fn ours(&self, rules: Rules) -> Result<Vec<String>, String> {
        let named = self.server.dir().join("config.xml");
        let mut pieces: Vec<PathBuf> = merge_folders(&named).iter().flat_map(|folder| files_of(folder)).collect();
        pieces.retain(|path| is_piece(path));
        in_order(&mut pieces);
        let text =
            |path: PathBuf| ConfigText { path: path.display().to_string(), text: fs::read_to_string(&path).unwrap() };
        let texts: Vec<ConfigText> = std::iter::once(named).chain(pieces).map(text).collect();
        merged_outline(&texts, rules, &SystemSecrets).map_err(|faults| faults.to_string())
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// At the end the server's ZooKeeper is configured in a separate file, and the copier finds it there.
#[apply(both)]
fn the_copier_merges_configuration_files_as_the_server_does(#[case] release: Release) {
    let lab = Lab::start(LabSpec::of(release, 1)).unwrap();
    let server = lab.clickhouse(0);
    let config = fs::read_to_string(server.dir().join("config.xml")).unwrap();
    let (begin, end) =
        (config.find("<zookeeper>").unwrap(), config.find("</zookeeper>").unwrap() + "</zookeeper>".len());
    let zookeeper = config[begin..end].to_owned();
    // Without it: a server that is told of another ZooKeeper tries to connect.
    let files = Server { server, config: config.replace(&zookeeper, "") };
    for case in MERGED {
        let theirs = files.with(case).unwrap_or_else(|error| panic!("{case:?}: the server refuses it: {error}"));
        let ours = files.ours(if release.is_modern() { Rules::Modern } else { Rules::Old });
        let (only_ours, only_theirs): (Vec<_>, Vec<_>) = match &ours {
            Ok(ours) => (
                ours.iter().filter(|line| !theirs.contains(line)).collect(),
                theirs.iter().filter(|line| !ours.contains(line)).collect(),
            ),
            Err(faults) => panic!("{case:?}: only the copier refuses it: {faults}"),
        };
        assert_eq!(ours.as_ref(), Ok(&theirs), "{case:?}\nonly ours {only_ours:?}\nonly theirs {only_theirs:?}");
    }
    for case in REFUSED {
        let theirs = files.with(case);
        // The copier applies the rules of modern servers first.
        let ours = files.ours(Rules::Modern);
        assert!(ours.is_err(), "{case:?}: the copier takes it: {ours:?}");
        assert!(theirs.is_err() || !release.is_modern(), "{case:?}: the server takes it: {theirs:?}");
    }

    files.with(&("", &[], "")).unwrap();
    fs::write(server.dir().join("config.d/zookeeper.xml"), format!("<yandex>{zookeeper}</yandex>")).unwrap();
    server.query("SYSTEM RELOAD CONFIG").unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"))
        .args(["status", "--task-path", "/no/such/task", "--config"])
        .arg(server.dir().join("config.xml"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&status.stderr);
    assert!(stderr.contains(&format!("no task at /no/such/task in ZooKeeper {}", lab.zookeeper().hosts())), "{stderr}");
}
