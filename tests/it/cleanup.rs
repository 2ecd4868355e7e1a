//! `cleanup` lists and removes what dead workers left, and nothing else. The task can continue afterwards.

use lab::{LabSpec, Release};
use rstest_reuse::apply;
use serde_json::{Value, json};

use crate::both;
use crate::harness::{
    BY_MONTH, Ended, Launch, PLAIN, REPLICATED, Scene, Task, delete_nodes, fill, kill_at, scene, task_of_several_pieces,
};
/// Returns the line about a table in the output of `cleanup`, or an empty text.
fn line_of<'a>(listed: &'a Ended, table: &str) -> &'a str {
    let named = |line: &&str| [" ", ":"].iter().any(|end| line.contains(&format!(".{table}{end}")));
    listed.stdout.lines().find(named).unwrap_or_default()
}

/// The identity of a task that does not exist.
const OTHER: &str = "ba9876543210";

fn cleanup<'a>(scene: &'a Scene, task: &Task, arguments: &[&str]) -> Launch<'a> {
    scene.launch(task).without_task_file().verb("cleanup").args(arguments)
}

/// Sets the session timeout of workers from now on: long for workers that must finish on a busy machine, short for workers that are
/// killed.
fn sessions(scene: &Scene, seconds: u32) {
    let text = scene.keeper_text(&format!("<session_timeout_ms>{seconds}000</session_timeout_ms>"));
    std::fs::write(scene.keeper_xml(), text).unwrap();
}

/// Waits until the sessions of killed workers are over.
fn all_dead(scene: &Scene, task: &Task) {
    scene.wait_for_sessions_to_expire(task);
    sessions(scene, 30);
}

/// Returns all tables on the targets with the prefix of the copier.
fn like_ours(scene: &Scene) -> Vec<String> {
    scene.lines(&[2, 3], &format!("SHOW TABLES FROM {} LIKE 'copier\\_%'", scene.dst))
}

/// Creates tables that `cleanup` must keep: of a user, of a user with the prefix and identity of the task, and of another task.
fn others(scene: &Scene, id: &str) -> Vec<String> {
    let names = [
        "copier_notes".to_owned(),
        format!("copier_{id}_mine"),
        format!("copier_{id}_t0_b0_p0_a1_old"),
        format!("copier_{OTHER}_t0_b0_p0_a1"),
    ];
    for name in &names {
        scene.ask(2, &format!("CREATE TABLE {}.{name} (a UInt8) ENGINE = Log", scene.dst));
        scene.ask(2, &format!("INSERT INTO {}.{name} VALUES (1)", scene.dst));
    }
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Kills a worker at a fault point, when `done` batches are published. Then lists the tables, removes them, and runs the task again.
fn clean(scene: &Scene, engine: &str, point: &str, done: usize) {
    let task = task_of_several_pieces(scene, engine, "fail");
    kill_at(scene, &task, point, 1);
    all_dead(scene, &task);
    let leftover = like_ours(scene);
    assert!(!leftover.is_empty(), "nothing was left at {point}");
    let others = others(scene, &scene.task_id(&task));
    let status = format!("{done} of 3 batches published");

    let listed = cleanup(scene, &task, &[]).run().with(0).reports(&["not finished", &status, "--remove", "run again"]);
    for (names, fate) in [(&leftover, "may go"), (&others, "stays")] {
        for name in names {
            assert!(line_of(&listed, name).contains(fate), "{name} {fate}:\n{}", listed.stdout);
        }
    }
    let json: Value = serde_json::from_str(&cleanup(scene, &task, &["--format=json"]).run().with(0).stdout).unwrap();
    let published = json!({"batches": done, "of": 3});
    assert_eq!((&json["published"], &json["removal"], &json["forgotten"]), (&published, &json!(null), &json!(false)));
    // `things` may also contain a statement of the dead worker.
    let tables: Vec<_> = json["things"].as_array().unwrap().iter().filter(|thing| thing["kind"] == "table").collect();
    for thing in &tables {
        let name = thing["name"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        assert_eq!(thing["may_go"], leftover.contains(&name), "{thing}");
    }
    assert_eq!(tables.len(), leftover.len() + others.len());
    assert_eq!(like_ours(scene).len(), leftover.len() + others.len(), "a list removes nothing");

    let removed = cleanup(scene, &task, &["--remove", "--format=json"]).run().with(0);
    assert_eq!(like_ours(scene), others, "{}", removed.stdout);
    let json: Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!(
        (&json["removal"]["tables"], &json["removal"]["failed"]),
        (&json!(leftover.len()), &json!([])),
        "{json}"
    );
    let command = listed.stdout.lines().find(|line| line.contains("clickhouse-copier cleanup")).expect("a command");
    assert!(command.ends_with(&format!("--task-path {} --remove", task.path)), "{command}");
    cleanup(scene, &task, &["--remove"]).run().with(0).reports(&["0 tables dropped"]);
    cleanup(scene, &task, &[]).run().with(0).reports(&["Nothing of the task is left"]);

    let again = scene.run(&task).with(0);
    let published = again.stderr.lines().filter(|line| line.contains("published,")).count();
    assert_eq!(published, 3 - done, "what was done is not done again:\n{}", again.stderr);
    assert!(!again.stderr.contains("are gone"), "the run had to find out what was removed:\n{}", again.stderr);
    for name in others {
        assert_eq!(scene.ask(2, &format!("SELECT count() FROM {}.{name}", scene.dst)), "1", "{name}");
        scene.ask(2, &format!("DROP TABLE {}.{name}", scene.dst));
    }
    scene.check(&task);
    cleanup(scene, &task, &["--remove"]).run().with(0).reports(&["The task is finished"]);
}

#[apply(both)]
fn cleanup_removes_staging_tables_of_a_piece(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "piece-pushed", 0);
}

#[apply(both)]
fn cleanup_removes_staging_tables_of_copied_pieces(#[case] release: Release) {
    clean(&scene!(release), REPLICATED, "publication-claimed", 0);
}

#[apply(both)]
fn cleanup_removes_tables_of_an_unfinished_publication(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "gathered", 0);
}

#[apply(both)]
fn cleanup_removes_tables_of_a_publication_whose_rows_are_in_place(#[case] release: Release) {
    clean(&scene!(release), REPLICATED, "placed", 0);
}

#[apply(both)]
fn cleanup_removes_tables_left_by_a_finished_batch(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "batch-recorded", 1);
}

#[apply(both)]
fn cleanup_removes_nothing_while_a_worker_is_alive(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at("piece-verified").start();
    worker.reaches("piece-verified");
    let leftover = like_ours(&scene);
    let places = scene.children(&format!("{}/task_active_workers", task.path)).unwrap();
    let listed = cleanup(&scene, &task, &[]).run().with(0).reports(&["At work", &places[0], "Nothing can be removed"]);
    assert!(listed.stdout.contains(&leftover[0]) && !listed.stdout.contains("may go"), "{}", listed.stdout);
    for arguments in [&["--remove"][..], &["--remove", "--forget"]] {
        cleanup(&scene, &task, arguments).run().with(1).tells(&["nothing is removed", &places[0]]);
    }
    assert_eq!(like_ours(&scene), leftover);
    assert_eq!(scene.children(&format!("{}/task_active_workers", task.path)).unwrap(), places, "it left a place");
    worker.kill_9();
    scene.run(&task).with(0);
    scene.check(&task);
}

/// The worker waits, and continues when the clean-up is killed.
#[apply(both)]
fn a_worker_that_starts_during_a_cleanup_waits_and_then_finishes(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "publication-claimed", 1);
    all_dead(&scene, &task);
    sessions(&scene, 6);
    let cleaner = cleanup(&scene, &task, &["--remove"]).stop_at("cleanup-recorded").start();
    cleaner.reaches("cleanup-recorded");
    let worker = scene.launch(&task).start();
    worker.says("is cleaning up");
    cleanup(&scene, &task, &["--remove"]).run().with(1).tells(&["nothing is removed", "cleanup@"]);
    cleaner.kill_9();
    worker.ends().with(0);
    scene.check(&task);
}

#[apply(both)]
fn cleanup_ends_only_running_statements_of_its_task(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "piece-claimed", 1);
    all_dead(&scene, &task);
    let ours = format!("copier:{}:t0:p0:a1:s0r0", scene.task_id(&task));
    let theirs = format!("copier:{OTHER}:t0:p0:a1:s0r0");
    let running =
        |query: &str| scene.ask(0, &format!("SELECT count() FROM system.processes WHERE query_id = '{query}'")) == "1";
    std::thread::scope(|scope| {
        for query in [&ours, &theirs] {
            let endless = "SELECT count() FROM system.numbers";
            let server = scene.server(0);
            scope.spawn(move || server.query_with(&[("query_id", query)], endless).unwrap_err());
            scene.eventually("it runs", || if running(query) { Ok(()) } else { Err(String::new()) });
        }
        let listed = cleanup(&scene, &task, &[]).run();
        let removed = cleanup(&scene, &task, &["--remove"]).run();
        let leftover = (running(&ours), running(&theirs));
        scene.ask(0, &format!("KILL QUERY WHERE query_id IN ('{ours}', '{theirs}') ASYNC"));
        let listed = listed.with(0);
        let line = |query: &str| listed.stdout.lines().find(|line| line.contains(query)).unwrap_or_default();
        assert!(line(&ours).contains("may go"), "{}", listed.stdout);
        assert!(line(&theirs).contains("of another task"), "{}", listed.stdout);
        removed.with(0).reports(&["1 statement ended"]);
        assert_eq!(leftover, (false, true));
    });
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
}

#[apply(both)]
fn a_forgotten_task_can_be_started_again_and_tasks_below_its_path_stay(#[case] release: Release) {
    let scene = scene!(release);
    let outer = task_of_several_pieces(&scene, PLAIN, "fail");
    let mut inner = outer.clone().at("below");
    inner.tables[0] = scene.table("hits").to(&scene.dst, "inner").engine(PLAIN).sharding_key("id");
    scene.run(&inner).with(0);
    kill_at(&scene, &outer, "piece-recorded", 1);
    all_dead(&scene, &outer);
    let before = scene.task_id(&outer);
    cleanup(&scene, &outer, &["--remove", "--forget"]).run().with(0).reports(&["is gone"]);
    assert_eq!(scene.children(&outer.path).unwrap(), ["below"]);
    assert_eq!(like_ours(&scene), [""; 0]);
    cleanup(&scene, &outer, &[]).run().with(2).tells(&["there is no task at", "--task-file"]);

    scene.run(&outer).with(0);
    scene.check(&outer);
    assert_ne!(scene.task_id(&outer), before);
    cleanup(&scene, &inner, &["--remove", "--forget"]).run().with(0);
    cleanup(&scene, &outer, &["--remove", "--forget"]).run().with(0);
    assert_eq!(scene.children(&outer.path), None);
}

/// After an interrupted `--forget` half of the nodes are deleted. No worker starts, and the same command finishes it.
#[apply(both)]
fn an_interrupted_cleanup_with_forget_is_finished_by_the_next_one(#[case] release: Release) {
    let scene = scene!(release);
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "piece-recorded", 1);
    all_dead(&scene, &task);
    sessions(&scene, 6);
    let cleaner = cleanup(&scene, &task, &["--remove", "--forget"]).stop_at("half-forgotten").start();
    cleaner.reaches("half-forgotten");
    let waiting = scene.launch(&task).run().with(1).tells(&["is being forgotten", "--forget"]);
    assert!(!waiting.stderr.contains("accepted"));
    cleaner.kill_9();
    all_dead(&scene, &task);
    cleanup(&scene, &task, &[]).run().with(0).reports(&["half removed"]);
    cleanup(&scene, &task, &["--remove", "--forget"]).run().with(0);
    assert_eq!(scene.children(&task.path), None);
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_task_missing_in_zookeeper_is_cleaned_up_by_its_task_id(#[case] release: Release) {
    let scene = scene!(release);
    let lost = task_of_several_pieces(&scene, PLAIN, "fail");
    kill_at(&scene, &lost, "piece-recorded", 1);
    all_dead(&scene, &lost);
    let lost_id = scene.task_id(&lost);
    let leftover = like_ours(&scene);
    let others = others(&scene, &lost_id);
    let with_file = |arguments: &[&str]| scene.launch(&lost).verb("cleanup").args(arguments);

    // A task that is recorded at another path must be cleaned up there.
    let elsewhere = format!("{}-elsewhere", lost.path);
    let by_id = ["--task-id", &lost_id, "--remove"];
    with_file(&by_id).task_path(&elsewhere).run().with(1).tells(&["lives at", &lost.path]);

    delete_nodes(release, &lost.path);
    let listed = with_file(&[]).run().with(0).reports(&["No task", "--task-id"]);
    assert!(line_of(&listed, &leftover[0]).contains(&format!("of another task, {lost_id}")), "{}", listed.stdout);
    with_file(&["--remove"]).run().with(2).tells(&["nothing is removed", "--task-id"]);
    let listed = with_file(&["--task-id", &lost_id]).run().with(0).reports(&["whether it is dead is not known"]);
    assert!(line_of(&listed, &leftover[0]).contains("may go"), "{}", listed.stdout);
    assert_eq!(like_ours(&scene).len(), leftover.len() + others.len());
    with_file(&by_id).run().with(0);
    assert_eq!(like_ours(&scene), others);
}

#[apply(both)]
fn cleanup_names_servers_that_do_not_answer(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 2));
    scene.short_sessions();
    fill(&scene, &[0], BY_MONTH, 3000, 1);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    kill_at(&scene, &task, "piece-recorded", 1);
    scene.server(1).kill_9().unwrap();
    all_dead(&scene, &task);
    let host = scene.server(1).host();
    cleanup(&scene, &task, &[]).run().with(3).reports(&["Not looked at", host]);
    let forget = ["--remove", "--forget"];
    cleanup(&scene, &task, &forget).run().with(3).reports(&["Not looked at", host, "not forgotten"]);
    scene.server(1).start().unwrap();
    cleanup(&scene, &task, &["--remove"]).run().with(0).reports(&["1 table dropped"]);
    scene.run(&task).with(0);
    scene.check(&task);
}

/// Without a task at the path, `cleanup` removes nothing. What other tasks in ZooKeeper use does not matter. A table of a task that nobody
/// knows stays unless `--task-id` names its task.
#[apply(both)]
fn cleanup_of_a_path_without_a_task_removes_no_table(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 4));
    let task = task_of_several_pieces(&scene, PLAIN, "fail");
    let (neighbour, task) = (task.clone().at("neighbour"), task.at("nothing"));
    let remove = || scene.launch(&task).verb("cleanup").args(&["--remove"]).run();
    let nothing = "There is no task here, and nothing of one is on the servers that answered";
    remove().with(0).reports(&[nothing]);
    kill_at(&scene, &neighbour, "piece-pushed", 1);
    all_dead(&scene, &neighbour);
    remove().with(0).reports(&["of another task", nothing]);
    scene.run(&neighbour).with(0);
    let name = format!("copier_{OTHER}_t0_b0_p0_a1");
    scene.ask(2, &format!("CREATE TABLE {}.{name} (a UInt8) ENGINE = Log", scene.dst));
    remove().with(2).tells(&["nothing is removed", "--task-id says whose tables may go"]);
    assert_eq!(like_ours(&scene), [name]);
}
