//! Paths of Replicated tables in ZooKeeper: macros, identities, and whose replicas meet there.

use lab::{LabSpec, Macros, Release};
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

/// A database whose statements are repeated on all of its servers. 18.16 has none.
#[test]
fn a_replicated_database_takes_one_shard_and_refuses_several() {
    let scene = scene!(Release::V25_8);
    fill(&scene, &[0], BY_MONTH, 1000, 2);
    let path = format!("/it/{}", scene.dst);
    for (server, database) in [(1, "one"), (3, "two"), (4, "two")] {
        let name = scene.database(database);
        let engine =
            format!("Replicated('{path}/{database}', '{}', 'r{server}')", if server == 4 { "s2" } else { "s1" });
        scene.ask(server, &format!("CREATE DATABASE {name} ENGINE = {engine}"));
    }
    let engine = "ENGINE = ReplicatedMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    let to =
        |name: &str, database: &str| scene.table(name).from(&scene.src, "hits").to(&scene.database(database), "hits");
    let several = scene.task(&[&[0]], &[&[3], &[4]]).at("two").with(to("two", "two").sharding_key("id").engine(engine));
    for verb in ["check", "run"] {
        let launch = scene.launch(&several);
        let ended = if verb == "check" { launch.verb(verb).run() } else { launch.run() }.with(1);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("is of engine Replicated, and the target has several shards"), "{said}");
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

/// Both replicas of the only shard. What is made for the copy is repeated on both, and goes on both. 18.16 has no such databases.
#[test]
fn a_replicated_database_of_two_replicas_gets_all_rows_on_both() {
    let macros = |shard: &str, server: usize| (server, Macros { shard: shard.into(), replica: format!("r{server}") });
    let macros = [macros("a", 0), macros("a", 1), macros("b", 2)].into();
    let scene = scene!(own LabSpec { macros, ..LabSpec::of(Release::V25_8, 3) });
    fill(&scene, &[0, 1], BY_MONTH, 3000, 2);
    let engine = "ENGINE = ReplicatedMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
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
