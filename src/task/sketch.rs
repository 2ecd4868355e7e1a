//! Writes a task file: values and comments → XML that [`Task::parse`](super::Task::parse) accepts.

use std::fmt::Write as _;

use quick_xml::escape::escape;

use super::xml;
use crate::model::{Shard, TableName, is_obeyed, sentence};

/// A task file to be written.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// Comment at the top.
    pub comment: Vec<String>,
    /// Elements of another task file, as written there ([`kept_elements`]).
    pub kept: Vec<(String, String)>,
    /// Clusters in addition to those of a kept `<remote_servers>`.
    pub clusters: Vec<ClusterSketch>,
    /// The table jobs.
    pub tables: Vec<TableSketch>,
}

/// A cluster to be written.
#[derive(Debug, Clone)]
pub struct ClusterSketch {
    /// The element's name.
    pub name: String,
    /// Comment above it.
    pub comment: Vec<String>,
    /// The shards of the cluster. Passwords of nodes are not written.
    pub shards: Vec<Shard>,
    /// The environment variable with the password of its nodes.
    pub password_env: Option<String>,
}

/// A table job to be written.
#[derive(Debug, Clone)]
pub struct TableSketch {
    /// Name from which the element's name is made.
    pub name: String,
    /// The source.
    pub source: ClusterTable,
    /// The target.
    pub target: ClusterTable,
    /// Further elements in their order.
    pub elements: Vec<SketchElement>,
}

/// A table of a cluster, to be written.
#[derive(Debug, Clone)]
pub struct ClusterTable {
    /// The name of the cluster.
    pub cluster: String,
    /// The table.
    pub table: TableName,
}

/// An element of a table job, to be written.
#[derive(Debug, Clone)]
pub struct SketchElement {
    /// The element's name.
    pub(crate) name: &'static str,
    /// The element's text; without it only the comment is written.
    pub(crate) text: Option<String>,
    /// Comment above it.
    pub(crate) comment: Vec<String>,
}

impl SketchElement {
    /// Creates an element.
    pub fn new(name: &'static str, text: Option<String>, comment: Vec<String>) -> Self {
        Self { name, text, comment }
    }
}

/// Returns the elements of a task file that the reverse task keeps: everything at the root except the tables and the
/// policies for rows that a target already holds, because those were meant for another target.
pub(crate) fn kept_elements(text: &str) -> Vec<(String, String)> {
    let not_kept = ["tables", "if_target_not_empty", "allow_to_drop_target_partitions", "transfer"];
    xml::written_children(text)
        .into_iter()
        .filter(|(name, _)| !not_kept.contains(&name.as_str()))
        .map(|(name, written)| (name, written.to_owned()))
        .collect()
}

impl Sketch {
    /// Returns the file as XML.
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        comment(&mut out, 0, &self.comment);
        out.push_str("<clickhouse>\n");
        let mut has_servers = false;
        for (name, written) in &self.kept {
            if name == "remote_servers" {
                has_servers = true;
                self.servers(&mut out, Some(written));
            } else {
                line(&mut out, 1, written);
            }
        }
        if !has_servers {
            self.servers(&mut out, None);
        }
        line(&mut out, 1, "<tables>");
        let mut names: Vec<String> = Vec::new();
        for table in &self.tables {
            let name = element_name(&table.name, &names);
            table.write(&mut out, &name);
            names.push(name);
        }
        line(&mut out, 1, "</tables>");
        out.push_str("</clickhouse>\n");
        out
    }

    fn servers(&self, out: &mut String, written: Option<&str>) {
        // An empty element has no end tag to write before.
        match written.and_then(|written| written.trim_end().strip_suffix("</remote_servers>")) {
            Some(open) => line(out, 1, open.trim_end()),
            None => line(out, 1, "<remote_servers>"),
        }
        for cluster in &self.clusters {
            cluster.write(out);
        }
        line(out, 1, "</remote_servers>");
    }
}

impl ClusterSketch {
    fn write(&self, out: &mut String) {
        comment(out, 2, &self.comment);
        line(out, 2, &format!("<{}>", self.name));
        for shard in &self.shards {
            line(out, 3, "<shard>");
            if shard.weight != 1 {
                element(out, 4, "weight", &shard.weight.to_string());
            }
            element(out, 4, "internal_replication", if shard.internal_replication { "true" } else { "false" });
            for node in &shard.replicas {
                line(out, 4, "<replica>");
                element(out, 5, "host", &node.host);
                element(out, 5, "port", &node.port.to_string());
                if node.http_port != if node.secure { 8443 } else { 8123 } {
                    element(out, 5, "http_port", &node.http_port.to_string());
                }
                if node.secure {
                    element(out, 5, "secure", "1");
                }
                if node.user != "default" {
                    element(out, 5, "user", &node.user);
                }
                if let Some(variable) = &self.password_env {
                    line(out, 5, &format!("<password from_env=\"{}\"/>", referred(variable.as_str())));
                }
                line(out, 4, "</replica>");
            }
            line(out, 3, "</shard>");
        }
        line(out, 2, &format!("</{}>", self.name));
    }
}

impl TableSketch {
    fn write(&self, out: &mut String, name: &str) {
        line(out, 2, &format!("<{name}>"));
        for (way, ClusterTable { cluster, table }) in [("pull", &self.source), ("push", &self.target)] {
            element(out, 3, &format!("cluster_{way}"), cluster);
            element(out, 3, &format!("database_{way}"), &table.database);
            element(out, 3, &format!("table_{way}"), &table.table);
        }
        for SketchElement { name, text, comment: remarks } in &self.elements {
            comment(out, 3, remarks);
            if let Some(text) = text {
                element(out, 3, name, text);
            }
        }
        line(out, 2, &format!("</{name}>"));
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{}{text}", "    ".repeat(depth)); // a String takes all
}

fn element(out: &mut String, depth: usize, name: &str, text: &str) {
    line(out, depth, &format!("<{name}>{}</{name}>", referred(text)));
}

/// Escapes a text for XML. Terminal control characters become references, except for characters that XML has in no
/// form.
fn referred(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape(text).chars() {
        if is_obeyed(c) && (c == '\r' || c >= '\u{7f}') {
            let _ = write!(out, "&#x{:X};", u32::from(c)); // a String takes all
        } else {
            out.push(c);
        }
    }
    out
}

/// Two hyphens end a comment for some parsers, and three for all.
fn comment(out: &mut String, depth: usize, lines: &[String]) {
    for text in lines {
        let text = sentence(text).replace("--", "- -").replace("--", "- -");
        line(out, depth, &format!("<!-- {} -->", text.trim_end_matches('-')));
    }
}

/// Returns a valid name for an element that no other element has.
fn element_name(table: &str, taken: &[String]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut name: String = table.chars().map(plain).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, 't');
    }
    let mut number = 2;
    let first = name.clone();
    while taken.contains(&name) {
        name = format!("{first}_{number}");
        number += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;
    use crate::task::{GivenSecrets, Task};

    fn cluster(name: &str, hosts: &[&str]) -> ClusterSketch {
        let shard = |host: &&str| {
            let node = Node { user: "a<b".into(), ..Node::new(*host) };
            Shard { weight: 2, internal_replication: true, replicas: vec![node] }
        };
        ClusterSketch {
            name: name.into(),
            comment: vec!["ends with -- and --> and -".into()],
            shards: hosts.iter().map(shard).collect(),
            password_env: Some("PW".into()),
        }
    }

    fn table(name: &str) -> TableSketch {
        TableSketch {
            name: name.into(),
            source: ClusterTable {
                cluster: "source".into(),
                table: TableName::new("d<\u{9b}2J\u{7f}\r\u{202e}", name),
            },
            target: ClusterTable { cluster: "target".into(), table: TableName::new("e", name) },
            elements: vec![
                SketchElement::new("engine", Some("MergeTree ORDER BY (a < 1)".into()), vec!["why \u{1b}[2J".into()]),
                SketchElement::new("sharding_key", None, vec!["none is needed".into()]),
            ],
        }
    }

    #[test]
    fn a_written_task_file_can_be_read_again() {
        let sketch = Sketch {
            comment: vec!["a task".into()],
            clusters: vec![cluster("source", &["h1", "h2"]), cluster("target", &["h3"])],
            tables: vec![table("1 hits"), table("1.hits")],
            ..Sketch::default()
        };
        let mut secrets = GivenSecrets::default();
        secrets.env.insert("PW".into(), "secret".into());
        let xml = sketch.to_xml();
        let parsed = Task::parse(&xml, &secrets).unwrap_or_else(|faults| panic!("{faults}\n{xml}"));
        assert_eq!(parsed.warnings, []);
        let task = parsed.task;
        let names: Vec<&str> = task.tables.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["t1_hits", "t1_hits_2"]);
        assert_eq!(task.tables[0].engine.as_deref(), Some("MergeTree ORDER BY (a < 1)"));
        assert_eq!(task.tables[0].source.database, "d<\u{9b}2J\u{7f}\r\u{202e}");
        assert!(!xml.contains(is_obeyed), "{xml}");
        let node = &task.source(&task.tables[0]).shards[1].replicas[0];
        assert_eq!((node.user.as_str(), node.password.expose()), ("a<b", "secret"));
        assert!(!xml.contains("secret"), "{xml}");
    }

    #[test]
    fn kept_elements_are_written_unchanged() {
        let servers = "<remote_servers><!-- x --><a><shard><replica><host>h</host><password from_env=\"PW\"/></replica></shard></a>\
                       </remote_servers>";
        let text = format!(
            "<?xml version=\"1.0\"?><yandex>{servers}<max_workers>2</max_workers><if_target_not_empty>replace\
             </if_target_not_empty><settings/><tables><t/></tables></yandex>"
        );
        let elements = kept_elements(&text);
        let names: Vec<&str> = elements.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["remote_servers", "max_workers", "settings"]);
        assert_eq!((elements[0].1.as_str(), elements[1].1.as_str()), (servers, "<max_workers>2</max_workers>"));
        let xml = Sketch { kept: elements, clusters: vec![cluster("b", &["h2"])], ..Sketch::default() }.to_xml();
        assert!(xml.contains("<password from_env=\"PW\"/></replica></shard></a>\n        <!-- ends"), "{xml}");
        assert_eq!(xml.matches("</remote_servers>").count(), 1, "{xml}");
    }
}
