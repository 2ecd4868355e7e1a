//! Columns that only the target has, or that only the target can compute: the target computes them, as with any INSERT.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Table, Task, scene};

const TRANSFERS: [&str; 3] = ["pull", "relay", "auto"];

/// Three hundred rows on each of two source shards.
fn fill(scene: &Scene, columns: &str) {
    for shard in [0, 1] {
        scene.on(
            &[shard],
            &format!(
                "CREATE TABLE {}.hits (id UInt64, k UInt8{columns}) ENGINE = MergeTree PARTITION BY k ORDER BY id",
                scene.src
            ),
        );
        let rows = format!("SELECT number * 2 + {shard}, number % 3 FROM system.numbers LIMIT 300");
        scene.on(&[shard], &format!("INSERT INTO {}.hits (id, k) {rows}", scene.src));
    }
}

/// Makes the target table of a transfer on two shards, and the task that fills it.
fn task(scene: &Scene, transfer: &str, columns: &str, order_by: &str) -> Task {
    let database = scene.database(&format!("_{transfer}"));
    scene.on(&[2, 3], &format!("CREATE DATABASE {database}"));
    let engine = format!("ENGINE = MergeTree PARTITION BY k ORDER BY {order_by}");
    scene.on(&[2, 3], &format!("CREATE TABLE {database}.hits (id UInt64, k UInt8, {columns}) {engine}"));
    let table: Table = scene.table("hits").to(&database, "hits").sharding_key("id").engine(&engine);
    let way = transfer.strip_suffix("_keyed").unwrap_or(transfer);
    let table = table.with("transfer", way).with("verify", "checksum");
    scene.task(&[&[0], &[1]], &[&[2], &[3]]).at(transfer).with(table)
}

/// Values of the rows that arrived on both target shards.
fn arrived(scene: &Scene, task: &Task, what: &str) -> u64 {
    scene.sum(&[2, 3], &format!("SELECT toUInt64({what}) FROM {}.hits", task.tables[0].target.0))
}

/// The second column's expression names the first one, which the source does not have either.
#[apply(both)]
fn columns_that_only_the_target_has_are_computed_there(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, "");
    // An INSERT of 18.16 computes no default that names an ALIAS.
    let of_alias = if release.is_modern() { "twice + 1" } else { "id * 2 + 1" };
    let columns = format!(
        "name String DEFAULT concat('n', toString(id)), loud String DEFAULT concat(name, '!'), \
         size UInt8 MATERIALIZED length(loud), twice UInt64 ALIAS id * 2, of_alias UInt64 DEFAULT {of_alias}"
    );
    let columns = columns.as_str();
    for transfer in TRANSFERS {
        let task = task(&scene, transfer, columns, "(id, loud)");
        scene.run(&task).with(0);
        assert_eq!(arrived(&scene, &task, "count()"), 600, "{transfer}");
        let right = "countIf(loud = concat('n', toString(id), '!') AND size = length(loud) AND of_alias = id * 2 + 1)";
        assert_eq!(arrived(&scene, &task, right), 600, "{transfer}");
        scene.launch(&task).verb("verify").run().with(0);
    }
    let pushed = task(&scene, "push", columns, "(id, loud)");
    scene.run(&pushed).with(1).tells(&["push does not work", "column loud is computed by the target"]);
}

/// 18.16 has no CREATE DICTIONARY.
#[test]
fn a_target_default_may_use_a_dictionary_of_the_target() {
    let scene = scene!(Release::V25_8);
    let dictionary = format!("{}.names", scene.database("_names"));
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.database("_names")));
    scene.on(
        &[2, 3],
        &format!(
            "CREATE DICTIONARY {dictionary} (id UInt64, name String DEFAULT 'unknown') PRIMARY KEY id \
             SOURCE(CLICKHOUSE(QUERY 'SELECT toUInt64(7) AS id, ''seven'' AS name')) LAYOUT(FLAT()) LIFETIME(0)"
        ),
    );
    let name = format!("dictGet('{dictionary}', 'name', id)");
    // The source has one of the columns, too, and does not know the dictionary.
    fill(&scene, ", label String MATERIALIZED toString(id)");
    let columns = format!("name String DEFAULT {name}, label String MATERIALIZED concat({name}, '!')");
    for transfer in TRANSFERS {
        let task = task(&scene, transfer, &columns, "id");
        scene.run(&task).with(0);
        let right = "countIf(name = if(id = 7, 'seven', 'unknown') AND label = concat(name, '!'))";
        assert_eq!(arrived(&scene, &task, right), 600, "{transfer}");
    }
    // Rows go where a key says: what decides about them must be known at the source.
    let mut refused = task(&scene, "auto_keyed", &columns, "id");
    let table = scene.table("hits").to(&refused.tables[0].target.0, "hits").sharding_key("cityHash64(name)");
    refused.tables = vec![table.engine("ENGINE = MergeTree PARTITION BY k ORDER BY id")];
    let ended = scene.run(&refused).with(1).tells(&["column name of the target", "dictGet"]);
    assert!(!ended.stderr.contains("column id of the target"), "{}", ended.stderr);
    // The dictionary cannot be dropped before the tables that name it.
    for name in ["pull", "relay", "auto", "auto_keyed"] {
        scene.on(&[2, 3], &format!("DROP DATABASE {} SYNC", scene.database(&format!("_{name}"))));
    }
}
