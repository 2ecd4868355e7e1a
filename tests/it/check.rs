//! `check` reports everything that would prevent a copy, and creates nothing.

use lab::{Lab, LabSpec, Release, User};
use rstest_reuse::apply;
use serde_json::Value;

use crate::harness::{BY_MONTH, COLUMNS, Ended, Scene, Task, cluster_of_shards, fill, scene};
use crate::{both, modern_ones};

/// A task from two servers to two others. The target database exists, the target table does not.
fn good(scene: &Scene) -> Task {
    fill(scene, &[0, 1], BY_MONTH, 1000, 2);
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.dst));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits)
}

/// Servers of this test alone, without statements of other tests.
fn alone(release: Release) -> LabSpec {
    LabSpec::of(release, 4)
}

fn check(scene: &Scene, task: &Task) -> Ended {
    let ended = scene.launch(task).verb("check").run();
    assert_eq!(scene.children(&task.path), None, "a check made something in ZooKeeper:\n{}", ended.stdout);
    for server in [2, 3] {
        let left =
            format!("SELECT count() FROM system.tables WHERE database = '{}' AND name LIKE 'copier\\_0%'", scene.dst);
        assert_eq!(scene.ask(server, &left), "0", "a check made tables");
    }
    ended
}

/// Fails unless one line has all these words, and begins with the first.
#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    let found =
        ended.stdout.lines().any(|line| line.starts_with(words[0]) && words.iter().all(|word| line.contains(word)));
    assert!(found, "no line has {words:?}:\n{}\n{}", ended.stdout, ended.stderr);
}

#[apply(both)]
fn check_finds_no_fault_in_a_good_task(#[case] release: Release) {
    let scene = scene!(own alone(release));
    let task = good(&scene);
    let ended = check(&scene, &task).with(0);
    says(&ended, &["remark", &format!("ClickHouse {}.", scene.release().name()), scene.server(3).host()]);
    says(&ended, &["remark", "table hits", "2 partitions with 2000 rows"]);
    says(&ended, &["remark", "nodes in ZooKeeper"]);
    says(&ended, &["0 faults, 0 warnings"]);
    assert_eq!(ended.stderr, "", "nothing is told twice");
    assert_eq!(scene.ask(2, &format!("SHOW TABLES FROM {}", scene.dst)), "");
    // After a run, `check` finds the task at its path.
    scene.run(&task).with(0);
    let after = scene.launch(&task).without_task_file().verb("check").run().with(0);
    says(&after, &["remark", "is finished"]);
}

#[apply(both)]
fn check_needs_no_coordinator(#[case] release: Release) {
    let scene = scene!(own alone(release));
    let task = good(&scene);
    let file = scene.dir().join("task.xml");
    std::fs::write(&file, task.xml()).unwrap();
    let binary = env!("CARGO_BIN_EXE_clickhouse-copier");
    let arguments = ["check", "--format", "json", "--task-file"];
    let output = std::process::Command::new(binary).args(arguments).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "clear");
    let findings = report["findings"].as_array().unwrap();
    assert!(!findings.is_empty() && findings.iter().all(|finding| finding["level"] == "remark"), "{report}");
    assert!(findings.iter().all(|finding| finding["about"] != "zookeeper"), "{report}");
}

#[apply(both)]
fn check_reports_several_faults_at_once(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = good(&scene);
    task.target_account = Some(("readonly".into(), String::new()));
    let engine = "ReplicatedMergeTree('/it/{nope}/x', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY id";
    task.tables[0] = scene.table("hits").engine(engine).sharding_key("id");
    // A second table, whose columns do not fit.
    scene.on(&[0, 1], &format!("CREATE TABLE {}.other {COLUMNS} {BY_MONTH}", scene.src));
    scene.on(&[2, 3], &format!("CREATE TABLE {}.other (d Date, id UInt64) {BY_MONTH}", scene.dst));
    let task = task.with(scene.table("other").sharding_key("id"));
    let ended = check(&scene, &task).with(1);
    for server in [2, 3] {
        let host = scene.server(server).host();
        says(&ended, &["FAULT", host, "table hits", "may only read"]);
        says(&ended, &["FAULT", host, "table hits", "no macro {nope}"]);
        says(&ended, &["FAULT", host, "table other", "may only read"]);
    }
    says(&ended, &["FAULT", "table other", "column s"]);
    assert!(ended.stdout.contains("a run would fail"), "{}", ended.stdout);
}

#[apply(both)]
fn check_reports_what_happens_to_target_partitions_with_rows(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = good(&scene);
    scene.on(&[2, 3], &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.ask(2, &format!("INSERT INTO {}.hits SELECT toDate('2018-01-02'), 1, 's', 1", scene.dst));
    for (policy, code, words) in [
        ("fail", 1, ["FAULT", "holds rows already", "201801 (1 rows"]),
        ("replace", 0, ["warning", "are replaced", "201801 (1 rows"]),
        ("append", 0, ["warning", "rows are added", "201801 (1 rows"]),
        ("skip", 0, ["remark", "are skipped", "201801 (1 rows"]),
    ] {
        task.tables[0] = scene.table("hits").sharding_key("id").with("if_target_not_empty", policy);
        says(&check(&scene, &task).with(code), &words);
    }
}

#[apply(both)]
fn check_warns_of_views_mutations_and_tables_of_other_tasks(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = good(&scene);
    let (src, dst) = (&scene.src, &scene.dst);
    scene.on(&[2, 3], &format!("CREATE TABLE {dst}.hits {COLUMNS} {BY_MONTH}"));
    let view = "ENGINE = MergeTree PARTITION BY d ORDER BY d AS SELECT d, count() AS n";
    scene.ask(3, &format!("CREATE MATERIALIZED VIEW {dst}.mv {view} FROM {dst}.hits GROUP BY d"));
    scene.ask(0, &format!("SYSTEM STOP MERGES {src}.hits"));
    scene.mutate(0, &format!("ALTER TABLE {src}.hits DELETE WHERE v = 123456"));
    scene.ask(2, &format!("CREATE TABLE {dst}.copier_ba9876543210_t0_b0_p0_a1 (a UInt8) ENGINE = Log"));
    task.tables[0] = scene.table("hits").sharding_key("id");
    let ended = check(&scene, &task.clone().more("<settings><max_thraeds>1</max_thraeds></settings>")).with(0);
    says(&ended, &["warning", scene.server(3).host(), "materialized view", &format!("{dst}.mv")]);
    says(&ended, &["warning", scene.server(0).host(), "of the source is not done", "v = 123456"]);
    says(&ended, &["warning", scene.server(2).host(), "1 table of another task (ba9876543210)", "cleanup"]);
    says(&ended, &["warning", "max_thraeds"]);
    assert!(ended.stdout.contains("0 faults, 4 warnings"), "{}", ended.stdout);
    scene.ask(0, &format!("SYSTEM START MERGES {src}.hits"));
}

/// 18.16 has no TTL, no last error of mutations and no `system.disks`.
#[apply(modern_ones)]
fn check_warns_of_ttl_and_failed_mutations_of_a_modern_target(#[case] release: Release) {
    let scene = scene!(Release::V18_16, for release);
    fill(&scene, &[0], BY_MONTH, 500, 2);
    let (node, dst) = (Lab::shared(release).clickhouse(0), &scene.dst);
    let ask = |sql: &str| node.query(sql).unwrap();
    ask(&format!("DROP DATABASE IF EXISTS {dst}"));
    ask(&format!("CREATE DATABASE {dst}"));
    ask(&format!("CREATE TABLE {dst}.hits {COLUMNS} {BY_MONTH} TTL d + INTERVAL 1 DAY"));
    // A row that the TTL keeps, so that the mutation fails on it.
    ask(&format!("INSERT INTO {dst}.hits SELECT today() + 1000, 1, 's', 1"));
    ask(&format!("ALTER TABLE {dst}.hits DELETE WHERE throwIf(v = 1) SETTINGS mutations_sync = 0"));
    let source = scene.lab().cluster("source", &[&[0]]);
    let task = Task::new(scene.task_path(), source, cluster_of_shards("target", &[node])).with(scene.table("hits"));
    let mut last = None;
    scene.eventually("the mutation has failed once", || {
        let ended = scene.launch(&task).verb("check").run().with(0);
        let tried = ended.stdout.contains("it failed last with");
        let output = ended.stdout.clone();
        last = Some(ended);
        if tried { Ok(()) } else { Err(output) }
    });
    let ended = last.unwrap();
    says(&ended, &["warning", node.host(), "of the target is not done", "throwIf", "it failed last with"]);
    says(&ended, &["warning", "table hits", "TTL", "will remove 500 of the rows"]);
    assert!(!ended.stdout.contains("disk space is not known"), "{}", ended.stdout);
    ask(&format!("DROP DATABASE {dst}"));
}

/// The program uses CHECK GRANT, or SHOW GRANTS on releases without it. 18.16 has no grants.
#[test]
fn check_reports_missing_rights_with_the_grant_statement() {
    let grants = ["SELECT", "INSERT, CREATE TABLE, KILL QUERY"].map(|rights| format!("GRANT {rights} ON *.*"));
    let scene = scene!(own LabSpec {
        users: vec![User { grants: grants.into(), ..User::new("few", "") }],
        ..LabSpec::mixed(&[Release::V18_16, Release::V26_9, Release::V25_8, Release::V24_8])
    });
    fill(&scene, &[0], BY_MONTH, 500, 2);
    let source = scene.lab().cluster("source", &[&[0]]);
    for number in [1, 2, 3] {
        let node = scene.server(number);
        let target = cluster_of_shards("target", &[node]);
        let mut task = Task::new(scene.task_path(), source.clone(), target).at(node.host()).with(scene.table("hits"));
        task.target_account = Some(("few".into(), String::new()));
        let ended = scene.launch(&task).verb("check").run().with(1);
        let missing = format!("DROP TABLE, ALTER DELETE, CREATE DATABASE ON {}.* TO few", scene.dst);
        says(&ended, &["FAULT", node.host(), "user few lacks DROP TABLE", &format!("GRANT {missing}")]);
        // A run fails for the same reason.
        scene.run(&task).with(1).tells(&[node.host(), "Not enough privileges"]);
    }
}

#[apply(both)]
fn check_reports_other_faults_when_zookeeper_does_not_answer(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = good(&scene);
    let nobody = scene.unused_host(150);
    let text = scene.keeper_text("").replace(scene.lab().zookeeper().host(), &nobody);
    std::fs::write(scene.keeper_xml(), text).unwrap();
    task.target_account = Some(("readonly".into(), String::new()));
    let ended = scene.launch(&task).verb("check").run().with(1);
    says(&ended, &["FAULT", "ZooKeeper", &nobody]);
    says(&ended, &["FAULT", "table hits", "may only read"]);
    // Without a task file there is nothing to check.
    scene.launch(&task).without_task_file().verb("check").run().with(1).tells(&["ZooKeeper", &nobody]);
}

#[apply(both)]
fn check_reports_faults_of_the_task_file_and_of_connections(#[case] release: Release) {
    let scene = scene!(release);
    let task = good(&scene);
    let xml = task.xml();
    let check_text = |text: &str| scene.launch_text(text).verb("check").run();
    let wrong =
        check_text(&xml.replacen("<weight>1<", "<weight>heavy<", 1).replacen("<table_push>hits</table_push>", "", 1))
            .with(2);
    says(&wrong, &["FAULT", "shard[1]/weight", "heavy"]);
    says(&wrong, &["FAULT", "<table_push>", "missing"]);
    says(&check_text(&xml.replace(">id<", ">nope<")).with(2), &["FAULT", "sharding_key", "nope"]);
    // First one of two replicas does not answer, then the only replica of a shard.
    let host = scene.server(2).host();
    let nobody = scene.unused_host(150);
    let replica = format!("<replica><host>{host}</host></replica>");
    assert!(xml.contains(&replica), "{xml}");
    let beside =
        check_text(&xml.replace(&replica, &format!("{replica}<replica><host>{nobody}</host></replica>"))).with(0);
    says(&beside, &["warning", &nobody, "goes on without this replica"]);
    says(
        &check_text(&xml.replace(&replica, &replica.replace(host, &nobody))).with(1),
        &["FAULT", "no replica of shard 1", &nobody],
    );
    // Accounts without rights, and an unknown account.
    for (account, words) in [("readonly", &["user readonly may only read"][..]), ("nobody", &["nobody", "password"])] {
        let host = scene.server(2).host();
        let entered = Task { target_account: Some((account.into(), String::new())), ..task.clone() };
        says(&check_text(&entered.xml()).with(1), &[&["FAULT", host][..], words].concat());
    }
    // A task that exists, and another file for its path.
    scene.run(&task).with(0);
    let changed = scene.launch_text(&xml.replace(">id<", ">id + 1<")).verb("check").run().with(2);
    says(&changed, &["FAULT", "sharding_key", "id + 1"]);
}

#[apply(both)]
fn check_warns_of_an_uneven_sharding_key(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    let task = |name: &str, key: &str| {
        let hits = scene.table("hits").engine(BY_MONTH).sharding_key(key);
        scene.task(&[&[0]], &[&[2], &[3], &[4]]).at(name).with(hits)
    };
    let uneven = scene.launch(&task("uneven", "id % 2")).verb("check").run().with(0);
    says(
        &uneven,
        &["warning", "sharding key id % 2", "of 3000 rows that were looked at, 1 shard would get", "shard 3 0"],
    );
    let even = scene.launch(&task("even", "cityHash64(id)")).verb("check").run().with(0);
    assert!(!even.stdout.contains("unevenly"), "{}", even.stdout);
}
