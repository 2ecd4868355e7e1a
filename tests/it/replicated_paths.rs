//! Paths of Replicated tables in ZooKeeper: macros, UUIDs, and which tables become replicas of each other.

use lab::{LabSpec, Macros, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, MONTHLY_KEYS, Scene, fill, rows, scene};

/// Returns the path and the number of replicas of the target table on a server.
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
    let engine = format!("ENGINE = ReplicatedMergeTree('{path}', '{{replica}}') {MONTHLY_KEYS}");
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 5000, 2)));
}

#[apply(both)]
fn a_new_target_table_does_not_become_a_replica_of_the_source(#[case] release: Release) {
    let scene = scene!(release);
    let path = format!("/tables/{}/source", scene.name());
    replicated_source(&scene, &path);
    // First the task names no engine, so the source's engine is used; then the task has the same path by mistake.
    let taken_over = scene.table("hits");
    let written = scene.table("hits").engine(&format!("ReplicatedMergeTree('{path}', 'another') {MONTHLY_KEYS}"));
    for (at, table) in [("taken-over", taken_over), ("written", written)] {
        let task = scene.task(&[&[0]], &[&[1]]).at(at).with(table);
        let ended = scene.run(&task).with(1);
        ended.tells(&["replicas of another table", "would join", &path]);
        assert_eq!(scene.children(&format!("{path}/replicas")).unwrap().len(), 1, "{at}");
    }
    assert_eq!(scene.ask(0, &format!("SELECT count() FROM {}.hits", scene.src)), "5000");
}

#[apply(both)]
fn a_uuid_in_the_source_path_is_replaced_by_a_new_one(#[case] release: Release) {
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
fn database_table_and_uuid_macros_are_expanded_alike_on_all_replicas(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    // Two replicas of one shard, so without {shard}, which differs between them.
    let path = format!("/tables/{}/{{database}}.{{table}}/{{uuid}}", scene.name());
    let engine = format!("ReplicatedMergeTree('{path}', '{{replica}}') {MONTHLY_KEYS}");
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(scene.table("hits").engine(&engine));
    scene.run(&task).with(0);
    scene.check(&task);
    let (one, two) = (seat(&scene, 1), seat(&scene, 2));
    assert_eq!(one, two);
    let start = format!("/tables/{}/{}.hits/", scene.name(), scene.dst);
    assert!(one.0.starts_with(&start) && one.0.len() == start.len() + 36 && one.1 == "2", "{one:?}");
}

#[apply(both)]
fn a_replicated_engine_without_arguments_gets_the_default_path(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let hits = scene.table("hits").engine(&format!("ReplicatedMergeTree {MONTHLY_KEYS}")).sharding_key("id");
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
    let engine = scene.replicated_engine("");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(scene.table("hits").engine(&engine).sharding_key("id"));
    scene.run(&task).with(2).tells(&["shards 1 and 2 would have the same path", "{shard}"]);
    assert_eq!(scene.children(&format!("/tables/{}", scene.name())), None);
    // The same if one of the tables exists already.
    scene.on(&[1], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1], &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.dst));
    scene.run(&task).with(2).tells(&["shards 1 and 2 would have the same path"]);
    assert_eq!(seat(&scene, 1).1, "1");
}

#[apply(both)]
fn replicas_of_a_shard_with_different_paths_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    // Each server of the laboratory has a {shard} of its own: these two cannot be replicas of one.
    let task = scene
        .task(&[&[0]], &[&[1, 2]])
        .with(scene.table("hits").engine(&format!("ReplicatedMergeTree {MONTHLY_KEYS}")));
    let words = ["replicas of shard 1", "so that none would fetch", scene.server(1).host(), scene.server(2).host()];
    scene.launch(&task).verb("check").run().with(2).reports(&words);
    scene.run(&task).with(2).tells(&words);
    scene.check_no_database();
}

/// A database whose statements are repeated on all of its servers. 18.16 has none.
#[test]
fn a_replicated_database_accepts_one_target_shard_and_refuses_several() {
    let scene = scene!(Release::V25_8);
    fill(&scene, &[0], BY_MONTH, 1000, 2);
    let path = format!("/it/{}", scene.dst);
    for (server, database) in [(1, "one"), (3, "two"), (4, "two")] {
        let name = scene.database(database);
        let engine =
            format!("Replicated('{path}/{database}', '{}', 'r{server}')", if server == 4 { "s2" } else { "s1" });
        scene.ask(server, &format!("CREATE DATABASE {name} ENGINE = {engine}"));
    }
    let engine = &format!("ENGINE = ReplicatedMergeTree {MONTHLY_KEYS}");
    let to =
        |name: &str, database: &str| scene.table(name).from(&scene.src, "hits").to(&scene.database(database), "hits");
    let several = scene.task(&[&[0]], &[&[3], &[4]]).at("two").with(to("two", "two").sharding_key("id").engine(engine));
    for verb in ["check", "run"] {
        let launch = scene.launch(&several);
        let ended = if verb == "check" { launch.verb(verb).run() } else { launch.run() }.with(1);
        let output = format!("{}{}", ended.stdout, ended.stderr);
        assert!(output.contains("is of engine Replicated, and the target has several shards"), "{output}");
    }
    assert_eq!(
        scene.sum(&[3, 4], &format!("SELECT count() FROM system.tables WHERE database = '{}'", scene.database("two"))),
        0
    );

    let one = scene.task(&[&[0]], &[&[1]]).at("one").with(to("one", "one").engine(engine));
    scene.run(&one).with(0);
    let rows = scene.ask(1, &format!("SELECT count(), sum(id) FROM {}.hits", scene.database("one")));
    assert_eq!(rows, "1000\t499500");
}

/// The target is a shard with two replicas in a Replicated database, which repeats CREATE and DROP on both. 18.16 has no such
/// databases.
#[test]
fn both_replicas_of_a_replicated_database_get_all_rows() {
    let macros = |shard: &str, server: usize| (server, Macros { shard: shard.into(), replica: format!("r{server}") });
    let macros = [macros("a", 0), macros("a", 1), macros("b", 2)].into();
    let scene = scene!(own LabSpec { macros, ..LabSpec::of(Release::V25_8, 3) });
    fill(&scene, &[0, 1], BY_MONTH, 3000, 2);
    let engine = &format!("ENGINE = ReplicatedMergeTree {MONTHLY_KEYS}");
    for (database, others) in [("alike", [0, 1]), ("unlike", [1, 2])] {
        let name = scene.database(database);
        for server in others {
            let engine = format!("Replicated('/it/{name}', 's', 'r{server}')");
            scene.ask(server, &format!("CREATE DATABASE {name} ENGINE = {engine}"));
        }
    }
    for transfer in ["push", "pull", "relay"] {
        let name = format!("hits_{transfer}");
        let hits = scene.table(&name).from(&scene.src, "hits").to(&scene.database("alike"), &name).engine(engine);
        let task = scene.task(&[&[0], &[1]], &[&[0, 1]]).at(transfer).with(hits.with("transfer", transfer));
        scene.run(&task).with(0);
        scene.check(&task);
    }
    // The servers' own default path has their {shard}: two tables of one name.
    let hits = scene.table("hits").to(&scene.database("unlike"), "hits").engine(engine);
    let task = scene.task(&[&[0]], &[&[1, 2]]).at("unlike").with(hits);
    scene.run(&task).with(1).tells(&["they are no replicas of each other", "macros"]);
}
