//! `plan` shows and saves what a run would do. `run --plan` does exactly that, or refuses.

use serde_json::Value;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Ended, Scene, Task, fill, scene};

fn task(scene: &Scene) -> Task {
    fill(scene, &[0], BY_MONTH, 9000, 3);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("number_of_splits", "2");
    scene.task(&[&[0]], &[&[1], &[2]]).with(hits)
}

fn plan(scene: &Scene, task: &Task, arguments: &[&str]) -> Ended {
    scene.launch(task).verb("plan").args(arguments).run()
}

#[apply(both)]
fn plan_shows_what_a_run_would_do_and_creates_nothing(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let shown = plan(&scene, &task, &[]).with(0);
    let made = format!("CREATE TABLE IF NOT EXISTS `{}`.`hits`", scene.dst);
    let pair = format!("{}:9000 to {}:9000", scene.server(0).host(), scene.server(1).host());
    for words in
        ["CREATE DATABASE", &made, "201801", "201803", "9,000 rows", "rows travel by push", &pair, "One worker"]
    {
        assert!(shown.stdout.contains(words), "no {words} in\n{}", shown.stdout);
    }
    assert_eq!(scene.children(&task.path), None, "planning made a task");
    scene.check_no_database();
    let json: Value = serde_json::from_str(&plan(&scene, &task, &["--format=json"]).with(0).stdout).unwrap();
    assert_eq!(json["tables"][0]["plan"]["partitions"].as_array().unwrap().len(), 3);
}

#[apply(both)]
fn a_run_with_a_saved_plan_follows_it_or_names_what_has_changed(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene);
    let kept = scene.dir().join("plan.json");
    let kept = kept.to_str().unwrap();
    plan(&scene, &task, &["--output", kept]).with(0).reports(&["run --plan"]);
    plan(&scene, &task, &["--output", kept]).with(2).tells(&["--output", "is there already"]);

    // More rows in a known month do not change the plan; a new month does.
    let more = |day: &str| format!("INSERT INTO {}.hits VALUES ('{day}', 77777, 'late', 1)", scene.src);
    scene.ask(0, &more("2018-02-02"));
    scene.ask(0, &more("2019-07-07"));
    let refused = scene.launch(&task).args(&["--plan", kept]).run().with(1);
    refused.tells(&["does not hold any more"]).tells(&["table hits: new partitions: 201907"]);
    scene.check_no_database();

    scene.ask(0, &format!("ALTER TABLE {}.hits DROP PARTITION 201907", scene.src));
    let other = scene.task(&[&[0]], &[&[1], &[2]]).with(scene.table("hits").engine(BY_MONTH).sharding_key("id"));
    scene.launch(&other).args(&["--plan", kept]).run().with(2).tells(&[
        "--plan",
        "of another task",
        "number_of_splits",
    ]);
    scene.launch(&task).args(&["--plan", kept]).run().with(0);
    scene.check(&task);
    // The stored plan is the saved plan.
    let agreed: Value = serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
    let pieces = agreed["tables"][0]["plan"]["pieces"].as_array().unwrap().len();
    assert_eq!(scene.pieces(&task).len(), pieces);
}
