//! Launched again: finished tasks, edited ones, failures, interruptions.

use lab::{LabSpec, Release};
use nix::sys::signal::Signal;
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS, fill, rows};
use crate::harness::{Scene, Task, scene};

#[apply(both)]
fn a_finished_task_is_said_to_be_finished_at_once(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    for server in [0, 1] {
        scene.server(server).kill_9().unwrap();
    }
    // Nobody is asked for it but ZooKeeper.
    for launch in [scene.launch(&task), scene.launch(&task).without_task_file()] {
        let ended = launch.run().with(0);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains("finished"), "{}", ended.stderr);
    }
}

/// A task of which a worker has planned everything and begun a piece before it was killed.
fn begun(scene: &Scene) -> Task {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 6000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("where_condition", "v < 400");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits.with("number_of_splits", "2"));
    let worker = scene.launch(&task).stop_at("piece-recorded").start();
    worker.reaches("piece-recorded");
    worker.kill_9();
    task
}

#[apply(both)]
fn a_task_edited_after_planning_is_refused_with_the_difference(#[case] release: Release) {
    let scene = scene!(release);
    let task = begun(&scene);
    let xml = task.xml();
    type Edit = (&'static str, &'static str, &'static [&'static str]);
    let edits: [Edit; 5] = [
        (">id</sharding_key>", ">id + 1</sharding_key>", &["tables/hits/sharding_key", "id + 1"]),
        ("v &lt; 400", "v &lt; 300", &["tables/hits/where_condition", "v < 400", "v < 300"]),
        ("<number_of_splits>2", "<number_of_splits>3", &["tables/hits/number_of_splits", "2", "3"]),
        (
            "</hits>",
            "<enabled_partitions>201801</enabled_partitions></hits>",
            &["tables/hits/enabled_partitions", "201801"],
        ),
        ("<shard><weight>1<", "<shard><weight>2<", &["remote_servers/source/shard[1]/weight"]),
    ];
    for (from, to, words) in edits {
        assert!(xml.contains(from), "{from}");
        let edited = xml.replace(from, to);
        scene.launch_text(&edited).args(&["--task-upload-force"]).run().with(2).tells(words);
    }
    // None of it has replaced the task: it goes on as it was.
    scene.launch_text(&xml).without_task_file().run().with(0);
    scene.check_rows(&task, &task.tables[0], "v < 400");
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

/// The way from the refusal to the copy: what the message says, and the same command again.
#[apply(both)]
fn a_task_edited_before_any_row_was_copied_is_simply_taken(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 600, 2);
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(1, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    scene.ask(1, &format!("INSERT INTO {}.hits VALUES ('2018-01-01', 1000000, 'other', 1)", scene.dst));
    let hits = scene.table("hits");
    let refused = scene.task(&[&[0]], &[&[1]]).with(hits.clone());
    scene.run(&refused).with(1).tells(&["holds rows already", "if_target_not_empty"]);
    let task = scene.task(&[&[0]], &[&[1]]).with(hits.clone().with("if_target_not_empty", "append"));
    // Planned and prepared, and a worker that waits: nobody takes its task from under it.
    let waiting = scene.launch(&task).freeze_at("tables-created").start();
    waiting.freezes_at("tables-created");
    let other = scene.task(&[&[0]], &[&[1]]).with(hits.with("where_condition", "id < 300"));
    scene.run(&other).with(1).tells(&["somebody works on it"]);
    waiting.kill_9();
    scene.eventually("the session of the one that was killed is over", || {
        let held = scene.children(&format!("{}/task_active_workers", task.path)).unwrap_or_default();
        if held.is_empty() { Ok(()) } else { Err(format!("{held:?}")) }
    });
    scene.launch(&other).verb("check").run().reports(&["holds rows already"]);
    let adding = scene.table("hits").with("if_target_not_empty", "append").with("where_condition", "id < 300");
    let task = scene.task(&[&[0]], &[&[1]]).with(adding);
    scene.run(&task).with(0).tells(&["no row of it was copied", "tables/hits/where_condition"]);
    let ours = scene.ask(0, &format!("SELECT count() FROM {}.hits WHERE id < 300", scene.src));
    assert_eq!(scene.ask(1, &format!("SELECT countIf(id < 1000000) FROM {}.hits", scene.dst)), ours);
    scene.check_nothing_left(&task);
    // Rows were copied: another file is another task.
    scene.run(&other).with(2).tells(&["tables/hits/if_target_not_empty", "--task-path", "--remove --forget"]);
}

#[apply(both)]
fn a_task_of_which_only_settings_were_edited_goes_on(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = begun(&scene);
    task = task.more("<max_workers>7</max_workers><settings><max_threads>1</max_threads></settings>");
    scene.launch(&task).args(&["--task-upload-force", "true"]).run().with(0);
    scene.check_rows(&task, &task.tables[0], "v < 400");
    scene.check_nothing_left(&task);
    let stored = scene.node(&format!("{}/description", task.path)).unwrap();
    assert!(stored.contains("<max_workers>7</max_workers>"), "{stored}");
}

#[apply(both)]
fn faults_are_tried_again_until_all_is_exact(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 6);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits.with("batch_bytes", "100000"));
    let often = ["--copy-fault-probability", "0.2", "--move-fault-probability", "0.2", "--retry-delay-ms", "1"];
    let tries = ["--max-shard-partition-tries", "50", "--max-shard-partition-piece-tries-for-alter", "50"];
    scene.launch(&task).args(&often).args(&tries).run().with(0);
    scene.check(&task);
}

#[apply(both)]
fn faults_on_replicated_tables_and_two_workers(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 6);
    let engine = format!("ReplicatedMergeTree('/tables/{}', '{{replica}}')", scene.name());
    let engine = format!("{engine} PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let hits = scene.table("hits").engine(&engine).with("number_of_splits", "2").with("batch_bytes", "100000");
    let task = scene.task(&[&[0], &[1]], &[&[2, 3]]).with(hits);
    let workers = [(); 2].map(|()| {
        let often = ["--copy-fault-probability=0.2", "--move-fault-probability=0.2", "--retry-delay-ms=1"];
        let tries = ["--max-shard-partition-tries=50", "--max-shard-partition-piece-tries-for-alter=50"];
        scene.launch(&task).args(&often).args(&tries).start()
    });
    for worker in workers {
        worker.ends().with(0);
    }
    scene.check(&task);
}

#[apply(both)]
fn partitions_that_fail_are_named_and_taken_up_again(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 6000, 3);
    for (number, fault) in ["--copy-fault-probability=1", "--move-fault-probability=1"].iter().enumerate() {
        let table = scene.table(&format!("t{number}")).from(&scene.src, "hits");
        let task = scene.task(&[&[0]], &[&[1]]).at(&format!("task{number}")).with(table);
        let few = ["--max-table-tries=1", "--max-shard-partition-tries=2", "--retry-delay-ms=1"];
        let alter = "--max-shard-partition-piece-tries-for-alter=2";
        let ended = scene.launch(&task).args(&few).args(&[alter, fault]).run().with(3);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        for month in ["201801", "201802", "201803"] {
            assert!(said.contains(month), "{month} is not named: {said}");
        }
        if number == 0 {
            // Of a publication that failed the rows may be in place already.
            assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.t{number}", scene.dst)), "0");
        }
        scene.run(&task).with(0);
        scene.check(&task);
    }
}

/// A source that is slow to read: 40 blocks of 20 milliseconds.
pub fn slow(scene: &Scene) -> Task {
    let engine = format!("{BY_MONTH} SETTINGS index_granularity = 256");
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 10_000, 1)));
    let hits = scene.table("hits").engine(BY_MONTH).with("where_condition", "NOT ignore(sleep(0.05))");
    let settings = "<settings><max_block_size>256</max_block_size><max_threads>1</max_threads></settings>";
    scene.task(&[&[0]], &[&[1]]).with(hits.with("number_of_splits", "2")).more(settings)
}

/// Waits until a statement moves rows.
pub fn wait_for_transfer(scene: &Scene) {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE query_id LIKE 'copier:%' AND query LIKE 'INSERT INTO FUNCTION%' \
         AND position(query, '{}') > 0",
        scene.dst
    );
    scene.eventually("a transfer runs", || match scene.ask(0, &sql).as_str() {
        "0" => Err("none".to_owned()),
        _ => Ok(()),
    });
}

#[apply(both)]
fn killed_while_rows_move(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    let task = slow(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    worker.kill_9();
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn frozen_while_rows_move_and_thawed_when_others_have_finished(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    let task = slow(&scene);
    let frozen = scene.launch(&task).start();
    wait_for_transfer(&scene);
    frozen.signal(Signal::SIGSTOP);
    scene.run(&task).with(0);
    frozen.signal(Signal::SIGCONT);
    frozen.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

fn interrupted(scene: &Scene, signal: Signal) {
    let task = slow(scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(scene);
    worker.signal(signal);
    worker.ends().with(130);
    // Nobody waits for its session to end: it has given back what it held.
    let held = scene.children(&format!("{}/claims", task.path)).unwrap_or_default();
    assert!(held.is_empty(), "{held:?}");
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn interrupted_it_ends_at_a_safe_point_and_goes_on_later(#[case] release: Release) {
    interrupted(&scene!(release), Signal::SIGINT);
}

#[apply(both)]
fn terminated_it_ends_at_a_safe_point_and_goes_on_later(#[case] release: Release) {
    interrupted(&scene!(release), Signal::SIGTERM);
}

#[apply(both)]
fn interrupted_twice_it_ends_at_once(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    worker.signal(Signal::SIGINT);
    worker.says("a second signal");
    worker.signal(Signal::SIGINT);
    worker.ends().with(130);
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn the_source_is_restarted_while_rows_move(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    let task = slow(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    scene.server(0).kill_9().unwrap();
    scene.server(0).start().unwrap();
    worker.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn the_target_is_restarted_while_rows_move(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    let task = slow(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    scene.server(1).kill_9().unwrap();
    scene.server(1).start().unwrap();
    worker.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}
