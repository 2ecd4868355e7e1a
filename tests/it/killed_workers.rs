//! A worker is killed with SIGKILL at each step of the protocol. Another worker finishes, and the target has exactly the rows.

use serde_json::Value;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{COLUMNS, PLAIN, REPLICATED, Scene, kill_at, scene, task_of_several_pieces};

fn crash(scene: &Scene, engine: &str, point: &str) {
    let task = task_of_several_pieces(scene, engine, "fail");
    kill_at(scene, &task, point, 1);
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 3)]);
}

/// Kills a second worker at the same fault point.
fn crash_twice(scene: &Scene, engine: &str, point: &str) {
    let task = task_of_several_pieces(scene, engine, "fail");
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
    a_kill_at_task_created_loses_no_row, PLAIN, "task-created";
    a_kill_at_plan_stored_on_replicated_tables_loses_no_row, REPLICATED, "plan-stored";
    a_kill_at_tables_created_on_replicated_tables_loses_no_row, REPLICATED, "tables-created";
    a_kill_at_piece_claimed_on_replicated_tables_loses_no_row, REPLICATED, "piece-claimed";
    a_kill_at_staging_created_loses_no_row, PLAIN, "staging-created";
    a_kill_at_piece_pushed_on_replicated_tables_loses_no_row, REPLICATED, "piece-pushed";
    a_kill_at_piece_verified_loses_no_row, PLAIN, "piece-verified";
    a_kill_at_piece_recorded_on_replicated_tables_loses_no_row, REPLICATED, "piece-recorded";
    a_kill_at_publication_claimed_loses_no_row, PLAIN, "publication-claimed";
    a_kill_at_publication_claimed_on_replicated_tables_loses_no_row, REPLICATED, "publication-claimed";
    a_kill_at_staging_renamed_loses_no_row, PLAIN, "staging-renamed";
    a_kill_at_staging_renamed_on_replicated_tables_loses_no_row, REPLICATED, "staging-renamed";
    a_kill_at_gathered_loses_no_row, PLAIN, "gathered";
    a_kill_at_gathered_on_replicated_tables_loses_no_row, REPLICATED, "gathered";
    a_kill_at_placed_loses_no_row, PLAIN, "placed";
    a_kill_at_placed_on_replicated_tables_loses_no_row, REPLICATED, "placed";
    a_kill_at_publication_verified_loses_no_row, PLAIN, "publication-verified";
    a_kill_at_publication_verified_on_replicated_tables_loses_no_row, REPLICATED, "publication-verified";
    a_kill_at_batch_recorded_loses_no_row, PLAIN, "batch-recorded";
    a_kill_at_batch_recorded_on_replicated_tables_loses_no_row, REPLICATED, "batch-recorded";
    a_kill_at_staging_dropped_loses_no_row, PLAIN, "staging-dropped";
}

crashes! { crash_twice:
    two_kills_at_piece_pushed_on_replicated_tables_lose_no_row, REPLICATED, "piece-pushed";
    two_kills_at_staging_renamed_lose_no_row, PLAIN, "staging-renamed";
    two_kills_at_gathered_on_replicated_tables_lose_no_row, REPLICATED, "gathered";
    two_kills_at_placed_lose_no_row, PLAIN, "placed";
    two_kills_at_placed_on_replicated_tables_lose_no_row, REPLICATED, "placed";
}

/// One partition holds rows of others. With `append` they stay, with `replace` they go; the copied rows are there once.
fn crash_with_others(scene: &Scene, engine: &str, policy: &str, point: &str) {
    let task = task_of_several_pieces(scene, engine, policy);
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
    a_kill_at_publication_claimed_while_appending_loses_no_row, PLAIN, "publication-claimed";
    a_kill_at_gathered_while_appending_to_replicated_tables_loses_no_row, REPLICATED, "gathered";
    a_kill_at_placed_while_appending_loses_no_row, PLAIN, "placed";
    a_kill_at_placed_while_appending_to_replicated_tables_loses_no_row, REPLICATED, "placed";
    a_kill_at_publication_verified_while_appending_loses_no_row, PLAIN, "publication-verified";
    a_kill_at_batch_recorded_while_appending_to_replicated_tables_loses_no_row, REPLICATED, "batch-recorded";
}

crashes! { crash_replacing:
    a_kill_at_gathered_while_replacing_replicated_tables_loses_no_row, REPLICATED, "gathered";
    a_kill_at_placed_while_replacing_replicated_tables_loses_no_row, REPLICATED, "placed";
    a_kill_at_batch_recorded_while_replacing_replicated_tables_loses_no_row, REPLICATED, "batch-recorded";
}

/// A stopped worker whose session lives keeps its work. Others do the rest and wait.
#[apply(both)]
fn work_of_a_stopped_worker_is_not_taken_while_its_session_lives(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
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

/// As if somebody dropped too many tables, or a server lost its disk.
#[apply(both)]
fn lost_staging_tables_are_copied_again(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "publication-claimed", 1);
    let dst = &scene.dst;
    let staged = scene.lines(&[2], &format!("SHOW TABLES FROM {dst} LIKE 'copier\\_%'"));
    let table = staged.first().expect("there are staged rows");
    scene.ask(2, &format!("DROP TABLE {dst}.{table}"));
    scene.run(&task).with(0).tells(&["staged rows", "are gone", table]);
    scene.check(&task);
}

/// Rows are counted before publication; the records are not trusted.
#[apply(both)]
fn staging_tables_with_missing_rows_are_not_published(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
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

/// All workers are killed, each at another step. Their records and staged rows stay until new workers start, after any time: only
/// sessions expire.
#[apply(both)]
fn new_workers_continue_after_all_workers_are_killed(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    let points = ["piece-recorded", "piece-pushed", "publication-claimed"];
    let stopped = points.map(|point| {
        let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at(point).start();
        worker.reaches(point);
        worker
    });
    for worker in stopped {
        worker.kill_9();
    }
    scene.wait_for_sessions_to_expire(&task);
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
    // Pieces that were recorded as copied are not copied again.
    let after = scene.pieces(&task);
    for (number, piece) in before {
        assert_eq!(after[number], piece, "piece {number}");
    }
}
