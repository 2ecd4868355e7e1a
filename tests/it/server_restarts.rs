//! A server is killed with SIGKILL while rows are copied, gathered or published, and started again after the worker has reported it.
//! (For a kill during a transfer see `repeated_runs`.)

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, Worker, fill, scene};

const REPLICATED: &str =
    "ReplicatedMergeTree('/tables/NAME/{shard}', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Where a worker is held: before the transfer, before the rows that arrived are counted, before the staged rows are
/// gathered, before they are put in place.
const POINTS: [&str; 4] = ["staging-created", "piece-pushed", "staging-renamed", "gathered"];

/// Two source servers (0, 1), two target servers (2, 3).
fn four(release: Release) -> LabSpec {
    LabSpec { query_log: true, ..LabSpec::of(release, 4) }
}

/// For each point a task with a plain and one with a Replicated target: one batch of two source shards, two pieces each.
fn tasks(scene: &Scene) -> Vec<(&'static str, Task)> {
    fill(scene, &[0, 1], BY_MONTH, 3000, 1);
    let task = |point: &'static str, kind: &str, engine: &str| {
        let name = format!("{}_{kind}", point.replace('-', "_"));
        let hits = scene.table(&name).from(&scene.src, "hits").engine(&engine.replace("NAME", &name));
        let hits = hits.sharding_key("id").with("number_of_splits", "2");
        (point, scene.task(&[&[0], &[1]], &[&[2], &[3]]).at(&name).with(hits))
    };
    POINTS.iter().flat_map(|point| [task(point, "plain", BY_MONTH), task(point, "replicated", REPLICATED)]).collect()
}

/// Starts a worker for each task, which freezes at its fault point.
fn held(scene: &Scene, tasks: &[(&str, Task)]) -> Vec<Worker> {
    let start = |(point, task): &(&str, Task)| {
        scene.launch(task).args(&["--jobs", "1", "--retry-delay-ms", "300"]).freeze_at(point).start()
    };
    let workers: Vec<Worker> = tasks.iter().map(start).collect();
    for ((point, _), worker) in tasks.iter().zip(&workers) {
        worker.freezes_at(point);
    }
    workers
}

#[apply(both)]
fn a_target_server_restart_at_any_step_loses_no_row(#[case] release: Release) {
    let scene = scene!(own four(release));
    let tasks = tasks(&scene);
    let workers = held(&scene, &tasks);
    scene.server(3).kill_9().unwrap();
    for worker in &workers {
        worker.thaw();
    }
    for worker in &workers {
        worker.says("failed and is repeated");
    }
    scene.server(3).start().unwrap();
    for (worker, (_, task)) in workers.into_iter().zip(&tasks) {
        worker.ends().with(0).tells(&["WARN", "failed and is repeated", scene.server(3).host()]);
        scene.check_rows(task, &task.tables[0], "1");
    }
    for (_, task) in &tasks {
        scene.check(task);
    }
}

#[apply(both)]
fn a_source_server_restart_at_any_step_loses_no_row(#[case] release: Release) {
    let scene = scene!(own four(release));
    let tasks = tasks(&scene);
    let workers = held(&scene, &tasks);
    scene.server(1).kill_9().unwrap();
    for worker in &workers {
        worker.thaw();
    }
    let mut waiting = Vec::new();
    for (worker, (point, _)) in workers.into_iter().zip(&tasks) {
        if matches!(*point, "staging-renamed" | "gathered") {
            // The source is not needed any more.
            let ended = worker.ends().with(0);
            assert!(!ended.stderr.contains("failed and is repeated"), "{point}: {}", ended.stderr);
        } else {
            worker.says("failed and is repeated");
            waiting.push(worker);
        }
    }
    scene.server(1).start().unwrap();
    for worker in waiting {
        worker.ends().with(0).tells(&["WARN", "failed and is repeated", scene.server(1).host()]);
    }
    for (_, task) in &tasks {
        scene.check(task);
    }
}

/// The rows are in place and the target's server dies before the worker has recorded that: what was put in place is found
/// there, and what could not be dropped is dropped by the next run.
#[apply(both)]
fn a_target_server_restart_after_publication_is_settled_by_the_next_run(#[case] release: Release) {
    let scene = scene!(own four(release));
    fill(&scene, &[0, 1], BY_MONTH, 3000, 1);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    let worker = scene.launch(&task).args(&["--jobs", "1"]).freeze_at("placed").start();
    worker.freezes_at("placed");
    scene.server(3).kill_9().unwrap();
    worker.thaw();
    let host = scene.server(3).host();
    // Its rows cannot be counted, so the run must not report success.
    let ended = worker.ends().with(3).tells(&["not everything is cleaned up", host, "may be left there"]);
    ended.tells(&["not accounted", host]);
    scene.server(3).start().unwrap();
    scene.check_rows(&task, &task.tables[0], "1");
    scene.run(&task).with(0);
    scene.check(&task);
}
