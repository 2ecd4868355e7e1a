//! Sharding keys and weights: which shard gets which row.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, Scene, fill, scene};

const KEYS: &str = "(k8 Int8, k16 Int16, k32 Int32, k64 Int64, u8 UInt8, u64 UInt64, s String, n UInt32)";
const ENGINE: &str = "ENGINE = MergeTree PARTITION BY n % 3 ORDER BY n";
/// Every one of these is a function of the row, or constant.
const EXPRESSIONS: [(&str, &str); 13] = [
    ("int8", "k8"),
    ("int16", "k16"),
    ("int32", "k32"),
    ("int64", "k64"),
    ("uint8", "u8"),
    ("uint64", "u64"),
    ("hash", "cityHash64(s)"),
    ("inthash", "intHash32(k64)"),
    ("sum", "k8 + k16"),
    ("negated", "negate(toInt64(n))"),
    ("constant", "7"),
    ("negative_constant", "-3"),
    ("parentheses", "(k32)"),
];

/// Fills `keys` on servers 0 and 1 with keys over the whole range of their types.
fn fill_keys(scene: &Scene) {
    for (server, from) in [(0, 0), (1, 1000)] {
        scene.ask(server, &format!("CREATE TABLE {}.keys {KEYS} {ENGINE}", scene.src));
        let rows = format!(
            "SELECT toInt8(number % 256 - 128), toInt16(number * 61 % 65536 - 32768), \
             toInt32(number * 4000037 % 4294967296 - 2147483648), toInt64(cityHash64(number)), toUInt8(number % 256), \
             cityHash64(number, 1), toString(number), number FROM system.numbers LIMIT {from}, 1000"
        );
        scene.ask(server, &format!("INSERT INTO {}.keys {rows}", scene.src));
    }
}

/// Copies with every expression to servers 2, 3 and 4 with these weights, and has Distributed tables do the same. `way`: by
/// a filter for each shard (push), or dealt row by row (relay).
fn compare_with_distributed(scene: &Scene, way: &str, weights: [u32; 3]) {
    fill_keys(scene);
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).weights(&weights);
    for (name, key) in EXPRESSIONS {
        let table = scene.table(name).from(&scene.src, "keys").engine(ENGINE).sharding_key(key);
        task = task.with(table.with("transfer", way));
    }
    scene.run(&task).with(0);
    scene.check(&task);

    let mut cluster = task.target.clone();
    cluster.name = format!("it_{}", scene.name());
    scene.lab().define_cluster(&cluster).unwrap();
    for (name, key) in EXPRESSIONS {
        let expected = format!("{name}_expected");
        scene.on(&[2, 3, 4], &format!("CREATE TABLE {}.{expected} {KEYS} {ENGINE}", scene.dst));
        let over = format!("ENGINE = Distributed({}, '{}', '{expected}', {key})", cluster.name, scene.dst);
        for server in [0, 1] {
            scene.ask(server, &format!("CREATE TABLE {}.{name} {KEYS} {over}", scene.src));
            let insert = format!("INSERT INTO {0}.{name} SELECT * FROM {0}.keys", scene.src);
            scene.server(server).query_with(&[("insert_distributed_sync", "1")], &insert).unwrap();
        }
        let row = scene.row_hash(0, &(scene.src.clone(), "keys".to_owned()));
        for server in [2, 3, 4] {
            let found = scene.digest(&[server], &row, &format!("{}.{name}", scene.dst));
            let wanted = scene.digest(&[server], &row, &format!("{}.{expected}", scene.dst));
            assert_eq!(found, wanted, "sharding key {key}, weights {weights:?}, server {server}");
        }
    }
}

#[apply(both)]
fn push_distributes_rows_like_a_distributed_table(#[case] release: Release) {
    let scene = scene!(release);
    compare_with_distributed(&scene, "push", [1, 1, 1]);
}

#[apply(both)]
fn relay_distributes_rows_like_a_distributed_table(#[case] release: Release) {
    let scene = scene!(release);
    compare_with_distributed(&scene, "relay", [1, 1, 1]);
}

#[apply(both)]
fn push_applies_weights_like_a_distributed_table(#[case] release: Release) {
    let scene = scene!(release);
    compare_with_distributed(&scene, "push", [5, 6, 0]);
}

#[apply(both)]
fn relay_applies_weights_like_a_distributed_table(#[case] release: Release) {
    let scene = scene!(release);
    compare_with_distributed(&scene, "relay", [5, 6, 0]);
}

#[apply(both)]
fn a_random_sharding_key_copies_each_row_once(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 15_000, 2);
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]);
    let keys =
        [("r", "rand()"), ("r64", "rand64() % 1000"), ("mixed", "intHash64(id + rand())"), ("time", "toUInt32(now())")];
    for (name, key) in keys {
        let table = scene.table(name).from(&scene.src, "hits").engine(BY_MONTH).sharding_key(key);
        task = task.with(table.with("number_of_splits", "6"));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    for target in [2, 3, 4] {
        for (name, _) in &keys[..3] {
            assert_ne!(
                scene.ask(target, &format!("SELECT count() FROM {}.{name}", scene.dst)),
                "0",
                "{name} on {target}"
            );
        }
    }
}

#[apply(both)]
fn one_target_shard_needs_no_sharding_key(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 5000, 2);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
}
