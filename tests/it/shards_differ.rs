//! Source tables that are not the same on every server.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, scene};

/// Makes a table of 100 rows on servers 0 and 1, each with its own engine.
fn fill(scene: &Scene, name: &str, engines: [&str; 2]) {
    for (server, engine) in engines.into_iter().enumerate() {
        scene.ask(server, &format!("CREATE TABLE {}.{name} (id UInt64, v UInt32) ENGINE = {engine}", scene.src));
        let rows = format!("SELECT number + {server} * 1000, 1 FROM system.numbers LIMIT 100");
        scene.ask(server, &format!("INSERT INTO {}.{name} {rows}", scene.src));
    }
}

const BY_TEN: &str = "MergeTree PARTITION BY id % 10 ORDER BY id";

#[apply(both)]
fn source_shards_with_different_keys_or_engines_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, "key", [BY_TEN, "MergeTree PARTITION BY id % 5 ORDER BY id"]);
    fill(&scene, "keyless", [BY_TEN, "MergeTree ORDER BY id"]);
    fill(&scene, "engine", [BY_TEN, "Log"]);
    fill(&scene, "made", [BY_TEN, "MergeTree PARTITION BY id % 10 ORDER BY (id, v)"]);
    fill(&scene, "merging", [BY_TEN, "ReplacingMergeTree PARTITION BY id % 10 ORDER BY id"]);
    let mut shards = scene.task(&[&[0], &[1]], &[&[2]]).at("shards");
    for name in ["key", "keyless", "engine"] {
        shards = shards.with(scene.table(name).engine(BY_TEN).with("batch_bytes", "200"));
    }
    // Without an engine of their own, targets are made after the source.
    for name in ["made", "merging"] {
        shards = shards.with(scene.table(name));
    }
    let expected: [(&str, &[&str]); 5] = [
        ("key", &["differs between", "PARTITION BY", "id % 10", "id % 5"]),
        ("keyless", &["differs between", "PARTITION BY", "none"]),
        ("engine", &["differs between", "ENGINE", "Log"]),
        ("made", &["differs between", "ORDER BY", "<engine>"]),
        ("merging", &["differs between", "ENGINE", "<engine>"]),
    ];
    scene.refuses(&shards, 1, &expected);
    let replicas = scene.task(&[&[0, 1]], &[&[2]]).at("replicas").with(scene.table("key").engine(BY_TEN));
    scene.refuses(&replicas, 1, &[expected[0]]);
}

#[apply(both)]
fn source_shards_may_differ_in_sorting_key_and_merging(#[case] release: Release) {
    let scene = scene!(release);
    let more = "MergeTree PARTITION BY (id % 10) ORDER BY (v, id) SETTINGS index_granularity = 1024";
    fill(&scene, "sorted", [BY_TEN, more]);
    fill(&scene, "merging", [BY_TEN, "ReplacingMergeTree PARTITION BY id % 10 ORDER BY id"]);
    let mut task = scene.task(&[&[0], &[1]], &[&[2]]);
    for name in ["sorted", "merging"] {
        task = task.with(scene.table(name).engine(BY_TEN).with("batch_bytes", "200"));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    for name in ["sorted", "merging"] {
        assert_eq!(scene.ask(2, &format!("SELECT count(), uniqExact(id) FROM {}.{name}", scene.dst)), "200\t200");
    }
}
