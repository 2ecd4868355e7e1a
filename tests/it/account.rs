//! The account: a run ends with 0 only if every row of the source is on its target shard; otherwise it names the difference.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Task, Worker, fill, scene};

/// A task from one shard to two, with `<verify>none</verify>`: only the account can find differences.
fn task(scene: &Scene) -> Task {
    fill(scene, &[0], BY_MONTH, 600, 2);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("verify", "none");
    scene.task(&[&[0]], &[&[1], &[2]]).with(hits)
}

/// Returns a worker that has published everything and is frozen before it settles the account.
fn published(scene: &Scene, task: &Task) -> Worker {
    let worker = scene.launch(task).freeze_at("account").start();
    worker.freezes_at("account");
    worker
}

fn rows_of_others(database: &str, day: &str, count: u64) -> String {
    format!(
        "INSERT INTO {database}.hits SELECT toDate('{day}'), 1000000 + number, 'other', toInt32(1) FROM system.numbers LIMIT {count}"
    )
}

#[apply(both)]
fn rows_lost_or_added_on_the_target_are_reported_as_differences(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = published(&scene, &task);
    let lost = scene.ask(1, &format!("SELECT count() FROM {}.hits WHERE toYYYYMM(d) = 201801", scene.dst));
    scene.ask(1, &format!("ALTER TABLE {}.hits DROP PARTITION 201801", scene.dst));
    scene.ask(2, &rows_of_others(&scene.dst, "2018-02-03", 3));
    // The account does not include partitions that the task does not fill.
    scene.ask(2, &rows_of_others(&scene.dst, "2017-07-03", 5));
    worker.thaw();
    let ended = worker.ends().with(4);
    let ended =
        ended.reports(&["DIFFERENT: target shard 1", &format!("{lost} rows are missing"), "201801 holds 0 rows"]);
    ended.reports(&["DIFFERENT: target shard 2", "3 rows are too many", "201802"]);
    scene.check_nothing_left(&task);
    // The next run reports the differences again.
    scene.run(&task).with(4).reports(&["DIFFERENT: target shard 1", "201801 holds 0 rows"]);
    let status =
        scene.launch(&task).verb("status").run().reports(&["DIFFERENT: target shard 1", "201801 holds 0 rows"]);
    assert!(status.stdout.contains("DIFFERENT: target shard 2"), "{}", status.stdout);
}

#[apply(both)]
fn rows_added_to_the_source_during_a_copy_are_reported_until_they_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = published(&scene, &task);
    scene.ask(0, &rows_of_others(&scene.src, "2018-02-03", 7));
    scene.ask(0, &rows_of_others(&scene.src, "2018-03-03", 4));
    worker.thaw();
    worker.ends().with(3).reports(&["not accounted: table hits: the source changed", "11 rows"]);
    scene.run(&task).with(3).reports(&["not accounted: table hits"]);
    scene.launch(&task).args(&["--incremental"]).run().with(0);
    scene.check(&task);
    scene.run(&task).with(0);
}

/// Only the number of rows shows that a table of engine Log has changed.
#[apply(both)]
fn rows_added_to_a_source_without_parts_are_reported(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} ENGINE = Log", scene.src));
    scene.ask(0, &rows_of_others(&scene.src, "2018-01-03", 600));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("verify", "none");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    let worker = published(&scene, &task);
    scene.ask(0, &rows_of_others(&scene.src, "2018-01-03", 7));
    worker.thaw();
    worker.ends().with(3).reports(&["not accounted: table hits: the source changed", "7 rows"]);
    assert_eq!(scene.sum(&[1, 2], &format!("SELECT count() FROM {}.hits", scene.dst)), 600);
}

/// A merge of the source's parts is not a change. The rows of two table jobs into one partition are added to the rows from before.
#[apply(both)]
fn the_account_balances_after_merges_and_with_several_jobs_for_one_table(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 600, 2);
    scene.ask(0, &format!("INSERT INTO {}.hits SELECT * FROM {}.hits LIMIT 10", scene.src, scene.src));
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.on(&[1, 2], &rows_of_others(&scene.dst, "2018-02-03", 3));
    let adding = |name| {
        let job = scene.table(name).from(&scene.src, "hits").to(&scene.dst, "hits").sharding_key("id");
        job.with("if_target_not_empty", "append")
    };
    // The tasks run one after the other, so each finds the rows of the task before.
    let first = scene.task(&[&[0]], &[&[1], &[2]]).with(adding("one"));
    let worker = published(&scene, &first);
    scene.ask(0, &format!("OPTIMIZE TABLE {}.hits FINAL", scene.src));
    worker.thaw();
    worker.ends().with(0).tells(&["the task is finished"]);
    let months = adding("two").raw("<enabled_partitions><partition>201801</partition></enabled_partitions>");
    let other = adding("three").raw("<enabled_partitions><partition>201802</partition></enabled_partitions>");
    let both = scene.task(&[&[0]], &[&[1], &[2]]).at("both").with(months).with(other);
    scene.run(&both).with(0).tells(&["the task is finished"]);
    assert_eq!(scene.sum(&[1, 2], &format!("SELECT count() FROM {}.hits", scene.dst)), 2 * 610 + 6);
}

/// Two jobs that fill one table, with the same number of rows in each partition and shard.
fn two_into_one(scene: &Scene, path: &str, policy: &str) -> Task {
    let job = |name| {
        let job = scene.table(name).from(&scene.src, name).to(&scene.dst, "hits").engine(BY_MONTH).sharding_key("id");
        job.with("if_target_not_empty", policy)
    };
    scene.task(&[&[0]], &[&[1], &[2]]).at(path).with(job("hits")).with(job("more"))
}

/// Each job counts the rows of a partition before it publishes. If both ran at the same time, one would count the rows of the other
/// as its own.
#[apply(both)]
fn jobs_that_append_to_the_same_partition_run_one_after_the_other(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 600, 2);
    scene.ask(0, &format!("CREATE TABLE {}.more {COLUMNS} {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {0}.more SELECT d, id + 1000000, s, v FROM {0}.hits", scene.src));
    let refused = scene.run(&two_into_one(&scene, "failing", "fail")).with(2);
    refused.tells(&["tables/hits and tables/more both fill partition", "<if_target_not_empty>append"]);
    let task = two_into_one(&scene, "adding", "append");
    let frozen = scene.launch(&task).freeze_at("before-recorded").start();
    frozen.freezes_at("before-recorded");
    scene.run(&task).with(0);
    frozen.thaw();
    frozen.ends().with(0);
    let rows = format!("SELECT count(), uniqExact(id) FROM {}.hits", scene.dst);
    assert_eq!(scene.lines(&[1, 2], &rows), ["600\t600", "600\t600"]);
}

/// Another writer inserts as many rows as the task does, after the worker has counted the partition and before it publishes.
#[apply(both)]
fn rows_of_other_writers_during_publication_are_not_counted_as_copied(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 600, 1);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    let hits = scene.table("hits").sharding_key("id").with("if_target_not_empty", "append");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    let worker = scene.launch(&task).freeze_at("before-recorded").start();
    worker.freezes_at("before-recorded");
    let day = scene.ask(0, &format!("SELECT toString(min(d)) FROM {}.hits", scene.src));
    scene.on(&[1, 2], &rows_of_others(&scene.dst, &day, 300));
    worker.thaw();
    worker.ends().with(0).tells(&["somebody else adds rows to it"]);
    let rows = format!("SELECT countIf(id < 1000000), countIf(id >= 1000000) FROM {}.hits", scene.dst);
    assert_eq!(scene.lines(&[1, 2], &rows), ["300\t300", "300\t300"]);
}

/// The same after a worker died between count and publication, in a partition that held rows of others before.
#[apply(both)]
fn rows_of_other_writers_after_a_crash_are_not_counted_as_copied(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 600, 1);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("if_target_not_empty", "append");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    let day = scene.ask(0, &format!("SELECT toString(min(d)) FROM {}.hits", scene.src));
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.on(&[1, 2], &rows_of_others(&scene.dst, &day, 3));
    let worker = scene.launch(&task).freeze_at("before-recorded").start();
    worker.freezes_at("before-recorded");
    worker.kill_9();
    scene.on(&[1, 2], &rows_of_others(&scene.dst, &day, 300));
    scene.run(&task).with(3).tells(&["it held 3 rows before", "cannot be told"]);
}

/// The parts have marks of another granularity. 18.16 attaches them, lists all their rows, and reads fewer. Later releases have
/// adaptive marks, and refuse such parts or read all rows.
#[test]
fn a_source_that_returns_other_rows_than_its_parts_list_is_refused() {
    let scene = scene!(Release::V18_16);
    let columns = format!("{COLUMNS} ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    scene.ask(0, &format!("CREATE TABLE {}.good {columns} SETTINGS index_granularity = 8192", scene.src));
    scene.ask(0, &format!("CREATE TABLE {}.hits {columns} SETTINGS index_granularity = 65536", scene.src));
    let rows = "SELECT toDate('2018-01-01'), number, 'x', toInt32(1) FROM system.numbers LIMIT 100000";
    scene.ask(0, &format!("INSERT INTO {}.good {rows}", scene.src));
    scene.ask(0, &format!("ALTER TABLE {0}.hits ATTACH PARTITION 201801 FROM {0}.good", scene.src));
    let hits = scene.table("hits").engine(BY_MONTH).with("verify", "none");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    scene.run(&task).with(1).tells(&[
        "table hits",
        "source shard 1",
        "100000 by the list",
        "not accounted for",
        "201801",
    ]);
    assert!(!scene.has_database(1, &scene.dst));
}
