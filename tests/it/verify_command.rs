//! The verb `verify` compares a copied table with its source at a later time, and names the differences.

use lab::{Lab, LabSpec, Release};
use rstest_reuse::apply;
use serde_json::Value;

use crate::harness::{BY_MONTH, COLUMNS, Ended, Scene, Task, cluster_of_shards, fill, parse_json, scene};
use crate::{both, modern_ones};

/// Copies two shards to two: 4,000 rows in two months.
fn copied(scene: &Scene) -> Task {
    fill(scene, &[0, 1], BY_MONTH, 2000, 2);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    scene.run(&task).with(0);
    task
}

/// Runs `verify` for the task that is stored in ZooKeeper.
fn verify(scene: &Scene, task: &Task, more: &[&str]) -> Ended {
    scene.launch(task).without_task_file().verb("verify").args(more).run()
}

fn report(ended: &Ended) -> Value {
    parse_json(&ended.stdout)
}

/// Replaces all rows of the target table on one server by the result of a SELECT over them.
fn rewrite(scene: &Scene, server: usize, engine: &str, select: &str) {
    let dst = &scene.dst;
    scene.ask(server, &format!("CREATE TABLE {dst}.changed {COLUMNS} {engine}"));
    scene.ask(server, &format!("INSERT INTO {dst}.changed SELECT {}", select.replace("hits", &format!("{dst}.hits"))));
    scene.ask(server, &format!("DROP TABLE {dst}.hits"));
    scene.ask(server, &format!("RENAME TABLE {dst}.changed TO {dst}.hits"));
}

#[apply(both)]
fn verify_finds_both_sides_equal_with_and_without_a_recorded_task(#[case] release: Release) {
    let scene = scene!(release);
    let task = copied(&scene);
    let ended = verify(&scene, &task, &[]).with(0).reports(&["201801", "201802", "2 equal, 0 different"]);
    assert_eq!(ended.stderr, "", "nothing to warn of");
    verify(&scene, &task, &["--by", "count"]).with(0).reports(&["compared by count"]);
    // There is no task at this path: `verify` plans it and creates nothing.
    let elsewhere = task.clone().at("never");
    let ended = scene.launch(&elsewhere).verb("verify").run().with(0);
    assert!(ended.stdout.contains("no plan of an earlier run"), "{}", ended.stdout);
    assert!(ended.stdout.contains("2 equal, 0 different"), "{}", ended.stdout);
    assert_eq!(scene.children(&elsewhere.path), None, "it made something in ZooKeeper");
    scene.launch(&elsewhere).without_task_file().verb("verify").run().with(2).tells(&["there is no task"]);
}

#[apply(both)]
fn verify_names_rows_that_are_missing_doubled_or_changed(#[case] release: Release) {
    let scene = scene!(release);
    let task = copied(&scene);
    // Odd ids are on the second target shard.
    scene.ask(3, &format!("INSERT INTO {}.hits SELECT d, id, s, v FROM {0}.hits WHERE id = 5", scene.dst));
    let found = report(&verify(&scene, &task, &["--by", "count", "--format", "json"]).with(4));
    assert_eq!((&found["verdict"], &found["by"]), (&"different".into(), &"count".into()), "{found}");
    let partitions = found["tables"][0]["partitions"].as_array().unwrap();
    let [january, february] = partitions.as_slice() else { panic!("{found}") };
    assert_eq!((&january["verdict"], &february["verdict"]), (&"different".into(), &"equal".into()), "{found}");
    let key = serde_json::json!([{ "key": ["2018-01-06", "5"], "source_rows": 1, "target_rows": 2 }]);
    assert_eq!((&january["keys"], &january["more_keys"]), (&key, &0.into()), "{found}");
    assert_eq!(found["tables"][0]["key_columns"], serde_json::json!(["d", "id"]));

    rewrite(&scene, 3, BY_MONTH, "d, id, s, v + (id = 41) FROM hits");
    let both = verify(&scene, &task, &[]).with(4).reports(&[
        "d 2018-01-06, id 5: 1 row on the source, 2 rows on the target",
        "d 2018-02-11, id 41: 1 row on both sides, with other contents",
        "0 equal, 2 different",
    ]);
    assert_eq!(both.stdout.matches(", id ").count(), 2, "only what differs is told:\n{}", both.stdout);
    // A comparison by count does not find rows with other contents.
    verify(&scene, &task, &["--by", "count"]).with(4).reports(&["1 equal, 1 different"]);

    rewrite(&scene, 3, BY_MONTH, "DISTINCT d, id, s, v - (id = 41) FROM hits");
    verify(&scene, &task, &[]).with(0);
    rewrite(&scene, 2, BY_MONTH, "d, id, s, v FROM hits WHERE id NOT IN (2, 4, 6, 8, 10)");
    let missing = verify(&scene, &task, &[]).with(4);
    assert_eq!(missing.stdout.matches("1 row on the source, no row on the target").count(), 5, "{}", missing.stdout);
    let few = verify(&scene, &task, &["--keys", "2"]).with(4);
    assert_eq!(few.stdout.matches("no row on the target").count(), 2, "{}", few.stdout);
    assert!(few.stdout.contains(" more (--keys)"), "{}", few.stdout);

    // If many keys are missing, the first and the last are named. Days follow id % 59, and even ids are on this shard.
    rewrite(&scene, 2, BY_MONTH, "d, id, s, v FROM hits WHERE id < 1000 OR id > 1199 OR toMonth(d) = 2");
    let many = verify(&scene, &task, &[]).with(4);
    let all = ["more (--keys), from d 2018-01-01, id", " to d 2018-01-31, id 1092"];
    assert!(all.iter().all(|words| many.stdout.contains(words)), "{}", many.stdout);
}

#[apply(both)]
fn verify_reports_a_row_on_the_wrong_shard(#[case] release: Release) {
    let scene = scene!(release);
    let task = copied(&scene);
    let hits = format!("{}.hits", scene.dst);
    let row = scene.ask(3, &format!("SELECT d, id, s, v FROM {hits} WHERE id = 7"));
    rewrite(&scene, 3, BY_MONTH, "d, id, s, v FROM hits WHERE id != 7");
    scene.ask(2, &format!("INSERT INTO {hits} FORMAT TSV\n{row}\n"));
    let host = scene.server(2).host();
    let ended = verify(&scene, &task, &[]).with(4);
    let line = ended.stdout.lines().find(|line| line.contains("1 row that belongs to another one"));
    assert!(line.is_some_and(|line| line.contains(host)), "{}", ended.stdout);
    ended.reports(&["not where they belong", "1 equal, 1 different"]);
}

#[apply(both)]
fn verify_names_differing_rows_without_a_sorting_key_by_their_hash(#[case] release: Release) {
    let scene = scene!(release);
    let unsorted = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY tuple()";
    fill(&scene, &[0], unsorted, 3000, 1);
    let task = scene.task(&[&[0]], &[&[2]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    verify(&scene, &task, &[]).with(0).reports(&["no sorting key"]);
    rewrite(&scene, 2, unsorted, "d, id, s, v + (id = 41) FROM hits");
    let ended = verify(&scene, &task, &[])
        .with(4)
        .reports(&[": 1 row on the source, no row on the target", ": no row on the source, 1 row on the target"]);
    assert_eq!(ended.stdout.matches("hash of the row ").count(), 2, "{}", ended.stdout);
}

#[apply(both)]
fn verify_compares_every_replica_without_internal_replication(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 1000, 2);
    let mut task = scene.task(&[&[0]], &[&[2, 3]]).with(scene.table("hits").engine(BY_MONTH));
    task.target.shards[0].internal_replication = false;
    scene.run(&task).with(0);
    verify(&scene, &task, &[]).with(0).reports(&["2 equal"]);
    rewrite(&scene, 3, BY_MONTH, "d, id, s, v + (id = 41) FROM hits");
    let ended = verify(&scene, &task, &[]).with(4);
    ended.reports(&["1 equal, 1 different", scene.server(3).host(), "replicas of target shard 1", "but other ones"]);
}

#[apply(both)]
fn verify_expects_rows_from_before_the_copy_and_reports_missing_ones(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 1000, 2);
    scene.ask(2, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(2, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    // In a partition that is copied, and in one that is not.
    for day in ["2018-01-02", "2019-01-01"] {
        scene.ask(2, &format!("INSERT INTO {}.hits SELECT toDate('{day}'), 9999, 's', 1", scene.dst));
    }
    let hits = scene.table("hits").with("if_target_not_empty", "append").with("where_condition", "id < 900");
    let task = scene.task(&[&[0]], &[&[2]]).with(hits);
    scene.run(&task).with(0);
    let ended = verify(&scene, &task, &[]).with(0);
    let ended =
        ended.reports(&["as expected: rows were added to those that the target held", "1 equal, 1 not, as expected"]);
    assert!(!ended.stdout.contains("201901"), "{}", ended.stdout);
    rewrite(&scene, 2, BY_MONTH, "d, id, s, v FROM hits WHERE id NOT IN (41, 9999)");
    verify(&scene, &task, &[])
        .with(4)
        .reports(&["d 2018-02-11, id 41: 1 row on the source, no row", "1 equal, 1 diff"]);
}

#[apply(both)]
fn verify_with_repair_copies_differing_partitions_again(#[case] release: Release) {
    let scene = scene!(release);
    let task = copied(&scene);
    let written = format!(
        "SELECT max(modification_time) FROM system.parts WHERE active AND database = '{}' AND partition = '201801'",
        scene.dst
    );
    let written_at = |server| scene.ask(server, &written);
    rewrite(&scene, 3, BY_MONTH, "d, id, s, v + (id = 41) FROM hits");
    rewrite(&scene, 2, BY_MONTH, "d, id, s, v FROM hits WHERE id != 40");
    let before = [written_at(2), written_at(3)];
    let ended = verify(&scene, &task, &["--repair"]).with(0);
    let ended = ended.reports(&["1 equal, 1 different", "id 40: 1 row on the source, no row", "1 equal, 0 different"]);
    let ended = ended.tells(&["hits: replacing 201802", &format!("{}-repair-", task.path)]);
    assert!(ended.stdout.find("1 different") < ended.stdout.find("0 different"), "{}", ended.stdout);
    assert_eq!([written_at(2), written_at(3)], before, "what was equal is not copied again");
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
    verify(&scene, &task, &["--repair"]).with(0).reports(&["2 equal, 0 different"]);
    // Rows that were there before would be lost.
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("if_target_not_empty", "append");
    let appended = Task { tables: vec![hits], ..task }.at("appended");
    let refused = scene.launch(&appended).verb("verify").args(&["--repair"]).run().with(2);
    assert_eq!(refused.tells(&["--repair", "append", "would be lost"]).stdout, "");
}

#[apply(both)]
fn daily_samples_of_verify_cover_all_partitions_in_turn(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 1000, 5);
    let task = scene.task(&[&[0]], &[&[2]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    let mut seen = Vec::new();
    for (date, count) in [("2026-03-01", [3, 2]), ("2026-03-02", [2, 3])] {
        let more = ["--sample", "1/2", "--date", date, "--format", "json"];
        let found = report(&verify(&scene, &task, &more).with(0));
        let partitions = found["tables"][0]["partitions"].as_array().unwrap();
        assert!(count.contains(&partitions.len()), "{found}");
        assert_eq!(found["tables"][0]["left_out"], 5 - partitions.len(), "{found}");
        seen.extend(partitions.iter().map(|partition| partition["partition"].as_str().unwrap().to_owned()));
    }
    seen.sort();
    assert_eq!(seen, ["201801", "201802", "201803", "201804", "201805"]);
}

#[apply(both)]
fn verify_does_not_report_an_unreachable_server_as_equal(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0], BY_MONTH, 1000, 2);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    scene.run(&task).with(0);
    scene.server(2).stop().unwrap();
    let host = scene.server(2).host();
    let ended = verify(&scene, &task, &[]).with(1).reports(&["NOT COMPARED 201801, 201802", host, "0 equal"]);
    assert!(!ended.stdout.contains(", equal"), "{}", ended.stdout);
}

#[apply(modern_ones)]
fn verify_compares_a_modern_target_with_an_old_source(#[case] release: Release) {
    let scene = scene!(Release::V18_16, for release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    let (node, dst) = (Lab::shared(release).clickhouse(0), &scene.dst);
    let ask = |sql: &str| node.query(sql).unwrap();
    ask(&format!("DROP DATABASE IF EXISTS {dst}"));
    let source = scene.lab().cluster("source", &[&[0]]);
    let task = Task::new(scene.task_path(), source, cluster_of_shards("target", &[node])).with(scene.table("hits"));
    scene.run(&task).with(0);
    verify(&scene, &task, &[]).with(0).reports(&["2 equal, 0 different"]);
    ask(&format!("ALTER TABLE {dst}.hits DELETE WHERE id = 41 SETTINGS mutations_sync = 2"));
    verify(&scene, &task, &[])
        .with(4)
        .reports(&["d 2018-02-11, id 41: 1 row on the source, no row", "1 equal, 1 diff"]);
    ask(&format!("DROP DATABASE {dst}"));
}
