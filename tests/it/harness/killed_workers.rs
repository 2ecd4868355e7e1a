//! Workers that are killed at a step of the copy protocol, and the task that they work on.

use super::{BY_MONTH, Scene, Task, fill};

/// Engine of a target without replication.
pub const PLAIN: &str = BY_MONTH;
/// Engine of a replicated target. The macro `{shard}` differs between the servers of the shared laboratory.
pub const REPLICATED: &str = "ENGINE = ReplicatedMergeTree('/tables/NAME/{shard}', '{replica}') \
                          PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Returns a task that copies two shards to two: three partitions, several pieces each. Sessions of its workers are short.
pub fn task_of_several_pieces(scene: &Scene, engine: &str, policy: &str) -> Task {
    scene.short_sessions();
    fill(scene, &[0, 1], BY_MONTH, 6000, 3);
    let hits = scene.table("hits").engine(&engine.replace("NAME", scene.name())).sharding_key("id");
    let hits = hits.with("number_of_splits", "2").with("batch_bytes", "60000").with("if_target_not_empty", policy);
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits)
}

/// Starts so many workers one after the other, and kills each with SIGKILL when it reaches this fault point.
pub fn kill_at(scene: &Scene, task: &Task, point: &str, times: u32) {
    for _ in 0..times {
        let worker = scene.launch(task).args(&["--jobs", "1"]).stop_at(point).start();
        worker.reaches(point);
        worker.kill_9();
    }
}
