//! Parts that travel as files: when, what arrives, and that nothing is left on either side.

use lab::{Lab, LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::copy::{BY_MONTH, COLUMNS};
use crate::crash::kill_at;
use crate::harness::{Scene, Table, Task, scene};

/// Two source shards that are two target shards already: odd ids on the second. Two months; in the first one two parts with the
/// same rows, which a Replicated table would take for one.
fn fill(scene: &Scene, engine: &str) {
    for shard in [0, 1] {
        scene.create_old(&[shard], &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
        let rows = format!(
            "SELECT toDate('2018-01-01') + number % 59 AS d, number * 2 + {shard} AS id, toString(number) AS s, toInt32(1) AS v \
             FROM system.numbers LIMIT 20000"
        );
        scene.ask(shard, &format!("INSERT INTO {}.hits {rows}", scene.src));
        for _ in 0..2 {
            let twice =
                format!("SELECT toDate('2018-01-07'), toUInt64({shard}), 'again', toInt32(7) FROM system.numbers");
            // The setting lets a Replicated source have them, too.
            let twice = format!("INSERT INTO {}.hits {twice} LIMIT 50", scene.src);
            scene.server(shard).query_with(&[("insert_deduplicate", "0")], &twice).unwrap();
        }
    }
}

fn hits(scene: &Scene) -> Table {
    scene.table("hits").sharding_key("id").with("verify", "checksum")
}

fn two_to_two(scene: &Scene, table: Table) -> Task {
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(table)
}

/// How many statements of some servers fetched parts of the scene's.
fn fetches(scene: &Scene, servers: &[usize]) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE '%FETCH PARTITION%' \
         AND position(query, '{}') > 0 AND query NOT LIKE '%query_log%'",
        scene.dst
    );
    scene.sum(servers, &sql)
}

/// How many of the scene's rows were sent as rows.
fn inserts(scene: &Scene, servers: &[usize]) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'INSERT%' \
         AND query_id LIKE 'copier:%' AND position(query, '{}') > 0",
        scene.dst
    );
    scene.sum(servers, &sql)
}

/// The identity of a task, as its tables have it.
fn id(scene: &Scene, task: &Task) -> String {
    crate::cleanup::id(scene, task)
}

/// No node of a task's passages is left in the servers' ZooKeeper.
fn check_no_paths(scene: &Scene, task: &Task) {
    let id = id(scene, task);
    let left: Vec<String> = scene.children("/clickhouse").unwrap_or_default();
    let left: Vec<&String> = left.iter().filter(|name| name.contains(&id)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A task that failed keeps its staging tables for the next run, and nothing that parts went through.
fn check_no_passages(scene: &Scene, task: &Task) {
    let sql = |database: &str, like: &str| {
        format!("SELECT name FROM system.tables WHERE database = '{database}' AND name LIKE 'copier\\_%{like}'")
    };
    let left = scene.lines(&[0, 1], &sql(&scene.src, ""));
    let arrived = scene.lines(&[2, 3], &sql(&task.tables[0].target.0, "\\_in%"));
    assert!(left.is_empty() && arrived.is_empty(), "{left:?} {arrived:?}");
    check_no_paths(scene, task);
}

fn check(scene: &Scene, task: &Task) {
    scene.check(task);
    check_no_paths(scene, task);
}

#[apply(both)]
fn parts_travel_as_files(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, BY_MONTH);
    let task = two_to_two(&scene, hits(&scene).with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    scene.check_partitions(&task, &[("hits", 2)]);
    assert!(fetches(&scene, &[2, 3]) >= 2);
    assert_eq!(inserts(&scene, &[0, 1, 2, 3]), 0);
    // Each row is where a Distributed table looks for it.
    for (server, shard) in [(2, 0), (3, 1)] {
        assert_eq!(
            scene.ask(server, &format!("SELECT uniq(id % 2), any(id % 2) FROM {}.hits", scene.dst)),
            format!("1\t{shard}")
        );
    }
}

/// Both sides Replicated, the target with two replicas of a shard; and a batch for each partition.
#[apply(both)]
fn replicated_tables_are_cloned_too(#[case] release: Release) {
    let scene = scene!(release);
    let engine = |of: &str| {
        format!(
            "ENGINE = ReplicatedMergeTree('/tables/{}/{of}/{{shard}}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)",
            scene.name()
        )
    };
    fill(&scene, &engine("source"));
    let one = format!("{}/one", scene.name());
    let target =
        format!("ReplicatedMergeTree('/tables/{one}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let table = scene.table("hits").with("verify", "checksum").engine(&target).with("batch_bytes", "100000");
    // Both source shards become one of two replicas.
    let task = scene.task(&[&[0], &[1]], &[&[2, 3]]).with(table.with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    assert!(fetches(&scene, &[2, 3]) >= 4);
    assert_eq!(inserts(&scene, &[0, 1, 2, 3]), 0);
}

/// Both target servers of a shard are written to.
#[apply(both)]
fn each_of_two_servers_of_a_shard_fetches(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, "ENGINE = MergeTree(d, (id, d), 8192)");
    let mut task = scene.task(&[&[0]], &[&[2, 3]]).with(scene.table("hits").with("transfer", "clone"));
    task.target.shards[0].internal_replication = false;
    scene.run(&task).with(0);
    check(&scene, &task);
    assert_eq!((fetches(&scene, &[2]), fetches(&scene, &[3])), (1, 1));
}

#[apply(both)]
fn on_one_server_nothing_needs_to_be_fetched(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, BY_MONTH);
    let task = scene.task(&[&[0]], &[&[0]]).with(hits(&scene).with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    assert_eq!((fetches(&scene, &[0]), inserts(&scene, &[0])), (0, 0));
}

/// String keys, whose partitions have ids that no expression gives.
#[apply(both)]
fn ids_of_partitions_are_looked_up_where_they_are_hashes(#[case] release: Release) {
    let scene = scene!(release);
    let keys = "ENGINE = MergeTree PARTITION BY (s, v) ORDER BY (d, id)";
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {keys}", scene.src));
    let rows = "SELECT toDate('2018-01-01'), number, concat('it''s ', toString(number % 7)), toInt32(number % 3) - 1";
    scene.ask(0, &format!("INSERT INTO {}.hits {rows} FROM system.numbers LIMIT 5000", scene.src));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    scene.check_partitions(&task, &[("hits", 21)]);
    assert_eq!(inserts(&scene, &[0, 1]), 0);
}

/// Workers die when the source's table is made, and when its parts are fetched.
#[apply(both)]
fn a_crash_leaves_nothing_on_either_side(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, BY_MONTH);
    let table = hits(&scene).with("transfer", "clone").with("batch_bytes", "100000");
    let task = two_to_two(&scene, table);
    let left = |servers: &[usize], database: &str| {
        scene.lines(servers, &format!("SHOW TABLES FROM {database} LIKE 'copier\\_%'")).len()
    };
    kill_at(&scene, &task, "parts-out-made", 1);
    assert!(left(&[0, 1], &scene.src) > 0);
    kill_at(&scene, &task, "parts-fetched", 2);
    assert!(left(&[2, 3], &scene.dst) > 0);
    scene.run(&task).with(0);
    check(&scene, &task);
}

#[apply(both)]
fn a_clean_up_removes_what_is_left_at_the_source(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, BY_MONTH);
    let task = two_to_two(&scene, hits(&scene).with("transfer", "clone"));
    kill_at(&scene, &task, "parts-fetched", 1);
    let places = format!("{}/task_active_workers", task.path);
    scene.eventually("no session of a worker is left", || match scene.children(&places) {
        Some(names) if !names.is_empty() => Err(format!("{names:?}")),
        _ => Ok(()),
    });
    let cleanup =
        |arguments: &[&str]| scene.launch(&task).without_task_file().verb("cleanup").args(arguments).run().with(0);
    cleanup(&[]).reports(&["_out0", "_in0", "parts on their way"]);
    cleanup(&["--remove"]);
    scene.check_no_tables(&task);
    check_no_paths(&scene, &task);
    scene.run(&task).with(0);
    check(&scene, &task);
}

/// A target of so many bytes that cloning is worth it where nothing is said: 160 MB that take little room.
fn fill_large(scene: &Scene, engine: &str) {
    // So that the servers' ZooKeeper can be told from others.
    let path = format!("/tables/{}/mark", scene.name());
    let mark = format!("{}.mark (a UInt8) ENGINE = ReplicatedMergeTree('{path}', 'r') ORDER BY a", scene.src);
    scene.ask(0, &format!("CREATE TABLE IF NOT EXISTS {mark}"));
    for shard in [0, 1] {
        scene.ask(shard, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
        let text = "arrayStringConcat(arrayMap(x -> 'abcdefghijklmnop', range(100)))";
        let rows = format!(
            "SELECT toDate('2018-01-01') + number % 59, number * 2 + {shard}, {text}, toInt32(1) FROM system.numbers LIMIT 50000"
        );
        scene.ask(shard, &format!("INSERT INTO {}.hits {rows}", scene.src));
    }
}

#[apply(both)]
fn what_is_large_is_cloned_when_nothing_is_said(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let task = two_to_two(&scene, hits(&scene));
    scene.run(&task).with(0).tells(&["table hits: transfer: clone: both sides have the same columns and keys"]);
    check(&scene, &task);
    assert!(fetches(&scene, &[2, 3]) >= 2);
    assert_eq!(inserts(&scene, &[0, 1, 2, 3]), 0);
}

/// What stands against it: when nothing is said the rows take another way, and where it is written the task is refused.
fn not_cloned(scene: &Scene, task: &Task, why: &[&str]) {
    let mut told = task.clone().at("told");
    told.tables[0] = told.tables[0].clone().with("transfer", "clone");
    let words: Vec<&str> = ["clone does not work"].iter().chain(why).copied().collect();
    scene.run(&told).with(1).tells(&words);
    scene.check_no_tables(&told);
    let words: Vec<&str> = ["transfer: not clone, since"].iter().chain(why).copied().collect();
    scene.run(task).with(0).tells(&words);
    scene.check(task);
    assert_eq!(fetches(scene, &[2, 3]), 0);
}

#[apply(both)]
fn rows_of_several_target_shards_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let task = two_to_two(&scene, scene.table("hits").sharding_key("intDiv(id, 2)"));
    not_cloned(&scene, &task, &["rows of source shard 1 belong to 2 target shards"]);
}

#[apply(both)]
fn an_account_that_may_only_read_makes_no_tables(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let mut task = two_to_two(&scene, hits(&scene));
    task.source_account = Some(("readonly".into(), String::new()));
    not_cloned(&scene, &task, &["user readonly may only read"]);
}

#[apply(both)]
fn tables_of_another_granularity_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let engine = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id) SETTINGS index_granularity = 1024";
    not_cloned(&scene, &two_to_two(&scene, hits(&scene).engine(engine)), &["index_granularity is 8192", "and 1024"]);
}

#[apply(both)]
fn tables_with_other_keys_or_columns_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.dst));
    for (table, columns, keys, why) in [
        ("keys", COLUMNS, "PARTITION BY toYYYYMM(d) ORDER BY (id, d)", "ORDER BY differs"),
        ("weeks", COLUMNS, "PARTITION BY toMonday(d) ORDER BY (d, id)", "PARTITION BY differs"),
        (
            "types",
            "(d Date, id UInt32, s String, v Int32)",
            "PARTITION BY toYYYYMM(d) ORDER BY (d, id)",
            "columns are converted",
        ),
    ] {
        scene.on(&[2, 3], &format!("CREATE TABLE {}.{table} {columns} ENGINE = MergeTree {keys}", scene.dst));
        let job = scene.table("hits").sharding_key("id").to(&scene.dst, table);
        not_cloned(&scene, &two_to_two(&scene, job).at(table), &[why]);
    }
}

/// Parts that were written before a column was added have no values of it; a table without the column's DEFAULT would read
/// zeros from them.
#[apply(both)]
fn parts_without_a_column_that_came_later_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    scene.on(&[0, 1], &format!("ALTER TABLE {}.hits ADD COLUMN late UInt8 DEFAULT 5", scene.src));
    let task = two_to_two(&scene, hits(&scene));
    let why = ["transfer: not clone, since", "parts of", "written before a column was added"];
    scene.run(&task).with(0).tells(&why);
    check(&scene, &task);
    assert_eq!(scene.ask(2, &format!("SELECT uniq(late), any(late) FROM {}.hits", scene.dst)), "1\t5");
    let told = two_to_two(&scene, hits(&scene).to(&scene.dst, "told").with("transfer", "clone")).at("told");
    scene.run(&told).with(3).tells(&["clone does not work", "written before a column was added"]);
    check_no_passages(&scene, &told);
}

/// A row of another shard that came after the plan was made is seen in the parts themselves.
#[apply(both)]
fn a_row_of_another_shard_that_comes_late_is_not_put_on_the_wrong_one(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill_large(&scene, BY_MONTH);
    for (at, code, words) in [("told", 3, "clone does not work"), ("found", 0, "transfer: not clone, since")] {
        let database = scene.database(at);
        let table = scene.table("hits").sharding_key("id").to(&database, "hits").with("verify", "checksum");
        let table = if at == "told" { table.with("transfer", "clone") } else { table };
        let task = two_to_two(&scene, table).at(at);
        kill_at(&scene, &task, "tables-created", 1);
        // Into a partition that was planned.
        let late = "(toDate('2018-01-20'), toUInt64(1000001), 'late', toInt32(1))";
        scene.ask(0, &format!("INSERT INTO {}.hits VALUES {late}", scene.src));
        scene.run(&task).with(code).tells(&[words, "belong to target shards 1, 2, and parts are not split"]);
        if code == 0 {
            check(&scene, &task);
            let on = |server| scene.ask(server, &format!("SELECT countIf(s = 'late') FROM {database}.hits"));
            assert_eq!((on(2), on(3)), ("0".into(), "1".into()));
        }
        check_no_passages(&scene, &task);
        scene.on(&[0], &format!("DROP TABLE {}.hits", scene.src));
        scene.on(&[1], &format!("DROP TABLE {}.hits", scene.src));
        fill_large(&scene, BY_MONTH);
    }
}

/// Where nothing tells the ZooKeepers apart before, a piece does. 18.16 makes no node of its own at its start; modern servers
/// do.
#[apply(both)]
fn servers_with_zookeepers_of_their_own_are_not_cloned_between(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 1));
    let other = Lab::start(LabSpec::of(release, 1)).unwrap();
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, crate::copy::rows(0, 100, 1)));
    let mut task = scene.task(&[&[0]], &[&[0]]).with(scene.table("hits").with("transfer", "clone"));
    task.target = other.cluster("target", &[&[0]]);
    let code = if release.is_modern() { 1 } else { 3 };
    scene.run(&task).with(code).tells(&["clone does not work", "do not have the same ZooKeeper"]);
    for server in [scene.server(0), other.clickhouse(0)] {
        let path = "/tables/mark";
        let mark = format!("default.mark (a UInt8) ENGINE = ReplicatedMergeTree('{path}', 'r') ORDER BY a");
        server.query(&format!("CREATE TABLE {mark}")).unwrap();
    }
    scene.run(&task.at("again")).with(1).tells(&["clone does not work", "do not have the same ZooKeeper"]);
}
