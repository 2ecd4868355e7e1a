//! Values of partition keys: each value is its own partition, for any text and any bytes, and all its rows are copied.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Table, scene};

/// The number of rows of each table: a multiple of every number of values.
const ROWS: u32 = 120;

/// A type of a partition key and its values, as SQL expressions. The rows have the values in turn.
struct Key {
    name: &'static str,
    type_name: &'static str,
    values: &'static [&'static str],
}

/// Texts that are the same number, bytes that are not valid text, and control characters.
const TEXTS: &[&str] =
    &["'007'", "'7'", "'08'", "'00'", "'+1'", "'1'", "'-0'", "'0'", "''", r"'\xFF'", r"'\xFF\0'", r"'it\'s \x1b[2J\\'"];

const KEYS: &[Key] = &[
    Key { name: "text", type_name: "String", values: TEXTS },
    Key {
        name: "fixed",
        type_name: "FixedString(2)",
        values: &[
            r"toFixedString('01', 2)",
            r"toFixedString('1', 2)",
            r"toFixedString('', 2)",
            r"toFixedString('\xFF\xFE', 2)",
        ],
    },
    Key { name: "hash", type_name: "FixedString(16)", values: &["MD5('a')", "MD5('b')", "MD5('c')"] },
    Key { name: "double", type_name: "Float64", values: &["nan", "toFloat64(0)", "inf", "-inf", "toFloat64(1.5)"] },
    Key { name: "float", type_name: "Float32", values: &["toFloat32(nan)", "toFloat32(0)", "toFloat32(0.1)"] },
    Key { name: "decimal", type_name: "Decimal(9, 2)", values: &["toDecimal32(-1.5, 2)", "toDecimal32(0, 2)"] },
    Key { name: "day", type_name: "Date", values: &["toDate(0)", "toDate('2018-01-01')"] },
    // At the end of summer time, one local time exists twice.
    Key {
        name: "moment",
        type_name: "DateTime('Europe/Berlin')",
        values: &["toDateTime(1540686600)", "toDateTime(1540690200)", "toDateTime(1540693800)"],
    },
    Key { name: "word", type_name: "Enum8('1' = 7, '07' = 1, 'it\\'s' = -3)", values: &["'1'", "'07'", r"'it\'s'"] },
    Key { name: "number", type_name: "Int64", values: &["toInt64(-7)", "toInt64(7)", "toInt64(0)"] },
    Key { name: "uuid", type_name: "UUID", values: &["toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')"] },
];

/// Types that 18.16 does not have, or not as a key.
const MODERN: &[Key] = &[
    Key { name: "low", type_name: "LowCardinality(String)", values: TEXTS },
    Key { name: "wide", type_name: "Int128", values: &["toInt128(-5)", "toInt128(5)"] },
    Key { name: "wider", type_name: "UInt256", values: &["toUInt256(7)", "toUInt256('9999999999999999999999999')"] },
    Key { name: "truth", type_name: "Bool", values: &["true", "false"] },
    Key { name: "four", type_name: "IPv4", values: &["toIPv4('1.2.3.4')", "toIPv4('0.0.0.0')"] },
    Key { name: "six", type_name: "IPv6", values: &["toIPv6('::1')", "toIPv6('1.2.3.4')"] },
    Key { name: "long", type_name: "Date32", values: &["toDate32('1930-01-01')", "toDate32('2200-01-01')"] },
    Key { name: "large", type_name: "Decimal(40, 3)", values: &["toDecimal256(-0.5, 3)", "toDecimal256(10, 3)"] },
    Key {
        name: "instant",
        type_name: "DateTime64(3, 'Europe/Berlin')",
        values: &["toDateTime64(1540686600, 3)", "toDateTime64(1540690200, 3)", "toDateTime64(-0.5, 3)"],
    },
    Key {
        name: "nanosecond",
        type_name: "DateTime64(9)",
        values: &["toDateTime64(1.000000001, 9)", "toDateTime64(1, 9)"],
    },
];

impl Key {
    /// The value of a row, as an expression of `number`.
    fn value(&self) -> String {
        let count = self.values.len();
        let last = self.values[count - 1];
        let first = self.values[..count - 1].iter().enumerate().rev();
        first.fold(last.to_owned(), |rest, (at, value)| format!("if(number % {count} = {at}, {value}, {rest})"))
    }
}

/// The settings of a table that modern servers want for a key of floats.
fn settings(release: Release, type_name: &str) -> &'static str {
    if release.is_modern() && type_name.starts_with("Float") {
        " SETTINGS allow_floating_point_partition_key = 1"
    } else {
        ""
    }
}

/// Makes a table of two shards; each shard has half of the rows.
fn fill(scene: &Scene, name: &str, type_name: &str, engine: &str, value: &str) {
    for shard in [0, 1] {
        scene.ask(
            shard,
            &format!("CREATE TABLE {}.{name} (id UInt64, k {type_name}, n UInt8) ENGINE = {engine}", scene.src),
        );
        let rows = format!(
            "SELECT number AS id, {value} AS k, number % 3 AS n FROM (SELECT number FROM system.numbers LIMIT {ROWS})"
        );
        let half = format!("SELECT * FROM ({rows}) WHERE intDiv(id, {}) = {shard}", ROWS / 2);
        scene.ask(shard, &format!("INSERT INTO {}.{name} {half}", scene.src));
    }
}

#[apply(both)]
fn each_value_of_a_partition_key_is_copied_as_its_own_partition(#[case] release: Release) {
    copies_each_value(&scene!(release), release, KEYS);
}

/// On 25.8 alone: 18.16 does not have these types, or not as keys.
#[test]
fn each_value_of_a_modern_partition_key_is_copied_as_its_own_partition() {
    copies_each_value(&scene!(Release::V25_8), Release::V25_8, MODERN);
}

fn copies_each_value(scene: &Scene, release: Release, keys: &[Key]) {
    let mut task = scene.task(&[&[0], &[1]], &[&[2]]);
    let mut counts = Vec::new();
    for key in keys {
        let Key { name, type_name, values } = key;
        let (settings, count) = (settings(release, type_name), values.len() as u64);
        // Partitions are found from parts, by query from a table without parts, and from a table with another key.
        let engine = format!("MergeTree PARTITION BY k ORDER BY id{settings}");
        fill(scene, name, type_name, &engine, &key.value());
        task = task.with(scene.table(name).with("batch_bytes", "1K"));
        counts.push(((*name).to_owned(), count));
        if ["text", "hash", "double"].contains(name) {
            let log = format!("{name}_log");
            fill(scene, &log, type_name, "Log", &key.value());
            task = task.with(scene.table(&log).engine(&engine));
            counts.push((log, count));
        }
        if ["text", "fixed", "double", "moment"].contains(name) {
            let pair = format!("{name}_pair");
            let engine = format!("MergeTree PARTITION BY (k, n) ORDER BY id{settings}");
            task = task.with(scene.table(&pair).from(&scene.src, name).engine(&engine));
            // The rows have each value with each remainder by three, unless the number of values is a multiple of three.
            counts.push((pair, if count % 3 == 0 { count } else { count * 3 }));
        }
    }
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &counts.iter().map(|(name, count)| (name.as_str(), *count)).collect::<Vec<_>>());
    scene.launch(&task).verb("verify").run().with(0);
}

#[apply(both)]
fn enabled_partitions_accept_the_literals_that_are_shown(#[case] release: Release) {
    let scene = scene!(release);
    let text = &KEYS[0];
    fill(&scene, "text", text.type_name, "MergeTree PARTITION BY k ORDER BY id", &text.value());
    fill(&scene, "pair", text.type_name, "MergeTree PARTITION BY (k, n) ORDER BY id", &text.value());
    let double = &KEYS[3];
    let engine = format!("MergeTree PARTITION BY k ORDER BY id{}", settings(release, double.type_name));
    fill(&scene, "double", double.type_name, &engine, &double.value());
    let named = |table: &str, list: &str| -> Table {
        scene.table(table).raw(&format!("<enabled_partitions>{list}</enabled_partitions>"))
    };
    let task = scene.task(&[&[0], &[1]], &[&[2]]);
    let task = task.with(named("text", r"'007' '\xFF' '\xFF\0' 'it\'s \x1B[2J\\' '' +1"));
    let task = task.with(named("pair", r"('08', 2), ('\xFF', 0)"));
    let task = task.with(named("double", "nan -inf"));
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], r"k IN ('007', '\xFF', '\xFF\0', 'it\'s \x1B[2J\\', '', '+1')");
    scene.check_rows(&task, &task.tables[1], r"(k, n) IN (('08', 2), ('\xFF', 0))");
    scene.check_rows(&task, &task.tables[2], "k != k OR k < 0");
    // With `skip`, only partitions that hold rows are skipped.
    let rest = scene.task(&[&[0], &[1]], &[&[2]]).at("rest");
    let skip = |name: &str| scene.table(name).with("if_target_not_empty", "skip");
    let rest = rest.with(skip("text")).with(skip("pair")).with(skip("double"));
    scene.run(&rest).with(0);
    scene.check(&rest);
}

#[apply(both)]
fn enabled_partitions_that_do_not_exist_are_refused_or_skipped(#[case] release: Release) {
    let scene = scene!(release);
    let text = &KEYS[0];
    fill(&scene, "text", text.type_name, "MergeTree PARTITION BY k ORDER BY id", &text.value());
    let task_with = |attribute: &str| {
        let list = format!("<enabled_partitions{attribute}>'07' '7' '8'</enabled_partitions>");
        scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("text").raw(&list))
    };
    let words = ["tables/text/enabled_partitions", "'07', '8'", "'+1'", "missing=\"skip\""];
    scene.launch(&task_with("").at("fails")).verb("check").run().with(2).reports(&words);
    scene.run(&task_with("").at("fails")).with(2).tells(&words);
    assert_eq!(scene.ask(2, &format!("SELECT count() FROM system.tables WHERE database = '{}'", scene.dst)), "0");
    let task = task_with(" missing=\"skip\"").at("skips");
    scene.run(&task).with(0).tells(&["WARN", "'07', '8'", "'+1'"]);
    scene.check_rows(&task, &task.tables[0], "k = '7'");
    scene
        .run(&task_with(" missing=\"never\"").at("wrong"))
        .with(2)
        .tells(&["tables/text/enabled_partitions", "missing=\"never\""]);
}

/// Negative zero is a partition of its own on 18.16. Modern servers store a part of nothing else as zeros.
#[apply(both)]
fn negative_zero_in_a_partition_key_is_copied_or_refused(#[case] release: Release) {
    let scene = scene!(release);
    let value = "if(number % 3 = 0, toFloat64('-0'), if(number % 3 = 1, toFloat64(0), nan))";
    let engine = format!("MergeTree PARTITION BY k ORDER BY id{}", settings(release, "Float64"));
    fill(&scene, "double", "Float64", &engine, value);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("double"));
    if release.is_modern() {
        scene.run(&task).with(1).tells(&["double", "-0"]);
        assert_eq!(scene.ask(2, &format!("SELECT count() FROM system.tables WHERE database = '{}'", scene.dst)), "0");
        return;
    }
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("double", 3)]);
}

#[apply(both)]
fn unsupported_partition_keys_are_refused_by_name(#[case] release: Release) {
    let scene = scene!(release);
    let list = "[toString(number % 3)]";
    fill(&scene, "lists", "Array(String)", "Log", list);
    fill(&scene, "nulls", "Nullable(String)", "Log", "if(number % 3 = 0, NULL, toString(number % 2))");
    let job = |name: &str| scene.table(name).engine("MergeTree PARTITION BY k ORDER BY id");
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(job("lists")).with(job("nulls"));
    scene.run(&task).with(2).tells(&["tables/lists/engine", "Array(String)"]).tells(&["tables/nulls/engine", "NULL"]);
}
