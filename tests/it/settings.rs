//! `<settings>`, `<settings_pull>`, `<settings_push>`, and ports of servers.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, FEW_TRIES, Forwarder, Scene, Table, fill, scene};

/// Returns how many finished transfers had this value of a setting.
fn transfers_with(scene: &Scene, setting: &str, value: &str) -> u64 {
    scene.ask(0, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'INSERT INTO FUNCTION%' \
         AND position(query, '{}') > 0 AND {} = '{value}'",
        scene.dst,
        logged_setting(scene.release(), setting)
    );
    scene.sum(&[0], &sql)
}

/// The expression for the value of a setting in `system.query_log`.
pub fn logged_setting(release: Release, name: &str) -> String {
    match release.is_modern() {
        true => format!("Settings['{name}']"),
        false => format!("Settings.Values[indexOf(Settings.Names, '{name}')]"),
    }
}

#[apply(both)]
fn settings_of_the_task_reach_their_statements(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more(
        "<settings><connect_timeout>17</connect_timeout></settings>\
         <settings_pull><max_block_size>1234</max_block_size><readonly>1</readonly></settings_pull>\
         <settings_push><insert_distributed_timeout>321</insert_distributed_timeout></settings_push>",
    );
    // `readonly` says that the source must not be changed; a push from it still goes.
    scene.run(&task).with(0);
    scene.check(&task);
    // Modern servers have a new name for it, and log that.
    let timeout =
        if release.is_modern() { "distributed_background_insert_timeout" } else { "insert_distributed_timeout" };
    for (setting, value) in [("connect_timeout", "17"), ("max_block_size", "1234"), (timeout, "321")] {
        assert!(transfers_with(&scene, setting, value) > 0, "no transfer with {setting} = {value}");
    }
}

/// An 18.16 source reads with one thread when it sends all rows to one shard: they arrive in key order, and the target need not sort
/// them. Modern servers keep their threads.
#[test]
fn an_18_16_source_reads_whole_tables_in_key_order() {
    let scene = scene!(Release::V18_16);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let some = |table: Table| table.with("where_condition", "id % 2 = 0");
    let fast = "<settings><max_threads>3</max_threads></settings>";
    let all = || scene.table("hits");
    for (target, table, more, threads) in
        [(1, all(), "", [1, 0]), (2, some(all()), "", [1, 0]), (3, all(), fast, [1, 1])]
    {
        let task = scene.task(&[&[0]], &[&[target]]).at(&format!("to-{target}")).with(table).more(more);
        scene.run(&task).with(0);
        // Both partitions are sent by one statement. The counts include the tasks before.
        assert_eq!(["1", "3"].map(|count| transfers_with(&scene, "max_threads", count)), threads, "to {target}");
    }
    assert_eq!(transfers_with(&scene, "connect_timeout_with_failover_ms", "5000"), 3);
}

#[apply(both)]
fn settings_unknown_to_a_server_are_not_sent(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more(
        "<settings><optimize_on_insert>0</optimize_on_insert><no_such_setting>1</no_such_setting></settings>\
         <settings_pull><max_insert_threads>4</max_insert_threads></settings_pull>\
         <settings_push><deduplicate_insert>disable</deduplicate_insert></settings_push>",
    );
    scene.run(&task).with(0).tells(&["WARN", "no_such_setting"]);
    scene.check(&task);
}

/// The names of today's versions, which 18.16 does not have yet.
#[test]
fn a_renamed_setting_is_sent_under_the_name_that_the_server_knows() {
    let scene = scene!(Release::V18_16);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more(
        "<settings><distributed_background_insert_timeout>123</distributed_background_insert_timeout></settings>\
         <settings_push><insert_distributed_timeout>321</insert_distributed_timeout><alter_sync>2</alter_sync></settings_push>",
    );
    scene.run(&task).with(0).tells(&["alter_sync is called replication_alter_partitions_sync on ClickHouse 18.16"]);
    scene.check(&task);
    // Of one setting by two names, the part of the task that is for this statement counts.
    assert!(transfers_with(&scene, "insert_distributed_timeout", "321") > 0);
    assert_eq!(transfers_with(&scene, "insert_distributed_timeout", "123"), 0);
    scene.on(&[1], "SYSTEM FLUSH LOGS");
    let altered = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'ALTER TABLE%REPLACE%' \
         AND position(query, '{}') > 0 AND Settings.Values[indexOf(Settings.Names, 'replication_alter_partitions_sync')] = '2'",
        scene.dst
    );
    assert!(scene.sum(&[1], &altered) > 0);
}

#[apply(both)]
fn a_copy_above_a_limit_of_the_task_fails_with_the_name_of_the_limit(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 50_000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more("<settings_pull><max_rows_to_read>10</max_rows_to_read></settings_pull>");
    let ended = scene.launch(&task).args(&FEW_TRIES).run();
    assert!([1, 3].contains(&ended.status.code().unwrap()), "{}", ended.stderr);
    ended.tells(&["hits", scene.server(0).host(), "Limit for rows"]);
}

#[apply(both)]
fn an_invalid_value_of_a_setting_is_an_error(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more("<settings_pull><max_block_size>plenty</max_block_size></settings_pull>");
    let ended = scene.launch(&task).args(&FEW_TRIES).run();
    assert!([1, 2, 3].contains(&ended.status.code().unwrap()), "{}", ended.stderr);
    // 25.8 tells only the value.
    ended.tells(&[if release.is_modern() { "plenty" } else { "max_block_size" }]);
}

#[apply(both)]
fn servers_on_other_ports_are_reached(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let (source, target) = (scene.server(0).host(), scene.server(1).host());
    let forwarders = [(source, 18123, 8123), (target, 18123, 8123), (target, 19000, 9000)]
        .map(|(host, port, to)| Forwarder::start((host, port), vec![(host.to_owned(), to)]));
    let xml = task.xml();
    let xml = xml.replace(&format!("{source}</host>"), &format!("{source}</host><http_port>18123</http_port>"));
    let ports = "<http_port>18123</http_port><port>19000</port>";
    let xml = xml.replace(&format!("{target}</host>"), &format!("{target}</host>{ports}"));
    scene.launch_text(&xml).run().with(0);
    scene.check(&task);
    for forwarder in forwarders {
        assert!(forwarder.connections() > 0);
    }
}

#[apply(both)]
fn tls_to_a_plain_clickhouse_port_is_an_error(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 10, 1);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let secure = "</host><secure>1</secure><http_port>8123</http_port><port>9000</port>";
    let ended = scene.launch_text(&task.xml().replacen("</host>", secure, 1)).run().with(1);
    ended.tells(&[scene.server(0).host()]);
}

/// Wide rows, so that the rows that a server gathers before it writes exceed its memory limit.
#[apply(both)]
fn a_transfer_that_runs_out_of_memory_is_repeated_with_smaller_blocks(#[case] release: Release) {
    let scene = scene!(release);
    scene.on(&[0], &format!("CREATE DATABASE IF NOT EXISTS {}", scene.src));
    let columns = "d Date, id UInt64, text String";
    scene.on(
        &[0],
        &format!("CREATE TABLE {}.hits ({columns}) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id", scene.src),
    );
    let rows = "toDate('2018-01-15') + (number % 3) * 31, number, \
                arrayStringConcat(arrayMap(x -> concat(toString(number + x), '{}'), range(20)))";
    let rows = rows.replace("{}", &"wide ".repeat(20));
    scene.on(&[0], &format!("INSERT INTO {}.hits SELECT {rows} FROM numbers(60000)", scene.src));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    let task = task.more("<settings><max_memory_usage>100000000</max_memory_usage></settings>");
    let ended = scene.launch(&task).args(&["--retry-delay-ms=100"]).run().with(0);
    ended.tells(&["WARN", "code 241", "is repeated"]);
    scene.check(&task);
}
