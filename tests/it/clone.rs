//! `clone` transfers parts as files: when it is used, which rows arrive, and that nothing is left on either side.

use lab::{Lab, LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Table, Task, kill_at, rows, scene};

/// Fills two source shards that match two target shards: odd ids are on the second. In January there are two parts with the same
/// rows, which a Replicated table would deduplicate.
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
            // With this setting a Replicated source keeps both.
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

/// Returns how many statements fetched parts on some servers.
fn fetches(scene: &Scene, servers: &[usize]) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE '%FETCH PARTITION%' \
         AND position(query, '{}') > 0 AND query NOT LIKE '%query_log%'",
        scene.dst
    );
    scene.sum(servers, &sql)
}

/// Returns how many statements inserted rows.
fn inserts(scene: &Scene, servers: &[usize]) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'INSERT%' \
         AND query_id LIKE 'copier:%' AND position(query, '{}') > 0",
        scene.dst
    );
    scene.sum(servers, &sql)
}

/// Checks that no node of a clone is left in the servers' ZooKeeper.
fn check_no_paths(scene: &Scene, task: &Task) {
    let id = scene.task_id(task);
    let left: Vec<String> = scene.children("/clickhouse").unwrap_or_default();
    let left: Vec<&String> = left.iter().filter(|name| name.contains(&id)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Checks that a failed task has left no tables of a clone. Its staging tables stay for the next run.
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
fn clone_transfers_parts_as_files(#[case] release: Release) {
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

/// Both sides are Replicated, the target shard has two replicas, and each partition is a batch.
#[apply(both)]
fn clone_copies_replicated_tables(#[case] release: Release) {
    let scene = scene!(release);
    let engine = |side: &str| {
        format!(
            "ENGINE = ReplicatedMergeTree('/tables/{}/{side}/{{shard}}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)",
            scene.name()
        )
    };
    fill(&scene, &engine("source"));
    let one = format!("{}/one", scene.name());
    let target =
        format!("ReplicatedMergeTree('/tables/{one}', '{{replica}}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let table = scene.table("hits").with("verify", "checksum").engine(&target).with("batch_bytes", "100000");
    // Two source shards become one target shard with two replicas.
    let task = scene.task(&[&[0], &[1]], &[&[2, 3]]).with(table.with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    assert!(fetches(&scene, &[2, 3]) >= 4);
    assert_eq!(inserts(&scene, &[0, 1, 2, 3]), 0);
}

/// Both servers of the target shard get the rows from the copier.
#[apply(both)]
fn clone_fetches_on_every_replica_without_internal_replication(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, "ENGINE = MergeTree(d, (id, d), 8192)");
    let mut task = scene.task(&[&[0]], &[&[2, 3]]).with(scene.table("hits").with("transfer", "clone"));
    task.target.shards[0].internal_replication = false;
    scene.run(&task).with(0);
    check(&scene, &task);
    assert_eq!((fetches(&scene, &[2]), fetches(&scene, &[3])), (1, 1));
}

#[apply(both)]
fn clone_within_one_server_fetches_nothing(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, BY_MONTH);
    let task = scene.task(&[&[0]], &[&[0]]).with(hits(&scene).with("transfer", "clone"));
    scene.run(&task).with(0);
    check(&scene, &task);
    assert_eq!((fetches(&scene, &[0]), inserts(&scene, &[0])), (0, 0));
}

/// Partition keys with strings: the ids of their partitions are hashes that no SQL expression computes.
#[apply(both)]
fn clone_copies_partitions_whose_ids_are_hashes(#[case] release: Release) {
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

/// Workers are killed after the table on the source is created, and after its parts are fetched.
#[apply(both)]
fn a_clone_after_crashes_leaves_nothing_on_either_side(#[case] release: Release) {
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
fn cleanup_removes_tables_of_a_crashed_clone_on_both_sides(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill(&scene, BY_MONTH);
    let task = two_to_two(&scene, hits(&scene).with("transfer", "clone"));
    kill_at(&scene, &task, "parts-fetched", 1);
    scene.wait_for_sessions_to_expire(&task);
    let cleanup =
        |arguments: &[&str]| scene.launch(&task).without_task_file().verb("cleanup").args(arguments).run().with(0);
    cleanup(&[]).reports(&["_out0", "_in0", "parts on their way"]);
    cleanup(&["--remove"]);
    scene.check_no_tables(&task);
    check_no_paths(&scene, &task);
    scene.run(&task).with(0);
    check(&scene, &task);
}

/// Fills a table that is large enough to be cloned by default: 160 MB that compress well.
fn fill_large(scene: &Scene, engine: &str) {
    // A replicated table shows which ZooKeeper the servers have.
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
fn large_tables_are_cloned_by_default(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let task = two_to_two(&scene, hits(&scene));
    scene.run(&task).with(0).tells(&["table hits: transfer: clone: both sides have the same columns and keys"]);
    check(&scene, &task);
    assert!(fetches(&scene, &[2, 3]) >= 2);
    assert_eq!(inserts(&scene, &[0, 1, 2, 3]), 0);
}

/// Checks that a table is not cloned for this reason: by default another transfer is used, and with `<transfer>clone</transfer>` the
/// task is refused.
fn not_cloned(scene: &Scene, task: &Task, why: &[&str]) {
    let mut explicit = task.clone().at("told");
    explicit.tables[0] = explicit.tables[0].clone().with("transfer", "clone");
    let words: Vec<&str> = ["clone does not work"].iter().chain(why).copied().collect();
    scene.run(&explicit).with(1).tells(&words);
    scene.check_no_tables(&explicit);
    let words: Vec<&str> = ["transfer: not clone, since"].iter().chain(why).copied().collect();
    scene.run(task).with(0).tells(&words);
    scene.check(task);
    assert_eq!(fetches(scene, &[2, 3]), 0);
}

#[apply(both)]
fn a_source_shard_with_rows_for_several_target_shards_is_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let task = two_to_two(&scene, scene.table("hits").sharding_key("intDiv(id, 2)"));
    not_cloned(&scene, &task, &["rows of source shard 1 belong to 2 target shards"]);
}

#[apply(both)]
fn tables_of_a_read_only_source_account_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    let mut task = two_to_two(&scene, hits(&scene));
    task.source_account = Some(("readonly".into(), String::new()));
    not_cloned(&scene, &task, &["user readonly may only read"]);
}

#[apply(both)]
fn tables_with_another_index_granularity_are_not_cloned(#[case] release: Release) {
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
fn parts_without_a_column_added_later_are_not_cloned(#[case] release: Release) {
    let scene = scene!(release);
    fill_large(&scene, BY_MONTH);
    scene.on(&[0, 1], &format!("ALTER TABLE {}.hits ADD COLUMN late UInt8 DEFAULT 5", scene.src));
    let task = two_to_two(&scene, hits(&scene));
    let why = ["transfer: not clone, since", "parts of", "written before a column was added"];
    scene.run(&task).with(0).tells(&why);
    check(&scene, &task);
    assert_eq!(scene.ask(2, &format!("SELECT uniq(late), any(late) FROM {}.hits", scene.dst)), "1\t5");
    let explicit = two_to_two(&scene, hits(&scene).to(&scene.dst, "told").with("transfer", "clone")).at("told");
    scene.run(&explicit).with(3).tells(&["clone does not work", "written before a column was added"]);
    check_no_passages(&scene, &explicit);
}

/// A row of another shard is inserted after planning. The worker finds it in the parts.
#[apply(both)]
fn a_late_row_of_another_shard_is_not_cloned_to_the_wrong_shard(#[case] release: Release) {
    let scene = scene!(release);
    scene.short_sessions();
    fill_large(&scene, BY_MONTH);
    for (at, code, words) in [("told", 3, "clone does not work"), ("found", 0, "transfer: not clone, since")] {
        let database = scene.database(at);
        let table = scene.table("hits").sharding_key("id").to(&database, "hits").with("verify", "checksum");
        let table = if at == "told" { table.with("transfer", "clone") } else { table };
        let task = two_to_two(&scene, table).at(at);
        kill_at(&scene, &task, "tables-created", 1);
        // The row goes into a planned partition.
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

/// On 18.16 only the first piece shows that the ZooKeepers differ; modern servers create a node at their start that shows it before.
#[apply(both)]
fn clone_between_servers_with_different_zookeepers_is_refused(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 1));
    let other = Lab::start(LabSpec::of(release, 1)).unwrap();
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 100, 1)));
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
