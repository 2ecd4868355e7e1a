//! Column types, keys and names of tables.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Table, fill, fill_every_type, quote, rows, scene, tick};

fn described(scene: &Scene, server: usize, database: &str, table: &str) -> String {
    let (database, table) = (quote(database), quote(table));
    scene.ask(
        server,
        &format!(
            "SELECT name, type, default_kind, default_expression, comment FROM system.columns \
             WHERE database = {database} AND table = {table}"
        ),
    )
}

#[apply(both)]
fn every_column_type_is_copied_with_default_and_comment(#[case] release: Release) {
    let scene = scene!(release);
    fill_every_type(scene.server(0), &format!("{}.hits", scene.src), "3000");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(scene.table("hits").sharding_key("id"));
    scene.run(&task).with(0);
    scene.check(&task);
    for target in [1, 2] {
        assert_eq!(described(&scene, target, &scene.dst, "hits"), described(&scene, 0, &scene.src, "hits"));
    }
    let alias = format!("SELECT countIf(al = concat(s, '!')) FROM {}.hits", scene.dst);
    assert_eq!(scene.sum(&[1, 2], &alias), 3000);
}

#[apply(both)]
fn every_column_type_is_copied_into_a_replicated_table(#[case] release: Release) {
    let scene = scene!(release);
    fill_every_type(scene.server(0), &format!("{}.hits", scene.src), "3000");
    let engine = scene.replicated_engine("");
    let task = scene.task(&[&[0]], &[&[1, 2]]).with(scene.table("hits").engine(&engine));
    scene.run(&task).with(0);
    scene.check(&task);
    // 18.16 cannot create a Replicated table with a comment on a column, and loses the column if the comment is set later.
    let without_comments = |text: String| -> Vec<String> {
        text.lines().map(|line| line.rsplit_once('\t').map_or(line, |(rest, _)| rest).to_owned()).collect()
    };
    let source = without_comments(described(&scene, 0, &scene.src, "hits"));
    for replica in [1, 2] {
        assert_eq!(without_comments(described(&scene, replica, &scene.dst, "hits")), source);
    }
}

#[apply(both)]
fn an_existing_target_table_may_have_other_types_and_keys(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 2);
    let columns = "(s String, extra String DEFAULT concat('x', s), id UInt32, v Int64, d Date)";
    let engine = "ENGINE = MergeTree PARTITION BY toMonday(d) ORDER BY (v, id) SETTINGS index_granularity = 256";
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[2], &format!("CREATE TABLE {}.hits {columns} {engine}", scene.dst));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    // The table exists on both shards: if it existed on one only, the other would be created as the task says, and they would differ.
    scene.on(&[3], &format!("CREATE TABLE {}.hits {columns} {engine}", scene.dst));
    scene.run(&task).with(0);
    let row = "cityHash64(d, toUInt64(id), s, toInt64(v))";
    let found = scene.digest(&[2, 3], row, &format!("{}.hits", scene.dst));
    assert_eq!(found, scene.digest(&[0, 1], row, &format!("{}.hits", scene.src)));
    let extra = format!("SELECT countIf(extra = concat('x', s)) FROM {}.hits", scene.dst);
    assert_eq!(scene.sum(&[2, 3], &extra), 40_000);
    scene.check_nothing_left(&task);
    scene.check_partitions(&task, &[("hits", 9)]);
}

#[apply(both)]
fn a_value_that_does_not_fit_the_target_type_is_an_error(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(
        0,
        &format!("CREATE TABLE {}.hits (d Date, s String) ENGINE = MergeTree PARTITION BY d ORDER BY s", scene.src),
    );
    scene.ask(0, &format!("INSERT INTO {}.hits VALUES ('2018-01-01', '5'), ('2018-01-02', 'five')", scene.src));
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(
        1,
        &format!("CREATE TABLE {}.hits (d Date, s UInt8) ENGINE = MergeTree PARTITION BY d ORDER BY s", scene.dst),
    );
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").with("batch_bytes", "1"));
    let ended = scene.launch(&task).args(&["--max-table-tries", "1", "--max-shard-partition-tries", "1"]).run();
    assert!([1, 2, 3].contains(&ended.status.code().unwrap()), "{}", ended.stderr);
    assert!(ended.stderr.contains("hits"), "{}", ended.stderr);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits WHERE d = '2018-01-02'", scene.dst)), "0");
}

#[apply(both)]
fn computed_columns_can_be_part_of_keys(#[case] release: Release) {
    let scene = scene!(release);
    let columns = "(ts DateTime, id UInt64, d Date MATERIALIZED toDate(ts), bucket UInt8 ALIAS toUInt8(id % 7))";
    let engine = "ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    scene.on(&[0, 1], &format!("CREATE TABLE {}.hits {columns} {engine}", scene.src));
    for (server, from) in [(0, 0), (1, 10_000)] {
        let rows = format!(
            "SELECT toDateTime('2018-01-01 00:00:00') + number * 331, number FROM system.numbers LIMIT {from}, 10000"
        );
        scene.ask(server, &format!("INSERT INTO {}.hits (ts, id) {rows}", scene.src));
    }
    let by_week = "MergeTree PARTITION BY toMonday(d) ORDER BY (d, id)";
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3]]);
    for (name, key) in [("by_alias", "bucket"), ("by_materialized", "toRelativeDayNum(d)")] {
        task = task.with(scene.table(name).from(&scene.src, "hits").engine(by_week).sharding_key(key));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    // Even buckets belong on the first shard, odd ones on the second.
    for (server, rest) in [(2, 0), (3, 1)] {
        let astray = format!("SELECT countIf(bucket % 2 != {rest}) FROM {}.by_alias", scene.dst);
        assert_eq!(scene.ask(server, &astray), "0");
    }
}

#[apply(both)]
fn materialized_columns_are_copied_unchanged_when_the_task_asks_for_it(#[case] release: Release) {
    let scene = scene!(release);
    let columns = "(d Date, id UInt64, r UInt32 MATERIALIZED rand(), twice UInt64 ALIAS id * 2)";
    scene.ask(0, &format!("CREATE TABLE {}.hits {columns} {BY_MONTH}", scene.src));
    let rows = "SELECT toDate('2018-01-01') + number % 60, number FROM system.numbers LIMIT 5000";
    scene.ask(0, &format!("INSERT INTO {}.hits (d, id) {rows}", scene.src));
    let made_new = scene.table("made_new").from(&scene.src, "hits");
    let copied = scene.table("copied").from(&scene.src, "hits");
    let copied = copied.with("allow_to_copy_alias_and_materialized_columns", "1");
    let task = scene.task(&[&[0]], &[&[1]]).with(made_new).with(copied);
    scene.run(&task).with(0);
    let sum =
        |server, table: String| scene.ask(server, &format!("SELECT count(), sum(cityHash64(d, id, r)) FROM {table}"));
    let source = sum(0, format!("{}.hits", scene.src));
    assert_eq!(sum(1, format!("{}.copied", scene.dst)), source);
    assert_ne!(sum(1, format!("{}.made_new", scene.dst)), source);
    assert_eq!(scene.ask(1, &format!("SELECT countIf(twice = id * 2) FROM {}.copied", scene.dst)), "5000");
    scene.check_nothing_left(&task);
}

#[apply(both)]
fn tables_and_columns_with_odd_names_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let (src, dst) = (scene.database("база д"), scene.database("н 'б' \\ `x`"));
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3]]);
    for (number, name) in ["таблица с пробелом", "it's \"so\" `so` \\", "a.b", "select"].iter().enumerate()
    {
        let full = format!("{}.{}", tick(&src), tick(name));
        scene.on(&[0, 1], &format!("CREATE DATABASE IF NOT EXISTS {}", tick(&src)));
        let columns = "(`имя поля` UInt64, `дата` Date, `a\\`b'c` String, `from` Int8 DEFAULT 1)";
        let engine = "ENGINE = MergeTree PARTITION BY toYYYYMM(`дата`) ORDER BY (`имя поля`, `a\\`b'c`)";
        scene.on(&[0, 1], &format!("CREATE TABLE {full} {columns} {engine}"));
        for (server, from) in [(0, 0), (1, 1000)] {
            let rows = format!(
                "SELECT number, toDate('2018-01-01') + number % 90, toString(number), toInt8(number % 100) \
                 FROM system.numbers LIMIT {from}, 1000"
            );
            scene.ask(server, &format!("INSERT INTO {full} {rows}"));
        }
        let table = Table::new(&format!("t{number}"), (&src, name), (&dst, name));
        let condition = "`имя поля` < 1900 AND `from` >= 0";
        task = task.with(table.sharding_key("`имя поля` + `from`").with("where_condition", condition));
    }
    scene.run(&task).with(0);
    for table in &task.tables {
        scene.check_rows(&task, table, "`имя поля` < 1900 AND `from` >= 0");
    }
    scene.check_nothing_left(&task);
    scene.check_partitions(&task, &[("t0", 3), ("t1", 3), ("t2", 3), ("t3", 3)]);
}

#[apply(both)]
fn tables_with_partition_keys_of_every_kind_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let columns = "(k String, d Date, v Int32, e Enum8('a' = 1, 'it\\'s' = 2), f FixedString(3), t DateTime, \
                   u UUID, b Int8, id UInt64)";
    let rows = r#"SELECT ['it\'s', 'back\\slash', '', 'два слова', 'a,b', '(x)', 'tab\t', 'line\nfeed', '"', '202001'][number % 10 + 1],
        toDate('2018-01-20') + number % 20, toInt32(number % 5) - 2, if(number % 2 = 0, 'a', 'it\'s'),
        substring('abc\'\\', number % 4 + 1, 2), toDateTime('2018-01-01 00:00:00') + number % 3 * 3600,
        toUUID(concat('61f0c404-5cb3-11e7-907b-a6006ad3dba', toString(number % 3))), toInt8(number % 3) - 1, number
        FROM system.numbers LIMIT "#;
    scene.on(&[0, 1], &format!("CREATE TABLE {}.hits {columns} ENGINE = MergeTree ORDER BY id", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {rows} 0, 600", scene.src));
    scene.ask(1, &format!("INSERT INTO {}.hits {rows} 600, 600", scene.src));
    let keys = [
        ("string", "k"),
        ("string_month", "(k, toYYYYMM(d))"),
        ("negative", "v"),
        ("enum", "e"),
        ("fixed", "f"),
        ("time", "t"),
        ("uuid", "u"),
        ("narrow", "(b, v)"),
        ("day", "d"),
        ("many", "(toMonday(d), e, k)"),
        ("expression", "intDiv(id, 400)"),
        ("hash", "cityHash64(k) % 4"),
        ("one", "tuple()"),
    ];
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3]]);
    for (name, key) in keys {
        let engine = format!("MergeTree PARTITION BY {key} ORDER BY id");
        task = task.with(scene.table(name).from(&scene.src, "hits").engine(&engine).sharding_key("id"));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for (name, key) in keys {
        let key = if key == "tuple()" { "1" } else { key };
        let mut values = scene.lines(&[0, 1], &format!("SELECT DISTINCT ({key}, 1) FROM {}.hits", scene.src));
        values.dedup();
        counts.push((name, values.len() as u64));
    }
    scene.check_partitions(&task, &counts);
}

#[apply(both)]
fn partitions_with_quotes_can_be_enabled(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(
        0,
        &format!("CREATE TABLE {}.hits (k String, n UInt32) ENGINE = MergeTree PARTITION BY k ORDER BY n", scene.src),
    );
    let values = r"['it\'s', 'back\\slash', '', 'два слова', '<&>'][number % 5 + 1]";
    scene.ask(0, &format!("INSERT INTO {}.hits SELECT {values}, number FROM system.numbers LIMIT 500", scene.src));
    let list = r"<p>'it\'s'</p><p>'back\\slash'</p><p>'два слова'</p><p>'&lt;&amp;&gt;'</p>";
    let plain = scene.table("plain").from(&scene.src, "hits");
    let plain = plain.raw(&format!("<enabled_partitions>{list}</enabled_partitions>"));
    let pairs = scene.table("pairs").from(&scene.src, "hits").engine("MergeTree PARTITION BY (k, n % 2) ORDER BY n");
    let pairs = pairs.raw(r"<enabled_partitions>('it''s', 1) ('back\\slash', 0), ('', 1)</enabled_partitions>");
    let task = scene.task(&[&[0]], &[&[1]]).with(plain).with(pairs);
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "k != ''");
    let of_pairs = r"(k, n % 2) IN (('it\'s', 1), ('back\\slash', 0), ('', 1))";
    scene.check_rows(&task, &task.tables[1], of_pairs);
    scene.check_nothing_left(&task);
    scene.check_partitions(&task, &[("plain", 4), ("pairs", 3)]);
}

#[apply(both)]
fn a_table_with_250_columns_is_copied(#[case] release: Release) {
    let scene = scene!(release);
    let columns: Vec<String> = (0..250).map(|number| format!("column_with_a_long_name_{number} UInt32")).collect();
    let columns = format!("(d Date, {})", columns.join(", "));
    scene.ask(
        0,
        &format!("CREATE TABLE {}.hits {columns} ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY d", scene.src),
    );
    let values: Vec<String> = (0..250).map(|number| format!("number * {number}")).collect();
    let rows =
        format!("SELECT toDate('2018-01-01') + number % 60, {} FROM system.numbers LIMIT 500", values.join(", "));
    scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(scene.table("hits").sharding_key("column_with_a_long_name_1"));
    scene.run(&task).with(0);
    scene.check(&task);
}

#[apply(both)]
fn materialized_views_on_the_target_get_no_copied_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    scene.ask(1, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(1, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.dst));
    let view = "ENGINE = MergeTree ORDER BY id AS SELECT id FROM";
    scene.ask(1, &format!("CREATE MATERIALIZED VIEW {0}.seen {view} {0}.hits", scene.dst));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.seen", scene.dst)), "0");
    // The view still gets rows that others insert.
    scene.ask(1, &format!("INSERT INTO {}.hits {}", scene.dst, rows(10_000, 3, 1)));
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.seen", scene.dst)), "3");
}

/// 18.16 has no constraints.
#[test]
fn rows_that_violate_a_constraint_of_the_target_are_refused() {
    let scene = scene!(Release::V25_8);
    let keys = "ENGINE = MergeTree PARTITION BY id % 3 ORDER BY id";
    scene.on(&[0], &format!("CREATE TABLE {}.hits (id UInt64, s Nullable(String)) {keys}", scene.src));
    let rows = "SELECT number, if(number = 7, NULL, 'x') FROM numbers(100)";
    scene.on(&[0], &format!("INSERT INTO {}.hits {rows}", scene.src));
    let checks = "CONSTRAINT small CHECK id < 95, CONSTRAINT `is set` CHECK s = 'x', CONSTRAINT fits CHECK id < 1000";
    scene.on(&[1], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[1], &format!("CREATE TABLE {}.hits (id UInt64, s Nullable(String), {checks}) {keys}", scene.dst));
    let hits = scene.table("hits").engine(keys);
    let task = scene.task(&[&[0]], &[&[1]]).with(hits.clone());
    let ended = scene.run(&task).with(1);
    let ended = ended.tells(&["5 rows of", "constraint `small`", "CHECK id < 95", "<where_condition>"]);
    let ended = ended.tells(&["1 rows of", "constraint `is set`"]);
    assert!(!ended.stderr.contains("fits"), "{}", ended.stderr);
    let task = scene.task(&[&[0]], &[&[1]]).with(hits.with("where_condition", "id < 95 AND s = 'x'"));
    scene.run(&task).with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "94");
}
