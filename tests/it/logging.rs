//! Log files that cannot be written during a copy, and the permissions of log files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::Release;
use nix::sys::signal::Signal;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, fill, scene};

/// A task with log files of a few lines, so that they are rotated often.
fn task(scene: &Scene) -> Task {
    fill(scene, &[0], BY_MONTH, 3000, 3);
    let small =
        scene.keeper_text("").replace("<zookeeper>", "<logger><size>300</size><count>2</count></logger><zookeeper>");
    fs::write(scene.keeper_xml(), small).unwrap();
    scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH).with("batch_bytes", "1"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A deleted log folder does not end a copy, and later lines are logged.
#[apply(both)]
fn a_deleted_log_folder_is_created_again(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = scene.launch(&task).args(&["--log-level=trace"]).freeze_at("publication-claimed").start();
    worker.freezes_at("publication-claimed");
    let logs = scene.log_folder();
    fs::remove_dir_all(&logs).unwrap();
    worker.thaw();
    let ended = worker.ends().with(0);
    assert!(!ended.stderr.contains("cannot write to the log"), "{}", ended.stderr);
    scene.check(&task);
    let found = names(&logs);
    for name in ["log.log", "log.log.1", "log.log.2"] {
        assert!(found.iter().any(|found| found == name), "no {name}: {found:?}");
        assert_eq!(mode(&logs.join(name)) & !0o640, 0, "{name}");
    }
    assert!(!found.contains(&"log.log.3".to_owned()), "{found:?}");
    assert_eq!(mode(&logs) & !0o750, 0);
    let logged: String =
        ["log.log.2", "log.log.1", "log.log"].iter().map(|name| fs::read_to_string(logs.join(name)).unwrap()).collect();
    assert!(logged.contains("the task is finished"), "{logged}");
}

/// A file replaces the log folder, so nothing can be logged. The program says so once, counts the lost lines at the end, and copies
/// correctly.
#[apply(both)]
fn a_copy_continues_when_its_log_cannot_be_written(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let worker = scene.launch(&task).args(&["--log-level=debug"]).freeze_at("publication-claimed").start();
    worker.freezes_at("publication-claimed");
    let logs = scene.log_folder();
    fs::remove_dir_all(&logs).unwrap();
    fs::write(&logs, "in its place").unwrap();
    worker.thaw();
    let ended = worker.ends().with(0);
    let log = logs.join("log.log").display().to_string();
    assert_eq!(ended.stderr.matches(&format!("cannot write to the log {log}")).count(), 1, "{}", ended.stderr);
    let ended = ended.tells(&["WARN", " lines are missing in ", &log]);
    ended.tells(&["the task is finished"]);
    scene.check(&task);
}

/// A signal works and a report is written although no line can be logged.
#[apply(both)]
fn a_full_log_disk_stops_neither_a_copy_nor_a_signal(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let full = ["--log-file=/dev/full", "--errorlog-file=/dev/full", "--report=report.json", "--log-format=json"];
    let worker = scene.launch(&task).args(&full).stop_at("piece-pushed").start();
    worker.reaches("piece-pushed");
    worker.signal(Signal::SIGTERM);
    worker.says("told to end");
    worker.signal(Signal::SIGTERM);
    let ended = worker.ends().with(130).tells(&["cannot write to the log /dev/full", "No space left"]);
    for line in ended.stderr.lines().filter(|line| !line.starts_with("fault point")) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    let report = scene.read_json("report.json");
    assert_eq!(report["outcome"], "interrupted");
    scene.launch(&task).args(&full).run().with(0).tells(&["lines are missing in /dev/full"]);
    scene.check(&task);
    assert!(!Path::new("/dev/full.1").exists());
}
