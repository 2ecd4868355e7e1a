//! Copies end to end: shapes of clusters, engines, partitions, columns.

use crate::harness::scene;

/// Rows over `months` months from January 2018, the same on each call: `n` from `from`, `count` of them.
pub fn rows(from: u64, count: u64, months: u64) -> String {
    format!(
        "SELECT toDate('2018-01-01') + (number % ({months} * 30)) AS d, number AS id, \
         toString(number * 7919 % 1000003) AS s, toInt32(number) - 500 AS v FROM system.numbers \
         LIMIT {from}, {count}"
    )
}

pub const COLUMNS: &str = "(d Date, id UInt64, s String, v Int32)";

#[test]
fn two_shards_to_three() {
    let scene = scene!();
    let engine = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    for shard in [0, 1] {
        scene.ask(shard, &format!("CREATE TABLE {}.hits {COLUMNS} {engine}", scene.src));
        let rows = rows(shard as u64 * 50_000, 50_000, 4);
        scene.ask(shard, &format!("INSERT INTO {}.hits {rows}", scene.src));
    }
    let hits = scene.table("hits").engine(engine).sharding_key("intHash64(id)");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).with(hits);
    scene.run(&task).with(0).reports(&["hits", "201801", "201804"]);
    scene.check(&task);
    scene.check_partitions(&[("hits", 4)]);
    for target in [2, 3, 4] {
        let rows = scene.sum(&[target], &format!("SELECT count() FROM {}.hits", scene.dst));
        assert!((30_000..37_000).contains(&rows), "shard on server {target} has {rows} rows of 100,000");
    }
}
