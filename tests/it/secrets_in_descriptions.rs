//! A task description that somebody else put into the coordinator cannot read secrets of this machine.

use std::net::TcpListener;

use clickhouse_copier::coordinator::{Conflict, Op};
use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, Task, fill, scene, zookeeper_session};
const PASSWORD: &str = "s3cret-of-this-machine";
const VARIABLE: &str = "COPIER_TEST_SECRET";

fn task(scene: &Scene) -> Task {
    fill(scene, &[0], BY_MONTH, 3000, 2);
    scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH))
}

/// The task with its accounts' passwords as a reference.
fn by_reference(task: &Task, reference: &str) -> String {
    task.xml().replace("</host>", &format!("</host><user>copier</user>{reference}"))
}

/// Runs a worker and other verbs without the task file, with and without permission for the secret.
#[apply(both)]
fn a_description_from_zookeeper_reads_only_allowed_secrets(#[case] release: Release) {
    let users = vec![User::new("copier", PASSWORD)];
    let scene = scene!(own LabSpec { users, ..LabSpec::of(release, 2) });
    let task = task(&scene);
    let file = scene.dir().join("secrets");
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("password"), PASSWORD).unwrap();
    let path = file.join("password").display().to_string();
    let by_variable = format!("<password from_env=\"{VARIABLE}\"/>");
    let by_file = format!("<password_file>{path}</password_file>");
    for (name, reference, flag, named) in
        [("variable", by_variable, "--allow-env", VARIABLE), ("file", by_file, "--secrets-dir", path.as_str())]
    {
        let at = format!("{}/{name}", task.path);
        let xml =
            by_reference(&task, &reference).replace("dst</database_push>", &format!("dst_{name}</database_push>"));
        let launch = || scene.launch_text(&xml).task_path(&at).env(VARIABLE, PASSWORD);
        // The first worker stores the description, and is killed before it has copied everything.
        let first = launch().stop_at("piece-recorded").start();
        first.reaches("piece-recorded");
        first.kill_9();
        launch().without_task_file().run().with(2).tells(&["came from the coordinator", flag, named]);
        launch().without_task_file().verb("check").run().with(2).reports(&["came from the coordinator", flag]);
        launch().without_task_file().verb("verify").run().with(2).tells(&["came from the coordinator", flag]);
        launch().without_task_file().verb("status").run().with(2).tells(&["came from the coordinator", flag]);
        let value = if flag == "--allow-env" { VARIABLE.to_owned() } else { file.display().to_string() };
        launch().without_task_file().args(&[flag, &value]).run().with(0).reports(&["3000 rows"]);
        launch().without_task_file().verb("verify").args(&[flag, &value]).run().with(0);
    }
}

/// The task of a repair is made from the task file, and is trusted as that is.
#[apply(both)]
fn verify_with_repair_reads_the_same_secrets_as_the_task_file(#[case] release: Release) {
    const CONDITION: &str = "COPIER_TEST_CONDITION";
    let scene = scene!(release);
    let task = task(&scene);
    let xml = task.xml().replace("</hits>", &format!("<where_condition from_env=\"{CONDITION}\"/></hits>"));
    let launch = || scene.launch_text(&xml).env(CONDITION, "id < 2000");
    launch().run().with(0).reports(&["2000 rows"]);
    scene.insert(1, &format!("INSERT INTO {dst}.hits SELECT * FROM {dst}.hits WHERE id = 7", dst = scene.dst));
    launch().verb("verify").run().with(4);
    launch().verb("verify").args(&["--repair"]).run().with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "2000");
}

/// Returns whether a connection has arrived since the last call.
fn was_called(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

#[apply(both)]
fn a_foreign_description_in_zookeeper_cannot_send_secrets_to_its_host(#[case] release: Release) {
    let scene = scene!(release);
    let own = task(&scene);
    let stranger = scene.unused_host(77);
    let listener = TcpListener::bind((stranger.as_str(), 8123)).unwrap();
    let planted = by_reference(&own, &format!("<password from_env=\"{VARIABLE}\"/>"))
        .replace(&format!("<host>{}</host>", scene.server(1).host()), &format!("<host>{stranger}</host>"));
    plant(&scene, release, &planted);
    let worker = || scene.launch_text(&planted).without_task_file().env(VARIABLE, PASSWORD);
    worker().run().with(2).tells(&["--allow-env"]);
    assert!(!was_called(&listener));
    // With permission the password is sent, which shows that the host is reachable.
    worker().args(&["--allow-env", VARIABLE, "--retry-delay-ms=100"]).start().says(&stranger);
    assert!(was_called(&listener));
}

/// Writes a description into ZooKeeper, as anyone with access to ZooKeeper can.
#[tokio::main(flavor = "current_thread")]
async fn plant(scene: &Scene, release: Release, text: &str) {
    let session = zookeeper_session(release).await;
    let mut path = String::new();
    for name in scene.task_path().split('/').skip(1) {
        path = format!("{path}/{name}");
        match session.commit(vec![Op::create(&path, "")]).await {
            Err(error) if error.conflict() != Some(Conflict::Exists) => panic!("{error}"),
            _ => {}
        }
    }
    session.commit(vec![Op::create(format!("{path}/description"), text)]).await.unwrap();
    session.close().await;
}
