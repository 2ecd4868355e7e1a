//! Limits that protect servers with other users: bandwidth, priorities, pieces at a time, and long waits.

use std::time::{Duration, Instant};

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, scene};

/// Fills the source table `hits`, one partition, with rows of about 100 bytes. Compressed they have a fifth of that.
fn fill(scene: &Scene, rows: u64) {
    scene.ask(0, &format!("CREATE TABLE {}.hits (d Date, id UInt64, s FixedString(90)) {BY_MONTH}", scene.src));
    let text = "toFixedString(concat(toString(cityHash64(number)), ' rows that are wide and pack well'), 90)";
    let rows = format!("SELECT toDate('2018-01-15'), number, {text} FROM system.numbers LIMIT {rows}");
    scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
}

fn capped(scene: &Scene, rate: &str) -> Task {
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    task.more(&format!("<max_bytes_per_second>{rate}</max_bytes_per_second>"))
}

/// Returns the seconds of each piece from the worker's log.
fn seconds(stderr: &str) -> Vec<f64> {
    let rest = stderr.split("rows copied in ").skip(1);
    rest.map(|rest| rest.split_once(" s").unwrap().0.parse().unwrap()).collect()
}

#[apply(both)]
fn max_bytes_per_second_limits_the_transfer_rate(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 250_000);
    let task = capped(&scene, "2000000");
    let ended = scene.run(&task).with(0);
    let ended = ended.tells(&["transfer: relay", "since max_bytes_per_second"]).tells(&["at most 2000000 bytes"]);
    let took = seconds(&ended.stderr).iter().sum::<f64>();
    // On a busy machine it takes longer.
    assert!(took >= 0.9 * 12.5, "25 MB at 2 MB/s took {took} s");
    scene.check(&task);
}

#[apply(both)]
fn two_workers_share_the_bandwidth_limit_of_the_task(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 200_000);
    let hits = scene.table("hits").sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    let task = task.more("<max_bytes_per_second_of_task>4000000</max_bytes_per_second_of_task>");
    let first = scene.launch(&task).args(&["--jobs=1"]).start();
    first.says("at most 4000000 bytes");
    let second = scene.launch(&task).args(&["--jobs=1"]).start();
    first.says("at most 2000000 bytes of rows a second (2 workers share)");
    let ended = [first.ends().with(0), second.ends().with(0)];
    let pieces: Vec<f64> = ended.iter().flat_map(|ended| seconds(&ended.stderr)).collect();
    // Each worker copies half of 20 MB, at 4 MB/s at most.
    assert!(pieces.len() == 2 && pieces.iter().all(|took| *took >= 2.3), "{pieces:?} s");
    scene.check(&task);
}

#[apply(both)]
fn a_raised_bandwidth_limit_applies_to_running_transfers(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 200_000);
    // More than a quarter of an hour.
    let task = capped(&scene, "20K");
    let first = scene.launch(&task).start();
    // The worker logs this when it claims the piece. Before that, the second worker might claim it.
    first.says("INFO table hits: transfer: relay");
    let begun = Instant::now();
    let second = scene.launch(&capped(&scene, "5000000")).args(&["--task-upload-force"]).start();
    first.says("at most 5000000 bytes of rows a second");
    first.ends().with(0);
    second.ends().with(0);
    assert!(begun.elapsed() >= Duration::from_secs(3), "20 MB at 5 MB/s took {:?}", begun.elapsed());
    scene.check(&task);
}

#[apply(both)]
fn a_priority_in_settings_pull_reaches_the_transfers(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 1000);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more("<settings_pull><priority>7</priority><max_threads>3</max_threads></settings_pull>");
    scene.run(&task).with(0);
    scene.ask(0, "SYSTEM FLUSH LOGS");
    let value = |name: &str| format!("Settings.Values[indexOf(Settings.Names, '{name}')]");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'INSERT INTO FUNCTION%' \
         AND position(query, '{}') > 0 AND {} = '7' AND {} = '3'",
        scene.dst,
        value("priority"),
        value("max_threads")
    );
    assert!(scene.sum(&[0], &sql) > 0);
}

#[apply(both)]
fn a_bandwidth_limit_with_transfer_push_is_refused(#[case] release: Release) {
    let scene = scene!(release);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").with("transfer", "push"));
    let task = task.more("<max_bytes_per_second>1M</max_bytes_per_second>");
    scene.run(&task).with(2).tells(&["tables/hits", "rows that travel by push cannot be held to max_bytes_per_second"]);
}

/// Returns the number of pieces whose statements run on a server now.
fn pieces_on(scene: &Scene, server: usize) -> usize {
    let staging = format!("position(query, '{}') > 0 AND query_id LIKE 'copier:%'", scene.dst);
    let ids = scene.lines(&[server], &format!("SELECT query_id FROM system.processes WHERE {staging}"));
    let piece = |id: &String| id.split(':').find(|part| part.starts_with('p')).map(str::to_owned);
    ids.iter().filter_map(piece).collect::<std::collections::BTreeSet<_>>().len()
}

#[apply(both)]
fn max_jobs_per_server_limits_the_pieces_and_can_be_raised(#[case] release: Release) {
    let scene = scene!(release);
    // A server shows a statement from its first block on. Pieces have several blocks, so that three are visible at the same time.
    fill(&scene, 1_200_000);
    // So slow that a busy machine starts the second worker while rows travel.
    let task_with = |limit: u32, rate: &str| {
        let hits = scene.table("hits").with("number_of_splits", "12");
        let limits = format!(
            "<max_bytes_per_second>{rate}</max_bytes_per_second><max_jobs_per_server>{limit}</max_jobs_per_server>"
        );
        scene.task(&[&[0]], &[&[1]]).with(hits).more(&limits)
    };
    let first = scene.launch(&task_with(1, "400K")).args(&["--jobs=4"]).start();
    first.says(": waits for ");
    scene.eventually("a piece is on its way", || match pieces_on(&scene, 1) {
        0 => Err("none is".into()),
        _ => Ok(()),
    });
    for _ in 0..30 {
        assert!(pieces_on(&scene, 1) <= 1);
    }
    let second = scene.launch(&task_with(3, "400K")).args(&["--jobs=4", "--task-upload-force"]).start();
    scene.eventually("three pieces are on their way", || match pieces_on(&scene, 1) {
        3 => Ok(()),
        more @ 4.. => panic!("{more} are"),
        fewer => Err(format!("{fewer} are")),
    });
    scene.launch(&task_with(3, "1G")).args(&["--task-upload-force"]).run().with(0);
    first.ends().with(0);
    second.ends().with(0);
    scene.check(&task_with(3, "1G"));
}

#[apply(both)]
fn a_worker_that_waits_for_a_server_ends_at_the_first_signal(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 100_000);
    let hits = scene.table("hits").with("number_of_splits", "4");
    let limits = "<max_bytes_per_second>400K</max_bytes_per_second><max_jobs_per_server>1</max_jobs_per_server>";
    let task = scene.task(&[&[0]], &[&[1]]).with(hits).more(limits);
    let first = scene.launch(&task).args(&["--jobs=1"]).start();
    first.says("INFO table hits: transfer: relay");
    let second = scene.launch(&task).args(&["--jobs=1"]).start();
    second.says(": waits for ");
    second.signal(nix::sys::signal::Signal::SIGTERM);
    second.ends().with(130);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.ends().with(130);
    // The pieces that the workers returned are copied.
    let rest = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").with("number_of_splits", "4"));
    scene.launch(&rest).args(&["--task-upload-force"]).run().with(0);
    scene.check(&rest);
}

/// On 18.16 neither server shows a statement at that time: the source has sent everything, and the target waits for its first block.
#[apply(both)]
fn a_slow_transfer_under_a_bandwidth_limit_is_not_a_stall(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, 2_600);
    // The worker itself holds the bytes back, so this is not a stall.
    let ended = scene.launch(&capped(&scene, "13000")).args(&["--stall-timeout", "3"]).run();
    let took = seconds(&ended.stderr).iter().sum::<f64>();
    assert!(took >= 15.0 && !ended.stderr.contains("is repeated"), "{took} s: {}", ended.stderr);
    ended.with(0);
}
