//! `status`, `pause`, `resume`, `cancel`: what a person sees and says while workers are at work.

use serde_json::{Value, json};

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, fill};
use crate::harness::{Ended, Scene, Task, scene};

/// Three months in pieces that take some seconds each, since each statement may send so many bytes a second.
pub fn slow(scene: &Scene, rate: u32) -> Task {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 60_000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).with("number_of_splits", "2").with("transfer", "push");
    let settings = format!("<settings><max_network_bandwidth>{rate}</max_network_bandwidth></settings>");
    scene.task(&[&[0]], &[&[1]]).with(hits).more(&settings)
}

fn verb(scene: &Scene, task: &Task, verb: &str, arguments: &[&str]) -> Ended {
    scene.launch(task).verb(verb).without_task_file().args(arguments).run()
}

fn status(scene: &Scene, task: &Task) -> Value {
    object(&verb(scene, task, "status", &["--format=json"]))
}

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr))
}

/// Statements of the task that run on the source, which pushes.
fn statements(scene: &Scene) -> u64 {
    let sql = "SELECT count() FROM system.processes WHERE query_id LIKE 'copier:%' AND position(query, 'DST') > 0";
    scene.sum(&[0], &sql.replace("DST", &scene.dst))
}

fn rows_travel(scene: &Scene) {
    scene.eventually("rows are on their way", || match statements(scene) {
        0 => Err("none".into()),
        _ => Ok(()),
    });
}

#[apply(both)]
fn status_shows_what_is_copied_who_does_what_and_what_waits(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow(&scene, 20_000).more("<max_jobs_per_server>1</max_jobs_per_server>");
    for early in ["status", "pause", "resume", "cancel"] {
        verb(&scene, &task, early, &[]).with(2).tells(&["there is no task at", &task.path]);
    }
    let worker = scene.launch(&task).args(&["--jobs=2"]).start();
    worker.says(": waits for ");
    scene.eventually("a statement is seen, and a job that waits", || {
        let status = status(&scene, &task);
        let jobs = status["workers"][0]["jobs"].as_array().cloned().unwrap_or_default();
        let runs = jobs.iter().filter(|job| !job["statements"].as_array().unwrap().is_empty()).count();
        let waits =
            status["waits"].as_array().unwrap().iter().any(|wait| wait.as_str().unwrap().contains("1 of 1 jobs of"));
        if (jobs.len(), runs, waits) == (2, 1, true) { Ok(()) } else { Err(status.to_string()) }
    });
    let shown = verb(&scene, &task, "status", &[]).with(0);
    let host = scene.server(1).host().to_string();
    for words in [&task.path, "Table hits:", "60,000", "copying", "pending", "copies hits piece", &host, "Waiting: "] {
        assert!(shown.stdout.contains(words), "no {words} in\n{}", shown.stdout);
    }
    // Let it go on faster.
    let fast = slow_text(&task);
    scene.launch_text(&fast).args(&["--task-upload-force"]).run().with(0);
    worker.ends().with(0);
    let after = status(&scene, &task);
    assert_eq!((after["state"].as_str(), after["total"]["rows_published"].as_u64()), (Some("finished"), Some(60_000)));
    assert_eq!(after["total"]["partitions"]["done"], 3, "{after}");
    verb(&scene, &task, "status", &["--watch"]).with(0).reports(&["finished", "3 done"]);
    scene.check(&task);
}

/// The same task without its limits.
pub fn slow_text(task: &Task) -> String {
    let xml = task.xml();
    let cut = |xml: &str, name: &str| match (xml.find(&format!("<{name}>")), xml.find(&format!("</{name}>"))) {
        (Some(begin), Some(end)) => format!("{}{}", &xml[..begin], &xml[end + name.len() + 3..]),
        _ => xml.to_owned(),
    };
    cut(&cut(&xml, "settings"), "max_jobs_per_server")
}

#[apply(both)]
fn a_paused_task_has_nothing_on_the_servers_and_goes_on_when_resumed(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow(&scene, 10_000);
    let workers = [scene.launch(&task).start(), scene.launch(&task).start()];
    rows_travel(&scene);
    // Each piece would take seconds: they are given up.
    verb(&scene, &task, "pause", &["--now"]).with(0).reports(&[
        "give up what they have in hand",
        "paused",
        "resume --config",
    ]);
    assert_eq!(statements(&scene), 0);
    assert_eq!(status(&scene, &task)["state"], "paused");
    for worker in &workers {
        worker.says("the task is paused: waiting until it is resumed");
    }
    // A worker that comes now waits too, and takes the new description in.
    let fast = scene.launch_text(&slow_text(&task)).args(&["--task-upload-force"]).start();
    fast.says("the task is paused: waiting until it is resumed");
    assert_eq!(scene.sum(&[1], &format!("SELECT count() FROM {}.hits", scene.dst)), 0);
    verb(&scene, &task, "resume", &[]).with(0).reports(&["goes on"]);
    for worker in workers.into_iter().chain([fast]) {
        worker.ends().with(0);
    }
    scene.check(&task);
    verb(&scene, &task, "pause", &[]).with(1).tells(&["is finished"]);
    verb(&scene, &task, "resume", &[]).with(1).tells(&["is finished"]);
}

#[apply(both)]
fn a_pause_lets_pieces_in_hand_be_finished(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow(&scene, 60_000);
    let worker = scene.launch(&task).args(&["--jobs=1"]).start();
    rows_travel(&scene);
    verb(&scene, &task, "pause", &[]).with(0).reports(&["finish what they have in hand", "The task is paused"]);
    let paused = status(&scene, &task);
    assert!(paused["total"]["rows_copied"].as_u64().unwrap() > 0, "{paused}");
    assert!(paused["total"]["partitions"]["pending"].as_u64().unwrap() > 0, "{paused}");
    let told = |verb: Ended| object(&verb.with(0));
    let says = |outcome: &str| json!({"path": task.path, "outcome": outcome, "not_looked_at": [], "cleanup": null});
    assert_eq!(told(verb(&scene, &task, "pause", &["--format=json"])), says("paused"));
    assert_eq!(told(verb(&scene, &task, "resume", &["--format=json"])), says("resumed"));
    assert_eq!(told(verb(&scene, &task, "resume", &["--format=json"])), says("was_not_paused"));
    verb(&scene, &task, "resume", &[]).with(0).reports(&["was not paused"]);
    worker.ends().with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_cancelled_task_leaves_nothing_but_what_it_published(#[case] release: Release) {
    let scene = scene!(release);
    let task = slow(&scene, 20_000);
    let worker = scene.launch(&task).start();
    rows_travel(&scene);
    verb(&scene, &task, "cancel", &[]).with(0).reports(&[
        "The task is cancelled",
        "cleanup --config",
        "--remove --forget",
    ]);
    worker.ends().with(1).tells(&["was cancelled"]);
    scene.check_nothing_left(&task);
    assert_eq!(status(&scene, &task)["state"], "cancelled");
    verb(&scene, &task, "resume", &[]).with(1).tells(&["is cancelled"]);
    let again = object(&verb(&scene, &task, "cancel", &["--format=json"]).with(0));
    assert_eq!(
        (&again["outcome"], &again["cleanup"]["standing"]),
        (&json!("cancelled"), &json!("unfinished")),
        "{again}"
    );
    assert_eq!((&again["cleanup"]["published"]["of"], &again["cleanup"]["removal"]["tables"]), (&json!(3), &json!(0)));
    scene.run(&task).with(1).tells(&["was cancelled", "cleanup --remove --forget"]);
    verb(&scene, &task, "cleanup", &["--remove", "--forget"]).with(0);
    scene.launch_text(&slow_text(&task)).run().with(0);
    scene.check(&task);
}
