//! Columns named like virtual columns, numbers or expressions.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, scene, tick};

const ENGINE: &str = "MergeTree PARTITION BY id % 3 ORDER BY id";

/// Makes a table with a column of this name on server 0.
fn fill(scene: &Scene, table: &str, column: &str) {
    let column = tick(column);
    scene.ask(0, &format!("CREATE TABLE {}.{table} (id UInt64, {column} UInt32) ENGINE = {ENGINE}", scene.src));
    let rows = "SELECT number, number + 7 FROM system.numbers LIMIT 100";
    scene.ask(0, &format!("INSERT INTO {}.{table} (id, {column}) {rows}", scene.src));
}

#[apply(both)]
fn columns_named_like_virtual_columns_or_literals_are_copied_or_refused(#[case] release: Release) {
    let scene = scene!(release);
    let is_old = release == Release::V18_16;
    let mut task = scene.task(&[&[0]], &[&[1], &[2]]).at("refused");
    let mut copied = scene.task(&[&[0]], &[&[1], &[2]]).at("copied");
    let mut expected = Vec::new();
    let mut names = Vec::new();
    for (table, column, refused) in [
        ("part", "_part", true),
        ("partition", "_partition_id", true),
        ("sample", "_sample_factor", is_old),
        ("index", "_part_index", is_old),
        ("two", "2", is_old),
        ("one", "1", is_old),
        ("nought", "0", is_old),
        ("called", "toUInt64(id)", is_old),
        ("text", "'x'", is_old),
        ("of_merge", "_table", false),
        ("of_database", "_database", false),
        ("of_distributed", "_shard_num", false),
        ("spaced", "a b", false),
    ] {
        fill(&scene, table, column);
        let job = scene.table(table).engine(ENGINE).sharding_key("id");
        if refused {
            expected.push((table, [column, "cannot be copied"]));
            task = task.with(job);
            continue;
        }
        for way in ["push", "pull", "relay"] {
            let name = format!("{table}_{way}");
            let mut job = scene.table(&name).from(&scene.src, table).engine(ENGINE).sharding_key("id");
            job = job.with("transfer", way);
            copied = copied.with(job);
            names.push((name, column));
        }
    }
    let expected: Vec<(&str, &[&str])> = expected.iter().map(|(table, words)| (*table, words.as_slice())).collect();
    scene.refuses(&task, 1, &expected);
    scene.launch(&task).verb("verify").run().with(1).tells(&["_part", "cannot be copied"]);

    scene.run(&copied).with(0);
    for (name, column) in names {
        let values = format!("SELECT sum({}) FROM {}.{name}", tick(column), scene.dst);
        assert_eq!(scene.sum(&[1, 2], &values), 99 * 50 + 700, "{name}: column {column}");
    }
    scene.launch(&copied).without_task_file().verb("verify").run().with(0);
}
