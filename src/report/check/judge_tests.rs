use std::sync::Arc;

use super::super::CheckResult;
use super::*;
use crate::client::{Disk, Error, Kind};
use crate::model::{Node, TableName};
use crate::operations::check::{About as Answer, KeeperFacts, Left, SourceFacts};
use crate::planning::errors::Problem;
use crate::protocol::TaskId;
use crate::sql::Privilege;

fn node(host: &str) -> Arc<Node> {
    Arc::new(Node::new(host))
}

fn error(node: &str) -> Error {
    Error { node: format!("{node}:9000"), doing: "cannot connect".into(), kind: Kind::Network("refused".into()) }
}

fn answering(host: &str, shard: usize, ahead: i64) -> NodeFacts {
    let zones = vec!["UTC".to_owned()];
    let about =
        Answer { version: "18.16.1".into(), zones, ahead: Ok(ahead), guards_drops: false, left: Ok(Vec::new()) };
    NodeFacts { node: node(host), shard: ("c".into(), shard), about: Ok(about) }
}

fn target(host: &str, free: Option<u64>) -> TargetFacts {
    let disk = |free| Disk { name: "default".into(), free, total: 1000 };
    TargetFacts {
        node: node(host),
        shard: 0,
        mutations: Ok(Vec::new()),
        views: Ok(Vec::new()),
        rights: Ok(Vec::new()),
        disks: Ok(free.map(|free| ("default".into(), vec![disk(free)]))),
    }
}

fn table(name: &str, targets: Vec<TargetFacts>) -> TableFacts {
    TableFacts {
        name: name.into(),
        target: TableName::new("d", name),
        policy: IfTargetNotEmpty::Fail,
        remarks: Vec::new(),
        plan: PlanFacts::Refused(Problem::servers("t:9000: rows are there").in_table(name)),
        targets,
        sources: Vec::new(),
        needed: Ok(vec![500]),
        spread: None,
        expiry: Expiry::None,
        left_out: BTreeMap::new(),
    }
}

fn lines(observed: &Observed) -> Vec<String> {
    judge(observed).findings.iter().map(ToString::to_string).collect()
}

fn about(observed: &Observed, about: Topic) -> Vec<(Level, String)> {
    let findings = judge(observed).findings.into_iter().filter(|finding| finding.about == about);
    findings.map(|finding| (finding.level, finding.what)).collect()
}

#[test]
fn time_zones_are_compared_by_their_rules_and_not_by_their_names() {
    let zones = |names: [&str; 2]| {
        let node = |(host, zone): (&str, &str)| {
            let mut facts = answering(host, 1, 0);
            facts.about.as_mut().unwrap().zones = vec![zone.to_owned()];
            facts
        };
        let nodes = ["a", "b"].into_iter().zip(names).map(node).collect();
        about(&Observed { nodes, ..Observed::default() }, Topic::Clock)
    };
    assert_eq!(zones(["UTC", "Etc/UTC"]), []);
    let told = "time zones differ: Europe/London: b:9000; UTC: a:9000".to_owned();
    assert_eq!(zones(["UTC", "Europe/London"]), [(Level::Warning, told)]);
}

#[test]
fn a_sentence_of_the_survey_is_taken_to_its_table_and_node() {
    let observed = Observed {
        jobs: vec!["hits".into()],
        nodes: vec![answering("a", 1, 0)],
        faults: vec![
            Problem::servers("a:9000: no such thing").in_table("hits"),
            Problem::servers("cluster c: no replica of shard 2 answers: b:9000: refused"),
        ],
        ..Observed::default()
    };
    let report = judge(&observed);
    assert_eq!(report.verdict, CheckResult::WouldFail);
    let fault = report.findings.iter().find(|finding| finding.about == Topic::Table).unwrap();
    assert_eq!((fault.node.as_deref(), fault.table.as_deref()), (Some("a:9000"), Some("hits")));
    assert_eq!(fault.what, "no such thing");
    assert!(report.to_string().contains("FAULT    cluster c: no replica of shard 2 answers"), "{report}");
    assert!(report.to_string().ends_with("2 faults, 0 warnings, 1 remark: a run would fail."), "{report}");
}

#[test]
fn a_fault_of_the_task_outweighs_those_of_the_world() {
    let faults = vec![Problem::servers("x"), Problem::task("no").in_table("hits").at_element("engine")];
    assert_eq!(judge(&Observed { faults, ..Observed::default() }).verdict, CheckResult::TaskWrong);
    assert_eq!(judge(&Observed::default()).verdict, CheckResult::Clear);
}

#[test]
fn a_silent_replica_beside_a_live_one_is_a_warning_and_a_clock_is_from_five_seconds_on() {
    let silent = |shard| NodeFacts { node: node("b"), shard: ("c".into(), shard), about: Err(error("b")) };
    let observed =
        |shard, ahead| Observed { nodes: vec![answering("a", 1, ahead), silent(shard)], ..Observed::default() };
    let beside = lines(&observed(1, -5));
    assert!(beside.iter().any(|line| line.starts_with("warning  b:9000: cannot connect")), "{beside:?}");
    assert!(beside.iter().any(|line| line.contains("a:9000: the server's clock is 5 s behind ours")), "{beside:?}");
    // A shard without any answering node is a fault, which the survey reports.
    let alone = lines(&observed(2, 4));
    assert!(!alone.iter().any(|line| line.contains("b:9000") || line.contains("clock")), "{alone:?}");
}

#[test]
fn tables_need_room_together() {
    let rooms = |free| {
        let tables = vec![table("a", vec![target("t", free)]), table("b", vec![target("t", free)])];
        about(&Observed { tables, ..Observed::default() }, Topic::Disk)
    };
    assert_eq!(rooms(Some(1200)), []);
    assert!(matches!(&rooms(Some(1199))[..], [(Level::Warning, _)]));
    assert!(matches!(&rooms(Some(999))[..], [(Level::Fault, what)] if what.contains("999 bytes free")));
    assert!(
        matches!(&rooms(None)[..], [(Level::Remark, what)] if what.contains("not known") && what.contains("t:9000"))
    );
}

#[test]
fn what_a_target_lacks_or_has_too_much_of_is_told() {
    let mut at = target("t", Some(u64::MAX));
    at.rights =
        Ok(vec![(Privilege::Insert, Some(false)), (Privilege::Select, Some(true)), (Privilege::DropTable, None)]);
    at.views = Ok(vec![TableName::new("d", "mv")]);
    at.mutations = Err(error("t"));
    let mut facts = table("hits", vec![at]);
    facts.expiry = Expiry::Rows(7);
    let mutation = Mutation { id: "m_1".into(), command: "DELETE WHERE 1".into(), failure: "no disk".into() };
    facts.sources = vec![SourceFacts { node: node("s"), mutations: Ok(vec![mutation]) }];
    let observed = Observed { tables: vec![facts], nodes: vec![answering("t", 1, 0)], ..Observed::default() };
    let all = lines(&observed);
    let has = |words: &[&str]| {
        assert!(all.iter().any(|line| words.iter().all(|word| line.contains(word))), "no {words:?} in {all:#?}");
    };
    has(&["FAULT", "t:9000: table hits: user default lacks INSERT on d.*. GRANT INSERT ON d.* TO default"]);
    has(&["warning", "materialized view d.mv reads d.hits"]);
    has(&["warning", "will remove 7 of the rows"]);
    has(&["warning", "s:9000", "m_1", "DELETE WHERE 1", "no disk"]);
    // No answer never counts as "none".
    has(&["warning", "t:9000: table hits: cannot connect: no answer"]);
    has(&["FAULT", "rows are there"]);
}

#[test]
fn what_others_left_comes_with_the_command_that_looks_at_it() {
    let task = TaskId("0123456789ab".into());
    let left = |own| Left { task: task.clone(), own, tables: 2, statements: 1 };
    let observed = |own, path: Option<&str>| {
        let mut nodes = vec![answering("a", 1, 0)];
        if let Ok(about) = &mut nodes[0].about {
            about.left = Ok(vec![left(own)]);
        }
        let neighbours = path.map(|path| (task.clone(), path.to_owned())).into_iter().collect();
        let keeper = KeeperFacts {
            place: "zk".into(),
            open_to_all: false,
            error: None,
            record: None,
            task_path: "/x".into(),
            description: 10,
            neighbours,
        };
        Observed { nodes, keeper: Some(keeper), ..Observed::default() }
    };
    let told = |own, path| lines(&observed(own, path)).into_iter().find(|line| line.contains("0123456789ab")).unwrap();
    assert!(told(false, Some("/y")).contains("2 tables and 1 running statement of another task (0123456789ab at /y)"));
    assert!(told(false, Some("/y")).contains("cleanup --task-path /y"));
    assert!(told(false, None).contains("--task-id 0123456789ab"));
    assert!(told(true, None).starts_with("remark"), "{}", told(true, None));
}

#[test]
fn the_json_has_what_its_documentation_says() {
    let observed = Observed { faults: vec![Problem::servers("x")], ..Observed::default() };
    let json = serde_json::to_value(judge(&observed)).unwrap();
    let expected = serde_json::json!({
        "verdict": "would_fail",
        "findings": [{"level": "fault", "about": "server", "what": "x"}],
    });
    assert_eq!(json, expected);
}

/// What servers of 18.16 cannot be made to show: asked of the double, from the question to the finding.
#[tokio::test]
async fn a_full_disk_and_a_fast_clock_are_found() {
    use crate::client::memory::MemoryServerClient;
    use crate::client::{ServerClient, Settings};
    use crate::operations::check::{Request, observe};
    use crate::task::GivenSecrets;

    let memory = MemoryServerClient::new();
    for host in ["s", "t"] {
        memory.add_node(&node(host), &[]);
        memory.create_database(&node(host), "d", &Settings::new()).await.unwrap();
    }
    let name = TableName::new("d", "hits");
    let create = "CREATE TABLE d.hits (`m` UInt8, `s` String) ENGINE = MergeTree PARTITION BY m ORDER BY s";
    memory.create_table(&node("s"), &name, create, &Settings::new()).await.unwrap();
    let rows = (0..100).map(|number| vec!["1".to_owned(), format!("{number:09}")]).collect();
    memory.insert(&node("s"), &name, rows).unwrap();
    memory.set_clock_ahead(&node("t"), 60);
    let replica = |host: &str| format!("<shard><replica><host>{host}</host></replica></shard>");
    let xml = format!(
        "<clickhouse><remote_servers><a>{}</a><b>{}</b></remote_servers><tables><hits><cluster_pull>a</cluster_pull>\
         <database_pull>d</database_pull><table_pull>hits</table_pull><cluster_push>b</cluster_push>\
         <database_push>d</database_push><table_push>hits</table_push></hits></tables></clickhouse>",
        replica("s"),
        replica("t")
    );
    for (free, expected) in [(5000, None), (1100, Some(Level::Warning)), (900, Some(Level::Fault))] {
        memory.set_disks(&node("t"), vec![Disk { name: "default".into(), free, total: 5000 }]);
        let request = Request {
            coordinator: None,
            client: Arc::new(memory.clone()),
            inspector: Arc::new(memory.clone()),
            secrets: Arc::new(GivenSecrets::default()),
            description: Some((xml.clone(), "task.xml".into())),
            host: String::new(),
        };
        let observed = observe(&request).await.unwrap();
        let disks = about(&observed, Topic::Disk);
        assert_eq!(disks.first().map(|(level, _)| *level), expected, "{disks:?}");
        let clocks = about(&observed, Topic::Clock);
        assert!(matches!(&clocks[..], [(Level::Warning, what)] if what.contains("ahead of ours")), "{clocks:?}");
        let has = lines(&observed);
        assert!(has.iter().any(|line| line.contains("1 partition with 100 rows")), "{has:?}");
    }
    assert_eq!(memory.tables(&node("t")), [], "a check makes nothing");
}
