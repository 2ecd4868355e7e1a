//! The JSON of each verb: keys, forms of values, names of states.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clickhouse_copier::model::{Node, Shard, TableName};
use clickhouse_copier::nodes::checksums::Measure;
use clickhouse_copier::operations::cleanup::{Findings, Holder, Leftover, LeftoverKind, Removal, Standing};
use clickhouse_copier::operations::verify::{
    By, Comparison, KeyDifference, KeyRange, Narrowed, PartitionComparison, PartitionVerdict, Sample, TableComparison,
};
use clickhouse_copier::protocol::{Claim, LeftoverVerdict, Order, Reason, TaskId};
use clickhouse_copier::report::check::{CheckReport, CheckResult, Finding, Level, Topic};
use clickhouse_copier::report::leftovers::CleanupReport;
use clickhouse_copier::report::order::{Obeyed, OrderReport};
use clickhouse_copier::report::outcome::{End, Form, Outcome, RunResult};
use clickhouse_copier::report::proposal::ProposalReport;
use clickhouse_copier::report::status::{BatchStatus, PartitionState, PieceStage, SCHEMA, Status, TaskState};
use clickhouse_copier::report::verify::{ComparisonResult, VerifyReport};
use clickhouse_copier::task::{
    ClusterSketch, ClusterTable, GivenSecrets, Sketch, SketchElement, TableSketch, TaskText,
};
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::target_sizes::TargetSize;

use super::facts::{overview, text, texts};
use super::{check, json};

#[test]
fn status_keeps_its_form() {
    let status = Status::of(&overview(), "/copy/hits");
    assert_eq!((status.schema, SCHEMA), (1, 1));
    check("report-status.json", &json(&status));
    check("report-status-unknown.json", &json(&Status::unknown("/copy/hits")));
}

#[test]
fn states_of_tasks_and_partitions_keep_their_names() {
    let tasks = [
        TaskState::Planning,
        TaskState::Copying,
        TaskState::Idle,
        TaskState::Pausing,
        TaskState::Paused,
        TaskState::Cancelled,
        TaskState::Failed,
        TaskState::Finishing,
        TaskState::Finished,
        TaskState::Unknown,
    ];
    let partitions = [
        PartitionState::Done,
        PartitionState::Publishing,
        PartitionState::Copying,
        PartitionState::Pending,
        PartitionState::Failed,
    ];
    let pieces = [PieceStage::Pending, PieceStage::Copying, PieceStage::Copied, PieceStage::Failed];
    check("report-status-words.json", &json(&(tasks, partitions, pieces)));
}

/// The state of a task, which follows from its records.
#[test]
fn the_state_of_a_task_follows_from_its_records_as_before() {
    let mut lines = Vec::new();
    for order in [Order::Run, Order::Pause, Order::PauseNow, Order::Cancel] {
        for (planned, finished, busy) in [
            (false, false, true),
            (false, false, false),
            (true, false, true),
            (true, false, false),
            (true, true, false),
        ] {
            let mut overview = overview();
            (overview.order, overview.record.planned, overview.record.finished) = (order, planned, finished);
            if !busy {
                (overview.places, overview.claims) = (Vec::new(), Vec::new());
            }
            let state = serde_json::to_string(&Status::of(&overview, "/t").state).expect("JSON");
            lines.push(format!("{order:?} planned {planned} finished {finished} at work {busy}: {state}"));
        }
    }
    check("report-status-states.txt", &lines.join("\n"));
}

#[test]
fn the_details_of_a_partition_keep_their_form() {
    let of = |partition| BatchStatus::of(&overview(), 0, partition).expect("there is such a partition");
    check("report-partitions.json", &json(&[of(0), of(2), of(3), of(4)]));
    assert_eq!(BatchStatus::of(&overview(), 0, 5), None);
}

#[test]
fn the_report_of_a_run_keeps_its_form() {
    let end = |error: Option<&str>| End {
        verdict: RunResult::Partial,
        exit_code: 3,
        error: error.map(text),
        worker: text("host-1-aaaa"),
        ended: text("2026-01-02T03:04:05.006Z"),
        seconds: 1.5,
        warnings: texts(&["a warning"]),
    };
    let bulk = [TargetSize { table: 0, shard: 1, node: text("t2:9000"), rows: 17, bytes: 1700, whole: true }];
    let written = |outcome: Outcome| {
        let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
        let json = outcome.written(Form::Json).expect("a report has a JSON form");
        assert!(json.contains(&version), "{json}");
        json.replace(&version, "\"version\": \"(version)\"")
    };
    check("report-run.json", &written(Outcome::of(end(None), Some(&overview()), "/copy/hits", &bulk)));
    check("report-run-failed.json", &written(Outcome::of(end(Some("an error")), None, "/copy/hits", &[])));
}

#[test]
fn outcomes_of_a_run_keep_their_names() {
    let endings = [
        Ending::WasFinished,
        Ending::Finished,
        Ending::Different,
        Ending::Unaccounted,
        Ending::Uncleaned,
        Ending::Partial,
        Ending::Interrupted,
        Ending::Cancelled,
    ];
    let verdicts = endings.into_iter().map(RunResult::from).chain([RunResult::Failed]);
    let lines = verdicts.map(|verdict| {
        assert_eq!(serde_json::to_string(&verdict).expect("JSON"), format!("\"{}\"", verdict.as_str()));
        verdict.as_str()
    });
    check("report-run-words.txt", &lines.collect::<Vec<_>>().join("\n"));
    check("report-endings.json", &json(&endings));
}

#[test]
fn the_form_of_a_report_follows_from_the_name_of_its_file() {
    let names = ["a.html", "a.htm", "a.json", "a.md", "a.markdown", "a.txt", "a"];
    let lines = names.map(|name| format!("{name} {:?}", Form::of(Path::new(name))));
    check("report-forms.txt", &lines.join("\n"));
}

#[test]
fn check_keeps_its_form() {
    let abouts = [
        Topic::Task,
        Topic::Server,
        Topic::Version,
        Topic::Rights,
        Topic::Table,
        Topic::Partitions,
        Topic::Disk,
        Topic::Clock,
        Topic::Zookeeper,
        Topic::Mutation,
        Topic::Ttl,
        Topic::View,
        Topic::Leftover,
        Topic::Settings,
    ];
    let levels = [Level::Fault, Level::Warning, Level::Remark];
    let finding = |(at, about): (usize, &Topic)| {
        let whole = at % 2 == 0;
        let optional = |what: &str| whole.then(|| text(what));
        let (node, table, todo) = (optional("t1:9000"), optional("hits"), optional("do this"));
        Finding { level: levels[at % levels.len()], about: *about, node, table, what: text("is wrong"), todo }
    };
    check("report-check.json", &json(&CheckReport::of(abouts.iter().enumerate().map(finding).collect())));
    let verdicts = [CheckResult::Clear, CheckResult::WouldFail, CheckResult::TaskWrong];
    check("report-check-words.json", &json(&verdicts));
}

fn measure(rows: u64, sum: u64) -> Measure {
    Measure { rows, sum }
}

fn comparison() -> Comparison {
    let partition = |name: &str, verdict, narrowed| PartitionComparison {
        name: text(name),
        source: measure(10, 100),
        target: measure(9, 90),
        verdict,
        misplaced: Vec::new(),
        narrowed,
    };
    let narrowed = Narrowed {
        keys: vec![KeyDifference { key: texts(&["2018-01-01", "5"]), source: measure(1, 50), target: measure(0, 0) }],
        more: 3,
        at_least: true,
        between: Some(KeyRange { first: texts(&["2018-01-01", "5"]), last: texts(&["2018-01-31", "9"]) }),
    };
    let partitions = vec![
        partition("201801", PartitionVerdict::Equal, None),
        partition("201802", PartitionVerdict::Expected(text("a TTL")), None),
        PartitionComparison {
            misplaced: texts(&["rows on another shard"]),
            ..partition("201803", PartitionVerdict::Different, Some(Ok(narrowed)))
        },
        partition("201804", PartitionVerdict::Different, Some(Err(text("no answer")))),
    ];
    let table = |error: Option<&str>, partitions| TableComparison {
        name: text("hits"),
        source: TableName::new("a", "hits"),
        target: TableName::new("b", "visits"),
        remarks: texts(&["a remark"]),
        key: texts(&["d", "id"]),
        left_out: 12,
        partitions,
        error: error.map(text),
        missed: error.map(|_| text("201805")).into_iter().collect(),
    };
    Comparison {
        remarks: texts(&["of all"]),
        tables: vec![table(Some("an error"), partitions), table(None, Vec::new())],
    }
}

#[test]
fn verify_keeps_its_form() {
    let sample = Sample { take: 1, classes: 7, day: 100 };
    check("report-verify.json", &json(&VerifyReport::of(&comparison(), By::Checksum, Some(sample))));
    check("report-verify-count.json", &json(&VerifyReport::of(&comparison(), By::Count, None)));
    let words =
        [ComparisonResult::Equal, ComparisonResult::Expected, ComparisonResult::Unknown, ComparisonResult::Different];
    check("report-verify-words.json", &json(&words));
}

fn leftovers(standing: Standing) -> Findings {
    let table = |name: &str, held| LeftoverKind::Table(TableName::new("b", name), held);
    let thing =
        |what, verdict| Leftover { node: Arc::new(Node::new("t1")), what, description: text("what it is"), verdict };
    let other = |id: &str| LeftoverVerdict::OfAnother(TaskId(text(id)));
    let reasons = [
        Reason::Published,
        Reason::Waiting,
        Reason::Older { newest: 4 },
        Reason::WorkerGone { worker: text("host-1-aaaa") },
        Reason::Failed,
        Reason::GivenUp,
        Reason::Unrecorded,
        Reason::Named,
    ];
    let goes = reasons
        .map(|reason| thing(table("copier_0123456789ab_t0_b1_p2_a3", Some((5, 500))), LeftoverVerdict::Goes(reason)));
    let statement = LeftoverKind::Statement { query_id: text("copier:0123456789ab:t0:p3:a3:s0r0"), elapsed: 1.5 };
    let stays = [
        thing(statement, LeftoverVerdict::Held { by: text("host-2-bbbb") }),
        thing(table("copier_ba9876543210_t0_b1_p2_a3", None), other("ba9876543210")),
        thing(table("copier_aaaaaaaaaaaa_t0_b1_p2_a3", None), other("aaaaaaaaaaaa")),
        thing(table("copier_notes", None), LeftoverVerdict::NotOurs),
    ];
    Findings {
        id: Some(TaskId(text("0123456789ab"))),
        task_path: text("/copy/hits"),
        standing,
        holders: vec![Holder { worker: text("host-2-bbbb"), claims: ["t0-p3", "planning"].map(Claim::parse).into() }],
        leftovers: goes.into_iter().chain(stays).collect(),
        silent: texts(&["t9:9000: no answer"]),
        neighbours: BTreeMap::from([(TaskId(text("ba9876543210")), text("/copy/other"))]),
    }
}

fn removal() -> Removal {
    Removal { tables: 2, statements: 3, given_up: 4, failed: texts(&["not that one"]), interrupted: true }
}

#[test]
fn cleanup_keeps_its_form() {
    let unfinished = leftovers(Standing::Unfinished { done: 3, batches: 5, begun: 1 });
    check("report-cleanup.json", &json(&CleanupReport::of(&unfinished, Some(&removal()), true)));
    let nothing = |standing| Findings {
        id: None,
        holders: Vec::new(),
        leftovers: Vec::new(),
        silent: Vec::new(),
        ..leftovers(standing)
    };
    let standings =
        [Standing::Absent, Standing::Named, Standing::HalfForgotten, Standing::NotPlanned, Standing::Finished];
    let reports = standings.map(|standing| CleanupReport::of(&nothing(standing), None, false));
    check("report-cleanup-least.json", &json(&reports));
}

#[test]
fn pause_resume_and_cancel_keep_their_form() {
    let all = [
        Obeyed::Resumed,
        Obeyed::WasNotPaused,
        Obeyed::Paused,
        Obeyed::Cancelled,
        Obeyed::Overruled,
        Obeyed::Interrupted,
    ];
    let report = |outcome| OrderReport {
        path: text("/copy/hits"),
        outcome,
        not_looked_at: if outcome == Obeyed::Paused { texts(&["t9:9000: no answer"]) } else { Vec::new() },
        cleanup: (outcome == Obeyed::Cancelled).then(|| {
            let found = Findings { leftovers: Vec::new(), ..leftovers(Standing::Finished) };
            CleanupReport::of(&found, Some(&removal()), false)
        }),
    };
    check("report-orders.json", &json(&all.map(report)));
}

#[test]
fn init_and_reverse_keep_their_form() {
    let shard = |host: &str| Shard { weight: 2, internal_replication: true, replicas: vec![Node::new(host)] };
    let cluster = |name: &str, host: &str| ClusterSketch {
        name: text(name),
        comment: texts(&["of a cluster"]),
        shards: vec![shard(host)],
        password_env: None,
    };
    let sketch = Sketch {
        comment: texts(&["of the file"]),
        kept: Vec::new(),
        clusters: vec![cluster("source", "s1"), cluster("target", "t1")],
        tables: vec![TableSketch {
            name: text("hits"),
            source: ClusterTable { cluster: text("source"), table: TableName::new("a", "hits") },
            target: ClusterTable { cluster: text("target"), table: TableName::new("b", "visits") },
            elements: vec![
                SketchElement::new("engine", Some(text("ENGINE = MergeTree ORDER BY id")), texts(&["of an element"])),
                SketchElement::new("sharding_key", Some(text("id")), Vec::new()),
            ],
        }],
    };
    let xml = sketch.to_xml();
    let file = TaskText::new(xml, "task.xml").parse(&GivenSecrets::default()).expect("a task");
    let report = |written| ProposalReport::of(&sketch, &file, written);
    check("report-init.json", &json(&report(None)));
    check("report-init-written.json", &json(&report(Some(Path::new("task.xml")))));
}
