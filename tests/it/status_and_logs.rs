//! Status, report, logs and pid file of a worker.

use std::fs;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Ended, Launch, Scene, Task, fill, scene};

fn task(scene: &Scene) -> Task {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 6000, 3);
    scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1"))
}

fn status(launch: Launch<'_>) -> Ended {
    launch.without_task_file().args(&["--status"]).run()
}

#[apply(both)]
fn status_works_before_during_and_after_a_run(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let absent = status(scene.launch(&task));
    assert_ne!(absent.status.code(), Some(0));
    absent.tells(&[&task.path]);
    assert_eq!(scene.children(&task.path), None, "asking made something");

    let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at("batch-recorded").start();
    worker.reaches("batch-recorded");
    let during = status(scene.launch(&task)).with(0);
    assert!(during.stdout.contains("hits"), "{}", during.stdout);
    assert!(during.stdout.contains('3'), "{}", during.stdout);
    worker.kill_9();

    scene.run(&task).with(0);
    scene.check(&task);
    let after = status(scene.launch(&task)).with(0);
    assert!(after.stdout.contains("hits"), "{}", after.stdout);
    scene.check_partitions(&task, &[("hits", 3)]);
}

#[apply(both)]
fn the_report_shows_the_rows_of_each_partition(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let ended = scene.run(&task).with(0);
    for month in ["201801", "201802", "201803"] {
        let rows = scene.ask(0, &format!("SELECT count() FROM {}.hits WHERE toYYYYMM(d) = {month}", scene.src));
        let line = ended.stdout.lines().find(|line| line.contains(month));
        let line = line.unwrap_or_else(|| panic!("no line for {month}:\n{}", ended.stdout));
        // Selected, and on the target.
        assert!(line.matches(&rows).count() >= 2, "{rows} rows: {line}");
    }
}

#[apply(both)]
fn each_run_has_its_own_log_folder(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = scene.launch(&task).args(&["--pid-file", "copier.pid"]).stop_at("piece-claimed").start();
    worker.reaches("piece-claimed");
    let pid_file = scene.dir().join("copier.pid");
    let pid = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    let folder = |pid: &str| {
        let folders = fs::read_dir(scene.dir().join("logs")).unwrap();
        let names: Vec<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.into_iter().find(|name| name.starts_with("clickhouse-copier_") && name.ends_with(&format!("_{pid}")))
    };
    let logs = scene.dir().join("logs").join(folder(&pid).expect("a folder with the pid in its name"));
    assert!(fs::read_to_string(logs.join("log.log")).unwrap().contains("hits"));
    assert!(logs.join("log.err.log").exists());
    worker.kill_9();

    scene.launch(&task).args(&["--pid-file", "copier.pid"]).run().with(0);
    assert!(!pid_file.exists());
    assert_eq!(fs::read_dir(scene.dir().join("logs")).unwrap().count(), 2);
}

#[apply(both)]
fn the_zookeeper_tree_keeps_the_nodes_of_the_original(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = scene.launch(&task).stop_at("piece-claimed").start();
    worker.reaches("piece-claimed");
    let children = scene.children(&task.path).unwrap();
    for name in ["description", "status", "task_active_workers"] {
        assert!(children.iter().any(|child| child == name), "no {name} among {children:?}");
    }
    assert_eq!(scene.node(&format!("{}/description", task.path)).unwrap(), task.xml());
    assert_eq!(scene.children(&format!("{}/task_active_workers", task.path)).unwrap().len(), 1);
    let status = scene.status(&task);
    assert_eq!(status["hits"]["all_partitions_count"], 3, "{status}");
    assert_eq!(status["hits"]["processed_partitions_count"], 0, "{status}");
}

#[apply(both)]
fn a_task_can_be_stored_below_a_zookeeper_root(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let root = format!("/roots/{}", scene.name());
    fs::write(scene.keeper_xml(), scene.keeper_text(&format!("<root>{root}</root>"))).unwrap();
    scene.run(&task).with(0);
    assert_eq!(scene.children(&task.path), None);
    assert!(scene.node(&format!("{root}{}/description", task.path)).is_some());
}

/// Verbs that only read create nothing in ZooKeeper, not even the configured root.
#[apply(both)]
fn verbs_that_only_read_create_no_zookeeper_node(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let root = format!("/roots/{}", scene.name());
    fs::write(scene.keeper_xml(), scene.keeper_text(&format!("<root>{root}</root>"))).unwrap();
    for (verb, code, more) in [
        ("status", 2, &[][..]),
        ("pause", 2, &[]),
        ("resume", 2, &[]),
        ("cancel", 2, &[]),
        ("cleanup", 2, &[]),
        ("cleanup", 2, &["--remove"]),
        ("reverse", 2, &[]),
        ("plan", 2, &[]),
        ("verify", 2, &[]),
    ] {
        let ended = scene.launch(&task).without_task_file().verb(verb).args(more).run();
        assert_eq!(ended.status.code(), Some(code), "{verb} {more:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(scene.children(&root), None, "{verb} {more:?} made something");
    }
    for verb in ["check", "plan", "verify", "reverse"] {
        scene.launch(&task).verb(verb).run();
        assert_eq!(scene.children(&root), None, "{verb} with a task file made something");
    }
    assert_ne!(status(scene.launch(&task)).status.code(), Some(0));
    assert_eq!(scene.children(&root), None, "--status made something");
    scene.run(&task).with(0);
    assert!(scene.node(&format!("{root}{}/description", task.path)).is_some());
}
