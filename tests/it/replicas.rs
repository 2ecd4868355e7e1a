//! Shards with several replicas, live and dead.

use std::collections::BTreeMap;

use lab::{LabSpec, Macros, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Task, Worker, fill, rows, scene};

/// Two shards of two replicas, twice: servers 0 to 3 and 4 to 7. `{shard}` counts from 0 to 3.
fn four_pairs(release: Release) -> LabSpec {
    let macros = |server: usize| Macros { shard: (server / 2).to_string(), replica: format!("r{server}") };
    let macros: BTreeMap<usize, Macros> = (0..8).map(|server| (server, macros(server))).collect();
    LabSpec { macros, ..LabSpec::of(release, 8) }
}

const REPLICATED: &str = "ENGINE = ReplicatedMergeTree('/tables/{shard}/KIND', '{replica}') \
                          PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Fills Replicated source tables on servers 0 to 3.
fn fill_pairs(scene: &Scene) {
    scene
        .on(&[0, 1, 2, 3], &format!("CREATE TABLE {}.hits {COLUMNS} {}", scene.src, REPLICATED.replace("KIND", "src")));
    for (server, from) in [(0, 0), (2, 10_000)] {
        scene.ask(server, &format!("INSERT INTO {}.hits {}", scene.src, rows(from, 10_000, 3)));
    }
    scene.on(&[1, 3], &format!("SYSTEM SYNC REPLICA {}.hits", scene.src));
}

#[apply(both)]
fn a_copy_succeeds_with_a_dead_replica_on_each_side(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    fill_pairs(&scene);
    let engine = REPLICATED.replace("KIND", "dst");
    // The replica that will be killed has the table already; the others get it from the copier.
    scene.ask(5, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(5, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.dst));
    // The first replica of a source shard and the second replica of a target shard.
    scene.server(0).kill_9().unwrap();
    scene.server(5).kill_9().unwrap();
    let hits = scene.table("hits").engine(&engine).sharding_key("id");
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5], &[6, 7]]).with(hits);
    scene.run(&task).with(0).tells(&["WARN", scene.server(5).host()]);
    scene.server(0).start().unwrap();
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 3)]);

    scene.server(5).start().unwrap();
    let table = format!("{}.hits", scene.dst);
    let digest = |server| scene.digest(&[server], "cityHash64(d, id, s, v)", &table);
    scene.eventually("the replica that was dead has all rows", || {
        let (late, other) = (digest(5), digest(4));
        if late == other { Ok(()) } else { Err(format!("{late:?} of {other:?}")) }
    });
}

#[apply(both)]
fn another_replica_is_used_when_a_target_replica_dies(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    scene.short_sessions();
    fill_pairs(&scene);
    let engine = REPLICATED.replace("KIND", "dst");
    let hits = scene.table("hits").engine(&engine).sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5], &[6, 7]]).with(hits);
    let first = scene.launch(&task).stop_at("piece-recorded").start();
    first.reaches("piece-recorded");
    first.kill_9();
    // The replica does not come back, and the rows staged on it are lost. Another replica is chosen, and they are copied again.
    scene.server(4).kill_9().unwrap();
    let ended = scene.launch(&task).args(&["--retry-delay-ms", "200"]).run().with(3).tells(&["other nodes are chosen"]);
    ended
        .tells(&["ERROR", scene.server(4).host(), "may be left there"])
        .tells(&["ERROR", "tables of the task are left"]);
    scene.server(4).start().unwrap();
    scene.run(&task).with(0);
    scene.on(&[4, 5, 6, 7], &format!("SYSTEM SYNC REPLICA {}.hits", scene.dst));
    for table in &task.tables {
        scene.check_rows(&task, table, "1");
        scene.check_replicas(&task, table);
    }
    scene.check_status(&task);
}

/// The replica is killed while a piece is copied, while the batch is gathered, during publication, and after it. It does not come
/// back. One worker of each task finishes.
#[apply(both)]
fn a_target_replica_lost_at_any_step_costs_no_row(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0], BY_MONTH, 5000, 1);
    let path = "ReplicatedMergeTree('/tables/NAME', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY id";
    // For one table the second replica fetches nothing: when the first replica is killed after publication, no replica has the rows.
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    let engine = path.replace("NAME", "unfetched");
    scene.on(&[1, 2], &format!("CREATE TABLE {}.unfetched {COLUMNS} ENGINE = {engine}", scene.dst));
    scene.ask(2, &format!("SYSTEM STOP FETCHES {}.unfetched", scene.dst));

    let points = ["staging-created", "piece-recorded", "staging-renamed", "gathered", "placed", "placed"];
    let names = ["created", "recorded", "renamed", "gathered", "placed", "unfetched"];
    let tasks = names.map(|name| {
        let hits = scene.table(name).from(&scene.src, "hits").engine(&path.replace("NAME", name));
        scene.task(&[&[0]], &[&[1, 2]]).at(name).with(hits.with("number_of_splits", "2"))
    });
    let start = |(task, point): (&Task, &str)| {
        scene.launch(task).args(&["--jobs", "1", "--retry-delay-ms", "100"]).freeze_at(point).start()
    };
    let workers: Vec<Worker> = tasks.iter().zip(points).map(start).collect();
    for (worker, point) in workers.iter().zip(points) {
        worker.freezes_at(point);
    }
    // The rows wait on the first replica.
    let lost = scene.server(1);
    lost.kill_9().unwrap();
    for worker in &workers {
        worker.thaw();
    }
    for (worker, name) in workers.into_iter().zip(names) {
        let ended = worker.ends().with(3).tells(&["ERROR", lost.host(), "copier_", "may be left there"]);
        if name != "placed" {
            ended.tells(&["WARN", lost.host(), "failed and is repeated"]).tells(&["WARN", "other nodes are chosen"]);
        }
    }
    for task in &tasks {
        scene.check(task);
    }
}

/// The target holds as many rows before as are appended: if the worker mistook one for the other, it would append none.
#[apply(both)]
fn a_target_replica_lost_before_an_append_costs_no_row(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0], BY_MONTH, 5000, 1);
    let engine = "ReplicatedMergeTree('/tables/hits', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY id";
    let target = format!("{}.hits", scene.dst);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {target} {COLUMNS} ENGINE = {engine}"));
    scene.ask(1, &format!("INSERT INTO {target} {}", rows(100_000, 5000, 1)));
    scene.ask(2, &format!("SYSTEM SYNC REPLICA {target}"));
    let hits = scene.table("hits").engine(engine).with("if_target_not_empty", "append");
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(hits);
    let worker = scene.launch(&task).args(&["--retry-delay-ms", "100"]).freeze_at("before-recorded").start();
    worker.freezes_at("before-recorded");
    let lost = scene.server(1);
    lost.kill_9().unwrap();
    worker.thaw();
    worker.ends().with(3).tells(&["WARN", lost.host(), "failed and is repeated"]).tells(&["other nodes are chosen"]);
    let row = scene.row_hash(2, &(scene.dst.clone(), "hits".to_owned()));
    let added = format!("{target} WHERE id < 100000");
    assert_eq!(scene.digest(&[2], &row, &added), scene.digest(&[0], &row, &format!("{}.hits", scene.src)));
    assert_eq!(scene.ask(2, &format!("SELECT count() FROM {target}")).trim(), "10000");
}

#[apply(both)]
fn a_shard_without_a_live_replica_is_reported(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0, 1], BY_MONTH, 1000, 1);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits"));
    scene.server(1).kill_9().unwrap();
    let ended = scene.run(&task).with(1).tells(&[scene.server(1).host()]);
    assert!(ended.took.as_secs() < 20, "{:?}", ended.took);
    scene.server(1).start().unwrap();
    scene.server(2).kill_9().unwrap();
    let ended = scene.run(&task).with(1).tells(&[scene.server(2).host()]);
    assert!(ended.took.as_secs() < 20, "{:?}", ended.took);
    scene.server(2).start().unwrap();
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_frozen_source_replica_is_replaced_by_another(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    let engine =
        "ENGINE = ReplicatedMergeTree('/tables/frozen', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    scene.on(&[0, 1], &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 5000, 2)));
    scene.ask(1, &format!("SYSTEM SYNC REPLICA {}.hits", scene.src));
    let task = scene.task(&[&[0, 1]], &[&[2]]).with(scene.table("hits").engine(BY_MONTH));
    scene.server(0).freeze().unwrap();
    let ended = scene.run(&task).with(0);
    scene.server(0).thaw().unwrap();
    assert!(ended.took.as_secs() < 60, "{:?}", ended.took);
    scene.eventually("the thawed server has a ZooKeeper session again", || {
        let sql = "SELECT count() FROM system.zookeeper WHERE path = '/'";
        scene.server(0).query(sql).map(drop).map_err(|error| error.to_string())
    });
    scene.check(&task);
}

#[apply(both)]
fn every_replica_without_internal_replication_gets_the_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 10_000, 2);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("number_of_splits", "2");
    let mut task = scene.task(&[&[0], &[1]], &[&[2, 3], &[4, 5]]).with(hits);
    for shard in &mut task.target.shards {
        shard.internal_replication = false;
    }
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn replicas_of_one_shard_are_created_with_macros(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 10_000, 3);
    let engine = scene.replicated_engine("/one");
    let task = scene.task(&[&[0], &[1]], &[&[2, 3, 4]]).with(scene.table("hits").engine(&engine));
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn publication_waits_for_a_replica_with_a_long_queue(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 1);
    let engine =
        format!("ReplicatedMergeTree('/tables/{}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY id", scene.dst);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} ENGINE = {engine}", scene.dst));
    scene.ask(2, &format!("SYSTEM STOP FETCHES {}.hits", scene.dst));
    // Each month is a part, and each part an entry in the queue.
    for value in [1, 2] {
        let months =
            format!("SELECT toDate('2000-01-15') + 30 * number, number, 'x', {value} FROM system.numbers LIMIT 60");
        scene.ask(1, &format!("INSERT INTO {}.hits {months}", scene.dst));
    }
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(scene.table("hits").engine(&engine));
    let worker = scene.launch(&task).start();
    worker.says("entries in its queue");
    scene.ask(2, &format!("SYSTEM START FETCHES {}.hits", scene.dst));
    worker.ends().with(0).tells(&["waits, since replica", scene.server(2).host(), "of the target has"]);
    let rows = format!("SELECT count() FROM {}.hits WHERE toYear(d) >= 2018", scene.dst);
    assert_eq!((scene.sum(&[1], &rows), scene.sum(&[2], &rows)), (5000, 5000));
    scene.check_nothing_left(&task);
}

/// Two replicas do not have the table at publication: one was down when the task was planned, the other one lost it.
#[apply(both)]
fn a_replica_without_the_table_gets_it_during_publication(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    fill_pairs(&scene);
    let engine = REPLICATED.replace("KIND", "dst");
    scene.server(5).kill_9().unwrap();
    let hits = scene.table("hits").engine(&engine).sharding_key("id");
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5], &[6, 7]]).with(hits);
    let worker = scene.launch(&task).freeze_at("gathered").start();
    worker.freezes_at("gathered");
    scene.server(5).start().unwrap();
    let sync = if release.is_modern() { " SYNC" } else { "" };
    scene.ask(7, &format!("DROP TABLE {}.hits{sync}", scene.dst));
    worker.thaw();
    let ended = worker.ends().with(0);
    for server in [5, 7] {
        let message = format!("{}:9000: created table {}.hits", scene.server(server).host(), scene.dst);
        assert!(ended.stderr.contains(&message), "no {message:?} in {}", ended.stderr);
    }
    scene.check(&task);
}

/// The servers' ZooKeeper still knows a replica of that name. Only a person can decide whether its data may be deleted.
#[apply(both)]
fn a_replica_whose_table_cannot_be_created_is_left_out(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    fill_pairs(&scene);
    let hits = scene.table("hits").engine(&REPLICATED.replace("KIND", "dst"));
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5]]).with(hits);
    let worker = scene.launch(&task).freeze_at("gathered").start();
    worker.freezes_at("gathered");
    // The server starts again with an empty disk.
    let path = "/tables/2/dst/replicas/r5".to_owned();
    let before = scene.children(&path);
    scene.server(5).stop().unwrap();
    std::fs::remove_dir_all(scene.server(5).dir().join("data")).unwrap();
    std::fs::create_dir(scene.server(5).dir().join("data")).unwrap();
    scene.server(5).start().unwrap();
    assert!(before.is_some() && scene.children(&path).is_some(), "the replica's nodes are gone: nothing was tried");
    worker.thaw();
    let ended = worker.ends().with(0);
    ended.tells(&[scene.server(5).host(), "cannot be made there", "is left out"]);
    scene.check_rows(&scene.task(&[&[0, 1], &[2, 3]], &[&[4]]).with(task.tables[0].clone()), &task.tables[0], "1");
}
