//! A worker is frozen with SIGSTOP at each step of the protocol, for longer than its session timeout. Other workers finish the task.
//! Then the worker is thawed, does not know that its session has ended, and must do no harm.

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, Worker, fill, scene};

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

/// Returns a task for each fault point. They run at the same time, so that the test waits for the session timeout once. Two shards
/// are copied to two shards; each shard has two partitions of two pieces.
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
        // The worker first learns that its session has ended, and then that the task is finished.
        worker.ends().with(0).tells(&[&zookeeper, "is over", "connecting again"]).tells(&["the task is finished"]);
    }
    for (_, task) in &tasks {
        scene.check(task);
    }
}

#[apply(both)]
fn workers_thawed_after_the_end_do_no_harm_to_replicated_tables(#[case] release: Release) {
    let scene = scene!(release);
    let path = format!("/tables/{}/NAME/{{shard}}", scene.name());
    let engine = format!("ReplicatedMergeTree('{path}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    frozen_at_every_point(&scene, &engine, "fail");
}

/// `append` is not idempotent: rows that a thawed worker appends must not be there twice.
#[apply(both)]
fn workers_thawed_after_the_end_do_not_append_twice(#[case] release: Release) {
    frozen_at_every_point(&scene!(release), BY_MONTH, "append");
}

/// The fault point of the first worker, and the fault point of its successor when the first worker is thawed.
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

/// Returns tasks of one piece, so that both workers want the same piece; or, if the first worker publishes, of one batch with two
/// pieces.
fn pairs(scene: &Scene, engine: &str, policy: &str) -> Vec<Task> {
    fill(scene, &[0, 1], BY_MONTH, 2000, 1);
    let task = |(first, second): &(&str, &str)| {
        let name = format!("{first}_{second}").replace('-', "_");
        let hits = scene.table(&name).from(&scene.src, "hits").engine(&engine.replace("NAME", &name));
        let hits = hits.sharding_key("id").with("if_target_not_empty", policy);
        let at_a_piece = *first == "staging-created" || first.starts_with("piece-");
        let sources: &[&[usize]] = if at_a_piece { &[&[0]] } else { &[&[0], &[1]] };
        scene.task(sources, &[&[2], &[3]]).at(&name).with(hits)
    };
    PAIRS.iter().map(task).collect()
}

/// The first worker freezes, the second takes over and freezes too. ZooKeeper is frozen while the first worker is thawed: it cannot
/// know that its session has ended, and continues until it must write a record.
fn thawed_in_the_middle(scene: &Scene, engine: &str, policy: &str) {
    let tasks = pairs(scene, engine, policy);
    let start = |(task, point): (&Task, &str)| scene.launch(task).args(&["--jobs", "1"]).freeze_at(point).start();
    scene.short_sessions();
    let first: Vec<Worker> = tasks.iter().zip(PAIRS.map(|pair| pair.0)).map(start).collect();
    for (worker, (point, _)) in first.iter().zip(PAIRS) {
        worker.freezes_at(point);
    }
    // The second workers keep their sessions.
    std::fs::write(scene.keeper_xml(), scene.keeper_text("")).unwrap();
    let second: Vec<Worker> = tasks.iter().zip(PAIRS.map(|pair| pair.1)).map(start).collect();
    for (worker, (_, point)) in second.iter().zip(PAIRS) {
        worker.freezes_at(point);
    }

    scene.lab().zookeeper().freeze().unwrap();
    for worker in &first {
        worker.thaw();
    }
    for worker in &first {
        worker.says("connecting again");
    }
    scene.lab().zookeeper().thaw().unwrap();
    for worker in &second {
        worker.thaw();
    }
    for (worker, pair) in second.into_iter().zip(PAIRS) {
        let ended = worker.ends().with(0);
        // Nobody dropped the tables of the second worker, unless its own session ended too.
        let undisturbed = !ended.stderr.contains("is repeated") || ended.stderr.contains("is over");
        assert!(undisturbed, "{pair:?}: {}", ended.stderr);
    }
    for worker in first {
        worker.ends().with(0);
    }
    for task in &tasks {
        scene.check_rows(task, &task.tables[0], "1");
        scene.check_nothing_left(task);
        scene.check_status(task);
    }
}

#[apply(both)]
fn a_worker_thawed_beside_its_successor_does_no_harm(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 4));
    thawed_in_the_middle(&scene, BY_MONTH, "fail");
}

#[apply(both)]
fn a_worker_thawed_beside_its_successor_does_no_harm_to_replicated_tables(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 4));
    let engine = "ReplicatedMergeTree('/tables/NAME/{shard}', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    thawed_in_the_middle(&scene, engine, "append");
}
