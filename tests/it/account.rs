//! The account: every row of the source is where it belongs, or the run says which is not, and never ends with 0.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS, fill};
use crate::harness::{Scene, Task, Worker, scene};

/// A task of one shard to two, without any other comparison of what arrived.
fn task(scene: &Scene) -> Task {
    fill(scene, &[0], BY_MONTH, 600, 2);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("verify", "none");
    scene.task(&[&[0]], &[&[1], &[2]]).with(hits)
}

/// A worker that has published everything and has not settled the account.
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
fn rows_that_leave_or_join_the_target_are_a_difference(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = published(&scene, &task);
    let lost = scene.ask(1, &format!("SELECT count() FROM {}.hits WHERE toYYYYMM(d) = 201801", scene.dst));
    scene.ask(1, &format!("ALTER TABLE {}.hits DROP PARTITION 201801", scene.dst));
    scene.ask(2, &rows_of_others(&scene.dst, "2018-02-03", 3));
    // A partition that the task does not fill is not its account.
    scene.ask(2, &rows_of_others(&scene.dst, "2017-07-03", 5));
    worker.thaw();
    let ended = worker.ends().with(4);
    let ended =
        ended.reports(&["DIFFERENT: target shard 1", &format!("{lost} rows are missing"), "201801 holds 0 rows"]);
    ended.reports(&["DIFFERENT: target shard 2", "3 rows are too many", "201802"]);
    scene.check_nothing_left(&task);
    // It stays known.
    scene.run(&task).with(4).reports(&["DIFFERENT: target shard 1", "201801 holds 0 rows"]);
    let status =
        scene.launch(&task).verb("status").run().reports(&["DIFFERENT: target shard 1", "201801 holds 0 rows"]);
    assert!(status.stdout.contains("DIFFERENT: target shard 2"), "{}", status.stdout);
}

#[apply(both)]
fn a_source_that_changes_is_not_accounted_until_it_is_copied_again(#[case] release: Release) {
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

/// Nothing but its rows tells that such a source was written to.
#[apply(both)]
fn a_source_without_parts_that_changes_is_not_accounted(#[case] release: Release) {
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

/// A merge of the source's parts is no change; two table jobs that add to one partition are added up, with the rows before.
#[apply(both)]
fn merges_and_jobs_that_fill_one_table_add_up(#[case] release: Release) {
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
    // One after the other: each finds the rows of the one before.
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

/// Two jobs that fill one table with equally many rows in each partition, on each shard.
fn two_into_one(scene: &Scene, path: &str, policy: &str) -> Task {
    let job = |name| {
        let job = scene.table(name).from(&scene.src, name).to(&scene.dst, "hits").engine(BY_MONTH).sharding_key("id");
        job.with("if_target_not_empty", policy)
    };
    scene.task(&[&[0]], &[&[1], &[2]]).at(path).with(job("hits")).with(job("more"))
}

/// Each counts what a partition held before its first row: at the same time, one would take the rows of the other for its own.
#[apply(both)]
fn jobs_that_add_to_the_same_partitions_take_turns(#[case] release: Release) {
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

/// Rows of others that come between the look at a partition and the first row of ours, as many as ours.
#[apply(both)]
fn rows_that_others_add_in_the_same_moment_are_not_taken_for_ours(#[case] release: Release) {
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

/// The same after a worker that died between the two, in a partition that holds rows of others before.
#[apply(both)]
fn rows_that_others_add_after_a_crash_are_not_taken_for_ours(#[case] release: Release) {
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

/// Parts whose marks are those of another granularity: 18.16 attaches them, lists their rows, and reads others. Later releases have
/// adaptive marks, and refuse them or read them as they are.
#[test]
fn a_source_that_reads_other_rows_than_it_lists_is_refused_before_anything_is_made() {
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
    let databases = scene.ask(1, &format!("SELECT count() FROM system.databases WHERE name = '{}'", scene.dst));
    assert_eq!(databases, "0", "nothing is made");
}
