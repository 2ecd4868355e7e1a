use std::sync::Arc;

use super::super::CheckResult;
use super::*;
use crate::client::{Disk, Error, Kind};
use crate::model::{Node, TableName};
use crate::operations::check::{About as Answer, GivenRight, KeeperFacts, Left, ShardName, SourceFacts};
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
    NodeFacts { node: node(host), shard: ShardName { cluster: "c".into(), number: shard }, about: Ok(about) }
}

fn target(host: &str, free: Option<u64>) -> TargetFacts {
    let disk = |free| Disk { name: "default".into(), free, total: 1000 };
    TargetFacts {
        node: node(host),
        shard: 0,
        mutations: Ok(Vec::new()),
        views: Ok(Vec::new()),
        rights: Ok(Vec::new()),
        disks: Ok(free.map(|free| PolicyDisks { policy: "default".into(), disks: vec![disk(free)] })),
    }
}

fn table(name: &str, targets: Vec<TargetFacts>) -> TableFacts {
    TableFacts {
        name: name.into(),
        target: TableName::new("d", name),
        policy: IfTargetNotEmpty::Fail,
        remarks: Vec::new(),
        plan: PlanFacts::Refused(Problem::servers("rows are there").in_table(name).on_node("t:9000")),
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
    let expected = "time zones differ: Europe/London: b:9000; UTC: a:9000".to_owned();
    assert_eq!(zones(["UTC", "Europe/London"]), [(Level::Warning, expected)]);
}

#[test]
fn a_problem_of_the_survey_is_shown_with_its_table_and_node() {
    let observed = Observed {
        jobs: vec!["hits".into()],
        nodes: vec![answering("a", 1, 0)],
        faults: vec![
            Problem::servers("no such thing").in_table("hits").on_node("a:9000"),
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
fn a_fault_of_the_task_decides_the_verdict_over_faults_of_servers() {
    let faults = vec![Problem::servers("x"), Problem::task("no").in_table("hits").at_element("engine")];
    assert_eq!(judge(&Observed { faults, ..Observed::default() }).verdict, CheckResult::TaskWrong);
    assert_eq!(judge(&Observed::default()).verdict, CheckResult::Clear);
}

#[test]
fn a_silent_replica_and_a_clock_difference_of_five_seconds_are_warnings() {
    let silent = |shard| NodeFacts {
        node: node("b"),
        shard: ShardName { cluster: "c".into(), number: shard },
        about: Err(error("b")),
    };
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
fn the_disk_space_for_all_tables_is_added_up() {
    let disk_findings = |free| {
        let tables = vec![table("a", vec![target("t", free)]), table("b", vec![target("t", free)])];
        about(&Observed { tables, ..Observed::default() }, Topic::Disk)
    };
    assert_eq!(disk_findings(Some(1200)), []);
    assert!(matches!(&disk_findings(Some(1199))[..], [(Level::Warning, _)]));
    assert!(matches!(&disk_findings(Some(999))[..], [(Level::Fault, what)] if what.contains("999 bytes free")));
    assert!(
        matches!(&disk_findings(None)[..], [(Level::Remark, what)] if what.contains("not known") && what.contains("t:9000"))
    );
}

#[test]
fn missing_privileges_views_and_mutations_are_reported() {
    let mut facts_of_target = target("t", Some(u64::MAX));
    let right = |(privilege, given)| GivenRight { privilege, given };
    let rights = [(Privilege::Insert, Some(false)), (Privilege::Select, Some(true)), (Privilege::DropTable, None)];
    facts_of_target.rights = Ok(rights.map(right).into());
    facts_of_target.views = Ok(vec![TableName::new("d", "mv")]);
    facts_of_target.mutations = Err(error("t"));
    let mut facts = table("hits", vec![facts_of_target]);
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
fn leftovers_of_other_tasks_are_shown_with_the_cleanup_command() {
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
    let line = |own, path| lines(&observed(own, path)).into_iter().find(|line| line.contains("0123456789ab")).unwrap();
    assert!(line(false, Some("/y")).contains("2 tables and 1 running statement of another task (0123456789ab at /y)"));
    assert!(line(false, Some("/y")).contains("cleanup --task-path /y"));
    assert!(line(false, None).contains("--task-id 0123456789ab"));
    assert!(line(true, None).starts_with("remark"), "{}", line(true, None));
}

#[test]
fn the_json_has_the_documented_fields() {
    let observed = Observed { faults: vec![Problem::servers("x")], ..Observed::default() };
    let json = serde_json::to_value(judge(&observed)).unwrap();
    let expected = serde_json::json!({
        "verdict": "would_fail",
        "findings": [{"level": "fault", "about": "server", "what": "x"}],
    });
    assert_eq!(json, expected);
}

/// Servers of 18.16 do not report these facts, so the double answers. Covers all steps from the question to the finding.
#[tokio::test]
async fn a_full_disk_and_a_fast_clock_are_found() {
    use crate::client::memory::MemoryServerClient;
    use crate::client::{ServerClient, Settings};
    use crate::operations::check::{Request, observe};
    use crate::task::{GivenSecrets, TaskText};

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
            location: None,
            client: Arc::new(memory.clone()),
            inspector: Arc::new(memory.clone()),
            secrets: Arc::new(GivenSecrets::default()),
            description: Some(TaskText::new(xml.clone(), "task.xml")),
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
    assert_eq!(memory.tables(&node("t")), [], "a check creates nothing");
}
