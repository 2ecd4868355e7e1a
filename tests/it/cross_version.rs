//! Copies from modern servers to old ones and between modern ones: behaviour that depends on two releases, or on a sharding key in
//! `remote()`.

use std::collections::BTreeMap;
use std::fs;

use lab::{Certificate, ClickHouse, Lab, LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Task, cluster_of_shards, scene};

const MONTHLY: &str = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";
const ROWS: &str = "SELECT toDate('2018-01-15') + number % 60, number FROM numbers(3000)";

/// A table `hits` on the source.
fn fill(scene: &Scene, source: &ClickHouse, engine: &str) {
    source.query(&format!("CREATE DATABASE IF NOT EXISTS {}", scene.src)).unwrap();
    source.query(&format!("CREATE TABLE {}.hits (d Date, id UInt64) {engine}", scene.src)).unwrap();
    source.query(&format!("INSERT INTO {}.hits {ROWS}", scene.src)).unwrap();
}

fn task(scene: &Scene, source: &ClickHouse, name: &str, transfer: &str) -> Task {
    let table = scene.table("hits").to(&scene.database(name), "hits").with("transfer", transfer);
    let (source, target) = (cluster_of_shards("source", &[source]), cluster_of_shards("target", &[scene.server(0)]));
    Task::new(scene.task_path(), source, target).at(name).with(table)
}

fn arrived(scene: &Scene, name: &str) -> String {
    scene.ask(0, &format!("SELECT count(), sum(id) FROM {}.hits", scene.database(name)))
}

/// 18.16 knows few settings of tables.
#[test]
fn table_settings_unknown_to_the_target_are_left_out() {
    let scene = scene!(Release::V18_16);
    let source = Lab::shared(Release::V25_8).clickhouse(0);
    let settings = "SETTINGS index_granularity = 1024, ttl_only_drop_parts = 1, min_bytes_for_wide_part = 0";
    fill(&scene, source, &format!("{MONTHLY} {settings}"));
    let ended = scene.run(&task(&scene, source, "made", "relay")).with(0);
    ended.tells(&["left out", "the setting ttl_only_drop_parts", "the setting min_bytes_for_wide_part"]);
    assert_eq!(arrived(&scene, "made"), "3000\t4498500");
    let made = format!("SELECT engine_full FROM system.tables WHERE database = '{}'", scene.database("made"));
    assert!(scene.ask(0, &made).ends_with("SETTINGS index_granularity = 1024"), "{}", scene.ask(0, &made));
    // Settings in the task's own `<engine>` are not left out.
    let mut own = task(&scene, source, "own", "relay");
    own.tables[0] = own.tables[0].clone().engine(&format!("{MONTHLY} {settings}"));
    scene.run(&own).with(1).tells(&["ttl_only_drop_parts"]);
}

/// The profile of the account shows deleted rows; they are not copied.
#[apply(both)]
fn deleted_rows_are_not_copied_when_the_profile_shows_them(#[case] release: Release) {
    let scene = scene!(release);
    let spec = LabSpec {
        zookeeper: false,
        settings: vec![("apply_deleted_mask".into(), "0".into())],
        ..LabSpec::of(Release::V25_8, 1) // 18.16 deletes no rows in this way
    };
    let lab = Lab::start(spec).unwrap();
    let source = lab.clickhouse(0);
    fill(&scene, source, MONTHLY);
    source.query(&format!("DELETE FROM {}.hits WHERE id % 3 = 0 SETTINGS apply_deleted_mask = 1", scene.src)).unwrap();
    let shown = format!("SELECT count() FROM {}.hits", scene.src);
    assert_eq!(source.value(&shown).unwrap(), "3000");
    scene.run(&task(&scene, source, "alive", "relay")).with(0).reports(&["equal"]);
    assert_eq!(arrived(&scene, "alive"), "2000\t3000000");
}

/// The servers speak TLS to each other, with the account and address of the task, or with those of a collection.
/// 18.16 has no named collections.
#[test]
fn rows_are_pushed_over_tls_and_with_a_named_collection() {
    let scene = scene!(own LabSpec {
        secure: BTreeMap::from([(0, Certificate::Good), (1, Certificate::Good)]),
        ..LabSpec::of(Release::V25_8, 2)
    });
    let (source, target) = (scene.server(1), scene.server(0));
    let trusted = format!("<caConfig>{}</caConfig>", scene.lab().authority().display());
    let keeper = scene.keeper_text("");
    let openssl = format!("</zookeeper><openSSL><client>{trusted}</client></openSSL>");
    fs::write(scene.keeper_xml(), keeper.replace("</zookeeper>", &openssl)).unwrap();
    fill(&scene, source, MONTHLY);
    let replica = |more: &str| format!("{}</host><secure>1</secure>{more}", target.host());
    let run = |name: &str, more: &str| {
        let task = task(&scene, source, name, "push");
        let xml = task.xml().replace(&format!("{}</host>", target.host()), &replica(more));
        scene.launch_text(&xml).task_path(&task.path).run()
    };
    run("secure", "").with(0).reports(&["equal"]);
    assert_eq!(arrived(&scene, "secure"), "3000\t4498500");

    // No server listens on the port in the task. Only the collection has the right address.
    let nowhere = "<port>1</port><named_collection>the target</named_collection>";
    run("missing", nowhere).with(1).tells(&["push does not work", "knows no named collection the target"]);
    let address = format!("{}:9440", target.host());
    source.query(&format!("CREATE NAMED COLLECTION `the target` AS host = '{address}', user = 'default'")).unwrap();
    run("named", nowhere).with(0).reports(&["equal"]);
    assert_eq!(arrived(&scene, "named"), "3000\t4498500");
}

/// What a sharding key of `remote()` does with rows is what the worker does with them, and a filter for each shard: each server
/// gets the same ones, with weights too.
/// 18.16's `remote()` takes no sharding key.
#[test]
fn one_insert_for_all_target_shards_distributes_rows_like_a_relay() {
    let scene = scene!(Release::V25_8);
    let source = scene.server(3);
    fill(&scene, source, MONTHLY);
    let targets = [0, 1, 2].map(|number| scene.server(number));
    for (key_name, key) in [("id", "id"), ("hash", "intHash32(id)"), ("signed", "toInt32(id) - 1500"), ("one", "7")] {
        let mut found = Vec::new();
        for way in ["push", "relay"] {
            let name = format!("{key_name}_{way}");
            let table = scene.table("hits").to(&scene.database(&name), "hits").with("transfer", way).sharding_key(key);
            let clusters = (cluster_of_shards("source", &[source]), cluster_of_shards("target", &targets));
            let task = Task::new(scene.task_path(), clusters.0, clusters.1).at(&name).with(table).weights(&[2, 1, 3]);
            scene.run(&task).with(0).reports(&["equal"]);
            let database = scene.database(&name);
            let digest = format!("SELECT count(), sum(cityHash64(d, id)) FROM {database}.hits");
            found.push([0, 1, 2].map(|server| scene.ask(server, &digest)));
            if key == "id" {
                // `remote()` has each address once for each unit of weight, and sends as many INSERTs. A relay sends one INSERT to
                // each target, and so would a filter.
                scene.on(&[0, 1, 2], "SYSTEM FLUSH LOGS");
                let inserts = "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'INSERT INTO";
                let inserts = scene.sum(&[0, 1, 2], &format!("{inserts}%{database}%copier%'"));
                assert_eq!(inserts, if way == "push" { 6 } else { 3 });
            }
        }
        assert_eq!(found[0], found[1], "{key}");
    }
}
