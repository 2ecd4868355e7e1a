//! The laboratory itself: its servers answer, can be killed and started again, know their users and clusters.

use std::sync::mpsc;
use std::time::Duration;

use lab::{Lab, LabSpec, ODD_PASSWORD, SHARED_SERVERS};

#[test]
fn shared_servers_answer_and_replicate() {
    let lab = Lab::shared();
    assert_eq!(lab.servers().len(), SHARED_SERVERS);
    for server in lab.servers() {
        let table = "ENGINE = ReplicatedMergeTree('/lab/answer', '{replica}') ORDER BY a";
        server.query(&format!("CREATE TABLE default.answer (a UInt8) {table}")).unwrap();
    }
    lab.clickhouse(0).query("INSERT INTO default.answer VALUES (42)").unwrap();
    for server in lab.servers() {
        server.query("SYSTEM SYNC REPLICA default.answer").unwrap();
        assert_eq!(server.value("SELECT a FROM default.answer").unwrap(), "42");
    }
}

#[test]
fn accounts_are_as_described() {
    let server = Lab::shared().clickhouse(0);
    server.query("CREATE DATABASE accounts").unwrap();
    server.query("CREATE TABLE accounts.t (a UInt8) ENGINE = Memory").unwrap();
    assert_eq!(server.query_as("tester", ODD_PASSWORD, "SELECT 'ё\t'").unwrap(), "ё\\t\n");
    let code = |user, password, sql| server.query_as(user, password, sql).unwrap_err().code();
    assert_eq!(code("tester", "wrong", "SELECT 1"), Some(193));
    assert_eq!(code("readonly", "", "INSERT INTO accounts.t VALUES (1)"), Some(164));
    assert_eq!(server.query_as("readonly", "", "SELECT count() FROM accounts.t").unwrap(), "0\n");
    assert_eq!(code("nodb", "", "SELECT count() FROM accounts.t"), Some(291));
}

#[test]
fn an_error_in_the_middle_of_a_result_is_an_error() {
    let sql = "SELECT throwIf(number = 1000000) FROM numbers(2000000) SETTINGS max_block_size = 1000";
    let error = Lab::shared().clickhouse(0).query(sql).unwrap_err();
    assert_eq!(error.code(), Some(395), "{error}");
}

#[test]
fn a_killed_server_starts_again_with_its_data() {
    let lab = Lab::start(LabSpec::default()).unwrap();
    let server = lab.clickhouse(0);
    let engine = "ENGINE = ReplicatedMergeTree('/lab/t', '{replica}') ORDER BY a";
    server.query(&format!("CREATE TABLE default.t (a UInt8) {engine}")).unwrap();
    server.query("INSERT INTO default.t VALUES (1), (2)").unwrap();

    let killed = server.pid().unwrap();
    server.kill_9().unwrap();
    assert_eq!(server.pid(), None);
    assert!(server.query("SELECT 1").is_err());
    assert!(server.kill_9().is_err());
    lab.zookeeper().kill_9().unwrap();

    lab.zookeeper().start().unwrap();
    server.start().unwrap();
    assert_ne!(server.pid(), Some(killed));
    assert_eq!(server.value("SELECT count() FROM default.t").unwrap(), "2");
    let recorded =
        format!("SELECT count() FROM system.zookeeper WHERE path = '/lab/t/replicas/{}/parts'", server.host());
    assert_eq!(server.value(&recorded).unwrap(), "1");

    server.freeze().unwrap();
    server.stop().unwrap();
    server.start().unwrap();
    assert_eq!(server.value("SELECT count() FROM default.t").unwrap(), "2");
}

#[test]
fn a_frozen_server_answers_when_it_is_thawed() {
    let lab = Lab::start(LabSpec { zookeeper: false, ..LabSpec::default() }).unwrap();
    let server = lab.clickhouse(0);
    server.freeze().unwrap();
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(server.query("SELECT 1")).unwrap());
        assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "a frozen server answered");
        server.thaw().unwrap();
        assert_eq!(told.recv().unwrap().unwrap(), "1\n");
    });
}

#[test]
fn clusters_can_be_defined_while_servers_run() {
    let lab = Lab::start(LabSpec { zookeeper: false, clickhouse: 2, ..LabSpec::default() }).unwrap();
    for server in lab.servers() {
        server.query("CREATE TABLE default.t (a UInt8) ENGINE = MergeTree ORDER BY a").unwrap();
    }
    let mut both = lab.cluster("both", &[&[0], &[1]]);
    both.shards[1].weight = 2;
    lab.define_cluster(&both).unwrap();
    lab.define_cluster(&lab.cluster("second", &[&[1]])).unwrap();

    let server = lab.clickhouse(0);
    assert_eq!(server.query("SELECT DISTINCT cluster FROM system.clusters ORDER BY 1").unwrap(), "both\nsecond\n");
    server.query("CREATE TABLE default.d AS default.t ENGINE = Distributed(both, default, t, a)").unwrap();
    let rows = "INSERT INTO default.d SELECT number FROM numbers(6)";
    server.query_with(&[("insert_distributed_sync", "1")], rows).unwrap();
    assert_eq!(lab.clickhouse(1).value("SELECT count() FROM default.t").unwrap(), "4");
}

#[test]
fn laboratories_stand_side_by_side_and_leave_nothing_behind() {
    let spec = || LabSpec { zookeeper: false, ..LabSpec::default() };
    let (one, two) = (Lab::start(spec()).unwrap(), Lab::start(spec()).unwrap());
    assert_ne!(one.clickhouse(0).host(), two.clickhouse(0).host());
    let (folder, host) = (one.dir().to_owned(), one.clickhouse(0).host().to_owned());
    drop(one);
    assert!(!folder.exists());
    std::net::TcpListener::bind((host.as_str(), 8123)).unwrap();
    assert_eq!(two.clickhouse(0).value("SELECT 1").unwrap(), "1");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = Lab::start(LabSpec { zookeeper: false, settings, ..LabSpec::default() }).unwrap_err();
    assert!(error.to_string().contains("ended while starting"), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
