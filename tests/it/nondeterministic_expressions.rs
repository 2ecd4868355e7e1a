//! Expressions that change the number of rows, or that give another value each time.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, scene};

const ENGINE: &str = "MergeTree PARTITION BY id % 2 ORDER BY id";

/// Creates a table of 150 rows on server 0, with columns named like functions.
fn fill(scene: &Scene) {
    let columns = "id UInt64, arr Array(UInt8), rand UInt32, dice UInt32 ALIAS rand()";
    scene.ask(0, &format!("CREATE TABLE {}.t ({columns}) ENGINE = {ENGINE}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.t SELECT number, [1, 2], 7 FROM system.numbers LIMIT 150", scene.src));
}

#[apply(both)]
fn expressions_that_change_rows_or_give_random_values_are_refused(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let mut cases: Vec<(&str, &str, &str, &str)> = vec![
        ("joined_key", "sharding_key", "arrayJoin(arr)", "arrayJoin changes the number of rows"),
        ("nested_key", "sharding_key", "cityHash64(id, arrayJoin([1, 2]))", "arrayJoin"),
        ("sum_key", "sharding_key", "sum(id)", "code"),
        ("joined", "where_condition", "arrayJoin(arr) = 1", "arrayJoin"),
        ("random", "where_condition", "rand() % 2 = 0", "rand can give another value each time"),
        ("quoted", "where_condition", "`rand`() % 2 = 0", "rand"),
        ("random_alias", "where_condition", "dice % 2 = 0", "dice (rand)"),
        ("time", "where_condition", "id < toUInt32(now()) + rand()", "rand"),
        ("block", "where_condition", "rowNumberInAllBlocks() < 50", "rowNumberInAllBlocks"),
        ("part", "where_condition", "_part != ''", "_part depends on how the rows lie in parts"),
        ("host", "where_condition", "hostName() != ''", "hostName"),
        ("partition", "engine", "MergeTree PARTITION BY rand() % 2 ORDER BY id", "PARTITION BY rand() % 2"),
        ("joined_partition", "engine", "MergeTree PARTITION BY arrayJoin(arr) ORDER BY id", "arrayJoin"),
        ("sorting", "engine", "MergeTree ORDER BY arrayJoin(arr)", "ORDER BY arrayJoin(arr)"),
    ];
    let function = format!("{}dice", scene.src);
    if release == Release::V25_8 {
        scene.ask(0, &format!("CREATE OR REPLACE FUNCTION {function} AS x -> x + rand()"));
        cases.push(("user", "where_condition", "USER", "(rand)"));
        cases.push(("window", "where_condition", "row_number() OVER () < 50", "OVER"));
    }
    let mut task = scene.task(&[&[0]], &[&[1], &[2]]);
    let mut expected = Vec::new();
    let words: Vec<[&str; 2]> = cases.iter().map(|(_, element, _, word)| [*element, *word]).collect();
    for ((name, element, text, _), words) in cases.iter().zip(&words) {
        let text = text.replace("USER", &format!("{function}(id) % 2 = 0"));
        let mut table = scene.table(name).from(&scene.src, "t").with(element, &text);
        if *element != "sharding_key" {
            table = table.sharding_key("id");
        }
        task = task.with(if *element == "engine" { table } else { table.engine(ENGINE) });
        expected.push((*name, words.as_slice()));
    }
    scene.refuses(&task, 2, &expected);
    if release == Release::V25_8 {
        scene.ask(0, &format!("DROP FUNCTION {function}"));
    }
}

#[apply(both)]
fn random_sharding_keys_and_columns_named_like_functions_are_accepted(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene);
    let mut task = scene.task(&[&[0]], &[&[1], &[2]]);
    for (name, key, condition) in [
        ("random", "rand()", "id >= 0"),
        ("random_alias", "dice", "id >= 0"),
        ("row_number", "toUInt32(rowNumberInAllBlocks())", "id >= 0"),
        ("column", "rand + id", "rand = 7 AND `rand` != 8"),
        ("clock", "id", "id < toUInt32(today()) AND id < toUInt32(now())"),
        ("query", "id", "id IN (SELECT toUInt64(arrayJoin(range(1000))))"),
        ("text", "id", "'rand()' != 'arrayJoin(arr)'"),
    ] {
        let table = scene.table(name).from(&scene.src, "t").engine(ENGINE).sharding_key(key);
        task = task.with(table.with("where_condition", condition));
    }
    scene.run(&task).with(0);
    for table in &task.tables {
        let name = &table.name;
        let counts = scene.lines(&[1, 2], &format!("SELECT count() FROM {}.{name}", scene.dst));
        assert_eq!(scene.sum(&[1, 2], &format!("SELECT count() FROM {}.{name}", scene.dst)), 150, "{name}");
        assert!(!counts.contains(&"0".to_owned()), "{name}: all rows on one shard: {counts:?}");
        assert_eq!(scene.sum(&[1, 2], &format!("SELECT sum(id) FROM {}.{name}", scene.dst)), 149 * 75, "{name}");
    }
}
