//! Without ZooKeeper: a copy needs only the task file, and several workers on one machine share the state directory.

use std::os::unix::fs::PermissionsExt;

use clickhouse_copier::coordinator::{Coordinator, LocalCoordinator};
use serde_json::Value;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, fill, scene};

const STATE_DIR: &str = "clickhouse-copier-state";

fn task(scene: &Scene) -> Task {
    fill(scene, &[0, 1], BY_MONTH, 6000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("number_of_splits", "2");
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits.with("batch_bytes", "60000"))
}

/// Checks that all rows are copied, and that no table, query or ephemeral node is left.
fn check(scene: &Scene, task: &Task, task_path: &str) {
    task.tables.iter().for_each(|table| scene.check_rows(task, table, "1"));
    scene.check_no_tables(task);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = LocalCoordinator::new(scene.dir().join(STATE_DIR)).session().await.unwrap();
        for node in ["claims", "task_active_workers"] {
            let names = session.children(&format!("{task_path}/{node}")).await.unwrap();
            assert!(names.as_ref().is_none_or(Vec::is_empty), "{node}: {names:?}");
        }
        session.close().await;
    });
}

#[apply(both)]
fn a_copy_needs_only_a_task_file(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let launch = || scene.launch_local(&task, "task.xml");
    let file = scene.dir().join(STATE_DIR).join(LocalCoordinator::FILE).display().to_string();
    let first = launch().verb("run").args(&["--base-dir", "logs"]).run().with(0);
    let first = first.tells(&["task /task in", &file, "on this machine"]).reports(&["201801", "201803"]);
    assert!(!first.stderr.contains("ZooKeeper"), "{}", first.stderr);
    check(&scene, &task, "/task");

    launch().run().with(0).tells(&["the task is finished already"]);
    // The description in it may hold passwords.
    for at in ["", "sessions", LocalCoordinator::FILE, "opening"] {
        let found = std::fs::metadata(scene.dir().join(STATE_DIR).join(at)).unwrap();
        assert_eq!(found.permissions().mode() & 0o077, 0, "{STATE_DIR}/{at} is open to others");
    }
    let status = launch().args(&["--status"]).run().with(0);
    let counts: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(counts["hits"]["all_partitions_count"], 3, "{counts}");
    assert_eq!(counts["hits"]["processed_partitions_count"], 3, "{counts}");
    // The same with state directory and path instead of the task file.
    let address = ["--state-dir", STATE_DIR, "--task-path", "/task"];
    let named = launch().without_task_file().args(&address).args(&["--status"]).run().with(0);
    assert_eq!(named.stdout, status.stdout);

    // A second task in the same place.
    let mut second = task.clone();
    second.tables[0].target.1 = "again".into();
    scene.launch_local(&second, "second.xml").run().with(0);
    check(&scene, &second, "/second");

    // One task file, changed in what the plan depends on.
    let mut changed = task.clone();
    changed.tables[0].target.1 = "elsewhere".into();
    let refused = scene.launch_local(&changed, "task.xml").run().with(2);
    refused.tells(&["this is not the task that was created at /task", "hits"]);

    launch().verb("cleanup").run().with(0).reports(&["The task is finished"]);
    launch().verb("cleanup").args(&["--remove", "--forget"]).run().with(0);
    let gone = launch().args(&["--status"]).run().with(2);
    gone.tells(&["there is no task at /task in", &file]);
    scene.launch_local(&second, "second.xml").run().with(0).tells(&["the task is finished already"]);
}

#[apply(both)]
fn local_workers_finish_the_work_of_a_killed_worker(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let launch = || scene.launch_local(&task, "task.xml").args(&["--jobs", "1"]);
    let victim = launch().stop_at("piece-pushed").start();
    victim.reaches("piece-pushed");
    let others = [launch().start(), launch().start()];
    // The stopped worker is alive and keeps its piece.
    for other in &others {
        other.says("copied in");
    }
    let refused = scene.launch_local(&task, "task.xml").verb("cleanup").args(&["--remove"]).run();
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    victim.kill_9();
    for other in others {
        other.ends().with(0);
    }
    check(&scene, &task, "/task");
}

/// A worker is frozen for longer than its session timeout. Others finish the task, and the thawed worker does no harm.
#[apply(both)]
fn local_workers_finish_the_work_of_a_frozen_worker(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let launch = || scene.launch_local(&task, "task.xml").args(&["--jobs", "1"]);
    let frozen = launch().freeze_at("publication-claimed").start();
    frozen.freezes_at("publication-claimed");
    launch().run().with(0);
    check(&scene, &task, "/task");
    frozen.thaw();
    let thawed = frozen.ends().with(0);
    thawed.tells(&["the session in", "is over"]);
    check(&scene, &task, "/task");
}

/// For every damaged page of the file, the worker does not retry for ever, and the message says what to do.
#[apply(both)]
fn a_damaged_state_file_ends_a_worker_with_advice(#[case] release: Release) {
    let scene = scene!(release);
    let first = task(&scene);
    let launch = || scene.launch_local(&first, "task.xml").args(&["--jobs", "1"]);
    let killed = launch().stop_at("placed").start();
    killed.reaches("placed");
    killed.kill_9();
    let file = scene.dir().join(STATE_DIR).join(LocalCoordinator::FILE);
    let opened = rusqlite::Connection::open(&file).unwrap();
    opened.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(opened);
    let whole = std::fs::read(&file).unwrap();
    let page = 4096;
    let mut last = None;
    for at in (page..whole.len()).step_by(page * (1 + whole.len() / page / 20)) {
        let mut damaged = whole.clone();
        damaged[at..at + page].fill(0xa5);
        std::fs::write(&file, &damaged).unwrap();
        let seen = scene.launch_local(&first, "task.xml").verb("status").run();
        if seen.status.code() == Some(1) {
            assert_eq!(seen.stderr.matches("cannot be used: the file is damaged").count(), 1, "{}", seen.stderr);
            last = Some(damaged);
        } else {
            seen.with(0);
        }
        for end in ["-wal", "-shm"] {
            std::fs::remove_file(format!("{}{end}", file.display())).ok();
        }
    }
    std::fs::write(&file, last.expect("a damaged page that matters")).unwrap();
    let ended = launch().run().with(1).tells(&["<if_target_not_empty>replace", "docs/troubleshooting.md"]);
    assert_eq!(ended.stderr.matches("cannot be used: the file is damaged").count(), 1, "{}", ended.stderr);

    // The steps that docs/troubleshooting.md gives.
    let id = scene.ask(
        2,
        &format!("SELECT name FROM system.tables WHERE database = '{}' AND name LIKE '%copier_%' LIMIT 1", scene.dst),
    );
    let id: String = id.split("copier_").nth(1).unwrap().chars().take_while(|c| c.is_ascii_hexdigit()).collect();
    std::fs::rename(scene.dir().join(STATE_DIR), scene.dir().join("away")).unwrap();
    let cleanup = scene.launch_local(&first, "task.xml").verb("cleanup");
    cleanup.args(&["--task-id", &id, "--remove"]).run().with(0);
    let table = first.tables[0].clone().with("if_target_not_empty", "replace");
    let again = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(table);
    scene.launch_local(&again, "task.xml").run().with(0);
    check(&scene, &again, "/task");
}
