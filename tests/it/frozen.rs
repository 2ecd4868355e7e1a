//! A worker is frozen in each step of the protocol (SIGSTOP), for longer than its session lives. Others finish the task;
//! then it is thawed, believes for a moment that nothing has happened, and must do no harm.

use crate::copy::{BY_MONTH, fill};
use crate::harness::{Scene, Task, Worker, scene};

/// Every step, in the order of the protocol.
const POINTS: [&str; 15] = [
    "task-created",
    "plan-stored",
    "tables-created",
    "piece-claimed",
    "staging-created",
    "piece-pushed",
    "piece-verified",
    "piece-recorded",
    "publication-claimed",
    "staging-renamed",
    "gathered",
    "placed",
    "publication-verified",
    "batch-recorded",
    "staging-dropped",
];

/// A task for each point, all of them at once, so that the end of a session is waited for once. Tables of two shards go to
/// two shards, two partitions of two pieces each from a shard.
fn tasks(scene: &Scene, engine: &str, policy: &str) -> Vec<(&'static str, Task)> {
    scene.short_sessions();
    fill(scene, &[0, 1], BY_MONTH, 2000, 2);
    let task = |point: &&'static str| {
        let name = point.replace('-', "_");
        let hits = scene.table(&name).from(&scene.src, "hits").engine(&engine.replace("NAME", &name));
        let hits = hits.sharding_key("id").with("number_of_splits", "2").with("batch_bytes", "1");
        let hits = hits.with("if_target_not_empty", policy);
        (*point, scene.task(&[&[0], &[1]], &[&[2], &[3]]).at(&name).with(hits))
    };
    POINTS.iter().map(task).collect()
}

fn frozen_at_every_point(scene: &Scene, engine: &str, policy: &str) {
    let tasks = tasks(scene, engine, policy);
    let start = |(point, task): &(&str, Task)| scene.launch(task).args(&["--jobs", "1"]).freeze_at(point).start();
    let frozen: Vec<Worker> = tasks.iter().map(start).collect();
    for ((point, _), worker) in tasks.iter().zip(&frozen) {
        worker.freezes_at(point);
    }
    let others: Vec<Worker> = tasks.iter().map(|(_, task)| scene.launch(task).start()).collect();
    for (other, (_, task)) in others.into_iter().zip(&tasks) {
        other.ends().with(0);
        scene.check_rows(task, &task.tables[0], "1");
    }

    for worker in &frozen {
        worker.thaw();
    }
    let zookeeper = scene.lab().zookeeper().hosts();
    for worker in frozen {
        // What it is told first after its sleep, and what came of the task meanwhile.
        worker.ends().with(0).tells(&[&zookeeper, "is over", "connecting again"]).tells(&["the task is finished"]);
    }
    for (_, task) in &tasks {
        scene.check(task);
    }
}

#[test]
fn thawed_when_others_have_finished() {
    frozen_at_every_point(&scene!(), BY_MONTH, "fail");
}

#[test]
fn thawed_when_others_have_finished_on_replicated_tables() {
    let scene = scene!();
    let path = format!("/tables/{}/NAME/{{shard}}", scene.name());
    let engine = format!("ReplicatedMergeTree('{path}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    frozen_at_every_point(&scene, &engine, "fail");
}

/// The policy that cannot be idempotent: what a thawed worker adds must not be there twice.
#[test]
fn thawed_when_others_have_finished_appending() {
    frozen_at_every_point(&scene!(), BY_MONTH, "append");
}
