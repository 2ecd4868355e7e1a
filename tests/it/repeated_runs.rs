//! Tasks that run again: finished, edited, failed and interrupted ones.

use lab::{LabSpec, Release};
use nix::sys::signal::Signal;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{
    BY_MONTH, COLUMNS, FEW_TRIES, Scene, Task, fill, scene, task_with_slow_source, wait_for_transfer,
};

#[apply(both)]
fn a_finished_task_is_reported_as_finished_without_the_servers(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    for server in [0, 1] {
        scene.server(server).kill_9().unwrap();
    }
    // Only ZooKeeper is needed.
    for launch in [scene.launch(&task), scene.launch(&task).without_task_file()] {
        let ended = launch.run().with(0);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains("finished"), "{}", ended.stderr);
    }
}

/// Returns a task whose worker was killed after it had planned everything and copied a piece.
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
    // The refused files have not replaced the task, and it continues.
    scene.launch_text(&xml).without_task_file().run().with(0);
    scene.check_rows(&task, &task.tables[0], "v < 400");
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

/// A refused task is edited as the message says, and the same command runs it.
#[apply(both)]
fn a_task_edited_before_any_row_is_copied_is_planned_again(#[case] release: Release) {
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
    // While a worker runs, the task cannot be replaced.
    let waiting = scene.launch(&task).freeze_at("tables-created").start();
    waiting.freezes_at("tables-created");
    let other = scene.task(&[&[0]], &[&[1]]).with(hits.with("where_condition", "id < 300"));
    scene.run(&other).with(1).tells(&["somebody works on it"]);
    waiting.kill_9();
    scene.wait_for_sessions_to_expire(&task);
    scene.launch(&other).verb("check").run().reports(&["holds rows already"]);
    let adding = scene.table("hits").with("if_target_not_empty", "append").with("where_condition", "id < 300");
    let task = scene.task(&[&[0]], &[&[1]]).with(adding);
    scene.run(&task).with(0).tells(&["no row of it was copied", "tables/hits/where_condition"]);
    let ours = scene.ask(0, &format!("SELECT count() FROM {}.hits WHERE id < 300", scene.src));
    assert_eq!(scene.ask(1, &format!("SELECT countIf(id < 1000000) FROM {}.hits", scene.dst)), ours);
    scene.check_nothing_left(&task);
    // After rows were copied, an edited file is refused.
    scene.run(&other).with(2).tells(&["tables/hits/if_target_not_empty", "--task-path", "--remove --forget"]);
}

#[apply(both)]
fn a_task_with_only_edited_settings_continues(#[case] release: Release) {
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
fn injected_faults_are_retried_until_all_rows_are_copied(#[case] release: Release) {
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
fn two_workers_retry_injected_faults_on_replicated_tables(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 6);
    let engine = scene.replicated_engine("");
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
fn failed_partitions_are_named_and_copied_by_the_next_run(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 6000, 3);
    for (number, fault) in ["--copy-fault-probability=1", "--move-fault-probability=1"].iter().enumerate() {
        let table = scene.table(&format!("t{number}")).from(&scene.src, "hits");
        let task = scene.task(&[&[0]], &[&[1]]).at(&format!("task{number}")).with(table);
        let alter = "--max-shard-partition-piece-tries-for-alter=2";
        let ended = scene.launch(&task).args(&FEW_TRIES).args(&[alter, fault]).run().with(3);
        let output = format!("{}{}", ended.stdout, ended.stderr);
        for month in ["201801", "201802", "201803"] {
            assert!(output.contains(month), "{month} is not named: {output}");
        }
        if number == 0 {
            // After a failed publication the rows may be in the target already.
            assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.t{number}", scene.dst)), "0");
        }
        scene.run(&task).with(0);
        scene.check(&task);
    }
}

#[apply(both)]
fn a_worker_killed_during_a_transfer_loses_no_row(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    let task = task_with_slow_source(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    worker.kill_9();
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn a_worker_frozen_during_a_transfer_does_no_harm_when_thawed(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    let task = task_with_slow_source(&scene);
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
    let task = task_with_slow_source(scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(scene);
    worker.signal(signal);
    worker.ends().with(130);
    // The worker has returned its claims, so the next run need not wait for the session timeout.
    let held = scene.children(&format!("{}/claims", task.path)).unwrap_or_default();
    assert!(held.is_empty(), "{held:?}");
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn sigint_ends_a_run_at_a_safe_point_and_the_next_run_continues(#[case] release: Release) {
    interrupted(&scene!(release), Signal::SIGINT);
}

#[apply(both)]
fn sigterm_ends_a_run_at_a_safe_point_and_the_next_run_continues(#[case] release: Release) {
    interrupted(&scene!(release), Signal::SIGTERM);
}

#[apply(both)]
fn a_second_sigint_ends_a_run_at_once(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_source(&scene);
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
fn a_source_restart_during_a_transfer_loses_no_row(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    let task = task_with_slow_source(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    scene.server(0).kill_9().unwrap();
    scene.server(0).start().unwrap();
    worker.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn a_target_restart_during_a_transfer_loses_no_row(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    let task = task_with_slow_source(&scene);
    let worker = scene.launch(&task).start();
    wait_for_transfer(&scene);
    scene.server(1).kill_9().unwrap();
    scene.server(1).start().unwrap();
    worker.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}
