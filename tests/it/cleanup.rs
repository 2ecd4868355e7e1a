//! `cleanup`: what dead workers left is listed and removed, nothing else is, and the task goes on afterwards.

use clickhouse_copier::coordinator::{Coordinator, ZooKeeperCoordinator, ZooKeeperOptions, delete_tree};
use lab::{LabSpec, Release};
use rstest_reuse::apply;
use serde_json::{Value, json};

use crate::both;
use crate::copy::{BY_MONTH, fill};
use crate::crash::{PLAIN, REPLICATED, kill_at, task};
use crate::harness::{Ended, Launch, Scene, Task, scene};
use crate::zookeeper_hosts;

/// The line of a list that a table has; nothing where it has none.
fn line_of<'a>(listed: &'a Ended, table: &str) -> &'a str {
    let named = |line: &&str| [" ", ":"].iter().any(|end| line.contains(&format!(".{table}{end}")));
    listed.stdout.lines().find(named).unwrap_or_default()
}

/// The identity of a task that there is not.
const OTHER: &str = "ba9876543210";

fn cleanup<'a>(scene: &'a Scene, task: &Task, arguments: &[&str]) -> Launch<'a> {
    scene.launch(task).without_task_file().verb("cleanup").args(arguments)
}

/// From now on sessions last this long. Long for who is to come through on a busy machine, short for who is to be killed.
fn sessions(scene: &Scene, seconds: u32) {
    let text = scene.keeper_text(&format!("<session_timeout_ms>{seconds}000</session_timeout_ms>"));
    std::fs::write(scene.keeper_xml(), text).unwrap();
}

/// Waits until the sessions of killed workers are over.
fn all_dead(scene: &Scene, task: &Task) {
    let places = format!("{}/task_active_workers", task.path);
    scene.eventually("no session of a worker is left", || match scene.children(&places) {
        Some(names) if !names.is_empty() => Err(format!("{names:?}")),
        _ => Ok(()),
    });
    sessions(scene, 30);
}

/// Every table on the targets whose name begins like ours.
fn like_ours(scene: &Scene) -> Vec<String> {
    scene.lines(&[2, 3], &format!("SHOW TABLES FROM {} LIKE 'copier\\_%'", scene.dst))
}

pub fn id(scene: &Scene, task: &Task) -> String {
    let record = scene.node(&format!("{}/task", task.path)).expect("the task is recorded");
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    record["id"].as_str().expect("it has an identity").to_owned()
}

/// Tables of others: of a user, of a user with our prefix and identity, and of another task.
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

/// A worker dies at a point, so many batches being done then: list, remove, run again.
fn clean(scene: &Scene, engine: &str, point: &str, done: usize) {
    let task = task(scene, engine, "fail");
    kill_at(scene, &task, point, 1);
    all_dead(scene, &task);
    let left = like_ours(scene);
    assert!(!left.is_empty(), "nothing was left at {point}");
    let others = others(scene, &id(scene, &task));
    let status = format!("{done} of 3 batches published");

    let listed = cleanup(scene, &task, &[]).run().with(0).reports(&["not finished", &status, "--remove", "run again"]);
    for (names, fate) in [(&left, "may go"), (&others, "stays")] {
        for name in names {
            assert!(line_of(&listed, name).contains(fate), "{name} {fate}:\n{}", listed.stdout);
        }
    }
    let told: Value = serde_json::from_str(&cleanup(scene, &task, &["--format=json"]).run().with(0).stdout).unwrap();
    let published = json!({"batches": done, "of": 3});
    assert_eq!((&told["published"], &told["removal"], &told["forgotten"]), (&published, &json!(null), &json!(false)));
    // A statement of the dead worker may still run.
    let tables: Vec<_> = told["things"].as_array().unwrap().iter().filter(|thing| thing["kind"] == "table").collect();
    for thing in &tables {
        let name = thing["name"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        assert_eq!(thing["may_go"], left.contains(&name), "{thing}");
    }
    assert_eq!(tables.len(), left.len() + others.len());
    assert_eq!(like_ours(scene).len(), left.len() + others.len(), "a list removes nothing");

    let removed = cleanup(scene, &task, &["--remove", "--format=json"]).run().with(0);
    assert_eq!(like_ours(scene), others, "{}", removed.stdout);
    let told: Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!((&told["removal"]["tables"], &told["removal"]["failed"]), (&json!(left.len()), &json!([])), "{told}");
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
fn of_a_piece(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "piece-pushed", 0);
}

#[apply(both)]
fn of_copied_pieces(#[case] release: Release) {
    clean(&scene!(release), REPLICATED, "publication-claimed", 0);
}

#[apply(both)]
fn of_a_publication(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "gathered", 0);
}

#[apply(both)]
fn of_a_publication_whose_rows_are_in_place(#[case] release: Release) {
    clean(&scene!(release), REPLICATED, "placed", 0);
}

#[apply(both)]
fn of_a_batch_that_is_done(#[case] release: Release) {
    clean(&scene!(release), PLAIN, "batch-recorded", 1);
}

#[apply(both)]
fn while_a_worker_is_alive_nothing_is_removed(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at("piece-verified").start();
    worker.reaches("piece-verified");
    let left = like_ours(&scene);
    let places = scene.children(&format!("{}/task_active_workers", task.path)).unwrap();
    let listed = cleanup(&scene, &task, &[]).run().with(0).reports(&["At work", &places[0], "Nothing can be removed"]);
    assert!(listed.stdout.contains(&left[0]) && !listed.stdout.contains("may go"), "{}", listed.stdout);
    for arguments in [&["--remove"][..], &["--remove", "--forget"]] {
        cleanup(&scene, &task, arguments).run().with(1).tells(&["nothing is removed", &places[0]]);
    }
    assert_eq!(like_ours(&scene), left);
    assert_eq!(scene.children(&format!("{}/task_active_workers", task.path)).unwrap(), places, "it left a place");
    worker.kill_9();
    scene.run(&task).with(0);
    scene.check(&task);
}

/// It waits; when the clean-up dies half way, it goes on.
#[apply(both)]
fn a_worker_that_starts_meanwhile_waits_and_is_not_harmed(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
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
fn a_statement_that_still_runs_is_ended_and_no_other(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    kill_at(&scene, &task, "piece-claimed", 1);
    all_dead(&scene, &task);
    let ours = format!("copier:{}:t0:p0:a1:s0r0", id(&scene, &task));
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
        let left = (running(&ours), running(&theirs));
        scene.ask(0, &format!("KILL QUERY WHERE query_id IN ('{ours}', '{theirs}') ASYNC"));
        let listed = listed.with(0);
        let line = |query: &str| listed.stdout.lines().find(|line| line.contains(query)).unwrap_or_default();
        assert!(line(&ours).contains("may go"), "{}", listed.stdout);
        assert!(line(&theirs).contains("of another task"), "{}", listed.stdout);
        removed.with(0).reports(&["1 statement ended"]);
        assert_eq!(left, (false, true));
    });
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "1");
}

#[apply(both)]
fn a_forgotten_task_can_be_made_anew_and_others_below_its_path_stay(#[case] release: Release) {
    let scene = scene!(release);
    let outer = task(&scene, PLAIN, "fail");
    let mut inner = outer.clone().at("below");
    inner.tables[0] = scene.table("hits").to(&scene.dst, "inner").engine(PLAIN).sharding_key("id");
    scene.run(&inner).with(0);
    kill_at(&scene, &outer, "piece-recorded", 1);
    all_dead(&scene, &outer);
    let before = id(&scene, &outer);
    cleanup(&scene, &outer, &["--remove", "--forget"]).run().with(0).reports(&["is gone"]);
    assert_eq!(scene.children(&outer.path).unwrap(), ["below"]);
    assert_eq!(like_ours(&scene), [""; 0]);
    cleanup(&scene, &outer, &[]).run().with(2).tells(&["there is no task at", "--task-file"]);

    scene.run(&outer).with(0);
    scene.check(&outer);
    assert_ne!(id(&scene, &outer), before);
    cleanup(&scene, &inner, &["--remove", "--forget"]).run().with(0);
    cleanup(&scene, &outer, &["--remove", "--forget"]).run().with(0);
    assert_eq!(scene.children(&outer.path), None);
}

/// Half of the tree is gone: nobody works on it, and the same again ends it.
#[apply(both)]
fn a_forgetting_that_died_half_way_is_ended_by_another(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
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

#[tokio::main(flavor = "current_thread")]
async fn delete(release: Release, path: &str) {
    let options = ZooKeeperOptions {
        hosts: zookeeper_hosts(release),
        secure: false,
        tls: clickhouse_copier::model::Tls::default(),
        session_timeout: std::time::Duration::from_secs(20),
        root: None,
        identity: None,
    };
    let session = ZooKeeperCoordinator::new(options).session().await.unwrap();
    delete_tree(session.as_ref(), path).await.unwrap();
    session.close().await;
}

#[apply(both)]
fn a_task_that_zookeeper_lost_is_cleaned_up_by_its_identity(#[case] release: Release) {
    let scene = scene!(release);
    let lost = task(&scene, PLAIN, "fail");
    kill_at(&scene, &lost, "piece-recorded", 1);
    all_dead(&scene, &lost);
    let lost_id = id(&scene, &lost);
    let left = like_ours(&scene);
    let others = others(&scene, &lost_id);
    let with_file = |arguments: &[&str]| scene.launch(&lost).verb("cleanup").args(arguments);

    // As long as it is recorded somewhere near, it is cleaned up there.
    let elsewhere = format!("{}-elsewhere", lost.path);
    let by_id = ["--task-id", &lost_id, "--remove"];
    with_file(&by_id).task_path(&elsewhere).run().with(1).tells(&["lives at", &lost.path]);

    delete(release, &lost.path);
    let listed = with_file(&[]).run().with(0).reports(&["No task", "--task-id"]);
    assert!(line_of(&listed, &left[0]).contains(&format!("of another task, {lost_id}")), "{}", listed.stdout);
    with_file(&["--remove"]).run().with(2).tells(&["nothing is removed", "--task-id"]);
    let listed = with_file(&["--task-id", &lost_id]).run().with(0).reports(&["whether it is dead is not known"]);
    assert!(line_of(&listed, &left[0]).contains("may go"), "{}", listed.stdout);
    assert_eq!(like_ours(&scene).len(), left.len() + others.len());
    with_file(&by_id).run().with(0);
    assert_eq!(like_ours(&scene), others);
}

#[apply(both)]
fn a_server_that_does_not_answer_is_named(#[case] release: Release) {
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

/// Without a task at the path and without a table of any task, nothing is to be removed. A table of a task that nobody names stays.
#[apply(both)]
fn a_path_without_a_task_is_clean_where_no_table_is(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, PLAIN, "fail");
    let remove = || scene.launch(&task).verb("cleanup").args(&["--remove"]).run();
    remove().with(0).reports(&["There is no task here, and nothing of one is on the servers that answered"]);
    let name = format!("copier_{OTHER}_t0_b0_p0_a1");
    scene.ask(2, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(2, &format!("CREATE TABLE {}.{name} (a UInt8) ENGINE = Log", scene.dst));
    remove().with(2).tells(&["nothing is removed", "--task-id says whose tables may go"]);
    assert_eq!(scene.lines(&[2], &format!("SHOW TABLES FROM {}", scene.dst)), [name]);
}
