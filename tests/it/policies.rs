//! Target partitions that hold rows of others: each policy of `<if_target_not_empty>`.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Digest, Scene, Table, Task, fill, removing_old_parts_soon, rows, scene};

/// Ids of rows that were on the target before.
const FOREIGN: u64 = 1_000_000;

/// The target's engine on each server.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Replicated,
}

/// Creates source rows of three months on server 0, and a target table with rows of February 2018, which the source has too, and of
/// July 2017, which it does not have. The target is one shard: server 1, or servers 1 and 2.
fn prepare(scene: &Scene, kind: Kind) -> Task {
    fill(scene, &[0], BY_MONTH, 9000, 3);
    let targets: &[usize] = if kind == Kind::Plain { &[1] } else { &[1, 2] };
    let engine = match kind {
        Kind::Plain => BY_MONTH.to_owned(),
        Kind::Replicated => scene.replicated_engine(""),
    };
    scene.on(targets, &format!("CREATE DATABASE {}", scene.dst));
    scene.on(targets, &format!("CREATE TABLE {}.hits {COLUMNS} {}", scene.dst, engine));
    for (day, count) in [("2018-02-03", 10), ("2017-07-05", 5)] {
        scene.ask(1, &foreign(&scene.dst, day, count));
    }
    for replica in &targets[1..] {
        scene.ask(*replica, &format!("SYSTEM SYNC REPLICA {}.hits", scene.dst));
    }
    scene.task(&[&[0]], &[targets])
}

/// A statement that inserts rows of others.
fn foreign(database: &str, day: &str, count: u64) -> String {
    format!(
        "INSERT INTO {database}.hits SELECT toDate('{day}'), {FOREIGN} + number, 'foreign', toInt32(1) \
         FROM system.numbers LIMIT {count}"
    )
}

fn hits(scene: &Scene, policy: &str) -> Table {
    scene.table("hits").with("if_target_not_empty", policy).with("number_of_splits", "2")
}

fn digest(scene: &Scene, server: usize, database: &str, condition: &str) -> Digest {
    scene.digest(&[server], "cityHash64(d, id, s, v)", &format!("{database}.hits WHERE {condition}"))
}

/// Checks that the target has exactly the source rows for which `ours` holds, and the rows from before of the months in `theirs`.
#[track_caller]
fn check(scene: &Scene, task: &Task, ours: &str, theirs: &str) {
    for server in scene.readers(&task.target) {
        let found = digest(scene, server, &scene.dst, &format!("id < {FOREIGN}"));
        assert_eq!(found, digest(scene, 0, &scene.src, ours), "rows of the source on server {server}");
        let of_others = |condition: &str| {
            scene.ask(server, &format!("SELECT count() FROM {}.hits WHERE id >= {FOREIGN} AND {condition}", scene.dst))
        };
        let expected: u64 =
            [("201802", 10), ("201707", 5)].iter().filter(|(m, _)| theirs.contains(m)).map(|(_, n)| n).sum();
        assert_eq!(of_others("1"), expected.to_string(), "rows of others on server {server}");
        assert_eq!(of_others(&format!("toYYYYMM(d) IN ({theirs})")), expected.to_string());
    }
    scene.check_replicas(task, &task.tables[0]);
    scene.check_nothing_left(task);
}

fn fail(scene: &Scene, kind: Kind, table: Table) {
    let task = prepare(scene, kind).with(table);
    scene.run(&task).with(1).tells(&["hits", "201802", "if_target_not_empty"]);
    check(scene, &task, "0", "201802, 201707");
}

#[apply(both)]
fn policy_fail_refuses_a_plain_target_with_rows(#[case] release: Release) {
    let scene = scene!(release);
    fail(&scene, Kind::Plain, hits(&scene, "fail"));
}

#[apply(both)]
fn policy_fail_refuses_a_replicated_target_with_rows(#[case] release: Release) {
    let scene = scene!(release);
    fail(&scene, Kind::Replicated, hits(&scene, "fail"));
}

#[apply(both)]
fn policy_fail_is_the_default(#[case] release: Release) {
    let scene = scene!(release);
    fail(&scene, Kind::Plain, scene.table("hits"));
}

#[apply(both)]
fn policy_fail_sees_rows_on_any_replica(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 9000, 3);
    let mut task = scene.task(&[&[0]], &[&[1, 2]]).with(hits(&scene, "fail"));
    task.target.shards[0].internal_replication = false;
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.ask(2, &foreign(&scene.dst, "2018-02-03", 10));
    scene.run(&task).with(1).tells(&["hits", "201802", scene.server(2).host()]);
    assert_eq!(scene.sum(&[1, 2], &format!("SELECT count() FROM {}.hits", scene.dst)), 10);
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn policy_fail_ignores_rows_of_other_partitions(#[case] release: Release) {
    let scene = scene!(release);
    let table = hits(&scene, "fail").with("enabled_partitions", "201801 201803");
    let task = prepare(&scene, Kind::Plain).with(table);
    scene.run(&task).with(0);
    check(&scene, &task, "toYYYYMM(d) IN (201801, 201803)", "201802, 201707");
}

#[apply(both)]
fn policy_replace_holds_on_a_plain_target_after_a_restart(#[case] release: Release) {
    let scene = scene!(own removing_old_parts_soon(release, 3));
    let task = prepare(&scene, Kind::Plain).with(hits(&scene, "replace"));
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201707");
    scene.server(1).kill_9().unwrap();
    scene.server(1).start().unwrap();
    check(&scene, &task, "1", "201707");
    scene.check_status(&task);
}

#[apply(both)]
fn policy_replace_replaces_partitions_of_a_replicated_target(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Replicated).with(hits(&scene, "replace"));
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201707");
    scene.check_status(&task);
}

#[apply(both)]
fn allow_to_drop_target_partitions_means_replace(#[case] release: Release) {
    let scene = scene!(release);
    let table = scene.table("hits").with("allow_to_drop_target_partitions", "true");
    let task = prepare(&scene, Kind::Replicated).with(table);
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201707");
}

#[apply(both)]
fn allow_to_drop_target_partitions_for_all_tables_means_replace(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Replicated).with(scene.table("hits"));
    let task = task.more("<allow_to_drop_target_partitions>1</allow_to_drop_target_partitions>");
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201707");
}

#[apply(both)]
fn policy_append_adds_rows_to_a_plain_target(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Plain).with(hits(&scene, "append"));
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201802, 201707");
    scene.check_status(&task);
}

#[apply(both)]
fn policy_append_adds_rows_to_a_replicated_target(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Replicated).with(hits(&scene, "append"));
    scene.run(&task).with(0);
    check(&scene, &task, "1", "201802, 201707");
    scene.check_status(&task);
}

#[apply(both)]
fn two_tasks_with_policy_append_add_their_rows_twice(#[case] release: Release) {
    let scene = scene!(release);
    let base = prepare(&scene, Kind::Replicated);
    for name in ["first", "second"] {
        let task = base.clone().at(name).with(hits(&scene, "append"));
        scene.run(&task).with(0);
        scene.check_nothing_left(&task);
    }
    let ours = format!("SELECT count() FROM {}.hits WHERE id < {FOREIGN}", scene.dst);
    assert_eq!(scene.ask(1, &ours), "18000");
    assert_eq!(scene.ask(2, &ours), "18000");
}

#[apply(both)]
fn policy_skip_leaves_filled_partitions_of_a_plain_target(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Plain).with(hits(&scene, "skip"));
    let ended = scene.run(&task).with(0);
    assert!(format!("{}{}", ended.stdout, ended.stderr).contains("201802"), "the skipped partition is not named");
    check(&scene, &task, "toYYYYMM(d) != 201802", "201802, 201707");
    scene.check_status(&task);
}

#[apply(both)]
fn policy_skip_leaves_filled_partitions_of_a_replicated_target(#[case] release: Release) {
    let scene = scene!(release);
    let task = prepare(&scene, Kind::Replicated).with(hits(&scene, "skip"));
    scene.run(&task).with(0);
    check(&scene, &task, "toYYYYMM(d) != 201802", "201802, 201707");
}

/// A task to two target shards: all copied rows go to the first, and the second has rows of others.
fn leftovers_on_the_other_shard(scene: &Scene, engine: &str) -> Task {
    fill(scene, &[0], BY_MONTH, 3000, 2);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.dst));
    scene.ask(2, &foreign(&scene.dst, "2018-02-03", 10));
    scene.ask(2, &foreign(&scene.dst, "2017-07-05", 5));
    scene.task(&[&[0]], &[&[1], &[2]])
}

#[apply(both)]
fn policy_replace_also_empties_shards_that_get_no_row(#[case] release: Release) {
    let scene = scene!(release);
    let engine = scene.replicated_engine("/{shard}");
    let table = scene.table("hits").with("if_target_not_empty", "replace").sharding_key("intDiv(id, 1000000)");
    let task = leftovers_on_the_other_shard(&scene, &engine).with(table);
    scene.run(&task).with(0);
    assert_eq!(digest(&scene, 1, &scene.dst, "1"), digest(&scene, 0, &scene.src, "1"));
    assert_eq!(scene.ask(2, &format!("SELECT DISTINCT toYYYYMM(d) FROM {}.hits", scene.dst)), "201707");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn policy_skip_also_sees_rows_on_shards_that_get_no_row(#[case] release: Release) {
    let scene = scene!(release);
    let table = scene.table("hits").with("if_target_not_empty", "skip").sharding_key("intDiv(id, 1000000)");
    let task = leftovers_on_the_other_shard(&scene, BY_MONTH).with(table);
    scene.run(&task).with(0);
    assert_eq!(digest(&scene, 1, &scene.dst, "1"), digest(&scene, 0, &scene.src, "toYYYYMM(d) != 201802"));
    assert_eq!(scene.ask(2, &format!("SELECT count() FROM {}.hits", scene.dst)), "15");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn rows_inserted_into_the_target_during_a_run_are_not_lost(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    let engine = scene.replicated_engine("");
    fill(&scene, &[0], BY_MONTH, 9000, 3);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(&engine));
    // The target is empty when the plan is made; then somebody inserts rows.
    let first = scene.launch(&task).stop_at("piece-claimed").start();
    first.reaches("piece-claimed");
    scene.ask(1, &foreign(&scene.dst, "2018-02-03", 10));
    first.kill_9();
    let ended = scene.launch(&task).args(&["--max-table-tries", "1", "--retry-delay-ms", "100"]).run();
    assert!([1, 3].contains(&ended.status.code().unwrap()), "{}", ended.stderr);
    ended.tells(&["201802"]);
    let there = format!("SELECT count() FROM {}.hits WHERE id >= {FOREIGN}", scene.dst);
    assert_eq!(scene.ask(1, &there), "10");
    let mixed = format!("SELECT count() FROM {}.hits WHERE id < {FOREIGN} AND toYYYYMM(d) = 201802", scene.dst);
    assert_eq!(scene.ask(1, &mixed), "0", "added to the rows of others though the policy is fail");
    // Removes the foreign rows, so that the next run succeeds.
    scene.ask(1, &rows_dropped(&scene));
    scene.run(&task).with(0);
    scene.check(&task);
}

fn rows_dropped(scene: &Scene) -> String {
    format!("ALTER TABLE {}.hits DROP PARTITION 201802", scene.dst)
}

#[apply(both)]
fn a_second_run_of_a_task_accepts_the_partitions_that_it_filled(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.run(&task).with(0);
    scene.check(&task);
    // For another task these rows are foreign.
    let other = task.clone().at("other");
    scene.run(&other).with(1).tells(&["hits", "201801"]);
    scene.check(&task);
    let more = format!("INSERT INTO {}.hits {}", scene.src, rows(10_000, 10, 1));
    scene.ask(0, &more);
    // A finished task copies no rows that were inserted later.
    scene.run(&task).with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "3000");
}

#[apply(both)]
fn safe_mode_overrides_policy_replace(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    let hits = scene.table("hits").engine(BY_MONTH).with("if_target_not_empty", "replace");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    scene.on(&[1], &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(1, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.ask(1, &format!("INSERT INTO {}.hits {}", scene.dst, rows(1_000_000, 7, 1)));
    let ended = scene.launch(&task).args(&["--safe-mode"]).run().with(1);
    ended.tells(&["if_target_not_empty", "201801"]);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "7");
}
