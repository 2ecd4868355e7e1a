//! The verbs `status`, `pause`, `resume` and `cancel` while workers run.

use serde_json::{Value, json};

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Ended, Scene, Task, scene, task_with_slow_push, xml_without_limits};

fn verb(scene: &Scene, task: &Task, verb: &str, arguments: &[&str]) -> Ended {
    scene.launch(task).verb(verb).without_task_file().args(arguments).run()
}

fn status(scene: &Scene, task: &Task) -> Value {
    object(&verb(scene, task, "status", &["--format=json"]))
}

fn object(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr))
}

/// Returns how many statements of the task run on the source, which pushes.
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
fn status_shows_progress_workers_and_waiting_jobs(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 20_000).more("<max_jobs_per_server>1</max_jobs_per_server>");
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
    // Removes the limits, so that the test ends soon.
    let fast = xml_without_limits(&task);
    scene.launch_text(&fast).args(&["--task-upload-force"]).run().with(0);
    worker.ends().with(0);
    let after = status(&scene, &task);
    assert_eq!((after["state"].as_str(), after["total"]["rows_published"].as_u64()), (Some("finished"), Some(60_000)));
    assert_eq!(after["total"]["partitions"]["done"], 3, "{after}");
    verb(&scene, &task, "status", &["--watch"]).with(0).reports(&["finished", "3 done"]);
    scene.check(&task);
}

#[apply(both)]
fn pause_now_stops_all_statements_and_resume_continues_the_task(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 10_000);
    let workers = [scene.launch(&task).start(), scene.launch(&task).start()];
    rows_travel(&scene);
    // `--now` gives up the pieces, which would take seconds.
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
    // A new worker waits too, and stores the new task file.
    let fast = scene.launch_text(&xml_without_limits(&task)).args(&["--task-upload-force"]).start();
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
fn pause_lets_workers_finish_their_current_pieces(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 60_000);
    let worker = scene.launch(&task).args(&["--jobs=1"]).start();
    rows_travel(&scene);
    verb(&scene, &task, "pause", &[]).with(0).reports(&["finish what they have in hand", "The task is paused"]);
    let paused = status(&scene, &task);
    assert!(paused["total"]["rows_copied"].as_u64().unwrap() > 0, "{paused}");
    assert!(paused["total"]["partitions"]["pending"].as_u64().unwrap() > 0, "{paused}");
    let json_of = |verb: Ended| object(&verb.with(0));
    let answer = |outcome: &str| json!({"path": task.path, "outcome": outcome, "not_looked_at": [], "cleanup": null});
    assert_eq!(json_of(verb(&scene, &task, "pause", &["--format=json"])), answer("paused"));
    assert_eq!(json_of(verb(&scene, &task, "resume", &["--format=json"])), answer("resumed"));
    assert_eq!(json_of(verb(&scene, &task, "resume", &["--format=json"])), answer("was_not_paused"));
    verb(&scene, &task, "resume", &[]).with(0).reports(&["was not paused"]);
    worker.ends().with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_cancelled_task_leaves_only_published_partitions(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_with_slow_push(&scene, 20_000);
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
    scene.launch_text(&xml_without_limits(&task)).run().with(0);
    scene.check(&task);
}
