//! `run --incremental`: a finished task runs again and copies only what has changed since.

use std::collections::BTreeMap;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Ended, Scene, Task, fill, removing_old_parts_soon, rows, scene};

fn again(scene: &Scene, task: &Task, code: i32) -> Ended {
    scene.launch(task).args(&["--incremental"]).run().with(code)
}

/// Returns the names of the target's parts. A partition that is copied again has other parts.
fn parts(scene: &Scene, servers: &[usize], condition: &str) -> Vec<String> {
    let sql = format!(
        "SELECT name FROM system.parts WHERE database = '{}' AND table = 'hits' AND active AND {condition} ORDER BY name",
        scene.dst
    );
    servers.iter().flat_map(|server| scene.lines(&[*server], &sql)).collect()
}

/// Returns the number of rows of each month on some servers.
fn months(scene: &Scene, servers: &[usize], database: &str) -> BTreeMap<String, u64> {
    let sql = format!("SELECT toYYYYMM(d), count() FROM {database}.hits GROUP BY toYYYYMM(d)");
    let mut months = BTreeMap::new();
    for line in servers.iter().flat_map(|server| scene.lines(&[*server], &sql)) {
        let (month, rows) = line.split_once('\t').unwrap();
        *months.entry(month.to_owned()).or_default() += rows.parse::<u64>().unwrap();
    }
    months
}

#[apply(both)]
fn an_incremental_run_copies_only_changed_partitions(#[case] release: Release) {
    let scene = scene!(own removing_old_parts_soon(release, 4));
    fill(&scene, &[0, 1], BY_MONTH, 6000, 4);
    // Two parts that can be merged later.
    scene.ask(0, &format!("INSERT INTO {}.hits VALUES ('2018-03-05', 1000001, 'x', 1)", scene.src));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    // The first pass copies everything.
    again(&scene, &task, 0).reports(&["4 of 4 partitions are published, 12001 rows"]);
    scene.check(&task);
    let before = parts(&scene, &[2, 3], "1");

    let ended = again(&scene, &task, 0).reports(&["4 partitions that were copied before are unchanged"]);
    ended.tells(&["0 partitions are new, 0 are to be copied again, 4 are unchanged, 0 have vanished"]);
    assert_eq!(parts(&scene, &[2, 3], "1"), before);
    scene.run(&task).with(0).tells(&["the task is finished already"]);

    // January is dropped, February gets a row, March is merged, May is new.
    scene.on(&[0, 1], &format!("ALTER TABLE {}.hits DROP PARTITION 201801", scene.src));
    scene.ask(1, &format!("INSERT INTO {}.hits VALUES ('2018-02-05', 1000002, 'y', 2)", scene.src));
    scene.ask(0, &format!("OPTIMIZE TABLE {}.hits PARTITION 201803 FINAL", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits VALUES ('2018-05-05', 1000003, 'z', 3)", scene.src));
    let untouched = parts(&scene, &[2, 3], "partition IN ('201801', '201803', '201804')");
    let january = months(&scene, &[2, 3], &scene.dst)["201801"];
    let of_source = || months(&scene, &[0, 1], &scene.src);
    let ended = again(&scene, &task, 0);
    let ended =
        ended.reports(&["2 of 2 partitions are published", "2 partitions that were copied before are unchanged"]);
    let ended = ended.tells(&["1 partitions are new, 1 are to be copied again, 2 are unchanged, 1 have vanished"]);
    ended.tells(&["1 partitions that were copied are not at the source any more, and stay on the target", "201801"]);
    assert_eq!(parts(&scene, &[2, 3], "partition IN ('201801', '201803', '201804')"), untouched);
    let kept = || of_source().into_iter().chain([("201801".to_owned(), january)]).collect::<BTreeMap<_, _>>();
    assert_eq!(months(&scene, &[2, 3], &scene.dst), kept());
    // `verify` compares all partitions of the task, not only those of the last pass.
    let verified = scene.launch(&task).verb("verify").run().with(0);
    verified.reports(&["201801", "the source does not have it any more", "201803: ", "5 partitions compared"]);

    again(&scene, &task, 0).tells(&["0 are to be copied again, 4 are unchanged, 1 have vanished"]);
    assert_eq!(months(&scene, &[2, 3], &scene.dst), kept());
    let dropped = scene.launch(&task).args(&["--incremental", "--drop-vanished"]).run().with(0);
    dropped.tells(&["are dropped on the target: 201801"]);
    assert_eq!(months(&scene, &[2, 3], &scene.dst), of_source());
    again(&scene, &task, 0).tells(&["4 are unchanged, 0 have vanished"]);
    scene.check(&task);

    // The copier does not empty the target because a source shard was created again.
    let held = months(&scene, &[2, 3], &scene.dst);
    scene.ask(1, &format!("DROP TABLE {}.hits", scene.src));
    scene.ask(1, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    let refused = scene.launch(&task).args(&["--incremental", "--drop-vanished"]).run().with(1);
    refused.tells(&["source shard 2", "holds none at all now"]);
    assert_eq!(months(&scene, &[2, 3], &scene.dst), held);
}

/// The source has another partition key than the target, and a condition selects some of its rows.
#[apply(both)]
fn an_incremental_run_works_when_the_target_has_another_partition_key(#[case] release: Release) {
    let scene = scene!(own removing_old_parts_soon(release, 2));
    let by_day = "ENGINE = MergeTree PARTITION BY d ORDER BY id";
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {by_day}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 300, 3)));
    let hits = scene.table("hits").engine("ENGINE = MergeTree PARTITION BY (toYYYYMM(d), s) ORDER BY id");
    let hits = hits.with("where_condition", "v % 2 = 0");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    again(&scene, &task, 0);
    let copied = scene.sum(&[1], &format!("SELECT count() FROM {}.hits", scene.dst));
    again(&scene, &task, 0).tells(&["0 partitions are new, 0 are to be copied again"]);
    // A new part with one row that the condition selects and one that it does not.
    scene.ask(
        0,
        &format!("INSERT INTO {}.hits VALUES ('2018-07-01', 1, 'new', 2), ('2018-07-01', 2, 'new', 3)", scene.src),
    );
    again(&scene, &task, 0).tells(&["1 partitions are new, 0 are to be copied again"]);
    assert_eq!(scene.sum(&[1], &format!("SELECT count() FROM {}.hits", scene.dst)), copied + 1);
    // Only the row that the condition does not select is left, so the copied partition has vanished. Its id is a hash.
    scene.ask(0, &format!("ALTER TABLE {}.hits DROP PARTITION '2018-07-01'", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits VALUES ('2018-07-01', 2, 'new', 3)", scene.src));
    let dropped = scene.launch(&task).args(&["--incremental", "--drop-vanished"]).run().with(0);
    dropped.tells(&["are dropped on the target", "(201807, 'new')"]);
    assert_eq!(scene.sum(&[1], &format!("SELECT count() FROM {}.hits", scene.dst)), copied);
    scene.launch(&task).verb("verify").run().with(0).reports(&["0 different"]);
}

#[apply(both)]
fn an_incremental_run_refuses_foreign_rows_and_restores_lost_rows(#[case] release: Release) {
    let scene = scene!(own removing_old_parts_soon(release, 2));
    fill(&scene, &[0], BY_MONTH, 3000, 3);
    let hits = scene.table("hits").engine(BY_MONTH);
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    again(&scene, &task, 0);
    scene.ask(1, &format!("ALTER TABLE {}.hits DROP PARTITION 201801", scene.dst));
    again(&scene, &task, 0).tells(&["does not hold what was copied of 1 partitions", "201801"]);
    scene.check(&task);
    scene.ask(1, &format!("INSERT INTO {}.hits VALUES ('2018-02-05', 7, 'theirs', 2)", scene.dst));
    let refused = again(&scene, &task, 1);
    let copied = months(&scene, &[0], &scene.src)["201802"];
    let message = format!("201802 ({copied} rows were copied, and {} are there)", copied + 1);
    refused.tells(&["somebody else has changed 1 partitions", &message]);
    assert_eq!(months(&scene, &[1], &scene.dst)["201802"], copied + 1, "left as it was");
    scene.ask(1, &format!("ALTER TABLE {}.hits DROP PARTITION 201802", scene.dst));
    again(&scene, &task, 0);
    scene.check(&task);
    for policy in ["append", "skip"] {
        let other = scene.task(&[&[0]], &[&[1]]).at(policy);
        let other = other.with(scene.table("hits").engine(BY_MONTH).with("if_target_not_empty", policy));
        let refused = again(&scene, &other, 2);
        refused.tells(&["tables/hits/if_target_not_empty", &format!("{policy} does not go with --incremental")]);
        assert_eq!(scene.children(&other.path), None, "nothing was made");
    }
    scene.launch(&task).args(&["--incremental", "--safe-mode"]).run().with(2);
    scene.launch(&task).args(&["--drop-vanished"]).run().with(2);
}

/// A pass whose worker was killed is finished by the next run, which then copies later changes.
#[apply(both)]
fn a_killed_incremental_pass_is_finished_by_the_next_run(#[case] release: Release) {
    let scene = scene!(own removing_old_parts_soon(release, 3));
    fill(&scene, &[0], BY_MONTH, 3000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    let launch = || scene.launch_local(&task, "task.xml").args(&["--incremental"]);
    launch().run().with(0);
    // The rows go into new months, so that nothing waits until replaced parts are deleted.
    let mut month = 0;
    let mut more = || {
        month += 1;
        let row = format!("('2019-{month:02}-01', {month}, 'more', 1)");
        scene.ask(0, &format!("INSERT INTO {}.hits VALUES {row}", scene.src));
    };
    for point in ["pass-prepared", "plan-stored", "piece-pushed", "placed", "batch-recorded"] {
        more();
        let victim = launch().stop_at(point).start();
        victim.reaches(point);
        victim.kill_9();
        more();
        launch().run().with(0);
        scene.check_rows(&task, &task.tables[0], "1");
        scene.check_no_tables(&task);
    }
    // Several workers start the same pass.
    more();
    for worker in [launch().start(), launch().start(), launch().start()] {
        worker.ends().with(0);
    }
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_no_tables(&task);
}
