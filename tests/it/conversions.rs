//! Values that the target's types cannot hold are counted before anything is created.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, scene};

/// A column, its types in the source and in the target, a value that both hold, and one that only the source holds, as
/// the example shows it.
type Case = (&'static str, &'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);

const COLUMNS: &[Case] = &[
    ("e", "Enum8('a' = 1, 'b' = 2, 'zz' = 3)", "Enum8('a' = 1, 'b' = 2)", "'a'", Some(("'zz'", "'zz'"))),
    ("e2", "Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1, 'c' = 2)", "'a'", Some(("'b'", "'b'"))),
    ("e3", "Enum8('a' = 1)", "Enum16('a' = 1, 'b' = 2)", "'a'", None),
    ("i", "Int32", "UInt8", "toInt32(5)", Some(("toInt32(-5000)", "'-5000'"))),
    ("big", "Int64", "UInt64", "toInt64(5)", Some(("toInt64(-1)", "'-1'"))),
    ("wide", "Int16", "Int64", "toInt16(-5)", None),
    ("small", "Int32", "Int8", "toInt32(-5)", None),
    ("fl", "Float64", "Float32", "0.5", Some(("0.1", "'0.1'"))),
    ("fi", "Float64", "Int32", "2.", Some(("1.5", "'1.5'"))),
    (
        "dec",
        "Decimal(18, 6)",
        "Decimal(9, 2)",
        "toDecimal64('1.25', 6)",
        Some(("toDecimal64('1.123456', 6)", "'1.123456'")),
    ),
    ("fs", "String", "FixedString(3)", "'ab'", Some(("'a\\0'", "'a\\0'"))),
    ("sf", "FixedString(3)", "String", "toFixedString('ab', 3)", None),
    ("sn", "String", "UInt32", "'7'", Some(("'007'", "'007'"))),
    (
        "dt",
        "DateTime",
        "Date",
        "toDateTime('2018-01-01 00:00:00')",
        Some(("toDateTime('2018-01-01 00:00:01')", "'2018-01-01 00:00:01'")),
    ),
    ("tz", "DateTime", "DateTime('Asia/Tokyo')", "toDateTime('2018-01-01 00:00:01')", None),
    ("nn", "Nullable(Int32)", "Nullable(Int8)", "NULL", Some(("toInt32(300)", "'300'"))),
    ("ar", "Array(Int32)", "Array(Int8)", "[toInt32(1)]", Some(("[toInt32(1), 300]", "'[1,300]'"))),
    ("tu", "Tuple(UInt8, String)", "Tuple(UInt16, String)", "(toUInt8(1), 'a')", None),
    ("un", "UUID", "String", "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", None),
];

/// Columns of types of later releases.
const MODERN: &[Case] = &[
    ("d32", "Date32", "Date", "toDate32('2018-01-01')", Some(("toDate32('1950-01-01')", "'1950-01-01'"))),
    (
        "d64",
        "DateTime64(3)",
        "DateTime",
        "toDateTime64('2018-01-01 00:00:00', 3)",
        Some(("toDateTime64('2018-01-01 00:00:00.5', 3)", "'2018-01-01 00:00:00.500'")),
    ),
    ("lc", "LowCardinality(String)", "Nullable(String)", "'a'", None),
    ("lci", "LowCardinality(String)", "FixedString(2)", "'a'", Some(("'a\\0'", "'a\\0'"))),
    ("bo", "UInt8", "Bool", "toUInt8(1)", Some(("toUInt8(2)", "'2'"))),
    ("ma", "Map(String, Int32)", "Map(String, Int8)", "map('a', toInt32(1))", Some(("map('a', toInt32(300))", "300"))),
    ("ip", "IPv4", "IPv6", "toIPv4('10.0.0.1')", None),
    ("an", "Array(Nullable(Int16))", "Array(Nullable(Int8))", "[NULL]", Some(("[NULL, toInt16(300)]", "'[NULL,300]'"))),
];

/// Makes a table of each side: ten rows that fit in February 2018, and one that does not in January.
fn make(scene: &Scene, columns: &[&Case]) {
    let typed = |pick: fn(&Case) -> &str| -> String {
        columns.iter().map(|case| format!(", {} {}", case.0, pick(case))).collect()
    };
    let create = |database: &str, table: &str, types: &str| {
        format!("CREATE TABLE {database}.{table} (d Date, id UInt64{types}) {BY_MONTH}")
    };
    scene.ask(0, &create(&scene.src, "hits", &typed(|case| case.1)));
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
    for table in ["hits", "part", "cond"] {
        scene.ask(1, &create(&scene.dst, table, &typed(|case| case.2)));
    }
    let good: Vec<&str> = columns.iter().map(|case| case.3).collect();
    let bad: Vec<&str> = columns.iter().map(|case| case.4.map_or(case.3, |(value, _)| value)).collect();
    for (day, first, values, rows) in [("2018-01-31", 0, bad, 1), ("2018-02-01", 1, good, 10)] {
        let values = values.join(", ");
        let rows = format!("SELECT toDate('{day}'), number + {first}, {values} FROM system.numbers LIMIT {rows}");
        scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    }
    scene.ask(0, &format!("CREATE TABLE {}.nulls (d Date, id UInt64, n Nullable(String)) {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.nulls VALUES ('2018-01-01', 1, NULL), ('2018-01-02', 2, 'a')", scene.src));
    scene.ask(1, &format!("CREATE TABLE {}.nulls (d Date, id UInt64, n String) {BY_MONTH}", scene.dst));
}

#[apply(both)]
fn values_that_the_target_type_cannot_hold_are_refused_unless_allowed(#[case] release: Release) {
    let scene = scene!(release);
    let modern: &[Case] = if release == Release::V18_16 { &[] } else { MODERN };
    let columns: Vec<&Case> = COLUMNS.iter().chain(modern).collect();
    make(&scene, &columns);
    let from = |name: &str| scene.table(name).from(&scene.src, "hits");
    let fine = scene.task(&[&[0]], &[&[1]]).with(from("part").with("enabled_partitions", "201802"));
    let fine = fine.with(from("cond").with("where_condition", "id != 0"));
    let strict = fine.clone().with(scene.table("hits").with("allow_lossy_conversion", "nowhere"));
    let checked = scene.launch(&strict).verb("check").run().with(2);
    let ended = scene.launch(&strict).run().with(2);
    for text in [&checked.stdout, &ended.stderr] {
        let line_about = |name: &str| {
            text.lines().find(|line| line.contains(&format!("hits/allow_lossy_conversion: column {name}:")))
        };
        for case in &columns {
            match (case.4, line_about(case.0)) {
                (Some((_, shown)), Some(line)) => {
                    let words = ["the value of 1 row of", "does not survive", shown, "<allow_lossy_conversion>"];
                    assert!(words.iter().all(|word| line.contains(word)), "{}: {words:?}: {line}", case.0);
                }
                (None, None) => {}
                (expected, line_about) => panic!("{}: {expected:?}, {line_about:?}:\n{text}", case.0),
            }
        }
        assert!(!text.contains("tables/part") && !text.contains("tables/cond"), "{text}");
        assert!(
            text.contains("hits/allow_lossy_conversion: the target") && text.contains("no column `nowhere`"),
            "{text}"
        );
    }
    assert_eq!(scene.children(&strict.path), None, "a refused task made something in ZooKeeper");
    // A NULL for a column without Nullable is refused.
    let nulls = scene.task(&[&[0]], &[&[1]]).at("nulls").with(scene.table("nulls"));
    let ended = scene.run(&nulls);
    assert_ne!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.lines().any(|line| line.contains("nulls") && line.contains("column n")), "{}", ended.stderr);
    // With `<allow_lossy_conversion>` the converted values are copied.
    let lossy: Vec<&str> = columns.iter().filter(|case| case.4.is_some()).map(|case| case.0).collect();
    let task = fine.with(scene.table("hits").with("allow_lossy_conversion", &lossy.join(", ")));
    scene.run(&task).with(0).tells(&["column i: the value of 1 row", "allow_lossy_conversion lets them be copied"]);
    for (table, rows) in [("hits", "11"), ("part", "10"), ("cond", "10")] {
        assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.{table}", scene.dst)), rows, "{table}");
    }
}
