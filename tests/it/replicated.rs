//! Paths of Replicated tables in ZooKeeper: macros, identities, and whose replicas meet there.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS, fill, rows};
use crate::harness::{Scene, scene};

const KEYS: &str = "PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Path and replicas' names of the target table on a server.
fn seat(scene: &Scene, server: usize) -> (String, String) {
    let sql = format!(
        "SELECT zookeeper_path, total_replicas FROM system.replicas WHERE database = '{}' AND table = 'hits'",
        scene.dst
    );
    let line = scene.ask(server, &sql);
    let (path, replicas) = line.split_once('\t').expect("one replica");
    (path.to_owned(), replicas.to_owned())
}

/// A Replicated source table on server 0, with 5000 rows.
fn replicated_source(scene: &Scene, path: &str) {
    let engine = format!("ENGINE = ReplicatedMergeTree('{path}', '{{replica}}') {KEYS}");
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 5000, 2)));
}

#[apply(both)]
fn a_new_table_does_not_join_the_sources(#[case] release: Release) {
    let scene = scene!(release);
    let path = format!("/tables/{}/source", scene.name());
    replicated_source(&scene, &path);
    // The source's engine, since the task names none; and the same path written into the task by mistake.
    let taken_over = scene.table("hits");
    let written = scene.table("hits").engine(&format!("ReplicatedMergeTree('{path}', 'another') {KEYS}"));
    for (at, table) in [("taken-over", taken_over), ("written", written)] {
        let task = scene.task(&[&[0]], &[&[1]]).at(at).with(table);
        let ended = scene.run(&task).with(1);
        ended.tells(&["replicas of another table", "would join", &path]);
        assert_eq!(scene.children(&format!("{path}/replicas")).unwrap().len(), 1, "{at}");
    }
    assert_eq!(scene.ask(0, &format!("SELECT count() FROM {}.hits", scene.src)), "5000");
}

#[apply(both)]
fn the_identity_in_the_sources_path_is_not_taken_over(#[case] release: Release) {
    let scene = scene!(release);
    let theirs = "0f1e2d3c-1111-2222-3333-444455556666";
    replicated_source(&scene, &format!("/tables/{}/{theirs}/{{shard}}", scene.name()));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    let (path, replicas) = seat(&scene, 1);
    let start = format!("/tables/{}/", scene.name());
    assert!(path.starts_with(&start) && !path.contains(theirs) && replicas == "1", "{path}");
    assert_eq!(path[start.len()..].split('/').next().unwrap().len(), 36, "{path}");
}

#[apply(both)]
fn what_stands_for_the_table_is_written_out_once_for_all_nodes(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    // Two replicas of one shard, so without {shard}, which differs between them.
    let path = format!("/tables/{}/{{database}}.{{table}}/{{uuid}}", scene.name());
    let engine = format!("ReplicatedMergeTree('{path}', '{{replica}}') {KEYS}");
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(scene.table("hits").engine(&engine));
    scene.run(&task).with(0);
    scene.check(&task);
    let (one, two) = (seat(&scene, 1), seat(&scene, 2));
    assert_eq!(one, two);
    let start = format!("/tables/{}/{}.hits/", scene.name(), scene.dst);
    assert!(one.0.starts_with(&start) && one.0.len() == start.len() + 36 && one.1 == "2", "{one:?}");
}

#[apply(both)]
fn without_arguments_the_path_is_the_usual_one(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let hits = scene.table("hits").engine(&format!("ReplicatedMergeTree {KEYS}")).sharding_key("id");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    scene.run(&task).with(0);
    scene.check(&task);
    let (one, two) = (seat(&scene, 1).0, seat(&scene, 2).0);
    let identity = |path: &str| path.strip_prefix("/clickhouse/tables/").unwrap()[..36].to_owned();
    assert_eq!(identity(&one), identity(&two));
    assert_ne!(one, two, "each shard has its own");
}

#[apply(both)]
fn shards_that_would_be_replicas_of_each_other_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let engine = format!("ReplicatedMergeTree('/tables/{}', '{{replica}}') {KEYS}", scene.name());
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(scene.table("hits").engine(&engine).sharding_key("id"));
    scene.run(&task).with(2).tells(&["shards 1 and 2 would have the same path", "{shard}"]);
    assert_eq!(scene.children(&format!("/tables/{}", scene.name())), None);
    // The same when one of them is there already.
    scene.on(&[1], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1], &format!("CREATE TABLE {}.hits {COLUMNS} ENGINE = {engine}", scene.dst));
    scene.run(&task).with(2).tells(&["shards 1 and 2 would have the same path"]);
    assert_eq!(seat(&scene, 1).1, "1");
}

#[apply(both)]
fn replicas_of_a_shard_that_would_never_meet_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    // Each server of the laboratory has a {shard} of its own: these two cannot be replicas of one.
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(scene.table("hits").engine(&format!("ReplicatedMergeTree {KEYS}")));
    let told = ["replicas of shard 1", "so that none would fetch", scene.server(1).host(), scene.server(2).host()];
    scene.launch(&task).verb("check").run().with(2).reports(&told);
    scene.run(&task).with(2).tells(&told);
    let made = format!("SELECT count() FROM system.databases WHERE name = '{}'", scene.dst);
    assert_eq!(scene.sum(&[1, 2], &made), 0);
}
