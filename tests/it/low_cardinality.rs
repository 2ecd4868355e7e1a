//! LowCardinality in a relay: at any nesting depth, with few and with many keys, and between releases; and columns whose values a
//! worker cannot split into rows.

use lab::{ClickHouse, Lab, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Task, cluster_of_shards, scene};

const MONTHLY: &str = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";

/// Columns that both releases have.
const COLUMNS: &str = "id UInt64, d Date, s LowCardinality(String), n LowCardinality(Nullable(String)), \
    f LowCardinality(Nullable(FixedString(3))), num LowCardinality(UInt32), dt LowCardinality(Nullable(Date)), \
    fl LowCardinality(Float64), a Array(LowCardinality(String)), an Array(LowCardinality(Nullable(String))), \
    aa Array(Array(LowCardinality(String))), many Array(LowCardinality(String)), \
    t Tuple(LowCardinality(String), UInt8, Array(LowCardinality(UInt16)), UInt8), \
    nest Nested(x LowCardinality(String), y UInt8), z String";

/// `LENGTH` is 1, or 0 for empty arrays. `many` has two keys of its own for each row, `num` and `fl` have one.
const VALUES: &str = "number, toDate('2018-01-01') + number % 40, toString(number % 300), \
    if(number % 3 = 0, NULL, toString(number % 7)), \
    if(number % 4 = 0, NULL, toFixedString(concat('f', toString(number % 90 + 10)), 3)), toUInt32(number), \
    if(number % 5 = 0, NULL, toDate('2018-01-01') + number % 1000), number / 7, \
    arrayMap(x -> toString(x + number % 5), range(number % 4 * LENGTH)), \
    arrayMap(x -> if(x % 2 = 0, NULL, toString(x + number % 5)), range(number % 5 * LENGTH)), \
    arrayMap(x -> arrayMap(y -> toString(y), range(x * LENGTH)), range(number % 3)), \
    arrayMap(x -> toString(number * 2 + x), range(2 * LENGTH)), \
    (toString(number % 11), toUInt8(number % 251), arrayMap(x -> toUInt16(number % 70), range(number % 2 * LENGTH)), \
    toUInt8(number % 7)), arrayMap(x -> toString(x), range(number % 3 * LENGTH)), \
    arrayMap(x -> toUInt8(x), range(number % 3 * LENGTH)), toString(number)";

/// A hash of the texts of a row, which does not depend on dictionaries.
const ROW: &str = "cityHash64(id, d, toString(s), ifNull(toString(n), 'NULL'), ifNull(toString(f), 'NULL'), toString(num), \
    ifNull(toString(dt), 'NULL'), toString(fl), toString(a), toString(an), toString(aa), toString(many), toString(t), \
    toString(nest.x), toString(nest.y), z)";

/// Columns that only modern servers have.
const MODERN_COLUMNS: &str = ", m Map(LowCardinality(String), LowCardinality(Nullable(String))), \
    ta Array(Tuple(a LowCardinality(Nullable(String)), b Array(LowCardinality(UInt16)))), \
    sa SimpleAggregateFunction(anyLast, LowCardinality(String))";
const MODERN_VALUES: &str = ", mapFromArrays(range(number % 3), arrayMap(x -> if(x = 1, NULL, toString(x)), range(number % 3))), \
    arrayMap(x -> (if(x = 1, NULL, toString(x)), arrayMap(y -> toUInt16(y), range(x * LENGTH))), range(number % 3)), \
    toString(number % 13)";
const MODERN_ROW: &str = "cityHash64(ROW, toString(m), toString(ta), toString(sa))";

/// The settings with which a server accepts such columns.
fn allowing(server: &ClickHouse) -> [(&'static str, &'static str); 1] {
    match server.release().is_modern() {
        true => [("allow_suspicious_low_cardinality_types", "1")],
        false => [("allow_experimental_low_cardinality_type", "1")],
    }
}

/// Fills a table `words` on a server with so many rows, whose arrays are all empty where `length` is 0.
fn fill(server: &ClickHouse, database: &str, (columns, values): (&str, &str), length: u8, rows: u32) {
    server.query(&format!("CREATE DATABASE IF NOT EXISTS {database}")).unwrap();
    let allowing = allowing(server);
    server.query_with(&allowing, &format!("CREATE TABLE {database}.words ({columns}) {MONTHLY}")).unwrap();
    let values = values.replace("LENGTH", &length.to_string());
    let rows = format!("(SELECT number FROM system.numbers LIMIT {rows})");
    server.query_with(&allowing, &format!("INSERT INTO {database}.words SELECT {values} FROM {rows}")).unwrap();
}

/// Copies to three shards by relay, and to two and one with the transfer that the program chooses. On 18.16 a push of empty arrays
/// would be unreadable. All arrays of the second source are empty.
#[apply(both)]
fn low_cardinality_columns_are_copied_at_any_nesting_depth(#[case] release: Release) {
    let scene = scene!(release);
    let (columns, values, row) = match release.is_modern() {
        true => {
            (format!("{COLUMNS}{MODERN_COLUMNS}"), format!("{VALUES}{MODERN_VALUES}"), MODERN_ROW.replace("ROW", ROW))
        }
        false => (COLUMNS.to_owned(), VALUES.to_owned(), ROW.to_owned()),
    };
    for (server, length, rows) in [(0, 1, 60_000), (1, 0, 3000)] {
        fill(scene.server(server), &scene.src, (&columns, &values), length, rows);
    }
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]);
    // January has more than one block, and more than 65,535 keys in one.
    task = task.more("<settings_pull><max_block_size>40000</max_block_size></settings_pull>");
    task.targets = vec![scene.lab().cluster("two", &[&[2], &[3]]), scene.lab().cluster("one", &[&[2]])];
    let words = |name: &str| scene.table(name).from(&scene.src, "words").with("where_condition", "s != '7'");
    task = task.with(words("three").with("transfer", "relay").sharding_key("cityHash64(s, id)"));
    task = task.with(words("two").cluster("two").sharding_key("cityHash64(z)"));
    task = task.with(words("one").cluster("one"));
    let ended = scene.run(&task).with(0);
    if !release.is_modern() {
        let why = "since column a has type Array(LowCardinality(String)), whose empty arrays";
        for table in ["two", "one"] {
            let message = format!("table {table}: transfer: relay");
            assert_eq!(ended.stderr.matches(&message).count(), 1, "{}", ended.stderr);
        }
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    let wanted = scene.digest(&[0, 1], &row, &format!("{}.words WHERE s != '7'", scene.src));
    assert!(wanted.rows > 60_000, "{wanted:?}");
    for (table, servers) in [("three", &[2, 3, 4][..]), ("two", &[2, 3]), ("one", &[2])] {
        assert_eq!(scene.digest(servers, &row, &format!("{}.{table}", scene.dst)), wanted, "{table}");
        let astray = match table {
            "three" => "cityHash64(s, id) % 3",
            _ => "cityHash64(z) % 2",
        };
        for (at, &server) in servers.iter().enumerate().filter(|_| servers.len() > 1) {
            let strangers = format!("SELECT countIf({astray} != {at}) FROM {}.{table}", scene.dst);
            assert_eq!(scene.ask(server, &strangers), "0", "{table}");
        }
    }
    scene.check_nothing_left(&task);
}

/// From each of the two releases to two servers of the other one.
#[apply(both)]
fn low_cardinality_columns_are_relayed_between_releases(#[case] release: Release) {
    let scene = scene!(release, for release); // each case has databases on servers of both releases
    let other = if release.is_modern() { Release::V18_16 } else { Release::V25_8 };
    let source = Lab::shared(other).clickhouse(0);
    for (name, length) in [("filled", 1), ("empty", 0)] {
        let database = scene.database(name);
        source.query(&format!("DROP DATABASE IF EXISTS {database}")).unwrap();
        fill(source, &database, (COLUMNS, VALUES), length, 20_000);
    }
    let targets = [0, 1].map(|number| scene.server(number));
    let clusters = (cluster_of_shards("source", &[source]), cluster_of_shards("target", &targets));
    let mut task = Task::new(scene.task_path(), clusters.0, clusters.1);
    task.targets = vec![cluster_of_shards("one", &targets[..1])];
    for name in ["filled", "empty"] {
        let words = |job: String| scene.table(&job).from(&scene.database(name), "words").with("transfer", "relay");
        task = task
            .with(words(format!("{name}_two")).sharding_key("id"))
            .with(words(format!("{name}_one")).cluster("one"));
    }
    scene.run(&task).with(0);
    for name in ["filled", "empty"] {
        let wanted = source.value(&format!("SELECT count(), sum({ROW}) FROM {}.words", scene.database(name))).unwrap();
        for (job, servers) in [("two", &[0, 1][..]), ("one", &[0])] {
            let found = scene.digest(servers, ROW, &format!("{}.{name}_{job}", scene.dst));
            assert_eq!(format!("{}\t{}", found.rows, found.sum), wanted, "{name} {job}");
        }
        source.query(&format!("DROP DATABASE {}", scene.database(name))).unwrap();
    }
}

/// Rows with states of aggregate functions are read once for each target shard.
#[apply(both)]
fn aggregate_states_are_read_once_for_each_target_shard(#[case] release: Release) {
    let scene = scene!(release);
    let columns = "(d Date, id UInt64, u AggregateFunction(uniqExact, UInt64), s AggregateFunction(sum, UInt64), \
                   w LowCardinality(String))";
    let engine = MONTHLY.replace("MergeTree", "AggregatingMergeTree");
    let server = scene.server(0);
    server.query_with(&allowing(server), &format!("CREATE TABLE {}.hits {columns} {engine}", scene.src)).unwrap();
    let rows = "SELECT toDate('2018-01-01') + number % 40 AS d, number AS id, uniqExactState(x), sumState(x), \
                toString(number % 9) FROM (SELECT number, arrayJoin(range(number % 5 + 1)) * number AS x FROM \
                (SELECT number FROM system.numbers LIMIT 20000)) GROUP BY number";
    scene.insert(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    let mut task = scene.task(&[&[0]], &[&[1], &[2], &[3]]);
    task.targets = vec![scene.lab().cluster("two", &[&[1], &[2]])];
    let hits = |name: &str| scene.table(name).from(&scene.src, "hits").sharding_key("id");
    task = task.with(hits("relayed").with("transfer", "relay")).with(hits("chosen").cluster("two"));
    let ended = scene.run(&task).with(0);
    let message = "table relayed: transfer: 3 target shards are served by a SELECT each, since column u has type \
                AggregateFunction(uniqExact, UInt64)";
    assert_eq!(ended.stderr.matches(message).count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
    let row = |from: &str| {
        let read = "SELECT cityHash64(d, id, uniqExactMerge(u), sumMerge(s), toString(any(w))) AS h FROM";
        format!("({read} {from} GROUP BY d, id)")
    };
    let wanted = scene.digest(&[0], "h", &row(&format!("{}.hits", scene.src)));
    assert_eq!(wanted.rows, 20_000);
    for (table, servers) in [("relayed", &[1, 2, 3][..]), ("chosen", &[1, 2])] {
        assert_eq!(scene.digest(servers, "h", &row(&format!("{}.{table}", scene.dst))), wanted, "{table}");
    }
    scene.check_nothing_left(&task);
}

/// 18.16 has no such types.
#[test]
fn json_variant_and_dynamic_columns_are_copied_to_several_shards() {
    let scene = scene!(Release::V25_8);
    let columns = "(d Date, id UInt64, v Variant(UInt64, String, Array(LowCardinality(String))), dy Dynamic, j JSON, \
                   av Array(Variant(UInt8, String)), e Tuple(), p Point, w LowCardinality(String))";
    scene.ask(0, &format!("CREATE TABLE {}.hits {columns} {MONTHLY}", scene.src));
    let rows = "SELECT toDate('2018-01-01') + number % 40, number, \
                multiIf(number % 4 = 0, number::Variant(UInt64, String, Array(LowCardinality(String))), \
                number % 4 = 1, toString(number)::Variant(UInt64, String, Array(LowCardinality(String))), \
                number % 4 = 2, NULL, [toString(number)]::Array(LowCardinality(String))::Variant(UInt64, String, Array(LowCardinality(String)))), \
                if(number % 2 = 0, number::Dynamic, toString(number)::Dynamic), \
                concat('{\"a\": ', toString(number), ', \"b\": {\"k', toString(number % 9), '\": [1, null]}}'), \
                [number::UInt8::Variant(UInt8, String), 'x'::Variant(UInt8, String)], tuple(), (number, 1), toString(number % 9) FROM numbers(20000)";
    scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    let mut task = scene.task(&[&[0]], &[&[1], &[2], &[3]]);
    task.targets = vec![scene.lab().cluster("two", &[&[1], &[2]])];
    let hits = |name: &str| scene.table(name).from(&scene.src, "hits").sharding_key("id");
    task = task.with(hits("relayed").with("transfer", "relay")).with(hits("chosen").cluster("two"));
    let ended = scene.run(&task).with(0);
    let message =
        "table relayed: transfer: 3 target shards are served by a SELECT each, since column v has type Variant(";
    assert_eq!(ended.stderr.matches(message).count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
    let row = "cityHash64(d, id, toString(v), variantType(v)::String, toString(dy), dynamicType(dy), toString(j), toString(av), \
               toString(p), toString(w))";
    let wanted = scene.digest(&[0], row, &format!("{}.hits", scene.src));
    for (table, servers) in [("relayed", &[1, 2, 3][..]), ("chosen", &[1, 2])] {
        assert_eq!(scene.digest(servers, row, &format!("{}.{table}", scene.dst)), wanted, "{table}");
    }
    scene.check_nothing_left(&task);
}
