//! The expected values are those that servers of both releases read; `tests/it/configuration.rs` asks the servers.

use super::*;
use crate::task::{GivenSecrets, KeeperConfig};

fn texts(main: &str, pieces: &[(&str, &str)]) -> Vec<ConfigText> {
    let text = |path: &str, text: &str| ConfigText { path: path.to_owned(), text: text.to_owned() };
    let pieces = pieces.iter().map(|(path, xml)| text(path, xml));
    std::iter::once(text("config.xml", main)).chain(pieces).collect()
}

fn secrets(include_from: Option<&str>) -> GivenSecrets {
    let mut secrets = GivenSecrets::default();
    for (name, value) in [("ZK", "zk-env"), ("TWO", "<node><host>e</host></node>"), ("BROKEN", "<a>"), ("AMP", "u:p&q")]
    {
        secrets.env.insert(name.to_owned(), value.to_owned());
    }
    if let Some(text) = include_from {
        secrets.files.insert("/etc/metrika.xml".to_owned(), text.to_owned());
    }
    secrets
}

fn keeper(main: &str, pieces: &[(&str, &str)], include_from: Option<&str>) -> Result<(String, Vec<String>), String> {
    let parsed = KeeperConfig::of(&texts(main, pieces), &secrets(include_from));
    let (config, warnings) = parsed.map_err(|faults| faults.to_string())?;
    let hosts: Vec<_> = config.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let warnings = warnings.iter().map(|warning| warning.in_file("config.xml")).collect();
    Ok((format!("{}{}", hosts.join(","), config.root.unwrap_or_default()), warnings))
}

fn hosts(main: &str, pieces: &[(&str, &str)], include_from: Option<&str>) -> String {
    let (hosts, warnings) = keeper(main, pieces, include_from).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    hosts
}

const A: &str = "<zookeeper><node><host>a</host></node><root>/r</root></zookeeper>";

#[test]
fn a_merged_file_changes_replaces_or_removes_elements_of_the_main_file() {
    let main = format!("<clickhouse>{A}</clickhouse>");
    let with = |piece: &str| keeper(&main, &[("config.d/z.xml", &format!("<yandex>{piece}</yandex>"))], None);
    assert_eq!(with("").unwrap().0, "a:2181/r");
    assert_eq!(with("<zookeeper><node><port>1</port></node></zookeeper>").unwrap().0, "a:1/r");
    let b = "<node><host>b</host></node>";
    assert_eq!(with(&format!("<zookeeper>{b}</zookeeper>")).unwrap().0, "b:2181/r");
    assert_eq!(with(&format!("<zookeeper replace='1'>{b}</zookeeper>")).unwrap().0, "b:2181");
    assert_eq!(with("<zookeeper><node index='2'><host>b</host></node></zookeeper>").unwrap().0, "a:2181,b:2181/r");
    assert_eq!(with("<zookeeper remove='1'/>").unwrap_err(), "config.xml: /clickhouse: <zookeeper> is missing");
    assert_eq!(
        with("\n<zookeeper remove='1' replace='1'/>").unwrap_err(),
        "config.d/z.xml line 2: /clickhouse: <zookeeper> has both attributes, remove and replace"
    );
    // Later pieces come over earlier ones.
    let pieces = [("conf.d/z.yaml", "zookeeper: {node: {host: y}}"), ("config.d/a.xml", "<clickhouse/>")];
    assert_eq!(hosts(&main, &pieces, None), "y:2181/r");
}

/// Wrong inclusions, with the beginnings of their messages.
const WRONG_INCLUSIONS: [(&str, &str); 11] = [
    (
        "<zookeeper incl='no'/>",
        "config.xml: /clickhouse/zookeeper: incl=\"no\" is not in the file that <include_from> names (without \
         <include_from>: in /etc/metrika.xml)",
    ),
    (
        "<zookeeper incl='no' optional='true'/>",
        "config.xml: /clickhouse: <zookeeper> is missing\nconfig.xml: /clickhouse/zookeeper: incl=\"no\" is not in the file \
         that <include_from> names (without <include_from>: in /etc/metrika.xml)",
    ),
    (
        "<zookeeper><node><host from_env='NO'/></node></zookeeper>",
        "config.xml: /clickhouse/zookeeper/node/host: the environment variable NO is not set",
    ),
    (
        "<zookeeper from_env='BROKEN'/>",
        "config.xml: /clickhouse/zookeeper: the environment variable BROKEN holds a <, and is not well-formed XML",
    ),
    (
        "<zookeeper from_zk='/conf/zk'/>",
        "config.xml: /clickhouse/zookeeper: from_zk=\"/conf/zk\" is not supported: the copier does not read its configuration \
         from ZooKeeper; write the content here",
    ),
    (
        "<zookeeper incl='loop'/>",
        "/etc/metrika.xml line 1: /clickhouse/zookeeper: inclusions are nested more than 16 deep",
    ),
    (
        "<zookeeper incl='zk' from_env='ZK'/>",
        "config.xml: /clickhouse/zookeeper: has more than one of the attributes incl, from_env and from_zk",
    ),
    (
        "<zookeeper><node><host from_env='ZK'>x</host></node></zookeeper>",
        "config.xml: /clickhouse/zookeeper/node/host: is given twice: here and by from_env",
    ),
    (
        "<zookeeper incl='zk[1]'/>",
        "config.xml: /clickhouse/zookeeper: incl=\"zk[1]\" is not supported: write names of elements, with / between them",
    ),
    (
        "<zookeeper><node><host encrypted_by='AES_128_GCM_SIV'>00</host></node></zookeeper>",
        "config.xml: /clickhouse/zookeeper/node/host: encrypted_by is not supported: the copier has no key of the server; \
         write the content here",
    ),
    (
        "<include_from>/no.xml</include_from><zookeeper incl='zk'/>",
        "config.xml: /clickhouse/zookeeper: cannot read /no.xml: no such file",
    ),
];

#[test]
fn included_elements_come_from_a_file_or_the_environment() {
    let include =
        "<yandex><zk><node><host>i</host></node></zk><deep><node incl='zk/node'/></deep><loop incl='loop'/></yandex>";
    let main = |zookeeper: &str| format!("<clickhouse>{zookeeper}</clickhouse>");
    let with = |zookeeper: &str| keeper(&main(zookeeper), &[], Some(include));
    for (zookeeper, expected) in [
        ("<zookeeper incl='zk'/>", "i:2181"),
        ("<zookeeper incl='zk' optional='true'/>", "i:2181"),
        ("<zookeeper incl='deep'/>", "i:2181"),
        ("<zookeeper incl='zk'><root>/own</root></zookeeper>", "i:2181/own"),
        ("<zookeeper incl='zk' replace='1'><root>/own</root></zookeeper>", "i:2181"),
        ("<zookeeper><include incl='zk'/></zookeeper>", "i:2181"),
        ("<zookeeper><node><host from_env='ZK'/></node></zookeeper>", "zk-env:2181"),
        ("<zookeeper from_env='TWO'/>", "e:2181"),
        ("<zookeeper incl='no' optional='true'/><zookeeper><node><host>o</host></node></zookeeper>", "o:2181"),
    ] {
        assert_eq!(with(zookeeper).unwrap(), (expected.to_owned(), vec![]), "{zookeeper}");
    }
    for (zookeeper, expected) in WRONG_INCLUSIONS {
        let message = with(zookeeper).unwrap_err();
        assert!(message.starts_with(expected), "{zookeeper}: {message}");
    }
    // In elements that the copier does not use, such attributes are ignored.
    let others = "<macros from_zk='/m'/><remote_servers incl='no'/><include_from>/no.xml</include_from>";
    let (found, warnings) = with(&format!("{A}{others}")).unwrap();
    assert_eq!(found, "a:2181/r");
    assert_eq!(warnings, ["config.xml: /clickhouse: not used by the copier: macros, remote_servers"]);
}

#[test]
fn an_error_names_the_configuration_file_that_contains_it() {
    let main = format!("<clickhouse>{A}</clickhouse>");
    let piece = "<clickhouse>\n<zookeeper><node><port>x</port></node>\n<hots/></zookeeper></clickhouse>";
    let message = keeper(&main, &[("config.d/z.xml", piece)], None).unwrap_err();
    assert_eq!(
        message,
        "config.d/z.xml line 2: /clickhouse/zookeeper/node/port: must be a whole number from 1 to 65535, but is 'x'"
    );
    let (_, warnings) = keeper(&main, &[("config.d/z.xml", &piece.replace('x', "7"))], None)
        .map_err(|_| ())
        .or_else(|()| keeper(&main, &[("config.d/z.xml", &piece.replace(">x<", ">7<"))], None))
        .unwrap();
    assert_eq!(warnings, ["config.d/z.xml line 3: /clickhouse/zookeeper/hots: unknown element, ignored"]);
    assert_eq!(
        keeper(&main, &[("config.d/z.xml", "<clickhouse>\n<a></clickhouse>")], None).unwrap_err(),
        "config.d/z.xml line 2: not XML: </clickhouse> found where <a> of line 2 should end (line 2, column 4)"
    );
    assert_eq!(
        keeper(&main, &[("config.d/z.xml", "<other/>")], None).unwrap_err(),
        "config.d/z.xml line 1: /other: the root element must be <clickhouse> or <yandex>"
    );
    let include = "<yandex>\n<zk><node><host>a b</host></node></zk></yandex>";
    assert_eq!(
        keeper("<clickhouse><zookeeper incl='zk'/></clickhouse>", &[], Some(include)).unwrap_err(),
        "/etc/metrika.xml line 2: /clickhouse/zookeeper/node/host: must be the name or address of one host, but is 'a b'"
    );
    // Values from the environment are not shown.
    let main = "<clickhouse><zookeeper><node><host from_env='AMP'/></node></zookeeper></clickhouse>";
    assert_eq!(
        keeper(main, &[], None).unwrap_err(),
        "config.xml: /clickhouse/zookeeper/node/host: must be the name or address of one host, but is not (environment variable \
         AMP)"
    );
}

#[test]
fn files_that_releases_merge_into_different_zookeepers_are_refused() {
    let main = "<yandex><zookeeper incl='zk'/></yandex>";
    let piece = "<yandex><zookeeper><node><host>own</host></node></zookeeper></yandex>";
    let include = "<yandex><zk><node><host>i</host></node></zk></yandex>";
    assert_eq!(
        keeper(main, &[("conf.d/z.xml", piece)], Some(include)).unwrap_err(),
        "config.xml: /yandex/zookeeper: releases of ClickHouse merge these files in different ways: 25.8 takes own:2181, 18.16 takes \
         own:2181,i:2181. Name a file for --config that holds one <zookeeper>, without other files beside it"
    );
    // Only modern servers accept `<clickhouse>`, so their rules apply.
    let modern = main.replace("yandex", "clickhouse");
    assert_eq!(hosts(&modern, &[("conf.d/z.xml", piece)], Some(include)), "own:2181");
    // If all releases merge the files in the same way, there is no error.
    assert_eq!(hosts(main, &[("conf.d/z.xml", "<yandex/>")], Some(include)), "i:2181");
}

#[test]
fn inclusions_that_multiply_are_refused() {
    let wide: String =
        (0..12).map(|n| format!("<e{n}>{}</e{n}>", format!("<x incl='e{}'/>", n + 1).repeat(9))).collect();
    let include = format!("<yandex>{wide}<e12>x</e12></yandex>");
    let message = keeper("<clickhouse><zookeeper incl='e0'/></clickhouse>", &[], Some(&include)).unwrap_err();
    assert!(message.contains("more than 500000 elements are included"), "{}", &message[..message.len().min(300)]);
}
