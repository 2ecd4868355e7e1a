//! Outages of ZooKeeper, shorter and longer than the session timeout of the workers.

use std::time::Duration;

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Worker, scene, task_with_slow_source, wait_for_transfer};

fn two(release: Release) -> LabSpec {
    LabSpec { query_log: true, ..LabSpec::of(release, 2) }
}

/// ZooKeeper is frozen for a second, then killed and started again. The workers do not notice it.
#[apply(both)]
fn a_short_zookeeper_outage_is_not_noticed(#[case] release: Release) {
    let scene = scene!(own two(release));
    let task = task_with_slow_source(&scene);
    let workers = [(); 2].map(|()| scene.launch(&task).start());
    wait_for_transfer(&scene);
    let zookeeper = scene.lab().zookeeper();
    zookeeper.freeze().unwrap();
    // The length of the outage.
    std::thread::sleep(Duration::from_secs(1));
    zookeeper.thaw().unwrap();
    zookeeper.kill_9().unwrap();
    zookeeper.start().unwrap();
    for worker in workers {
        let ended = worker.ends().with(0);
        for word in ["is over", "connecting", "attempt 2", "ERROR"] {
            assert!(!ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    }
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
    for piece in scene.pieces(&task) {
        assert_eq!(piece["a"], 1, "{piece}");
    }
}

/// Returns how many statements on the test's databases have started so far.
fn begun(scene: &Scene) -> u64 {
    scene.on(&[0, 1], "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 1 AND position(query, '{}') + position(query, '{}') > 0 \
         AND position(query, 'query_log') = 0",
        scene.src, scene.dst
    );
    scene.sum(&[0, 1], &sql)
}

/// The workers stop when their sessions end, wait, and continue by themselves.
#[apply(both)]
fn workers_reconnect_after_a_zookeeper_outage_longer_than_their_session(#[case] release: Release) {
    let scene = scene!(own two(release));
    scene.short_sessions();
    let task = task_with_slow_source(&scene);
    let workers = [(); 2].map(|()| scene.launch(&task).start());
    wait_for_transfer(&scene);
    scene.lab().zookeeper().kill_9().unwrap();
    for worker in &workers {
        worker.says("connecting again");
    }
    let before = begun(&scene);
    assert!(before > 0);
    scene.eventually("both have tried to come back a few times", || {
        let tries = |worker: &Worker| worker.stderr_so_far().matches("trying again in").count();
        let tries = workers.each_ref().map(tries);
        if tries.iter().all(|tries| *tries >= 4) { Ok(()) } else { Err(format!("{tries:?}")) }
    });
    assert_eq!(begun(&scene), before, "statements began while there was no session");
    scene.lab().zookeeper().start().unwrap();
    let zookeeper = scene.lab().zookeeper().hosts();
    for worker in workers {
        let words = [&zookeeper, "is over", "all work in hand is given up"];
        worker.ends().with(0).tells(&words).tells(&[&zookeeper, "Connection refused", "trying again"]);
    }
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}
