//! The transfers `push`, `pull` and `relay`: which one is chosen, and broken streams.

use nix::sys::signal::Signal;

use lab::{ClickHouse, Lab, LabSpec, Release};
use rstest_reuse::apply;

use crate::harness::{BY_MONTH, Ended, Scene, Table, Task, fill, fill_every_type, rows, scene};
use crate::{both, modern_ones};

/// Returns how many statements like this have finished on some servers.
fn finished(scene: &Scene, servers: &[usize], like: &str) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query_id LIKE 'copier:%' AND query LIKE '{like}' \
         AND (position(query, '{}') > 0 OR position(query, '{}') > 0)",
        scene.src, scene.dst
    );
    scene.sum(servers, &sql)
}

/// Copies every type from two shards to three.
fn every_type(scene: &Scene, table: Table) -> (Task, Ended) {
    for (server, limit) in [(0, "3000"), (1, "3000, 2500")] {
        fill_every_type(scene.server(server), &format!("{}.hits", scene.src), limit);
    }
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).with(table.sharding_key("intHash32(id)"));
    let task = task.weights(&[1, 2, 1]);
    let ended = scene.run(&task).with(0);
    scene.check(&task);
    (task, ended)
}

#[apply(both)]
fn push_is_the_default_transfer_to_one_target_shard(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits"));
    let ended = scene.run(&task).with(0);
    scene.check(&task);
    assert!(!ended.stderr.contains("transfer:"), "{}", ended.stderr);
    assert_eq!(finished(&scene, &[0, 1], "INSERT INTO FUNCTION%"), 2);
}

#[apply(both)]
fn the_default_transfer_reads_rows_once_for_several_target_shards(#[case] release: Release) {
    let scene = scene!(release);
    let (_, ended) = every_type(&scene, scene.table("hits"));
    if release.is_modern() {
        // `remote()` takes the sharding key: one statement of each source serves all three.
        assert_eq!(finished(&scene, &[0, 1], "INSERT INTO FUNCTION%"), 2);
        return;
    }
    ended.tells(&["transfer: relay", "since it reads each row once for 3 target shards"]);
    assert_eq!(finished(&scene, &[0, 1], "INSERT INTO FUNCTION%"), 0);
}

/// With many pieces, one piece is pushed first, and the faster transfer is reported. Modern servers push to all shards in one
/// statement and need no measurement.
#[test]
fn auto_measures_push_and_relay_and_takes_the_faster_one() {
    let scene = scene!(Release::V18_16);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 2);
    let table = scene.table("hits").sharding_key("intHash32(id)").with("number_of_splits", "10");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(table);
    scene.run(&task).with(0).tells(&["times as fast as the other way"]);
    scene.check(&task);
    assert!(finished(&scene, &[0, 1], "INSERT INTO FUNCTION%") > 0);
    assert!(finished(&scene, &[0, 1], "SELECT%relayed slot%") > 0);
}

#[apply(both)]
fn push_copies_every_type_to_several_target_shards(#[case] release: Release) {
    let scene = scene!(release);
    let (_, ended) = every_type(&scene, scene.table("hits").with("transfer", "push"));
    assert!(!ended.stderr.contains("transfer:"), "{}", ended.stderr);
    // Modern servers deal rows by the sharding key of `remote()`.
    let least = if release.is_modern() { 2 } else { 6 };
    assert!(finished(&scene, &[0, 1], "INSERT INTO FUNCTION%") >= least);
}

#[apply(both)]
fn pull_statements_run_on_the_target_servers(#[case] release: Release) {
    let scene = scene!(release);
    every_type(&scene, scene.table("hits").with("transfer", "pull"));
    assert!(finished(&scene, &[2, 3, 4], "INSERT INTO%FROM remote(%") >= 6);
    assert_eq!(finished(&scene, &[0, 1], "INSERT%"), 0);
}

#[apply(both)]
fn a_compressed_relay_copies_every_type_through_the_worker(#[case] release: Release) {
    let scene = scene!(release);
    every_type(&scene, scene.table("hits").with("transfer", "relay"));
    let inserts = finished(&scene, &[2, 3, 4], "INSERT INTO%FORMAT Native%");
    // Each row is read once for all three shards, and what comes from both sources is one INSERT.
    let reads = finished(&scene, &[0, 1], "SELECT%relayed slot%");
    assert_eq!((reads, inserts), (2, 3));
    assert_eq!(finished(&scene, &[0, 1, 2, 3, 4], "%remote(%"), 0);
}

#[apply(both)]
fn an_uncompressed_relay_copies_every_type(#[case] release: Release) {
    let scene = scene!(release);
    every_type(&scene, scene.table("hits").with("transfer", "relay").with("relay_compression", "0"));
}

/// The target has other types, and a partition key with one of them. Every transfer gives the same rows.
#[apply(both)]
fn every_transfer_converts_types_alike(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 20_000, 2);
    let (columns, target) = ("(d Date, id UInt32, s String, v Int64)", |way: &str| format!("{}.{way}", scene.dst));
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
    let mut task = scene.task(&[&[0]], &[&[1]]);
    for way in ["push", "pull", "relay"] {
        let engine = "ENGINE = MergeTree PARTITION BY intDiv(v, 250) ORDER BY (d, id)";
        scene.ask(1, &format!("CREATE TABLE {} {columns} {engine}", target(way)));
        let table = scene.table(way).from(&scene.src, "hits").with("transfer", way);
        task = task.with(table.with("where_condition", "v % 3 != 1"));
    }
    scene.run(&task).with(0);
    let row = "cityHash64(d, toUInt64(id), s, toInt32(v))";
    let wanted = scene.digest(&[0], row, &format!("{}.hits WHERE v % 3 != 1", scene.src));
    for way in ["push", "pull", "relay"] {
        assert_eq!(scene.digest(&[1], row, &target(way)), wanted, "{way}");
    }
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn a_read_only_source_account_is_copied_without_push(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 5000, 2);
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(scene.table("hits").sharding_key("id"));
    task.source_account = Some(("readonly".into(), String::new()));
    // Rows for several shards are dealt by the worker; what the servers could do without it stands in the report.
    let ended =
        scene.run(&task).with(0).tells(&["transfer: relay", "since it reads each row once for 2 target shards"]);
    ended.reports(&["transfer: pull", "user readonly may only read"]);
    scene.check(&task);
    // With `<transfer>push</transfer>` the task is refused.
    let table = scene.table("hits").to(&scene.database("other"), "hits").with("transfer", "push").sharding_key("id");
    let explicit = Task { tables: vec![table], ..task }.at("push");
    scene.run(&explicit).with(1).tells(&["push does not work", "may only read"]);
}

/// Returns the task with native port 9, on which no server listens. HTTP works.
fn unreachable(task: &Task, hosts: &[&str]) -> String {
    hosts
        .iter()
        .fold(task.xml(), |xml, host| xml.replace(&format!("{host}</host>"), &format!("{host}</host><port>9</port>")))
}

#[apply(both)]
fn pull_is_used_when_the_source_cannot_reach_the_target(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[2]]).with(scene.table("hits"));
    let target = scene.server(2).host();
    let ended = scene.launch_text(&unreachable(&task, &[target])).run().with(0);
    ended.tells(&["transfer: pull", &format!("{target}:9 cannot be reached from"), "Connection refused"]);
    scene.check(&task);
}

#[apply(both)]
fn relay_is_used_when_the_servers_cannot_reach_each_other(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let mut task = scene.task(&[&[0]], &[&[2], &[3]]).with(scene.table("hits").sharding_key("id"));
    task.source_account = Some(("readonly".into(), String::new()));
    let hosts = [0, 2, 3].map(|server| scene.server(server).host());
    let ended = scene.launch_text(&unreachable(&task, &hosts)).run().with(0);
    ended.tells(&["transfer: relay", "may only read", "Connection refused"]);
    scene.check(&task);
}

/// A target column that its server computes when rows are staged, from the source's columns: only the transfer sees it.
fn with_computed(scene: &Scene, target: &ClickHouse, expression: &str) -> Task {
    let columns = format!("(d Date, id UInt64, s String, v Int32, m UInt8 MATERIALIZED {expression})");
    target.query(&format!("CREATE DATABASE {}", scene.dst)).unwrap();
    target.query(&format!("CREATE TABLE {}.hits {columns} {BY_MONTH}", scene.dst)).unwrap();
    scene.task(&[&[0]], &[&[1]])
}

/// Status 200 and many blocks first, then the error's text behind them.
#[apply(both)]
fn an_error_in_the_middle_of_a_relay_is_never_a_success(#[case] release: Release) {
    for (number, compression) in ["1", "0"].into_iter().enumerate() {
        let scene = scene!(release);
        scene.ask(0, &format!("CREATE TABLE {}.hits (d Date, id UInt64, s String, v Int32) {BY_MONTH}", scene.src));
        scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 400_000, 1)));
        let task = with_computed(&scene, scene.server(1), "throwIf(id = 399000)");
        let table = scene.table("hits").with("transfer", "relay").with("relay_compression", compression);
        let task = task.with(table).at(&format!("{number}"));
        let ended = scene.launch(&task).args(&["--max-table-tries=1", "--retry-delay-ms=1", "--jobs=1"]).run();
        assert!([1, 3].contains(&ended.status.code().unwrap()), "{}", ended.stderr);
        ended.tells(&["cannot relay rows", scene.server(0).host(), "code 395", "throwIf"]);
        assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "0");
    }
}

/// Makes each of fifty blocks take a tenth of a second.
const SLOW: &str = "sleep(0.1)";

#[apply(both)]
fn servers_killed_in_the_middle_of_a_relay_cost_only_attempts(#[case] release: Release) {
    let scene = scene!(own LabSpec::of(release, 3));
    fill(&scene, &[0], BY_MONTH, 50_000, 1);
    let task = with_computed(&scene, scene.server(1), SLOW).with(scene.table("hits").with("transfer", "relay"));
    let task = task.more("<settings_pull><max_block_size>1000</max_block_size></settings_pull>");
    let worker = scene.launch(&task).args(&["--max-shard-partition-tries=20", "--retry-delay-ms=500"]).start();
    for server in [0, 1] {
        scene.eventually("rows are on their way", || {
            // Of the source: a server that has just been started again answers a little later.
            let sql = "SELECT count() FROM system.processes WHERE query_id LIKE 'copier:%:read' AND read_rows > 3000";
            let seen = scene.server(0).query(sql).map_err(|error| error.to_string())?;
            if seen.trim() == "0" { Err(seen) } else { Ok(()) }
        });
        scene.server(server).kill_9().unwrap();
        worker.says(&format!("attempt {} failed", server + 1));
        scene.server(server).start().unwrap();
    }
    worker.ends().with(0);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

/// Statements of attempts that nobody waits for run on the target of a pull, and on both servers of a relay.
fn is_ended_with_its_worker(scene: &Scene, way: &str, servers: &[usize]) {
    scene.short_sessions();
    fill(scene, &[0], BY_MONTH, 50_000, 1);
    // Far longer than the test has patience. Modern servers gather blocks before they compute columns, so each row must cost.
    let (slow, settings) = match scene.release().is_modern() {
        true => (
            "sleepEachRow(0.01)",
            "<function_sleep_max_microseconds_per_block>0</function_sleep_max_microseconds_per_block>",
        ),
        false => (SLOW, "<max_block_size>50</max_block_size>"),
    };
    let task = with_computed(scene, scene.server(1), slow).with(scene.table("hits").with("transfer", way));
    let task = task.more(&format!("<settings>{settings}</settings>"));
    let running = |attempt: &str| {
        let sql =
            format!("SELECT count() FROM system.processes WHERE query_id LIKE 'copier:%{attempt}%' AND elapsed > 1");
        // The source's own part of a pull has an id that the server gave it.
        let ours = format!("{sql} AND position(query, '{}') > 0", scene.database(""));
        servers.iter().map(|server| scene.ask(*server, &ours).parse::<u64>().unwrap()).sum::<u64>()
    };
    let until = |attempt: &str, wanted: bool| {
        scene.eventually(&format!("statements of {attempt} run: {wanted}"), || match running(attempt) {
            0 if wanted => Err("none".into()),
            1.. if !wanted => Err("some".into()),
            _ => Ok(()),
        });
    };
    let first = scene.launch(&task).start();
    until(":a1:", true);
    first.kill_9();
    let second = scene.launch(&task).start();
    until(":a2:", true);
    until(":a1:", false);
    second.signal(Signal::SIGINT);
    second.says("a second signal");
    second.signal(Signal::SIGINT);
    second.ends().with(130);
    until(":a2:", false);
}

#[apply(both)]
fn pull_statements_of_a_dead_worker_are_ended(#[case] release: Release) {
    is_ended_with_its_worker(&scene!(release), "pull", &[1]);
}

#[apply(both)]
fn relay_statements_of_a_dead_worker_are_ended(#[case] release: Release) {
    is_ended_with_its_worker(&scene!(release), "relay", &[0, 1]);
}

/// A statement of an attempt that nobody waits for any more, on a target, where a pull has its own.
#[apply(both)]
fn statements_that_still_run_on_a_target_end_with_the_task(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 1000, 1);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").with("transfer", "pull"));
    let worker = scene.launch(&task).freeze_at("staging-dropped").start();
    worker.freezes_at("staging-dropped");
    let left = format!("copier:{}:t0:p0:a1:s0r0", scene.task_id(&task));
    let server = scene.server(1);
    std::thread::scope(|scope| {
        let endless = "SELECT count() FROM system.numbers";
        let settings = [("query_id", left.as_str()), ("max_execution_time", "30")];
        let ended = scope.spawn(move || server.query_with(&settings, endless).unwrap_err().to_string());
        scene.eventually("the statement runs", || {
            match scene.ask(1, &format!("SELECT count() FROM system.processes WHERE query_id = '{left}'")).as_str() {
                "1" => Ok(()),
                other => Err(other.to_owned()),
            }
        });
        worker.thaw();
        worker.ends().with(0);
        // The statement was killed, and did not end by its own time limit.
        let ended = ended.join().unwrap();
        assert!(ended.contains("Code: 394"), "{ended}");
    });
}

/// The peak of a worker that has relayed so many rows of about a hundred bytes in one piece to some servers, a shard each.
fn peak(scene: &Scene, name: &str, count: u64, servers: &[usize]) -> u64 {
    let hashes = |from: u64| (from..from + 5).map(|n| format!("toString(cityHash64(number, {n}))")).collect::<Vec<_>>();
    let text = format!("concat({})", hashes(0).join(", "));
    scene.ask(0, &format!("CREATE TABLE {}.{name} (id UInt64, s String) ENGINE = MergeTree ORDER BY id", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.{name} SELECT number, {text} FROM system.numbers LIMIT {count}", scene.src));
    let shards: Vec<&[usize]> = servers.chunks(1).collect();
    let table = scene.table(name).with("transfer", "relay").with("batch_bytes", "1G").sharding_key("id");
    let task = scene.task(&[&[0]], &shards).with(table).at(name);
    let worker = scene.launch(&task).args(&["--jobs=1"]).stop_at("piece-pushed").start();
    worker.reaches("piece-pushed");
    let staged = format!("SELECT sum(rows) FROM system.parts WHERE database = '{}'", scene.dst);
    assert_eq!(scene.sum(servers, &staged), count);
    let peak = worker.peak_memory();
    worker.kill_9();
    scene.on(servers, &format!("DROP DATABASE {}", scene.dst));
    peak
}

#[apply(both)]
fn a_relay_needs_the_same_memory_for_any_table_size(#[case] release: Release) {
    let scene = scene!(release);
    let small = peak(&scene, "small", 200_000, &[1]);
    for (name, servers) in [("one", &[1][..]), ("three", &[1, 2, 3])] {
        let large = peak(&scene, name, 3_000_000, servers);
        println!("peak of the worker: {} KiB for 20 MB, {} KiB for 300 MB to {name}", small >> 10, large >> 10);
        assert!(large < 64 << 20, "{large}");
        assert!(large < small + (16 << 20), "{small} and {large}");
    }
}

/// Between servers that frame compressed rows: one to one, and dealt to two shards.
#[apply(modern_ones)]
fn a_relay_between_modern_servers_is_compressed_by_default(#[case] release: Release) {
    let scene = scene!(Release::V25_8, for release); // for its ZooKeeper
    let [from, to] = [0, 1].map(|node| Lab::shared(release).clickhouse(node));
    for suffix in ["one", "both"] {
        from.query(&format!("CREATE DATABASE IF NOT EXISTS {}", scene.src)).unwrap();
        let create = format!("CREATE TABLE {}.{suffix} (d Date, id UInt64, s String) {BY_MONTH}", scene.src);
        from.query(&create).unwrap();
        let rows = "SELECT toDate('2024-01-15'), number, repeat('rows that pack well ', 5) FROM numbers(200000)";
        from.query(&format!("INSERT INTO {}.{suffix} {rows}", scene.src)).unwrap();
    }
    let shard = |host: &str| format!("<shard><replica><host>{host}</host></replica></shard>");
    let hosts = [from.host().to_string(), to.host().to_string()];
    let task_xml = |name: &str, to: &str, compression: &str| {
        let (source, target) = (shard(&hosts[0]), to.to_owned());
        format!(
            "<clickhouse><remote_servers><a>{source}</a><b>{target}</b></remote_servers><tables><hits>\
             <cluster_pull>a</cluster_pull><database_pull>{}</database_pull><table_pull>{name}</table_pull>\
             <cluster_push>b</cluster_push><database_push>{}{compression}</database_push><table_push>{name}</table_push>\
             <sharding_key>id</sharding_key><transfer>relay</transfer><verify>checksum</verify>\
             <relay_compression>{compression}</relay_compression></hits></tables></clickhouse>",
            scene.src, scene.dst
        )
    };
    let both = hosts.iter().map(|host| shard(host)).collect::<String>();
    for (name, target) in [("one", shard(&hosts[1])), ("both", both)] {
        for (compression, words) in [("1", ": rows travel compressed"), ("0", ": rows travel uncompressed")] {
            let run = scene.launch_text(&task_xml(name, &target, compression)).args(&["--log-level=debug"]);
            let path = format!("{}_{name}{compression}", scene.task_path());
            let log = scene.dir().join(format!("{name}{compression}.log"));
            run.task_path(&path).args(&["--log-file", log.to_str().unwrap()]).run().with(0);
            assert!(std::fs::read_to_string(log).unwrap().contains(words));
            let count = format!("SELECT count() FROM {}{compression}.{name}", scene.dst);
            let rows = |server: &ClickHouse| server.value(&count).map_or(0, |rows| rows.parse::<u64>().unwrap());
            let expected = if name == "one" { (0, 200_000) } else { (100_000, 100_000) };
            assert_eq!((rows(from), rows(to)), expected);
        }
    }
}
