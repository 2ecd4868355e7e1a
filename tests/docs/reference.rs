//! The reference of elements, the list from which it is written, and the parser agree.

use std::fmt::Write as _;
use std::fs;

use clickhouse_copier::task::{
    ELEMENTS, Element, ElementPath, ElementText, Faults, GivenSecrets, KeeperConfig, Meaning, Origin, Parsed, Task,
    Unwritten, Warning, differences,
};

use super::{path, text};

const REFERENCE: &str = "docs/task-reference.md";

const PLACES: [(&str, ElementPath); 12] = [
    ("Root", ElementPath::Root),
    ("Cluster", ElementPath::Cluster),
    ("Shard", ElementPath::Shard),
    ("Replica", ElementPath::Replica),
    ("Table", ElementPath::Table),
    ("KeeperRoot", ElementPath::KeeperRoot),
    ("ZooKeeper", ElementPath::ZooKeeper),
    ("ZooKeeperNode", ElementPath::ZooKeeperNode),
    ("Logger", ElementPath::Logger),
    ("OpenSsl", ElementPath::OpenSsl),
    ("Client", ElementPath::Client),
    ("Handler", ElementPath::Handler),
];

fn of_task(place: ElementPath) -> bool {
    use ElementPath::{Cluster, Node, Replica, Root, Shard, Table};
    matches!(place, Root | Cluster | Shard | Replica | Node | Table)
}

/// The contents of the files that examples name.
fn secrets() -> GivenSecrets {
    let pem = |what: &str| format!("-----BEGIN {what}-----\n-----END {what}-----\n");
    let files = [
        ("/run/secrets/copier", "from a file".to_owned()),
        ("/etc/copier/ca.pem", pem("CERTIFICATE")),
        ("/etc/copier/client.crt", pem("CERTIFICATE")),
        ("/etc/copier/client.key", pem("PRIVATE KEY")),
    ];
    GivenSecrets { files: files.map(|(path, text)| (path.to_owned(), text)).into(), ..GivenSecrets::default() }
}

/// A minimal file, with the element that is tested.
struct File<'a> {
    place: ElementPath,
    name: &'a str,
    content: Option<&'a str>,
}

impl File<'_> {
    /// Returns the elements at a place: the usual ones, and the tested one instead of the usual one of that name.
    fn at(&self, places: &[ElementPath], usual: &[(&str, String)]) -> String {
        let mut out = String::new();
        for (name, content) in usual.iter().filter(|(name, _)| !(places.contains(&self.place) && *name == self.name)) {
            let _ = write!(out, "<{name}>{content}</{name}>");
        }
        if let Some(content) = self.content.filter(|_| places.contains(&self.place)) {
            let _ = write!(out, "<{0}>{content}</{0}>", self.name);
        }
        out
    }

    fn task(&self) -> String {
        let host = |name: &str| vec![("host", format!("{name}.example"))];
        let first = self.at(&[ElementPath::Replica], &host("a"));
        let source = match self.place {
            ElementPath::Node => format!("<node>{}</node>", self.at(&[ElementPath::Node], &host("a"))),
            _ => self.at(&[ElementPath::Cluster], &[("shard", self.at(&[ElementPath::Shard], &[("replica", first)]))]),
        };
        // A weight has an effect with several shards only, and one port only for nodes with TLS.
        let (plain, tls) = (host("b"), [host("c"), vec![("secure", "1".to_owned())]].concat());
        let shard = |of: &[(&str, String)]| {
            let inside: String = of.iter().map(|(name, text)| format!("<{name}>{text}</{name}>")).collect();
            format!("<shard><replica>{inside}</replica></shard>")
        };
        let servers = format!("<source>{source}</source><target>{}</target>", shard(&plain) + &shard(&tls));
        let names = [
            ("cluster_pull", "target"),
            ("database_pull", "d"),
            ("table_pull", "t"),
            ("cluster_push", "source"),
            ("database_push", "e"),
            ("table_push", "u"),
        ];
        let table = self.at(&[ElementPath::Table], &names.map(|(name, text)| (name, text.to_owned())));
        let table = table.replace(
            "<cluster_push>target</cluster_push>",
            "<cluster_push>target</cluster_push><sharding_key>k</sharding_key>",
        );
        let root = [("remote_servers", servers), ("tables", format!("<hits>{table}</hits>"))];
        format!("<clickhouse>{}</clickhouse>", self.at(&[ElementPath::Root], &root))
    }

    fn keeper(&self) -> String {
        let (node, mut client) =
            (self.at(&[ElementPath::ZooKeeperNode], &[("host", "z.example".to_owned())]), Vec::new());
        // Each of the two needs the other.
        for (one, other, file) in [
            ("certificateFile", "privateKeyFile", "/etc/copier/client.key"),
            ("privateKeyFile", "certificateFile", "/etc/copier/client.crt"),
        ] {
            client.extend((self.content.is_some() && self.name == one).then(|| (other, file.to_owned())));
        }
        // The element has an effect only with another authority.
        client.extend((self.name == "loadDefaultCAFile").then(|| ("caConfig", "/etc/copier/ca.pem".to_owned())));
        let handler = self.at(&[ElementPath::Handler], &[]);
        client.extend((self.place == ElementPath::Handler).then_some(("invalidCertificateHandler", handler)));
        let client = self.at(&[ElementPath::Client], &client);
        let open = self.at(&[ElementPath::OpenSsl], &[("client", client)]);
        let keeper = self.at(&[ElementPath::ZooKeeper], &[("node", node)]);
        let root = [("zookeeper", keeper), ("logger", self.at(&[ElementPath::Logger], &[])), ("openSSL", open)];
        format!("<clickhouse>{}</clickhouse>", self.at(&[ElementPath::KeeperRoot], &root))
    }

    fn parse(&self) -> Result<(Parse, Vec<Warning>), Faults> {
        if of_task(self.place) {
            Task::parse(&self.task(), &secrets())
                .map(|Parsed { task, warnings }| (Parse::Task(Box::new(task)), warnings))
        } else {
            let (keeper, warnings) = KeeperConfig::parse(&self.keeper(), &secrets())?;
            Ok((Parse::Keeper(Box::new(keeper)), warnings))
        }
    }
}

#[derive(Debug, PartialEq)]
enum Parse {
    Task(Box<Task>),
    Keeper(Box<KeeperConfig>),
}

/// Calls a function for each element with an effect, at each of its places.
fn each(mut look: impl FnMut(&Element, ElementPath, &ElementText)) {
    for element in ELEMENTS {
        if let Meaning::Read(text) = &element.meaning {
            for place in element.places {
                look(element, *place, text);
            }
        }
    }
}

#[test]
fn every_example_of_the_task_reference_is_parsed_and_has_an_effect() {
    each(|element, place, text| {
        let at = format!("{place:?}/{}", element.name);
        let file = |content| File { place, name: element.name, content }.parse();
        if text.example == "…" {
            return;
        }
        let (with, warnings) = file(Some(text.example)).unwrap_or_else(|faults| panic!("{at}: {faults}"));
        let unexpected: Vec<String> =
            warnings.iter().map(ToString::to_string).filter(|text| !text.contains("certificates of servers")).collect();
        assert_eq!(unexpected, Vec::<String>::new(), "{at}");
        match (file(None), text.default) {
            (Err(faults), Unwritten::Required) => {
                assert!(faults.to_string().contains(&format!("<{}> is missing", element.name)), "{at}: {faults}");
            }
            (Ok((without, _)), Unwritten::Is(default)) => {
                assert_ne!(with, without, "{at}: the example changes nothing");
                let (same, _) = file(Some(default)).unwrap_or_else(|faults| panic!("{at}: {faults}"));
                assert_eq!(same, without, "{at}: {default} is not what holds where it is not written");
            }
            (Ok((without, _)), Unwritten::Means(_)) => assert_ne!(with, without, "{at}: the example changes nothing"),
            (without, default) => panic!("{at}: {default:?}, but {without:?}"),
        }
    });
}

#[test]
fn exactly_the_elements_marked_as_changeable_leave_the_plan_unchanged() {
    each(|element, place, text| {
        let file = |content| File { place, name: element.name, content }.parse();
        let (Ok((Parse::Task(before), _)), Ok((Parse::Task(after), _))) = (file(None), file(Some(text.example))) else {
            return;
        };
        let differ = differences(&before.plan_inputs(), &after.plan_inputs());
        assert_eq!(differ.is_empty(), text.live, "{place:?}/{}: {differ:?}", element.name);
    });
}

#[test]
fn the_migration_page_names_every_element_of_a_task() {
    let page = text("docs/migration-from-the-original.md");
    let (_, section) = page.split_once("\n## Elements\n").expect("the page has a section on elements");
    let section = section.split("\n## ").next().unwrap();
    each(|element, place, _| {
        if of_task(place) {
            assert!(section.contains(&format!("`{}`", element.name)), "{} is not told", element.name);
        }
    });
}

#[test]
fn elements_without_effect_are_accepted_with_a_warning() {
    for element in ELEMENTS {
        let Meaning::NoEffect(why) = element.meaning else { continue };
        for &place in element.places {
            let (_, warnings) = File { place, name: element.name, content: Some("1") }.parse().unwrap();
            let warned = warnings.iter().any(|warning| warning.to_string().contains(&format!("has no effect: {why}")));
            assert!(warned, "{place:?}/{}: {warnings:?}", element.name);
        }
    }
}

/// Returns a table of the reference.
fn table(place: ElementPath) -> String {
    let task = of_task(place);
    let mut out = String::from(if task {
        "| element | content | not written | may change | |\n| --- | --- | --- | --- | --- |\n"
    } else {
        "| element | content | not written | |\n| --- | --- | --- | --- |\n"
    });
    let mut without = Vec::new();
    for element in Element::of(place).filter(|element| element.places[0] == place || place == ElementPath::Replica) {
        let text = match &element.meaning {
            Meaning::NoEffect(why) => {
                without.push(format!("`{}` ({why})", element.name));
                continue;
            }
            Meaning::Read(text) => text,
        };
        let default = match text.default {
            Unwritten::Required => "**must be written**".to_owned(),
            Unwritten::Is("") => "empty".to_owned(),
            Unwritten::Is(value) => format!("`{value}`"),
            Unwritten::Means(what) => what.to_owned(),
        };
        let whose = if text.origin == Origin::Ours { "Ours. " } else { "" };
        let also = if element.places.contains(&ElementPath::Root) && place == ElementPath::Table {
            " Also at the root, for all tables."
        } else {
            ""
        };
        let change = if task { if text.live { " | yes" } else { " | no" } } else { "" };
        let _ = writeln!(
            out,
            "| `<{0}>{1}</{0}>` | {2} | {default}{change} | {whose}{3}{also} |",
            element.name, text.example, text.form, text.effect
        );
    }
    if !without.is_empty() {
        let _ = write!(out, "\nKnown, and without an effect here: {}.\n", without.join(", "));
    }
    out
}

#[test]
fn the_task_reference_is_up_to_date_with_the_list_of_elements() {
    let page = text(REFERENCE);
    let mut made = String::new();
    let mut rest = page.as_str();
    let mut seen = Vec::new();
    while let Some((before, after)) = rest.split_once("<!-- elements: ") {
        let (name, after) = after.split_once(" -->\n").unwrap();
        let (_, place) = PLACES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no place {name}"));
        seen.push(name);
        let (_, after) = after.split_once("<!-- end -->").unwrap();
        let _ = write!(made, "{before}<!-- elements: {name} -->\n{}<!-- end -->", table(*place));
        rest = after;
    }
    made.push_str(rest);
    assert_eq!(seen, PLACES.map(|(name, _)| name), "a place is not in the reference");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(REFERENCE), &made).unwrap();
    } else if made != page {
        let differ = made.lines().find(|line| !page.lines().any(|old| old == *line));
        panic!("{REFERENCE} is not what the list says (UPDATE_DOCS=1 cargo test --test docs writes it): {differ:?}");
    }
}
