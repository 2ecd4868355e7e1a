//! Servers in other time zones.

use std::collections::BTreeMap;

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, scene};

/// Server 0 is in UTC, 1 in Asia/Shanghai, 2 in UTC under another name.
fn apart(release: Release) -> LabSpec {
    let zones = [(0, "UTC"), (1, "Asia/Shanghai"), (2, "Zulu")];
    let time_zones: BTreeMap<usize, String> = zones.map(|(at, zone)| (at, zone.to_owned())).into();
    LabSpec { time_zones, ..LabSpec::of(release, 3) }
}

const BY_DAY: &str = "MergeTree PARTITION BY toYYYYMMDD(mtime) ORDER BY id";
const BY_THREE: &str = "MergeTree PARTITION BY id % 3 ORDER BY id";

/// Makes a table of 240 rows, half an hour apart, on server 0.
fn fill(scene: &Scene) {
    let columns = "id UInt64, mtime DateTime, s String";
    scene.ask(0, &format!("CREATE TABLE {}.t ({columns}) ENGINE = {BY_DAY}", scene.src));
    let rows = "SELECT number, toDateTime(1577836800 + number * 1800), toString(number) FROM system.numbers LIMIT 240";
    scene.ask(0, &format!("INSERT INTO {}.t {rows}", scene.src));
}

#[apply(both)]
fn partition_keys_are_computed_in_the_time_zone_of_the_target(#[case] release: Release) {
    let scene = scene!(own apart(release));
    fill(&scene);
    let small = |name: &str, engine: &str| {
        let table = scene.table(name).from(&scene.src, "t").engine(engine);
        table.with("batch_bytes", "1K").with("if_target_not_empty", "replace")
    };
    let task = scene.task(&[&[0]], &[&[1]]);
    let task = task
        .with(small("days", BY_DAY))
        .with(small("instants", "MergeTree PARTITION BY toStartOfDay(mtime) ORDER BY id"))
        .with(small("numbers", BY_THREE))
        .with(small("zoned", "MergeTree PARTITION BY toYYYYMMDD(mtime, 'UTC') ORDER BY id"))
        .with(small("hours", "MergeTree PARTITION BY intDiv(toUInt32(mtime), 36000) ORDER BY id"));
    let ended = scene.run(&task).with(0);
    assert!(ended.stderr.contains("is computed in the target's time zone Asia/Shanghai"), "{}", ended.stderr);
    for table in &task.tables {
        let found = format!("SELECT count(), sum(id), sum(toUInt32(mtime)) FROM {}.{}", scene.dst, table.name);
        assert_eq!(scene.ask(1, &found), "240\t28680\t378732456000", "{}", table.name);
    }
    // 16:00 in UTC is midnight in Shanghai.
    let days = format!("SELECT toYYYYMMDD(mtime) AS day, count() FROM {}.days GROUP BY day ORDER BY day", scene.dst);
    let by_day = "20200101\t32\n20200102\t48\n20200103\t48\n20200104\t48\n20200105\t48\n20200106\t16";
    assert_eq!(scene.ask(1, &days), by_day);
    scene.launch(&task).without_task_file().verb("verify").run().with(0);
    scene.launch(&task.clone().at("other")).verb("check").run().reports(&["time zones differ", "Asia/Shanghai"]);
}

#[apply(both)]
fn expressions_that_depend_on_different_time_zones_are_refused(#[case] release: Release) {
    let scene = scene!(own apart(release));
    fill(&scene);
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        ("literal", "where_condition", "mtime < '2020-01-03 00:00:00'", &["where_condition", "mtime", "Asia/Shanghai"]),
        ("day", "where_condition", "toDate(mtime) = '2020-01-02'", &["where_condition", "toDate"]),
        ("today", "where_condition", "mtime < toDateTime('2020-01-03 00:00:00')", &["where_condition", "mtime"]),
        ("key", "engine", "MergeTree PARTITION BY toYYYYMM(toDateTime(id)) ORDER BY id", &["engine", "toDateTime"]),
        ("number", "engine", "MergeTree PARTITION BY toMonday(toDate(id + 17000)) ORDER BY id", &["engine", "toDate"]),
        ("copied", "where_condition", "formatDateTime(mtime, '%H') = '03'", &["where_condition", "mtime"]),
    ];
    let task = |target: usize| {
        let mut task = scene.task(&[&[0]], &[&[target]]).at(&format!("to{target}"));
        for (name, element, text, _) in &cases {
            let table = scene.table(name).from(&scene.src, "t").with(element, text);
            task = task.with(if *element == "engine" { table } else { table.engine(BY_THREE) });
        }
        task
    };
    let expected: Vec<(&str, &[&str])> = cases.iter().map(|(name, .., words)| (*name, *words)).collect();
    scene.refuses(&task(1), 2, &expected);
    // The same zone by another name is no reason.
    scene.run(&task(2)).with(0);
    assert_eq!(scene.ask(2, &format!("SELECT count() FROM {}.literal", scene.dst)), "96");
    // Nor are columns that are converted where the zone says how.
    let columns = "id UInt64, mtime String, s String";
    scene.on(&[1, 2], &format!("CREATE DATABASE IF NOT EXISTS {}", scene.dst));
    scene.on(&[1, 2], &format!("CREATE TABLE {}.converted ({columns}) ENGINE = {BY_THREE}", scene.dst));
    let converted = |target: usize| {
        let table = scene.table("converted").from(&scene.src, "t");
        scene.task(&[&[0]], &[&[target]]).at(&format!("converted{target}")).with(table)
    };
    scene.launch(&converted(1)).run().with(1).tells(&["column mtime", "time zone", "Asia/Shanghai"]);
    scene.run(&converted(2)).with(0);
}
