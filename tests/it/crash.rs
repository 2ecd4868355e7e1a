//! A worker is killed with -9 in each step of the protocol; another one finishes, and the result is exact.

use serde_json::Value;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS, fill};
use crate::harness::{Scene, Task, scene};

pub const PLAIN: &str = BY_MONTH;
/// `{shard}` is another one on each server of the shared laboratory.
pub const REPLICATED: &str = "ENGINE = ReplicatedMergeTree('/tables/NAME/{shard}', '{replica}') \
                          PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Two shards to two, three partitions, several pieces each.
pub fn task(scene: &Scene, engine: &str, policy: &str) -> Task {
    scene.short_sessions();
    fill(scene, &[0, 1], BY_MONTH, 6000, 3);
    let hits = scene.table("hits").engine(&engine.replace("NAME", scene.name())).sharding_key("id");
    let hits = hits.with("number_of_splits", "2").with("batch_bytes", "60000").with("if_target_not_empty", policy);
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits)
}

/// Workers that are killed at this point, one after the other.
pub fn kill_at(scene: &Scene, task: &Task, point: &str, times: u32) {
    for _ in 0..times {
        let worker = scene.launch(task).args(&["--jobs", "1"]).stop_at(point).start();
        worker.reaches(point);
        worker.kill_9();
    }
}

fn crash(scene: &Scene, engine: &str, point: &str) {
    let task = task(scene, engine, "fail");
    kill_at(scene, &task, point, 1);
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 3)]);
}

/// A second worker dies at the same point as the first.
fn crash_twice(scene: &Scene, engine: &str, point: &str) {
    let task = task(scene, engine, "fail");
    kill_at(scene, &task, point, 2);
    scene.run(&task).with(0);
    scene.check(&task);
}

/// A test for each row: name, engine, point.
macro_rules! crashes {
    ($way:ident: $($name:ident, $engine:ident, $point:literal;)+) => {
        $(
            #[apply(both)]
            fn $name(#[case] release: Release) {
                $way(&scene!(release), $engine, $point);
            }
        )+
    };
}

crashes! { crash:
    task_created, PLAIN, "task-created";
    plan_stored, REPLICATED, "plan-stored";
    tables_created, REPLICATED, "tables-created";
    piece_claimed, REPLICATED, "piece-claimed";
    staging_created, PLAIN, "staging-created";
    piece_pushed, REPLICATED, "piece-pushed";
    piece_verified, PLAIN, "piece-verified";
    piece_recorded, REPLICATED, "piece-recorded";
    publication_claimed, PLAIN, "publication-claimed";
    publication_claimed_replicated, REPLICATED, "publication-claimed";
    staging_renamed, PLAIN, "staging-renamed";
    staging_renamed_replicated, REPLICATED, "staging-renamed";
    gathered, PLAIN, "gathered";
    gathered_replicated, REPLICATED, "gathered";
    placed, PLAIN, "placed";
    placed_replicated, REPLICATED, "placed";
    publication_verified, PLAIN, "publication-verified";
    publication_verified_replicated, REPLICATED, "publication-verified";
    batch_recorded, PLAIN, "batch-recorded";
    batch_recorded_replicated, REPLICATED, "batch-recorded";
    staging_dropped, PLAIN, "staging-dropped";
}

crashes! { crash_twice:
    twice_while_pushing, REPLICATED, "piece-pushed";
    twice_when_renamed, PLAIN, "staging-renamed";
    twice_when_gathered, REPLICATED, "gathered";
    twice_when_placed, PLAIN, "placed";
    twice_when_placed_replicated, REPLICATED, "placed";
}

/// Rows of others in one of the partitions: added to, they must stay, and ours come once.
fn crash_with_others(scene: &Scene, engine: &str, policy: &str, point: &str) {
    let task = task(scene, engine, policy);
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[2, 3], &format!("CREATE TABLE {}.hits {COLUMNS} {}", scene.dst, engine.replace("NAME", scene.name())));
    let others = "SELECT toDate('2018-02-03'), 1000000 + number, 'other', toInt32(1) FROM system.numbers LIMIT 10";
    scene.ask(2, &format!("INSERT INTO {}.hits {others}", scene.dst));
    kill_at(scene, &task, point, 1);
    scene.run(&task).with(0);
    let row = "cityHash64(d, id, s, v)";
    let ours = scene.digest(&[2, 3], row, &format!("{}.hits WHERE id < 1000000", scene.dst));
    assert_eq!(ours, scene.digest(&[0, 1], row, &format!("{}.hits", scene.src)));
    let left = scene.sum(&[2, 3], &format!("SELECT count() FROM {}.hits WHERE id >= 1000000", scene.dst));
    assert_eq!(left, if policy == "append" { 10 } else { 0 });
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

fn crash_appending(scene: &Scene, engine: &str, point: &str) {
    crash_with_others(scene, engine, "append", point);
}

fn crash_replacing(scene: &Scene, engine: &str, point: &str) {
    crash_with_others(scene, engine, "replace", point);
}

crashes! { crash_appending:
    appending_claimed, PLAIN, "publication-claimed";
    appending_gathered, REPLICATED, "gathered";
    appending_placed, PLAIN, "placed";
    appending_placed_replicated, REPLICATED, "placed";
    appending_verified, PLAIN, "publication-verified";
    appending_recorded, REPLICATED, "batch-recorded";
}

crashes! { crash_replacing:
    replacing_gathered, REPLICATED, "gathered";
    replacing_placed, REPLICATED, "placed";
    replacing_recorded, REPLICATED, "batch-recorded";
}

/// A worker that stands still is alive: what it holds is its own, and others do the rest and wait.
#[apply(both)]
fn a_worker_that_stands_still_keeps_what_it_holds(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    let slow = scene.launch(&task).args(&["--jobs", "1"]).stop_at("placed").start();
    slow.reaches("placed");
    let other = scene.launch(&task).start();
    scene.eventually("all but one partition are processed", || {
        let status = scene.status(&task);
        if status["hits"]["processed_partitions_count"] == 2 { Ok(()) } else { Err(status.to_string()) }
    });
    slow.kill_9();
    other.ends().with(0);
    scene.check(&task);
}

/// Somebody cleaned up too eagerly, or a server came back without its disk.
#[apply(both)]
fn staged_rows_that_are_gone_are_copied_again(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "publication-claimed", 1);
    let dst = &scene.dst;
    let staged = scene.lines(&[2], &format!("SHOW TABLES FROM {dst} LIKE 'copier\\_%'"));
    let table = staged.first().expect("there are staged rows");
    scene.ask(2, &format!("DROP TABLE {dst}.{table}"));
    scene.run(&task).with(0).tells(&["staged rows", "are gone", table]);
    scene.check(&task);
}

/// What is published is counted first, and not believed from the records.
#[apply(both)]
fn staged_rows_that_are_fewer_than_recorded_are_not_published(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "publication-claimed", 1);
    let dst = &scene.dst;
    let sql = format!(
        "SELECT DISTINCT table, partition_id FROM system.parts WHERE active AND database = '{dst}' AND table LIKE 'copier%'"
    );
    let parts = scene.lines(&[2], &sql);
    let (table, id) = parts.first().and_then(|part| part.split_once('\t')).expect("there are staged rows");
    scene.ask(2, &format!("ALTER TABLE {dst}.{table} DROP PARTITION ID '{id}'"));
    scene.run(&task).with(0).tells(&["rows were staged", "are there"]);
    scene.check(&task);
}

/// All workers die at once, each somewhere else. What they have recorded and staged stays, however long it takes until
/// somebody starts new ones: their sessions are over by then, and nothing else of them has an age.
#[apply(both)]
fn all_workers_are_killed_and_new_ones_go_on(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    let points = ["piece-recorded", "piece-pushed", "publication-claimed"];
    let stopped = points.map(|point| {
        let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at(point).start();
        worker.reaches(point);
        worker
    });
    for worker in stopped {
        worker.kill_9();
    }
    scene.eventually("no session of theirs is left", || match scene.children(&format!("{}/claims", task.path)) {
        Some(names) if !names.is_empty() => Err(format!("{names:?}")),
        _ => Ok(()),
    });
    let copied = |pieces: &[Value]| -> Vec<(usize, Value)> {
        pieces.iter().cloned().enumerate().filter(|(_, piece)| !piece["s"]["c"].is_null()).collect()
    };
    let before = copied(&scene.pieces(&task));
    assert!(before.len() > 1 && before.len() < scene.pieces(&task).len(), "{before:?}");
    let new = [(); 2].map(|()| scene.launch(&task).without_task_file().start());
    for worker in new {
        worker.ends().with(0).tells(&["joining"]);
    }
    scene.check(&task);
    // Nothing that was recorded has been copied again.
    let after = scene.pieces(&task);
    for (number, piece) in before {
        assert_eq!(after[number], piece, "piece {number}");
    }
}
