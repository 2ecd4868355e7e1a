//! Runs what the documents show, on servers with the names that they use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Digest, Scene};

use super::blocks::blocks;

/// The names of servers in the documents, and their numbers in the laboratory.
const NAMES: [(&str, usize); 6] =
    [("old-1", 0), ("old-2", 1), ("old-3", 2), ("new-1", 3), ("new-2", 4), ("backup-1", 5)];

/// The first command of a first copy.
pub const INIT: &str = "clickhouse-copier init --from old-1 --to new-1 --table web.hits --output task.xml";

/// Runs the commands of the documents.
pub struct Reader {
    pub scene: Scene,
    /// The folder in which the commands of a document run.
    pub dir: PathBuf,
}

pub struct Answer {
    pub command: String,
    pub code: Option<i32>,
    pub output: String,
}

impl Answer {
    #[track_caller]
    pub fn with(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{}: {}", self.command, self.output);
        for word in words {
            assert!(self.output.contains(word), "{}: no {word:?}: {}", self.command, self.output);
        }
        self.output
    }
}

pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

impl Reader {
    pub fn text(&self, document: &str) -> String {
        fs::read_to_string(file(document)).unwrap()
    }

    /// Replaces the names of the documents by addresses of the laboratory.
    pub fn mapped(&self, text: &str) -> String {
        let lab = self.scene.lab();
        let mut text = text.replace("zookeeper-1.example", lab.zookeeper().host());
        for (name, server) in NAMES {
            text = text.replace(name, lab.clickhouse(server).host());
        }
        text.replace("/var/log/copier", "logs")
    }

    /// Writes the first file that a document shows and that contains `holds`, with more elements in its table job.
    pub fn write(&self, name: &str, document: &str, holds: &str, more: &str) {
        let shown = blocks(&self.text(document)).into_iter();
        let mut xml =
            shown.filter(|block| block.language == "xml" && block.text.contains(holds)).map(|block| block.text);
        let text = xml.next().unwrap_or_else(|| panic!("{document} shows no {name}"));
        let text = text.replace("</hits>", &format!("{more}</hits>"));
        fs::write(self.dir.join(name), self.mapped(&text)).unwrap();
    }

    pub fn sh(&self, command: &str) -> Answer {
        let path = std::env::var_os("PATH").unwrap();
        let path = [self.scene.dir().join("bin")].into_iter().chain(std::env::split_paths(&path));
        let output = Command::new("bash")
            .args(["-c", &self.mapped(command)])
            .current_dir(&self.dir)
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("BACKUP_PASSWORD", "b4ckup")
            .output()
            .unwrap();
        let output_text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output_text.contains("panicked"), "{command}: {output_text}");
        Answer { command: command.to_owned(), code: output.status.code(), output: output_text }
    }

    /// Removes the copy from the new servers.
    pub fn empty_target(&self) {
        self.scene.on(&[3, 4], "DROP DATABASE IF EXISTS web");
    }

    /// Runs a first copy in the folder of this document.
    pub fn copied(&self) {
        self.empty_target();
        self.sh(INIT).with(0, &[]);
        self.sh("clickhouse-copier run --task-file task.xml").with(0, &[]);
    }

    pub fn forget(&self, task: &str) {
        self.sh(&format!("clickhouse-copier cleanup --task-file {task} --remove --forget")).with(0, &["is gone"]);
    }

    /// Inserts rows of some months on the two old servers, by the sharding key of their Distributed table.
    pub fn fill(&self, months: std::ops::Range<u64>) {
        let (from, count) = (months.start * 3000, (months.end - months.start) * 3000);
        let rows = format!(
            "SELECT toDate('2018-01-01') + intDiv(number, 3000) * 31 + number % 28 AS EventDate, toUInt32(number) AS CounterID, \
             intHash64(number) AS UserID, concat('/', toString(number)) AS URL FROM system.numbers LIMIT {from}, {count}"
        );
        for shard in [0, 1] {
            let here =
                format!("INSERT INTO web.hits SELECT * FROM ({rows}) WHERE toUInt64(intHash64(UserID)) % 2 = {shard}");
            self.scene.ask(shard, &here);
        }
    }

    pub fn digest(&self, servers: &[usize]) -> Digest {
        self.scene.digest(servers, "cityHash64(EventDate, CounterID, UserID, URL)", "web.hits")
    }

    /// Changes one row of February.
    pub fn change_a_row(&self, servers: &[usize]) {
        let february = "WHERE toYYYYMM(EventDate) = 201802";
        let wanted = format!("SELECT max(CounterID) FROM web.hits {february}");
        let changed = self.scene.ask(servers[0], &wanted);
        self.scene.on(&servers[..1], "CREATE TABLE web.kept AS web.hits ENGINE = Log");
        self.scene.on(&servers[..1], &format!("INSERT INTO web.kept SELECT * FROM web.hits {february}"));
        self.scene.on(&servers[..1], "ALTER TABLE web.hits DROP PARTITION 201802");
        let other = format!("if(CounterID = {changed}, 'other', URL)");
        let rows = format!("SELECT EventDate, CounterID, UserID, {other} FROM web.kept");
        self.scene.on(&servers[..1], &format!("INSERT INTO web.hits {rows}"));
    }
}
