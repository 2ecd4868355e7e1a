//! Shards of several replicas, live and dead.

use std::collections::BTreeMap;

use lab::{LabSpec, Macros, Release};
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS, fill, rows};
use crate::harness::{Scene, Task, Worker, scene};

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
fn two_by_two_to_two_by_two_with_a_dead_replica_on_each_side(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    fill_pairs(&scene);
    let engine = REPLICATED.replace("KIND", "dst");
    // The one that will be dead knows the table already; the others get it from the copier.
    scene.ask(5, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(5, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.dst));
    // The first of its shard on one side, the second on the other.
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
fn a_replica_of_the_target_dies_in_the_middle(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    scene.short_sessions();
    fill_pairs(&scene);
    let engine = REPLICATED.replace("KIND", "dst");
    let hits = scene.table("hits").engine(&engine).sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5], &[6, 7]]).with(hits);
    let first = scene.launch(&task).stop_at("piece-recorded").start();
    first.reaches("piece-recorded");
    first.kill_9();
    // It is gone for good, with the rows that were staged on it: another replica is chosen, and they are copied again.
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

/// It goes while a piece is copied, while the batch is gathered, put in place, and when that is done; and it does not come
/// back. One worker of a task lives through it.
#[apply(both)]
fn a_replica_of_the_target_is_lost_for_good_at_copy_and_at_publication(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0], BY_MONTH, 5000, 1);
    let path = "ReplicatedMergeTree('/tables/NAME', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY id";
    // Of one table the second replica fetches nothing: when the first has the rows in place and dies, nobody has them.
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

/// As many rows are there before as are to be added: where one were taken for the other, none would be added.
#[apply(both)]
fn a_replica_that_is_lost_before_rows_are_appended_costs_none(#[case] release: Release) {
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
fn a_shard_without_a_live_replica_is_named(#[case] release: Release) {
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
fn a_frozen_replica_is_as_good_as_dead(#[case] release: Release) {
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
fn replicas_that_do_not_replicate_each_get_the_rows(#[case] release: Release) {
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
fn replicas_of_one_shard_through_macros(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 10_000, 3);
    let engine = format!("ReplicatedMergeTree('/tables/{}/one', '{{replica}}')", scene.name());
    let engine = format!("{engine} PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let task = scene.task(&[&[0], &[1]], &[&[2, 3, 4]]).with(scene.table("hits").engine(&engine));
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_replica_that_has_much_to_fetch_is_given_time(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 1);
    let engine =
        format!("ReplicatedMergeTree('/tables/{}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY id", scene.dst);
    scene.on(&[1, 2], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.hits {COLUMNS} ENGINE = {engine}", scene.dst));
    scene.ask(2, &format!("SYSTEM STOP FETCHES {}.hits", scene.dst));
    // Each month is a part, and each part an entry.
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

/// Replicas that lack the table when rows were put in place beside them: one was away when the task was planned, another one lost it.
#[apply(both)]
fn a_replica_without_the_table_gets_it(#[case] release: Release) {
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
        let said = format!("{}:9000: created table {}.hits", scene.server(server).host(), scene.dst);
        assert!(ended.stderr.contains(&said), "no {said:?} in {}", ended.stderr);
    }
    scene.check(&task);
}

/// The servers' ZooKeeper still knows a replica of that name: nobody but a person can tell whether its data may go.
#[apply(both)]
fn a_replica_whose_table_cannot_be_made_is_left_out(#[case] release: Release) {
    let scene = scene!(own four_pairs(release));
    fill_pairs(&scene);
    let hits = scene.table("hits").engine(&REPLICATED.replace("KIND", "dst"));
    let task = scene.task(&[&[0, 1], &[2, 3]], &[&[4, 5]]).with(hits);
    let worker = scene.launch(&task).freeze_at("gathered").start();
    worker.freezes_at("gathered");
    // An empty server takes the place of the one that was there.
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
