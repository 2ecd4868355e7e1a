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

/// Where one worker is frozen, and where another one stands that has taken over from it when the first is thawed.
const PAIRS: [(&str, &str); 10] = [
    ("piece-claimed", "staging-created"),
    ("staging-created", "staging-created"),
    ("piece-verified", "piece-pushed"),
    ("piece-verified", "gathered"),
    ("publication-claimed", "gathered"),
    ("publication-claimed", "placed"),
    ("staging-renamed", "staging-renamed"),
    ("staging-renamed", "gathered"),
    ("gathered", "gathered"),
    ("placed", "gathered"),
];

/// Whether a point is one at which a piece is in hand, and not a batch.
fn at_a_piece(point: &str) -> bool {
    point == "staging-created" || point.starts_with("piece-")
}

/// One piece, or one batch of two pieces; the first worker has it and freezes, the second takes it over and is held.
fn thawed_in_the_middle(scene: &Scene, engine: &str, policy: &str) {
    scene.short_sessions();
    fill(scene, &[0, 1], BY_MONTH, 2000, 1);
    let pair = |first: &str, second: &str| {
        let name = format!("{first}_{second}").replace('-', "_");
        let hits = scene.table(&name).from(&scene.src, "hits").engine(&engine.replace("NAME", &name));
        let hits = hits.sharding_key("id").with("if_target_not_empty", policy);
        let sources: &[&[usize]] = if at_a_piece(first) { &[&[0]] } else { &[&[0], &[1]] };
        let task = scene.task(sources, &[&[2], &[3]]).at(&name).with(hits);
        let start = |point| scene.launch(&task).args(&["--jobs", "1"]).freeze_at(point).start();
        let frozen = start(first);
        frozen.freezes_at(first);
        let holder = start(second);
        holder.freezes_at(second);
        frozen.thaw();
        frozen.says("connecting again");
        holder.thaw();
        for worker in [holder, frozen] {
            worker.ends().with(0);
        }
        scene.check_rows(&task, &task.tables[0], "1");
        scene.check_status(&task);
        task
    };
    let tasks: Vec<Task> = std::thread::scope(|scope| {
        let pairs: Vec<_> = PAIRS.iter().map(|(first, second)| scope.spawn(move || pair(first, second))).collect();
        pairs.into_iter().map(|pair| pair.join().unwrap()).collect()
    });
    for task in &tasks {
        scene.check_nothing_left(task);
    }
}

#[test]
fn thawed_while_another_is_at_the_same_work() {
    thawed_in_the_middle(&scene!(), BY_MONTH, "fail");
}

#[test]
fn thawed_while_another_is_at_the_same_work_on_replicated_tables() {
    let scene = scene!();
    let path = format!("/tables/{}/NAME/{{shard}}", scene.name());
    let engine = format!("ReplicatedMergeTree('{path}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    thawed_in_the_middle(&scene, &engine, "append");
}
