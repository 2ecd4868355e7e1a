//! The end of a copy, when tables of the task must be dropped: unreachable servers, and servers that refuse to drop.

use lab::{LabSpec, Release};
use nix::sys::signal::Signal;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, Worker, fill, scene};

fn task(scene: &Scene, name: &str) -> Task {
    let hits = scene.table("hits").engine(BY_MONTH).to(&scene.database(&format!("_{name}")), "hits");
    scene.task(&[&[0]], &[&[1]]).at(name).with(hits)
}

/// Returns a worker that cleans up while the target server, which holds a table of the task, is killed.
fn at_the_end(scene: &Scene, task: &Task) -> Worker {
    let worker = scene.launch(task).freeze_at("cleaning-up").start();
    worker.freezes_at("cleaning-up");
    let left = format!("{}.copier_{}_t0_b0_p0_a9", task.tables[0].target.0, scene.task_id(task));
    scene.on(&[1], &format!("CREATE TABLE {left} (d Date) {BY_MONTH}", BY_MONTH = "ENGINE = MergeTree ORDER BY d"));
    scene.server(1).kill_9().unwrap();
    worker.thaw();
    worker.says("tables of the task are left on");
    worker
}

#[apply(both)]
fn a_run_waits_for_an_unreachable_server_and_then_names_it(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    fill(&scene, &[0], BY_MONTH, 1000, 1);
    let back = task(&scene, "back");
    let worker = at_the_end(&scene, &back);
    scene.server(1).start().unwrap();
    worker.ends().with(0).tells(&["the task is finished"]);
    scene.check(&back);

    // A run that gets a signal does not wait.
    let away = task(&scene, "away");
    let worker = at_the_end(&scene, &away);
    worker.signal(Signal::SIGTERM);
    let ended = worker.ends().with(3);
    let ended = ended.tells(&["ERROR", scene.server(1).host(), "may be left there"]);
    let ended = ended.tells(&["ERROR", "tables of the task are left on servers", "cleanup --remove"]);
    assert!(!ended.stderr.contains("the task is finished"), "{}", ended.stderr);
    scene.server(1).start().unwrap();
    scene.run(&away).with(0);
    scene.check(&away);
}

/// On modern servers a setting of the statement lifts the limit.
#[test]
fn tables_that_an_old_server_refuses_to_drop_are_named() {
    let limits = ["max_table_size_to_drop", "max_partition_size_to_drop"];
    let server = limits.map(|name| (name.to_owned(), "100000".to_owned())).into();
    let scene = scene!(own LabSpec { server, ..LabSpec::of(Release::V18_16, 2) });
    fill(&scene, &[0], BY_MONTH, 20_000, 1);
    let task = task(&scene, "guarded");
    let guard = "tables and partitions above max_table_size_to_drop";
    scene.launch(&task).verb("check").run().with(0).reports(&[guard, scene.server(1).host()]);
    let ended = scene.launch(&task).args(&["--report=report.json"]).run().with(3);
    let ended = ended.tells(&["ERROR", "code 359", "raise max_partition_size_to_drop", "DROP TABLE IF EXISTS"]);
    ended.tells(&["ERROR", "every partition is published and accounted for"]);
    scene.check_rows(&task, &task.tables[0], "1");
    let report = scene.read_json("report.json");
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"uncleaned".into(), &3.into()));
    let ours = format!(
        "SELECT count() FROM system.tables WHERE database = '{}' AND name LIKE 'copier\\\\_%'",
        task.tables[0].target.0
    );
    assert_ne!(scene.ask(1, &ours), "0");
}
