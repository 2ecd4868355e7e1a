//! Copies between modern servers, and to and from 18.16, by a worker inside the test process. Everything is production code on real
//! servers, except the coordinator, which is the double in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{Placing, ServerClient, Settings};
use clickhouse_copier::coordinator::MemoryCoordinator;
use clickhouse_copier::model::{PartitionId, TableName, Tls, renamed_settings};
use clickhouse_copier::report::Report;
use clickhouse_copier::runtime::random::Randomness;
use clickhouse_copier::runtime::signals::Interrupt;
use clickhouse_copier::sql;
use clickhouse_copier::task::{GivenSecrets, TaskText};
use clickhouse_copier::worker::context::WorkerOptions;
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::launch::Launch;
use clickhouse_copier::worker::retry_policy::RetryPolicy;
use clickhouse_copier::worker::run;
use lab::{ClickHouse, Lab, Release};
use rstest_reuse::apply;

use crate::harness::{FEATURES, MergingClient, fill_every_type, node_of, settings_for_definitions};
use crate::modern_ones;

/// A table job with elements of its own, from database `it_features__NAME` to `it_features__NAME_copy`.
fn job(database: &str, table: &str, more: &str) -> String {
    format!(
        "<{table}><cluster_pull>source</cluster_pull><database_pull>{database}</database_pull><table_pull>{table}</table_pull>\
         <cluster_push>target</cluster_push><database_push>{database}_copy</database_push><table_push>{table}</table_push>\
         {more}</{table}>"
    )
}

/// Creates the source database of a test, and drops the target database.
fn databases(source: &ClickHouse, target: &ClickHouse, name: &str) -> String {
    let database = format!("it_features__{name}");
    for server in [source, target] {
        for name in [database.clone(), format!("{database}_copy")] {
            let sync = if server.release().is_modern() { " SYNC" } else { "" };
            server.query(&format!("DROP DATABASE IF EXISTS {name}{sync}")).unwrap();
        }
    }
    source.query(&format!("CREATE DATABASE {database}")).unwrap();
    database
}

/// Runs a worker over a task to its end; every partition must be published.
async fn copy(source: &ClickHouse, target: &ClickHouse, tables: &str) -> Report {
    copy_by(HttpServerClient::new(&Tls::default()).unwrap(), "", source, target, tables).await
}

async fn copy_by(
    client: impl ServerClient + 'static,
    more: &str,
    source: &ClickHouse,
    target: &ClickHouse,
    tables: &str,
) -> Report {
    let cluster = |name: &str, server: &ClickHouse| {
        let host = server.host();
        format!("<{name}><shard><replica><host>{host}</host></replica></shard></{name}>")
    };
    let xml = format!(
        "<clickhouse><remote_servers>{}{}</remote_servers><verify>checksum</verify>{more}<tables>{tables}</tables></clickhouse>",
        cluster("source", source),
        cluster("target", target)
    );
    let launch = Launch {
        coordinator: Arc::new(MemoryCoordinator::new()),
        client: Arc::new(client),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: "/task".into(),
        description: Some(TaskText::new(xml, "task.xml").parse(&GivenSecrets::default()).unwrap()),
        upload_force: false,
        agreed: None,
        incremental: None,
        worker_options: WorkerOptions {
            retry: RetryPolicy {
                piece_attempts: 1,
                publication_attempts: 1,
                rounds: 0,
                first_pause: Duration::from_millis(100),
            },
            stall_timeout: Duration::from_secs(600),
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: clickhouse_copier::worker::limits::concurrency::Jobs::Fixed(2),
            safe_mode: false,
        },
        host: "here".into(),
        worker: "worker".into(),
        // Each task has an identity of its own: the end of one ends all statements that bear its name.
        randomness: Randomness::fair(),
    };
    let (_sender, interrupt) = Interrupt::manual();
    let summary = run(launch, &interrupt, async || Ok(())).await.unwrap_or_else(|error| panic!("{error}"));
    let report = Report::of(&summary.plans, &summary.by_table);
    assert_eq!(summary.ending, Ending::Finished, "{report}");
    report
}

/// Compares both sides by checksum, independent of the task's own checks.
async fn assert_equal(source: &ClickHouse, target: &ClickHouse, database: &str, table: &str) {
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    let (a, b) = (TableName::new(database, table), TableName::new(format!("{database}_copy"), table));
    let columns = client.table(&node_of(source), &a).await.unwrap().unwrap().columns;
    let wanted = client.checksum(&node_of(source), &a, None, &columns).await.unwrap();
    assert_eq!(client.checksum(&node_of(target), &b, None, &columns).await.unwrap(), wanted, "{table}");
}

#[apply(modern_ones)]
#[tokio::test]
async fn tables_with_modern_features_are_copied_between_modern_servers(#[case] release: Release) {
    let lab = Lab::shared(release);
    let (source, target) = (lab.clickhouse(0), lab.clickhouse(1));
    let database = databases(source, target, "today");
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    let settings = settings_for_definitions(&client, &node_of(source)).await;
    let mut jobs = String::new();
    for feature in FEATURES {
        let name = TableName::new(&database, feature.name);
        let create = format!("CREATE TABLE {name} ({}) ENGINE = {}", feature.columns, feature.engine);
        if feature.name == "nested" {
            source.query(&create).unwrap(); // flattened
        } else {
            client.create_table(&node_of(source), &name, &create, &settings).await.unwrap();
        }
        let columns = client.table(&node_of(source), &name).await.unwrap().unwrap().columns;
        let stored = columns.iter().filter(|column| column.default_kind.is_inserted());
        let stored: Vec<String> = stored.map(|column| sql::quote::ident(&column.name)).collect();
        let rows = format!("SELECT {} FROM numbers(40)", feature.row);
        source.query(&format!("INSERT INTO {name} ({}) {rows}", stored.join(", "))).unwrap();
        jobs.push_str(&job(&database, feature.name, "<number_of_splits>2</number_of_splits>"));
    }
    let report = copy(source, target, &jobs).await;
    for (feature, table) in FEATURES.iter().zip(&report.tables) {
        let all = table
            .partitions
            .iter()
            .all(|partition| partition.compared && partition.rows_published == Some(partition.rows));
        assert!(all && !table.partitions.is_empty(), "{table}");
        let name = |database: &str| TableName::new(database, feature.name);
        let copied = client.table(&node_of(target), &name(&format!("{database}_copy"))).await.unwrap().unwrap();
        let here = client.table(&node_of(source), &name(&database)).await.unwrap().unwrap();
        assert_eq!((copied.engine, copied.columns), (here.engine, here.columns), "{}", feature.name);
        assert_eq!((copied.declarations, copied.comment), (here.declarations, here.comment), "{}", feature.name);
        assert_equal(source, target, &database, feature.name).await;
    }
    let remarks = report.tables[0].remarks.join("\n");
    assert!(remarks.contains("by their text") && remarks.contains("j (JSON)"), "{remarks}");
}

#[apply(modern_ones)]
#[tokio::test]
async fn tables_are_copied_from_18_16_to_modern_servers(#[case] release: Release) {
    let (source, target) = (Lab::shared(Release::V18_16).clickhouse(0), Lab::shared(release).clickhouse(0));
    let database = databases(source, target, &format!("up_{}", release as u8));
    fill_every_type(source, &format!("{database}.hits"), "3000");
    let old = "(d Date, u UInt32, x UInt64) ENGINE = SummingMergeTree(d, intHash32(u), (u, intHash32(u)), 1024, (x))";
    source.query(&format!("CREATE TABLE {database}.old {old}")).unwrap();
    let rows = "SELECT toDate('2018-01-01') + number % 60, number, number FROM system.numbers LIMIT 1000";
    source.query(&format!("INSERT INTO {database}.old {rows}")).unwrap();
    let jobs = job(&database, "hits", "<number_of_splits>3</number_of_splits>") + &job(&database, "old", "");
    let report = copy(source, target, &jobs).await;
    assert_eq!(report.rows(), 4000, "{report}");
    assert_equal(source, target, &database, "hits").await;
    assert_equal(source, target, &database, "old").await;
}

#[apply(modern_ones)]
#[tokio::test]
async fn tables_are_copied_from_modern_servers_to_18_16(#[case] release: Release) {
    let (source, target) = (Lab::shared(release).clickhouse(0), Lab::shared(Release::V18_16).clickhouse(1));
    let database = databases(source, target, &format!("down_{}", release as u8));
    // Types that 18.16 has, in a table with features that it does not have.
    let columns = "d Date CODEC(Delta(2), ZSTD(3)), id UInt64 COMMENT 'it\\'s', s String DEFAULT 'x' TTL d + INTERVAL 100 YEAR, \
                   n Nullable(Int32), a Array(Nullable(String)), u UUID, dec Decimal(18, 4), e Enum8('a' = 1, 'b' = 2), \
                   t DateTime, fl Float64, tu Tuple(UInt8, String), nu Nullable(UUID), m UInt64 MATERIALIZED id * 2, \
                   INDEX i s TYPE minmax GRANULARITY 1, PROJECTION p (SELECT d, sum(id) GROUP BY d), CONSTRAINT c CHECK id >= 0";
    let engine = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id) TTL d + INTERVAL 100 YEAR COMMENT 'of the table'";
    source.query(&format!("CREATE TABLE {database}.hits ({columns}) ENGINE = {engine}")).unwrap();
    let rows = "SELECT toDate('2018-01-01') + number % 60, number, toString(number), if(number % 3 = 0, NULL, -number), \
                [NULL, toString(number)], generateUUIDv4(), number / 3, 'b', toDateTime('2018-01-01 00:00:00', 'UTC') + number, \
                if(number = 7, nan, number / 7), (1, 'x'), if(number % 4 = 0, NULL, generateUUIDv4()) FROM numbers(3000)";
    source.query(&format!("INSERT INTO {database}.hits {rows}")).unwrap();
    let report = copy(source, target, &job(&database, "hits", "")).await;
    assert_eq!(report.rows(), 3000, "{report}");
    assert!(report.tables[0].partitions.iter().all(|partition| partition.compared), "{report}");
    assert_equal(source, target, &database, "hits").await;
}

/// Deleted rows that are still in the parts.
#[apply(modern_ones)]
#[tokio::test]
async fn rows_of_a_lightweight_delete_stay_deleted_in_staging_and_target(#[case] release: Release) {
    let lab = Lab::shared(release);
    let (source, target) = (lab.clickhouse(0), lab.clickhouse(1));
    let database = databases(source, target, "deleted");
    let columns = "(d Date, n UInt64) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY n";
    source.query(&format!("CREATE TABLE {database}.hits {columns}")).unwrap();
    source
        .query(&format!(
            "INSERT INTO {database}.hits SELECT toDate('2024-01-01') + number % 90, number FROM numbers(9000)"
        ))
        .unwrap();
    source.query(&format!("DELETE FROM {database}.hits WHERE n % 3 = 0 OR toYYYYMM(d) = 202402")).unwrap();
    let client = HttpServerClient::new(&Tls::default()).unwrap();
    let name = TableName::new(&database, "hits");
    let parts = client.parts(&node_of(source), &name).await.unwrap();
    assert!(parts.iter().any(|part| part.rows > 0 && !part.exact), "{parts:?}");
    let alive: u64 = source.value(&format!("SELECT count() FROM {database}.hits")).unwrap().parse().unwrap();
    // An Ordinary database, as old servers have them.
    let ordinary = format!("CREATE DATABASE {database}_copy ENGINE = Ordinary");
    target.query_with(&[("allow_deprecated_database_ordinary", "1")], &ordinary).unwrap();
    let report = copy(source, target, &job(&database, "hits", "")).await;
    // All rows of February are deleted, so it is not planned.
    assert_eq!((report.rows(), report.tables[0].partitions.len()), (alive, 2), "{report}");
    assert_equal(source, target, &database, "hits").await;
    // Rows deleted from a staging table stay deleted in the table that gets its parts.
    let [staging, attached] = ["staging", "attached"].map(|table| name.beside(table));
    let definition = client.table(&node_of(source), &name).await.unwrap().unwrap();
    let statement = definition.create_staging(&staging, &["d".into(), "n".into()]).unwrap();
    client.create_table(&node_of(source), &staging, &statement, &Settings::new()).await.unwrap();
    source.query(&format!("CREATE TABLE {attached} {columns}")).unwrap();
    source.query(&format!("INSERT INTO {staging} SELECT toDate('2024-01-01'), number FROM numbers(100)")).unwrap();
    source.query(&format!("DELETE FROM {staging} WHERE n >= 10")).unwrap();
    let ids = [PartitionId("202401".into())];
    for placing in [Placing::Attach, Placing::Replace] {
        client.place(&node_of(source), placing, &attached, &staging, &ids, &Settings::new()).await.unwrap();
        let found = source.value(&format!("SELECT count(), sum(n) FROM {attached}")).unwrap();
        assert_eq!(found, "10\t45", "{placing:?}");
    }
    source.query(&format!("OPTIMIZE TABLE {attached} FINAL")).unwrap();
    assert_eq!(source.value(&format!("SELECT count(), sum(n) FROM {attached}")).unwrap(), "10\t45");
}

/// The text of a value is not the same on every version: `1.50` is `1.5` on later ones.
#[tokio::test]
async fn partition_keys_of_every_type_are_copied_from_18_16_to_modern_servers() {
    let source = Lab::shared(Release::V18_16).clickhouse(2);
    for (release, target) in [("25_8", Release::V25_8), ("26_9", Release::V26_9)] {
        let target = Lab::shared(target).clickhouse(0);
        let database = databases(source, target, &format!("keys_{release}"));
        let columns = "d Date, n UInt64, dec Decimal(9, 2), big Decimal(38, 10), fl Float64, f4 Float32, u UUID, \
                       t DateTime('Europe/Berlin'), fs FixedString(4), e Enum8('a' = 1, 'b,' = 2), i Int32, s String";
        let row = "toDate('2018-01-01') + number % 40, number, toDecimal32(number % 3, 2) / 2, toDecimal128(number % 3, 10) * -100, \
                   (number % 3) / 10, (number % 3) / 7, toUUID('00000000-0000-0000-0000-000000000001'), \
                   toDateTime('2018-03-25 00:00:00', 'UTC') + (number % 3) * 3600, 'ab', if(number % 2 = 0, 'a', 'b,'), \
                   -toInt32(number % 3), if(number % 2 = 0, 'it\\'s', '')";
        let mut jobs = String::new();
        let keys = [
            "dec",
            "big",
            "fl",
            "f4",
            "u",
            "t",
            "fs",
            "e",
            "i",
            "s",
            "(toYYYYMM(d), dec)",
            "(s, e, u)",
            "(s, big)",
            "dec * 2",
            "d",
        ];
        for (i, key) in keys.iter().enumerate() {
            let engine = format!("ENGINE = MergeTree PARTITION BY {key} ORDER BY n");
            source.query(&format!("CREATE TABLE {database}.by_{i} ({columns}) {engine}")).unwrap();
            source.query(&format!("INSERT INTO {database}.by_{i} SELECT {row} FROM system.numbers LIMIT 100")).unwrap();
            if key.starts_with('f') {
                // The program does not create a table with a floating-point partition key, so the test creates it.
                target.query(&format!("CREATE DATABASE IF NOT EXISTS {database}_copy")).unwrap();
                let allowed = format!("{engine} SETTINGS allow_floating_point_partition_key = 1");
                target.query(&format!("CREATE TABLE {database}_copy.by_{i} ({columns}) {allowed}")).unwrap();
            }
            jobs += &job(&database, &format!("by_{i}"), "");
        }
        let report = copy(source, target, &jobs).await;
        let mut wrong = Vec::new();
        for (key, table) in keys.iter().zip(&report.tables) {
            for partition in &table.partitions {
                if partition.rows_published != Some(partition.rows) || !partition.compared {
                    wrong.push(format!("{release} {key}: {partition:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The check before the copy converts the first rows as the copy will.
#[apply(modern_ones)]
#[tokio::test]
async fn conversion_settings_also_apply_to_the_check_before_the_copy(#[case] release: Release) {
    let lab = Lab::shared(release);
    let (source, target) = (lab.clickhouse(0), lab.clickhouse(1));
    let database = databases(source, target, "converted");
    source.query(&format!("CREATE TABLE {database}.hits (n UInt64, t String) ENGINE = MergeTree ORDER BY n")).unwrap();
    let rows = "SELECT number, concat('2018-01-01T00:00:0', toString(number % 10), 'Z') FROM numbers(100)";
    source.query(&format!("INSERT INTO {database}.hits {rows}")).unwrap();
    target.query(&format!("CREATE DATABASE {database}_copy")).unwrap();
    target
        .query(&format!(
            "CREATE TABLE {database}_copy.hits (n UInt64, t DateTime('UTC')) ENGINE = MergeTree ORDER BY n"
        ))
        .unwrap();
    let setting = "cast_string_to_date_time_mode";
    let settings = format!("<settings_pull><{setting}>best_effort</{setting}></settings_pull>");
    let door = HttpServerClient::new(&Tls::default()).unwrap();
    // The texts do not come back as they were written.
    let lossy = "<allow_lossy_conversion>t</allow_lossy_conversion>";
    copy_by(door, &settings, source, target, &job(&database, "hits", lossy)).await;
    let found = target.value(&format!("SELECT count(), countIf(toSecond(t) = n % 10) FROM {database}_copy.hits"));
    assert_eq!(found.unwrap(), "100\t100");
}

#[apply(modern_ones)]
#[tokio::test]
async fn rows_removed_by_a_ttl_of_the_target_are_not_reported_as_lost(#[case] release: Release) {
    let lab = Lab::shared(release);
    let (source, target) = (lab.clickhouse(0), lab.clickhouse(1));
    let database = databases(source, target, "ttl");
    let columns = "(d Date, n UInt64, s String)";
    let engine = "ENGINE = MergeTree PARTITION BY n % 2 ORDER BY n";
    source.query(&format!("CREATE TABLE {database}.hits {columns} {engine}")).unwrap();
    // Of each partition, half is long expired.
    let rows = "SELECT if(number % 4 < 2, toDate('2001-01-01'), today()), number, toString(number) FROM numbers(1000)";
    source.query(&format!("INSERT INTO {database}.hits {rows}")).unwrap();
    target.query(&format!("CREATE DATABASE {database}_copy")).unwrap();
    let ttl = "TTL d + INTERVAL 1 YEAR SETTINGS merge_with_ttl_timeout = 0";
    target.query(&format!("CREATE TABLE {database}_copy.hits {columns} {engine} {ttl}")).unwrap();
    // The client merges before the worker counts, so that the TTL has removed its rows.
    let client = MergingClient::of_database(&format!("{database}_copy"));
    let report = copy_by(client, "", source, target, &job(&database, "hits", "")).await;
    // All rows are staged and compared; then the TTL removes its rows.
    let text = report.to_string();
    assert!(text.contains("TTL") && text.contains("removed 250 of 500 rows"), "{text}");
    let counts: BTreeMap<&str, Option<u64>> = report.tables[0]
        .partitions
        .iter()
        .map(|partition| (partition.name.as_str(), partition.rows_published))
        .collect();
    assert_eq!(counts, BTreeMap::from([("0", Some(250)), ("1", Some(250))]), "{text}");
    assert!(report.tables[0].partitions.iter().all(|partition| partition.rows == 500 && partition.compared));
    let left = format!("SELECT count(), min(d) = today() FROM {database}_copy.hits");
    assert_eq!(target.value(&left).unwrap(), "500\t1");
}

/// Old and new names that the program treats as one setting are aliases on the server. The newest release has the most of them.
#[test]
fn renamed_settings_are_aliases_on_the_server() {
    let server = Lab::shared(Release::V26_9).clickhouse(0);
    for (old, new) in renamed_settings() {
        let alias = |name: &str, alias: &str| format!("name = '{name}' AND alias_for = '{alias}'");
        let sql = format!("SELECT count() FROM system.settings WHERE {} OR {}", alias(old, new), alias(new, old));
        assert_eq!(server.value(&sql).unwrap(), "1", "{old} and {new}");
    }
}
