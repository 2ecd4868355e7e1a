//! Tables with features that 18.16 does not have.

use std::sync::Arc;

use clickhouse_copier::client::{ServerClient, Settings};
use clickhouse_copier::model::Node;
use clickhouse_copier::nodes::settings::wanted_for_target;
use clickhouse_copier::task::{GivenSecrets, Task};
use lab::ClickHouse;

/// Returns the node of a task that is this server.
pub fn node_of(server: &ClickHouse) -> Arc<Node> {
    Arc::new(Node::new(server.host()))
}

/// A table with features that 18.16 does not have.
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

/// Returns the settings that the program sends with a statement that repeats a definition.
pub async fn settings_for_definitions(client: &dyn ServerClient, node: &Node) -> Settings {
    let replica = format!("<shard><replica><host>{}</host></replica></shard>", node.host);
    let xml = format!(
        "<clickhouse><remote_servers><a>{replica}</a></remote_servers><tables><t><cluster_pull>a</cluster_pull>\
         <database_pull>a</database_pull><table_pull>a</table_pull><cluster_push>a</cluster_push>\
         <database_push>a</database_push><table_push>b</table_push></t></tables></clickhouse>"
    );
    let task = Task::parse(&xml, &GivenSecrets::default()).unwrap().task;
    client.server(node).await.unwrap().known(&wanted_for_target(&task).into_iter().collect::<Vec<_>>())
}
