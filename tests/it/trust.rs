//! A description that somebody else put into the coordinator does not get secrets of this machine.

use std::net::TcpListener;
use std::time::Duration;

use clickhouse_copier::coordinator::{Conflict, Coordinator, Op, ZooKeeperCoordinator, ZooKeeperOptions};
use clickhouse_copier::model::Tls;
use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, fill};
use crate::harness::{Scene, Task, scene};
use crate::zookeeper_hosts;

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

/// What a worker does that is started without the task's own file, and the verbs with it.
#[apply(both)]
fn a_description_from_zookeeper_reads_what_the_operator_allows(#[case] release: Release) {
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
        // One brings the description, and stops before it has copied everything.
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
fn a_repair_reads_what_the_task_file_reads(#[case] release: Release) {
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

/// Whether somebody has connected since this was asked last.
fn was_called(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_ok()
}

#[apply(both)]
fn a_planted_description_gets_no_secret_to_its_host(#[case] release: Release) {
    let scene = scene!(release);
    let own = task(&scene);
    let stranger = scene.server(0).host().rsplit_once('.').map(|(block, _)| format!("{block}.77")).unwrap();
    let listener = TcpListener::bind((stranger.as_str(), 8123)).unwrap();
    let planted = by_reference(&own, &format!("<password from_env=\"{VARIABLE}\"/>"))
        .replace(&format!("<host>{}</host>", scene.server(1).host()), &format!("<host>{stranger}</host>"));
    plant(&scene, release, &planted);
    let worker = || scene.launch_text(&planted).without_task_file().env(VARIABLE, PASSWORD);
    worker().run().with(2).tells(&["--allow-env"]);
    assert!(!was_called(&listener));
    // What the operator allows is sent there, which shows that the host would have got it.
    worker().args(&["--allow-env", VARIABLE, "--retry-delay-ms=100"]).start().says(&stranger);
    assert!(was_called(&listener));
}

/// Puts a description into ZooKeeper, as anybody can who reaches it.
#[tokio::main(flavor = "current_thread")]
async fn plant(scene: &Scene, release: Release, text: &str) {
    let options = ZooKeeperOptions {
        hosts: zookeeper_hosts(release),
        secure: false,
        tls: Tls::default(),
        session_timeout: Duration::from_secs(20),
        root: None,
        identity: None,
    };
    let session = ZooKeeperCoordinator::new(options).session().await.unwrap();
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
