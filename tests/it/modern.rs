//! Definitions, and what a broken relay says, on modern servers: what 18.16 has not.

use std::sync::Arc;

use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{Destination, Origin, Placing, ServerClient, Settings, Transfer};
use clickhouse_copier::model::{Node, PartitionId, TableName, Tls, Way};
use clickhouse_copier::nodes::settings::wanted_for_target;
use clickhouse_copier::sql;
use clickhouse_copier::sql::{Column, Relation, Selection};
use clickhouse_copier::task::{GivenSecrets, Task};
use lab::{ClickHouse, Lab, Release};
use rstest_reuse::apply;

use crate::modern_ones;

pub fn node_of(server: &ClickHouse) -> Arc<Node> {
    Arc::new(Node::new(server.host()))
}

/// Two servers of a release, and a name for a database of which nothing exists.
fn modern(release: Release, test: &str) -> (HttpServerClient, [Arc<Node>; 2], String) {
    let nodes = [0, 1].map(|index| node_of(Lab::shared(release).clickhouse(index)));
    (HttpServerClient::new(&Tls::default()).unwrap(), nodes, format!("it_modern__{test}"))
}

/// The trap of old servers (docs/clickhouse-behaviour.md, T4), closed in 26.6.
#[tokio::test]
async fn a_replace_from_nothing_is_refused() {
    let (client, [node, _], database) = modern(Release::V26_9, "refused");
    let server = Lab::shared(Release::V26_9).clickhouse(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for name in ["a", "empty"] {
        let engine = "ENGINE = MergeTree PARTITION BY intDiv(n, 10) ORDER BY n";
        server.query(&format!("CREATE TABLE {database}.{name} (n UInt32) {engine}")).unwrap();
    }
    server.query(&format!("INSERT INTO {database}.a SELECT number FROM numbers(20)")).unwrap();
    let [a, empty] = ["a", "empty"].map(|name| TableName::new(&database, name));
    let refused = client.place(&node, Placing::Replace, &a, &empty, &[PartitionId("1".into())], &Settings::new()).await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Some(36), "{refused:?}");
    assert_eq!(server.value(&format!("SELECT count() FROM {database}.a")).unwrap(), "20");
}

/// Between 18.16 and this one, the ways to say so have changed twice (docs/clickhouse-behaviour.md, §10).
#[apply(modern_ones)]
#[tokio::test]
async fn an_error_in_the_middle_of_a_relay_is_the_sources_own(#[case] release: Release) {
    let (client, [one, two], database) = modern(release, "broken_relay");
    for node in [0, 1] {
        let server = Lab::shared(release).clickhouse(node);
        server.query(&format!("CREATE DATABASE {database}")).unwrap();
        server.query(&format!("CREATE TABLE {database}.t (n UInt64) ENGINE = MergeTree ORDER BY n")).unwrap();
    }
    let from = Lab::shared(release).clickhouse(0);
    from.query(&format!("INSERT INTO {database}.t SELECT number FROM numbers(2000000)")).unwrap();
    let name = TableName::new(&database, "t");
    let transfer = |value: &str, compress: bool| Transfer {
        way: Way::Relay,
        from: vec![Origin {
            node: one.clone(),
            settings: vec![("max_block_size".into(), "10000".into()), ("max_threads".into(), "1".into())],
        }],
        to: vec![Destination::of_all(&two, format!("{database}:{}", value.len()))],
        dealt: None,
        into: name.clone(),
        columns: vec!["n".into()],
        values: vec![value.to_owned()],
        rows: Selection::all(Relation::plain(name.clone())),
        compress,
        throttles: Vec::new(),
        course: Arc::default(),
    };
    for compress in [true, false] {
        let failed = client.transfer(&transfer("n + throwIf(n = 1900000)", compress)).await.unwrap_err();
        assert_eq!((failed.code(), failed.node.as_str()), (Some(395), one.to_string().as_str()), "{failed}");
        client.transfer(&transfer("n", compress)).await.unwrap();
    }
}

/// A table with what 18.16 has not.
pub struct Feature {
    pub name: &'static str,
    pub columns: &'static str,
    pub engine: &'static str,
    /// A row, as a SELECT over `number`.
    pub row: &'static str,
}

const MONTHLY: &str = "MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, n)";

pub const FEATURES: &[Feature] = &[
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
        name: "variants",
        columns: "d Date, n UInt64, v Variant(UInt8, UInt16), av Array(Variant(Date, DateTime)), g Geometry, \
                  mn Map(LowCardinality(String), Nullable(Decimal(18, 3))), tn Tuple(a Nullable(UUID), b Tuple(c Decimal(9, 2)))",
        engine: MONTHLY,
        row: "toDate('2024-01-15') + number, number, toUInt16(number), [toDate('2024-01-01')], \
              (1., 2.)::Point, map('a', NULL, 'b', 1.5), (NULL, tuple(2.5))",
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
        columns: "d Date CODEC(DoubleDelta, LZ4), n UInt64 COMMENT 'it\\'s, a \\\\ comment' CODEC(Delta(8), ZSTD(3)), \
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

/// What the program sends with a statement that repeats a definition.
pub async fn as_written(client: &dyn ServerClient, node: &Node) -> Settings {
    let replica = format!("<shard><replica><host>{}</host></replica></shard>", node.host);
    let xml = format!(
        "<clickhouse><remote_servers><a>{replica}</a></remote_servers><tables><t><cluster_pull>a</cluster_pull>\
         <database_pull>a</database_pull><table_pull>a</table_pull><cluster_push>a</cluster_push>\
         <database_push>a</database_push><table_push>b</table_push></t></tables></clickhouse>"
    );
    let task = Task::parse(&xml, &GivenSecrets::default()).unwrap().task;
    client.server(node).await.unwrap().known(&wanted_for_target(&task).into_iter().collect::<Vec<_>>())
}

/// What is made of a definition holds the same, and its parts fit.
#[apply(modern_ones)]
#[tokio::test]
async fn definitions_survive_with_everything_they_have(#[case] release: Release) {
    let (client, [node, _], database) = modern(release, "features");
    let (server, settings) = (Lab::shared(release).clickhouse(0), as_written(&client, &node).await);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    let mut failures = Vec::new();
    for feature in FEATURES {
        if let Err(why) = survives(&client, server, &node, &database, feature, &settings).await {
            failures.push(format!("{}: {why}", feature.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn survives(
    client: &HttpServerClient,
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
        client.create_table(node, &a, &create, settings).await?;
    }
    let table = client.table(node, &a).await?.ok_or("not there")?;
    let stored: Vec<String> =
        table.columns.iter().filter(|c| c.default_kind.is_inserted()).map(|c| c.name.clone()).collect();
    let names: Vec<String> = stored.iter().map(|name| sql::quote::ident(name)).collect();
    server.query(&format!("INSERT INTO {a} ({}) SELECT {} FROM numbers(40)", names.join(", "), feature.row))?;
    // Its keys are expressions that the server evaluates.
    let all = Selection::all(Relation::plain(a.clone()));
    for (_, key) in table.engine.expressions() {
        if !sql::key_elements(&key).is_empty() {
            client.types(node, Some(&all), &[format!("({key})")]).await?;
        }
    }
    // The copy is described in the same words.
    client.create_table(node, &b, &table.create(&b, &table.engine), settings).await?;
    let copy = client.table(node, &b).await?.ok_or("no copy")?;
    for (what, same) in [
        ("engine", copy.engine == table.engine),
        ("columns", copy.columns == table.columns),
        ("declarations", copy.declarations == table.declarations),
        ("sorting key", copy.sorting_key == table.sorting_key),
        ("comment", copy.comment == table.comment && copy.comment.is_some() == feature.engine.contains("COMMENT")),
    ] {
        if !same {
            return Err(format!("{what} differs:\n{table:?}\n{copy:?}").into());
        }
    }
    // Staging takes every value that is stored, and gives its partitions to the copy.
    let order: Vec<String> =
        table.columns.iter().filter(|c| stores(c)).map(|column| column.name.clone()).rev().collect();
    let staging = table.create_staging(&st, &order).ok_or("no staging")?;
    client.create_table(node, &st, &staging, settings).await.map_err(|e| format!("{e}\n{staging}"))?;
    let names: Vec<String> = order.iter().map(|name| sql::quote::ident(name)).collect();
    let names = names.join(", ");
    server.query(&format!("INSERT INTO {st} ({names}) SELECT {names} FROM {a}"))?;
    let parts = client.parts(node, &st).await?;
    let ids: Vec<PartitionId> = parts.into_iter().map(|part| part.id).collect();
    client.place(node, Placing::Attach, &b, &st, &ids, settings).await?;
    client.place(node, Placing::Replace, &b, &st, &ids, settings).await?;
    let want = client.checksum(node, &a, None, &table.columns).await?;
    let got = client.checksum(node, &b, None, &table.columns).await?;
    let read =
        server.query(&format!("SELECT count() FROM (SELECT {names} FROM {b} INTERSECT SELECT {names} FROM {a})"));
    if want.0 != 40 || got != want {
        return Err(format!("{want:?} became {got:?} ({read:?})").into());
    }
    Ok(())
}

/// Views, dictionaries and engines without keys are read too, whether they can be copied or not.
#[apply(modern_ones)]
#[tokio::test]
async fn tables_of_every_engine_are_read(#[case] release: Release) {
    let (client, [node, _], database) = modern(release, "engines");
    let server = Lab::shared(release).clickhouse(0);
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
        let table = client.table(&node, &name).await.unwrap().unwrap();
        assert_eq!(table.engine.name, engine, "{table:?}");
        assert!(!table.engine.is_merge_tree() && !table.columns.is_empty(), "{table:?}");
    }
}

fn stores(column: &Column) -> bool {
    matches!(column.default_kind, sql::DefaultKind::None | sql::DefaultKind::Default | sql::DefaultKind::Materialized)
}
