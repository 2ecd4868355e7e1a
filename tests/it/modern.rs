//! The door to ClickHouse on a modern node (26.9): the suite that runs on 18.16, and definitions with what 18.16 has not.
//!
//! The node has no native port, so rows travel through the test, in Native format over HTTP. Left out of the suite, since
//! they are about that port or about replication, which the node has not: `a_push_tells_what_is_missing`,
//! `a_node_reaches_another`, `a_replicated_table_takes_the_same_part_once`. And `replace_from_nothing_empties`, since 26.6
//! and later refuse that.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use clickhouse::{Client, Compression};
use clickhouse_copier::cluster::http::HttpWarehouse;
use clickhouse_copier::cluster::{
    Error, Kind, PartSizes, Placing, Push, ReplicaState, Running, ServerFacts, Settings, Tally, Warehouse,
};
use clickhouse_copier::model::{Node, PartitionId, PartitionValue, Secret, TableName, Tls};
use clickhouse_copier::sql::{self, Column, KeyElement, Relation, Selection, TableDefinition};
use clickhouse_copier::warehouse_conformance;
use lab::{ClickHouse, Lab};

/// The production warehouse, but for a push.
struct Relayed(HttpWarehouse);

macro_rules! all_but_push {
    ($($name:ident($($argument:ident: $type:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Warehouse for Relayed {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$out, Error> {
                self.0.$name($($argument),*).await
            })*

            async fn push(&self, push: &Push) -> Result<(), Error> {
                let columns = self.0.table(&push.to, &push.into).await?.map(|table| table.columns).unwrap_or_default();
                relay(push, &columns).await.map_err(|error| Error {
                    node: push.from.to_string(),
                    doing: "cannot relay".into(),
                    kind: Kind::Answer(error.to_string()),
                })
            }
        }
    };
}

all_but_push! {
    server(node: &Node) -> ServerFacts;
    database_exists(node: &Node, database: &str) -> bool;
    table(node: &Node, name: &TableName) -> Option<TableDefinition>;
    tables_with_prefix(node: &Node, database: &str, prefix: &str) -> Vec<String>;
    replica_state(node: &Node, name: &TableName) -> Option<ReplicaState>;
    reaches(from: &Node, to: &Node) -> ();
    zookeeper_children(node: &Node, path: &str) -> Option<Vec<String>>;
    parts(node: &Node, name: &TableName) -> Vec<PartSizes>;
    displaced_parts(node: &Node, name: &TableName, ids: &[PartitionId]) -> u64;
    tally(node: &Node, rows: &Selection, key: &[KeyElement], settings: &Settings) -> Vec<Tally>;
    rows_by_partition(node: &Node, name: &TableName, only: Option<&[PartitionId]>) -> BTreeMap<PartitionId, u64>;
    values_by_partition(node: &Node, name: &TableName, key: &[KeyElement]) -> Vec<(PartitionId, PartitionValue, u64)>;
    checksum(node: &Node, name: &TableName, id: Option<&PartitionId>, columns: &[Column]) -> (u64, u64);
    sample_keys(node: &Node, rows: &Selection, columns: &[KeyElement], every: u64, settings: &Settings) -> Vec<Vec<String>>;
    types(node: &Node, over: Option<&Selection>, expressions: &[String]) -> Vec<String>;
    evaluate(node: &Node, over: &Selection, expressions: &[String], rows: u64) -> ();
    running(node: &Node, prefix: &str) -> Vec<Running>;
    kill(node: &Node, prefix: &str) -> ();
    create_database(node: &Node, database: &str, settings: &Settings) -> ();
    create_table(node: &Node, name: &TableName, statement: &str, settings: &Settings) -> ();
    drop_table(node: &Node, name: &TableName, settings: &Settings) -> ();
    rename(node: &Node, pairs: &[(TableName, TableName)]) -> ();
    stop_merges(node: &Node, name: &TableName) -> ();
    sync_replica(node: &Node, name: &TableName) -> ();
    place(node: &Node, placing: Placing, into: &TableName, from: &TableName, ids: &[PartitionId], settings: &Settings) -> ();
    drop_partitions(node: &Node, name: &TableName, ids: &[PartitionId], settings: &Settings) -> ();
    insert_partition(node: &Node, into: &TableName, from: &TableName, columns: &[String], id: &PartitionId, settings: &Settings) -> ();
}

/// Rows from one node to another, as they come. Native rows find their columns by name, so the values get the names of the
/// target's, in a query around the one that computes them: there they would hide the source's columns.
async fn relay(push: &Push, columns: &[Column]) -> Result<(), clickhouse::error::Error> {
    let client = |node: &Node| Client::default().with_url(node.url()).with_compression(Compression::None);
    let named = |(number, value): (usize, &String)| format!("{value} AS `relayed {number}`");
    let values: Vec<String> = push.values.iter().enumerate().map(named).collect();
    let renamed =
        |(number, column): (usize, &Column)| format!("`relayed {number}` AS {}", sql::quote::ident(&column.name));
    let outer: Vec<String> = columns.iter().enumerate().map(renamed).collect();
    let select = format!("SELECT {} FROM ({})", outer.join(", "), sql::first_rows(&push.rows, &values, 1 << 40));
    let mut rows =
        client(&push.from).query_raw(&select).with_setting("query_id", &push.query_id).fetch_bytes("Native")?;
    let into = format!("INSERT INTO {} FORMAT Native", sql::quote::table(&push.into));
    let mut insert = client(&push.to).insert_formatted_with(into);
    while let Some(bytes) = rows.next().await? {
        insert.send(bytes).await?;
    }
    insert.end().await
}

fn node_of(server: &ClickHouse) -> Arc<Node> {
    Arc::new(Node {
        host: server.host().to_owned(),
        port: 9000,
        http_port: 8123,
        user: "default".into(),
        password: Secret::default(),
        secure: false,
        default_database: None,
        named_collection: None,
    })
}

async fn modern(test: &str) -> (Relayed, [Arc<Node>; 2], String) {
    let lab = Lab::shared_modern();
    (
        Relayed(HttpWarehouse::new(&Tls::default()).unwrap()),
        [0, 1].map(|index| node_of(lab.modern(index))),
        format!("it_modern__{test}"),
    )
}

warehouse_conformance!(modern:
    databases_and_tables_come_and_go,
    what_is_missing_or_there_already_is_told_by_its_code,
    a_definition_comes_back_as_it_was_written,
    rows_are_counted_alike_in_every_way,
    a_push_lands_the_chosen_rows_on_their_shard,
    slices_hold_every_row_once,
    attach_adds_and_replace_takes_the_place,
    expressions_have_types_or_codes,
    a_statement_that_has_ended_is_not_running,
);

/// The trap of old servers (facts file, T4), closed.
#[tokio::test]
async fn a_replace_from_nothing_is_refused() {
    let (warehouse, [node, _], database) = modern("refused").await;
    let server = Lab::shared_modern().modern(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for name in ["a", "empty"] {
        let engine = "ENGINE = MergeTree PARTITION BY intDiv(n, 10) ORDER BY n";
        server.query(&format!("CREATE TABLE {database}.{name} (n UInt32) {engine}")).unwrap();
    }
    server.query(&format!("INSERT INTO {database}.a SELECT number FROM numbers(20)")).unwrap();
    let [a, empty] = ["a", "empty"].map(|name| TableName::new(&database, name));
    let refused =
        warehouse.place(&node, Placing::Replace, &a, &empty, &[PartitionId("1".into())], &Settings::new()).await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Some(36), "{refused:?}");
    assert_eq!(server.value(&format!("SELECT count() FROM {database}.a")).unwrap(), "20");
}

/// A table with what 18.16 has not.
struct Feature {
    name: &'static str,
    columns: &'static str,
    engine: &'static str,
    /// A row, as a SELECT over `number`.
    row: &'static str,
}

const MONTHLY: &str = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, n)";

const FEATURES: &[Feature] = &[
    Feature {
        name: "types",
        columns: "d Date, n UInt64, lc LowCardinality(String), lcn LowCardinality(Nullable(String)), m Map(String, Array(UInt8)), \
                  j JSON, jt JSON(a UInt32, SKIP b), v Variant(UInt64, String, Array(UInt8)), dy Dynamic, dm Dynamic(max_types = 4), \
                  t Tuple(a UInt8, `b c` Nullable(String)), e8 Enum8('a' = 1, 'b,)' = -2), e16 Enum16('it\\'s' = 1000), \
                  d256 Decimal(76, 20), i256 Int256, u128 UInt128, d32 Date32, dt DateTime('Europe/Berlin'), \
                  dt64 DateTime64(6, 'Asia/Tokyo'), ip4 IPv4, ip6 IPv6, u UUID, b Bool, bf BFloat16, tm Time, tm64 Time64(3)",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, 'a', NULL, map('k', [1, 2]), '{\"x\": {\"y\": [1, 2]}}', '{\"a\": 7, \"z\": 1}', \
              'text', 42, 'text', (1, NULL), 'b,)', 'it\\'s', 1.5, -1, 1, '1950-01-01', toDateTime('2024-01-01 00:00:00'), \
              '2024-01-01 00:00:00.123456', '1.2.3.4', '::1', generateUUIDv4(), true, 1.5, '10:00:00', '10:00:00.123'",
    },
    Feature {
        name: "geo",
        columns: "d Date, n UInt64, p Point, r Ring, po Polygon, mp MultiPolygon, ls LineString, ml MultiLineString",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, (1., 2.), [(1., 2.)], [[(1., 2.)]], [[[(1., 2.)]]], [(1., 2.)], [[(1., 2.)]]",
    },
    Feature {
        name: "nested",
        columns: "d Date, n UInt64, nest Nested(a UInt8, `b.c` String), arr Array(Tuple(x Int8, y Array(Nullable(Int8))))",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, [1, 2], ['a', 'b'], [(1, [NULL, 1])]",
    },
    Feature {
        name: "unflattened",
        columns: "d Date, n UInt64, nest Nested(a UInt8, `b.c` String), deep Nested(x Nested(y UInt8))",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, [(1, 'a')], [tuple([tuple(1)])]",
    },
    Feature {
        name: "suspicious",
        columns: "d Date, n UInt64, lc LowCardinality(UInt8), f FixedString(300), c Int32 CODEC(Delta(4), LZ4, ZSTD(1))",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, 1, 'f', 1",
    },
    Feature {
        name: "states",
        columns: "d Date, n UInt64, a AggregateFunction(quantiles(0.5, 0.9), UInt64), s SimpleAggregateFunction(sum, UInt64), \
                  st AggregateFunction(uniqExact, String, Nullable(UInt8))",
        engine: "AggregatingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, n)",
        row: "toDate('2024-01-15') + number, number, initializeAggregation('quantilesState(0.5, 0.9)', number), number, \
              initializeAggregation('uniqExactState', 'a', toNullable(toUInt8(1)))",
    },
    Feature {
        name: "columns",
        columns: "d Date CODEC(DoubleDelta, LZ4), n UInt64 CODEC(Delta(8), ZSTD(3)) COMMENT 'it\\'s, a \\\\ comment', \
                  s String DEFAULT concat('x,)', toString(n)) COMMENT 'CODEC' CODEC(NONE) TTL d + INTERVAL 100 YEAR, \
                  m UInt64 MATERIALIZED n * 2, al String ALIAS upper(s), ep String EPHEMERAL 'e', \
                  st String STATISTICS(uniq) SETTINGS (min_compress_block_size = 4096), \
                  `default` UInt8 DEFAULT 1, `comment` UInt8, `index` UInt8, `projection` UInt8, `a``b` UInt8, \
                  INDEX i1 s TYPE bloom_filter(0.01) GRANULARITY 2, INDEX i2 (n, lower(s)) TYPE set(100), \
                  INDEX i3 s TYPE tokenbf_v1(256, 2, 0), INDEX i4 n TYPE minmax, \
                  PROJECTION p (SELECT d, sum(n), count() GROUP BY d), PROJECTION q (SELECT n, s ORDER BY s), \
                  CONSTRAINT c CHECK n >= 0 AND s != ')', CONSTRAINT asu ASSUME length(s) >= 0",
        engine: "MergeTree PARTITION BY toYYYYMM(d) PRIMARY KEY (d, n) ORDER BY (d, n, `default`) SAMPLE BY n \
                 TTL d + INTERVAL 100 YEAR DELETE WHERE n > 5, d + INTERVAL 90 YEAR RECOMPRESS CODEC(ZSTD(9)) \
                 SETTINGS index_granularity = 1024, min_bytes_for_wide_part = 0, ttl_only_drop_parts = 1, \
                 deduplicate_merge_projection_mode = 'drop' COMMENT 'a table; it\\'s'",
        row: "toDate('2024-01-15') + number, number, 's', 'st', 2, 3, 4, 5, 6",
    },
    Feature {
        name: "descending",
        columns: "d Date, n UInt64, s String",
        engine: "MergeTree PARTITION BY (toMonday(d), s) ORDER BY (d, n DESC) SETTINGS allow_experimental_reverse_key = 1",
        row: "toDate('2024-01-15') + number, number, 'it\\'s'",
    },
    Feature {
        name: "unsorted",
        columns: "d Date, n UInt64",
        engine: "MergeTree ORDER BY tuple()",
        row: "toDate('2024-01-15') + number, number",
    },
    Feature {
        name: "expressions",
        columns: "d DateTime64(3), n Nullable(Int64), s String",
        engine: "ReplacingMergeTree PARTITION BY (toStartOfWeek(d), cityHash64(s) % 2) ORDER BY (n, lower(s), toDate(d)) \
                 SETTINGS allow_nullable_key = 1, add_minmax_index_for_numeric_columns = 1",
        row: "toDateTime64('2024-01-15 00:00:00', 3) + number, number, toString(number)",
    },
    Feature {
        name: "sparse",
        columns: "d Date, n UInt64, z UInt64, s String",
        engine: "MergeTree PARTITION BY toYYYYMM(d) ORDER BY n \
                 SETTINGS ratio_of_defaults_for_sparse_serialization = 0.1, enable_block_number_column = 1, enable_block_offset_column = 1",
        row: "toDate('2024-01-15') + number, number, if(number = 7, 1, 0), ''",
    },
];

/// What a statement that repeats a definition needs: Nested columns as they are written, and what the server only warns of.
fn as_written() -> Settings {
    let names =
        ["allow_suspicious_low_cardinality_types", "allow_suspicious_fixed_string_types", "allow_suspicious_codecs"];
    let allowed = names.map(|name| (name.to_owned(), "1".to_owned()));
    allowed.into_iter().chain([("flatten_nested".to_owned(), "0".to_owned())]).collect()
}

/// What is made of a definition holds the same, and its parts fit.
#[tokio::test]
async fn definitions_survive_with_everything_they_have() {
    let (warehouse, [node, _], database) = modern("features").await;
    let (server, settings) = (Lab::shared_modern().modern(0), as_written());
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    let mut failures = Vec::new();
    for feature in FEATURES {
        if let Err(why) = survives(&warehouse, server, &node, &database, feature, &settings).await {
            failures.push(format!("{}: {why}", feature.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn survives(
    warehouse: &Relayed,
    server: &ClickHouse,
    node: &Node,
    database: &str,
    feature: &Feature,
    settings: &Settings,
) -> Result<(), Box<dyn std::error::Error>> {
    let [a, b, st] = ["a", "b", "st"].map(|kind| TableName::new(database, format!("{}_{kind}", feature.name)));
    let create = format!("CREATE TABLE {a} ({}) ENGINE = {}", feature.columns, feature.engine);
    if feature.name == "nested" {
        server.query(&create)?; // flattened
    } else {
        warehouse.create_table(node, &a, &create, settings).await?;
    }
    let table = warehouse.table(node, &a).await?.ok_or("not there")?;
    let stored: Vec<String> =
        table.columns.iter().filter(|c| c.default_kind.is_inserted()).map(|c| c.name.clone()).collect();
    let names: Vec<String> = stored.iter().map(|name| sql::quote::ident(name)).collect();
    server.query(&format!("INSERT INTO {a} ({}) SELECT {} FROM numbers(40)", names.join(", "), feature.row))?;
    // Its keys are expressions that the server evaluates.
    let all = Selection::all(Relation::plain(a.clone()));
    for (_, key) in table.engine.expressions() {
        if !sql::key_elements(&key).is_empty() {
            warehouse.types(node, Some(&all), &[format!("({key})")]).await?;
        }
    }
    // The copy is described in the same words.
    warehouse.create_table(node, &b, &table.create(&b, &table.engine, true), settings).await?;
    let copy = warehouse.table(node, &b).await?.ok_or("no copy")?;
    for (what, same) in [
        ("engine", copy.engine == table.engine),
        ("columns", copy.columns == table.columns),
        ("declarations", copy.declarations == table.declarations),
        ("sorting key", copy.sorting_key == table.sorting_key),
    ] {
        if !same {
            return Err(format!("{what} differs:\n{table:?}\n{copy:?}").into());
        }
    }
    // Staging takes every value that is stored, and gives its partitions to the copy.
    let order: Vec<String> =
        table.columns.iter().filter(|c| stores(c)).map(|column| column.name.clone()).rev().collect();
    let staging = table.create_staging(&st, &order).ok_or("no staging")?;
    warehouse.create_table(node, &st, &staging, settings).await.map_err(|e| format!("{e}\n{staging}"))?;
    let names: Vec<String> = order.iter().map(|name| sql::quote::ident(name)).collect();
    let names = names.join(", ");
    server.query(&format!("INSERT INTO {st} ({names}) SELECT {names} FROM {a}"))?;
    let parts = warehouse.parts(node, &st).await?;
    let ids: Vec<PartitionId> = parts.into_iter().map(|part| part.id).collect();
    warehouse.place(node, Placing::Attach, &b, &st, &ids, settings).await?;
    warehouse.place(node, Placing::Replace, &b, &st, &ids, settings).await?;
    let want = warehouse.checksum(node, &a, None, &table.columns).await?;
    let got = warehouse.checksum(node, &b, None, &table.columns).await?;
    let read =
        server.query(&format!("SELECT count() FROM (SELECT {names} FROM {b} INTERSECT SELECT {names} FROM {a})"));
    if want.0 != 40 || got != want {
        return Err(format!("{want:?} became {got:?} ({read:?})").into());
    }
    Ok(())
}

/// Views, dictionaries and engines without keys are read too, whether they can be copied or not.
#[tokio::test]
async fn tables_of_every_engine_are_read() {
    let (warehouse, [node, _], database) = modern("engines").await;
    let server = Lab::shared_modern().modern(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for (name, engine, statement) in [
        ("memory", "Memory", "TABLE @ (n UInt8) ENGINE = Memory"),
        ("log", "Log", "TABLE @ (n UInt8) ENGINE = Log"),
        ("stripe", "StripeLog", "TABLE @ (n UInt8) ENGINE = StripeLog"),
        ("nothing", "Null", "TABLE @ (n UInt8) ENGINE = Null COMMENT 'ORDER BY (it\\'s)'"),
        ("set", "Set", "TABLE @ (n UInt8) ENGINE = Set"),
        ("join", "Join", "TABLE @ (n UInt8) ENGINE = Join(ANY, LEFT, n) SETTINGS persistent = 0"),
        ("buffer", "Buffer", "TABLE @ (n UInt8) ENGINE = Buffer('default', 'x', 1, 10, 100, 1, 10, 1, 10)"),
        ("merge", "Merge", "TABLE @ (n UInt8) ENGINE = Merge(currentDatabase(), '^x')"),
        ("file", "File", "TABLE @ (n UInt8) ENGINE = File(TSV)"),
        ("view", "View", "VIEW @ (n UInt8) AS SELECT 1 AS n WHERE (1 = 1)"),
        (
            "inner",
            "MaterializedView",
            "MATERIALIZED VIEW @ ENGINE = MergeTree ORDER BY tuple() AS SELECT toUInt8(dummy) AS n FROM system.one",
        ),
        (
            "words",
            "Dictionary",
            "DICTIONARY @ (n UInt64, s String DEFAULT '') PRIMARY KEY n SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)",
        ),
    ] {
        let name = TableName::new(&database, name);
        server.query(&format!("CREATE {}", statement.replace('@', &name.to_string()))).unwrap();
        let table = warehouse.table(&node, &name).await.unwrap().unwrap();
        assert_eq!(table.engine.name, engine, "{table:?}");
        assert!(!table.engine.is_merge_tree() && !table.columns.is_empty(), "{table:?}");
    }
}

fn stores(column: &Column) -> bool {
    matches!(column.default_kind, sql::DefaultKind::None | sql::DefaultKind::Default | sql::DefaultKind::Materialized)
}
