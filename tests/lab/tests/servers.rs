//! The laboratory itself: its servers answer, can be killed and started again, know their users and clusters.

use std::sync::mpsc;
use std::time::Duration;

use lab::{Lab, LabSpec, ODD_PASSWORD, Release, SHARED_SERVERS, User};

/// The releases that are whole servers and that most tests run on.
const BOTH: [Release; 2] = [Release::V18_16, Release::V25_8];

#[test]
fn shared_servers_answer_and_replicate() {
    for release in BOTH {
        let lab = Lab::shared(release);
        assert_eq!(lab.servers().len(), SHARED_SERVERS);
        for server in lab.servers() {
            assert!(server.value("SELECT version()").unwrap().starts_with(release.name()));
            let table = "ENGINE = ReplicatedMergeTree('/lab/answer', '{replica}') ORDER BY a";
            server.query(&format!("CREATE TABLE default.answer (a UInt8) {table}")).unwrap();
        }
        lab.clickhouse(0).query("INSERT INTO default.answer VALUES (42)").unwrap();
        for server in lab.servers() {
            server.query("SYSTEM SYNC REPLICA default.answer").unwrap();
            assert_eq!(server.value("SELECT a FROM default.answer").unwrap(), "42");
        }
    }
}

#[test]
fn predefined_accounts_have_their_passwords_and_rights() {
    let codes = [(Release::V18_16, 193, 291), (Release::V25_8, 516, 497), (Release::V26_9, 516, 497)];
    for (release, wrong_password, no_access) in codes {
        let server = Lab::shared(release).clickhouse(0);
        server.query("CREATE DATABASE accounts").unwrap();
        server.query("CREATE TABLE accounts.t (a UInt8) ENGINE = Memory").unwrap();
        assert_eq!(server.query_as("tester", ODD_PASSWORD, "SELECT 'ё\t'").unwrap(), "ё\\t\n");
        let code = |user, password, sql| server.query_as(user, password, sql).unwrap_err().code();
        assert_eq!(code("tester", "wrong", "SELECT 1"), Some(wrong_password));
        assert_eq!(code("readonly", "", "INSERT INTO accounts.t VALUES (1)"), Some(164));
        assert_eq!(server.query_as("readonly", "", "SELECT count() FROM accounts.t").unwrap(), "0\n");
        assert_eq!(code("nodb", "", "SELECT count() FROM accounts.t"), Some(no_access));
    }
}

#[test]
fn query_returns_an_error_that_comes_in_the_middle_of_a_result() {
    for release in Release::ALL {
        let sql = "SELECT throwIf(number = 1000000) FROM numbers(2000000) SETTINGS max_block_size = 1000";
        let error = Lab::shared(release).clickhouse(0).query(sql).unwrap_err();
        assert_eq!(error.code(), Some(395), "{error}");
    }
}

#[test]
fn a_killed_server_starts_again_with_its_data() {
    BOTH.into_iter().for_each(killed_and_started_again);
}

fn killed_and_started_again(release: Release) {
    let lab = Lab::start(LabSpec::of(release, 1)).unwrap();
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
fn a_server_without_zookeeper_starts_again_with_its_data() {
    let lab = Lab::start(LabSpec { zookeeper: false, ..LabSpec::of(Release::V26_9, 1) }).unwrap();
    let server = lab.clickhouse(0);
    server.query("CREATE DATABASE here").unwrap();
    server.query("CREATE TABLE here.t (a UInt64) ENGINE = MergeTree ORDER BY a").unwrap();
    server.query("INSERT INTO here.t SELECT number FROM numbers(1000)").unwrap();
    server.kill_9().unwrap();
    assert!(server.query("SELECT 1").is_err());
    server.start().unwrap();
    assert_eq!(server.value("SELECT count() FROM here.t").unwrap(), "1000");
    server.stop().unwrap();
    server.start().unwrap();
    assert_eq!(server.value("SELECT sum(a) FROM here.t").unwrap(), "499500");
}

#[test]
fn servers_of_several_releases_run_side_by_side() {
    let lab = Lab::start(LabSpec::mixed(&[Release::V24_8, Release::V18_16])).unwrap();
    for server in lab.servers() {
        assert!(server.value("SELECT version()").unwrap().starts_with(server.release().name()));
    }
    let remote = format!("SELECT count() FROM remote('{}', system.one)", lab.clickhouse(0).native());
    assert_eq!(lab.clickhouse(0).value(&remote).unwrap(), "1");
}

#[test]
fn servers_get_the_given_grants_time_zones_and_settings() {
    let reader = User { grants: vec!["GRANT SELECT ON *.*".to_owned()], ..User::new("reader", "r") };
    let careful =
        User { settings: vec![("max_execution_time".to_owned(), "77".to_owned())], ..User::new("careful", "") };
    for release in BOTH {
        let lab = Lab::start(LabSpec {
            zookeeper: false,
            users: vec![reader.clone(), careful.clone()],
            time_zones: [(0, "Asia/Shanghai".to_owned())].into(),
            server: vec![("max_table_size_to_drop".to_owned(), "100000".to_owned())],
            ..LabSpec::of(release, 1)
        });
        let lab = lab.unwrap();
        let server = lab.clickhouse(0);
        assert_eq!(server.value("SELECT timezone()").unwrap(), "Asia/Shanghai");
        let limit = "SELECT value FROM system.settings WHERE name = 'max_execution_time'";
        assert_eq!(server.query_as("careful", "", limit).unwrap(), "77\n");
        let create = server.query_as("reader", "r", "CREATE DATABASE of_reader");
        assert_eq!(create.is_err(), release.is_modern());
    }
}

#[test]
fn a_frozen_server_answers_when_it_is_thawed() {
    let lab = Lab::start(LabSpec { zookeeper: false, ..LabSpec::of(Release::V25_8, 1) }).unwrap();
    let server = lab.clickhouse(0);
    server.freeze().unwrap();
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(server.query("SELECT 1")).unwrap());
        let early = told.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "a frozen server answered: {early:?}");
        server.thaw().unwrap();
        assert_eq!(told.recv().unwrap().unwrap(), "1\n");
    });
}

#[test]
fn clusters_can_be_defined_while_servers_run() {
    let lab = Lab::start(LabSpec { zookeeper: false, ..LabSpec::of(Release::V25_8, 2) }).unwrap();
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
fn laboratories_run_side_by_side_and_leave_nothing_behind() {
    let spec = || LabSpec { zookeeper: false, ..LabSpec::of(Release::V25_8, 1) };
    let (one, two) = (Lab::start(spec()).unwrap(), Lab::start(spec()).unwrap());
    assert_ne!(one.clickhouse(0).host(), two.clickhouse(0).host());
    let (folder, pid) = (one.dir().to_owned(), one.clickhouse(0).pid().unwrap());
    drop(one);
    assert!(!folder.exists());
    assert!(!std::path::Path::new("/proc").join(pid.to_string()).exists());
    assert_eq!(two.clickhouse(0).value("SELECT 1").unwrap(), "1");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = Lab::start(LabSpec { zookeeper: false, settings, ..LabSpec::of(Release::V25_8, 1) }).unwrap_err();
    assert!(error.to_string().contains("ended while starting"), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
