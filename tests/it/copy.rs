//! Copies from start to end: engines, partitions, conditions.

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Task, fill, rows, scene};

/// Returns how many statements of the task have finished on some servers.
fn transfers(scene: &Scene, servers: &[usize]) -> u64 {
    scene.on(servers, "SYSTEM FLUSH LOGS");
    let sql = format!(
        "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND query_id LIKE 'copier:%' \
         AND position(query, '{}') > 0",
        scene.dst
    );
    scene.sum(servers, &sql)
}

#[apply(both)]
fn two_shards_are_copied_to_three(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 50_000, 4);
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("intHash64(id)");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).with(hits);
    scene.run(&task).with(0).reports(&["hits", "201801", "201804"]);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 4)]);
    for target in [2, 3, 4] {
        let rows = scene.sum(&[target], &format!("SELECT count() FROM {}.hits", scene.dst));
        assert!((30_000..37_000).contains(&rows), "shard on server {target} has {rows} rows of 100,000");
    }
}

#[apply(both)]
fn monthly_partitions_are_copied_into_weekly_partitions(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 4);
    let hits = scene.table("hits").engine("MergeTree PARTITION BY toMonday(d) ORDER BY (d, id)").sharding_key("id");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    scene.run(&task).with(0).reports(&["2018-01-29", "2018-02-26"]);
    scene.check(&task);
    // 119 days that begin with a Monday.
    scene.check_partitions(&task, &[("hits", 17)]);
    let weeks = format!(
        "SELECT uniqExact(partition) FROM system.parts WHERE active AND database = '{}' AND table = 'hits'",
        scene.dst
    );
    assert_eq!(scene.ask(2, &weeks), "17");
}

#[apply(both)]
fn tables_without_partition_key_on_one_or_both_sides_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let whole = "ENGINE = MergeTree ORDER BY id";
    fill(&scene, &[0], whole, 10_000, 4);
    let task = scene
        .task(&[&[0]], &[&[1]])
        .with(scene.table("hits").engine(whole))
        .with(scene.table("cut").from(&scene.src, "hits").engine(BY_MONTH))
        .with(scene.table("joined").from(&scene.dst, "cut2").engine("MergeTree PARTITION BY tuple() ORDER BY id"));
    // A partitioned source for the third table.
    scene.ask(0, &format!("CREATE DATABASE {}", scene.dst));
    scene.ask(0, &format!("CREATE TABLE {}.cut2 {COLUMNS} {BY_MONTH}", scene.dst));
    scene.ask(0, &format!("INSERT INTO {}.cut2 {}", scene.dst, rows(0, 10_000, 4)));
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 1), ("cut", 4), ("joined", 1)]);
}

#[apply(both)]
fn memory_and_log_tables_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let mut task = scene.task(&[&[0], &[1]], &[&[2], &[3]]);
    for engine in ["Memory", "Log", "TinyLog", "StripeLog"] {
        for (number, server) in [(0, 0), (1, 1)] {
            scene.ask(server, &format!("CREATE TABLE {}.{engine} {COLUMNS} ENGINE = {engine}", scene.src));
            scene.ask(server, &format!("INSERT INTO {}.{engine} {}", scene.src, rows(number * 5000, 5000, 2)));
        }
        task = task.with(scene.table(engine).engine(BY_MONTH).sharding_key("id"));
    }
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("Memory", 2), ("Log", 2), ("TinyLog", 2), ("StripeLog", 2)]);
}

#[apply(both)]
fn an_empty_source_table_gives_an_empty_target_table(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 0, 1);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 0)]);
}

#[apply(both)]
fn a_source_with_one_empty_shard_is_copied(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 3000, 2);
    fill(&scene, &[1], BY_MONTH, 0, 1);
    let task = scene.task(&[&[0], &[1]], &[&[2]]).with(scene.table("hits").engine(BY_MONTH));
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 2)]);
}

#[apply(both)]
fn the_target_gets_the_engine_of_a_source_in_old_syntax(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], "ENGINE = MergeTree(d, intHash32(id), (d, intHash32(id)), 4096)", 20_000, 2);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    let made = format!(
        "SELECT partition_key, sorting_key, sampling_key, position(create_table_query, '4096') > 0 \
         FROM system.tables WHERE database = '{}' AND name = 'hits'",
        scene.dst
    );
    assert_eq!(scene.ask(1, &made), "toYYYYMM(d)\td, intHash32(id)\tintHash32(id)\t1");
}

/// If publication read the whole table, a table of many partitions would be read once for each of them.
#[apply(both)]
fn publication_reads_only_the_partitions_that_it_publishes(#[case] release: Release) {
    for (name, engine) in [("new", BY_MONTH), ("old", "ENGINE = MergeTree(d, (id, d), 1024)")] {
        let scene = scene!(release);
        let table = format!("{name}_hits");
        scene.create_old(&[0], &format!("CREATE TABLE {}.{table} {COLUMNS} {engine}", scene.src));
        scene.ask(0, &format!("INSERT INTO {}.{table} {}", scene.src, rows(0, 40_000, 4)));
        let hits = scene.table(&table).with("batch_bytes", "1").with("verify", "checksum");
        let task = scene.task(&[&[0]], &[&[1]]).at(name).with(hits);
        scene.run(&task).with(0);
        let sql = format!(
            "SELECT count(), sum(read_rows >= 11000) FROM system.query_log WHERE toInt8(type) = 2 AND query LIKE 'SELECT %' \
             AND position(query, 'FROM `{}`.`{table}`') > 0",
            scene.dst
        );
        // Three statements for each partition: before publication, after it, and the checksum. One more statement reads the whole
        // table, for the account at the end.
        scene.eventually(engine, || {
            scene.ask(1, "SYSTEM FLUSH LOGS");
            let found = scene.ask(1, &sql);
            if found == "13\t1" { Ok(()) } else { Err(found) }
        });
        scene.check(&task);
    }
}

#[apply(both)]
fn the_target_gets_the_engine_of_the_source(#[case] release: Release) {
    let scene = scene!(release);
    let engine =
        "ENGINE = ReplacingMergeTree(v) PARTITION BY toMonday(d) ORDER BY (d, id) SETTINGS index_granularity = 512";
    fill(&scene, &[0], engine, 20_000, 1);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    scene.check(&task);
    let made = |database: &str| {
        format!("SELECT engine_full FROM system.tables WHERE database = '{database}' AND name = 'hits' FORMAT TSVRaw")
    };
    assert_eq!(scene.ask(1, &made(&scene.dst)), scene.ask(0, &made(&scene.src)));
}

#[apply(both)]
fn identical_rows_are_not_deduplicated_by_a_replicated_target(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    let rows = "SELECT toDate('2018-01-01'), toUInt64(1), 'same', toInt32(1) FROM system.numbers LIMIT 100000";
    scene.ask(0, &format!("INSERT INTO {}.hits {rows}", scene.src));
    let engine = scene.replicated_engine("");
    // The pieces are equal to each other too.
    let hits = scene.table("hits").engine(&engine).with("number_of_splits", "4");
    let task = scene.task(&[&[0]], &[&[2, 3]]).with(hits);
    scene.run(&task).with(0).reports(&["100000"]);
    scene.check(&task);
    assert_eq!(scene.ask(3, &format!("SELECT count() FROM {}.hits", scene.dst)), "100000");
}

#[apply(both)]
fn only_rows_that_match_the_where_condition_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 3);
    let condition = r"v < 100 AND s != 'it\'s <&> ''x''' AND id % 7 > 0 OR id = 5 -- and no more";
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("where_condition", condition);
    let month = scene.table("month").from(&scene.src, "hits").engine(BY_MONTH).sharding_key("id");
    let month = month.with("where_condition", "d >= '2018-02-01' AND d < '2018-03-01'");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits).with(month);
    scene.run(&task).with(0);
    scene.check_rows(&task, &task.tables[0], "v < 100 AND id % 7 > 0 OR id = 5");
    scene.check_rows(&task, &task.tables[1], "toYYYYMM(d) = 201802");
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

#[apply(both)]
fn enabled_partitions_can_be_written_in_every_form(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 6000, 4);
    let pair = "MergeTree PARTITION BY (toYYYYMM(d), v % 2) ORDER BY (d, id)";
    let week = "MergeTree PARTITION BY toMonday(d) ORDER BY (d, id)";
    let forms = [
        (BY_MONTH, "201801", "toYYYYMM(d) = 201801", 1),
        (BY_MONTH, "'201802'", "toYYYYMM(d) = 201802", 1),
        (BY_MONTH, "201801 201803", "toYYYYMM(d) IN (201801, 201803)", 2),
        (BY_MONTH, "<a>201802</a><b>'201803'</b>", "toYYYYMM(d) IN (201802, 201803)", 2),
        (week, "'2018-01-29' 2018-02-05", "toMonday(d) IN ('2018-01-29', '2018-02-05')", 2),
        (week, "<partition>'2018-02-26'</partition>", "toMonday(d) = '2018-02-26'", 1),
        (pair, "(201801, 1)", "toYYYYMM(d) = 201801 AND v % 2 = 1", 1),
        (pair, "<p>(201802,0)</p><p>(201802,-1)</p>", "toYYYYMM(d) = 201802 AND v % 2 IN (0, -1)", 2),
    ];
    let mut task = scene.task(&[&[0]], &[&[1]]);
    for (number, (engine, list, _, _)) in forms.iter().enumerate() {
        let table = scene.table(&format!("t{number}")).from(&scene.src, "hits").engine(engine);
        task = task.with(table.raw(&format!("<enabled_partitions>{list}</enabled_partitions>")));
    }
    scene.run(&task).with(0);
    for (table, (_, _, condition, _)) in task.tables.iter().zip(&forms) {
        scene.check_rows(&task, table, condition);
    }
    scene.check_nothing_left(&task);
    let counts: Vec<(&str, u64)> =
        task.tables.iter().zip(&forms).map(|(table, form)| (table.name.as_str(), form.3)).collect();
    scene.check_partitions(&task, &counts);
}

#[apply(both)]
fn number_of_splits_cuts_a_partition_into_pieces(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 40_000, 1);
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(BY_MONTH).with("number_of_splits", "4"));
    scene.run(&task).with(0);
    scene.check(&task);
    scene.check_partitions(&task, &[("hits", 1)]);
    assert!(transfers(&scene, &[0]) >= 4);
}

#[apply(both)]
fn batch_bytes_cuts_a_large_partition_into_pieces(#[case] release: Release) {
    let scene = scene!(release);
    // One partition of 3 MB uncompressed, and a small one.
    fill(&scene, &[0], BY_MONTH, 150_000, 1);
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(200_000, 10, 2).replace("2018-01", "2018-05")));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id").with("batch_bytes", "300000");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits.with("transfer", "push"));
    scene.run(&task).with(0);
    scene.check(&task);
    let transfers = transfers(&scene, &[0]);
    assert!(transfers > 8, "{transfers} transfers");
}

#[apply(both)]
fn a_partition_with_many_parts_is_cut_and_gathered(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    for number in 0..12 {
        scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(number * 2000, 2000, 2)));
    }
    let hits = scene.table("hits").engine(BY_MONTH).with("batch_bytes", "100K").with("number_of_splits", "3");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    scene.launch(&task).args(&["--jobs", "4"]).run().with(0);
    scene.check(&task);
}

#[apply(both)]
fn a_target_that_merges_equal_keys_keeps_the_latest_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 20_000, 2);
    // The same keys again, with a greater version, on the other shard.
    scene.ask(1, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 5000, 2).replace("- 500", "+ 500")));
    let engine = "ReplacingMergeTree(v) PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    let hits = scene.table("hits").engine(engine).sharding_key("id").with("number_of_splits", "2");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).with(hits);
    scene.run(&task).with(0);
    let found = scene.digest(&[2, 3], "cityHash64(d, id, s, v)", &format!("{}.hits FINAL", scene.dst));
    let first = scene.digest(&[0], "cityHash64(d, id, s, v)", &format!("{}.hits WHERE id >= 5000", scene.src));
    let rest = scene.digest(&[1], "cityHash64(d, id, s, v)", &format!("{}.hits", scene.src));
    assert_eq!(found.rows, first.rows + rest.rows);
    assert_eq!(found.sum, first.sum.wrapping_add(rest.sum));
    scene.check_nothing_left(&task);
    scene.check_status(&task);
}

#[apply(both)]
fn a_password_with_special_characters_works_and_is_not_logged(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0], BY_MONTH, 20_000, 3);
    let task = scene.task(&[&[0]], &[&[0]]).with(scene.table("hits").with("number_of_splits", "2"));
    let task = task.account("tester", lab::ODD_PASSWORD);
    let ended = scene.run(&task).with(0);
    scene.check(&task);
    // A part of the password that is the same in every quoting.
    let secret = "<ö> #1";
    assert!(lab::ODD_PASSWORD.contains(secret));
    for text in [ended.stderr, ended.stdout].into_iter().chain(logs(&scene)) {
        assert!(!text.contains(secret), "the password is told");
    }
}

fn logs(scene: &Scene) -> Vec<String> {
    let folders = std::fs::read_dir(scene.dir().join("logs")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let logs: Vec<String> = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(logs.iter().any(|log| !log.is_empty()));
    logs
}

#[apply(both)]
fn a_copy_to_other_shards_and_back_gives_the_same_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 10_000, 3);
    let there = scene.task(&[&[0], &[1]], &[&[2], &[3], &[4]]).at("there");
    let there = there.with(scene.table("hits").sharding_key("intHash32(id)"));
    scene.run(&there).with(0);
    scene.check(&there);
    let restored = scene.database("restored");
    let back: Task = scene.task(&[&[2], &[3], &[4]], &[&[0], &[1]]).at("back");
    let hits = scene.table("hits").from(&scene.dst, "hits").to(&restored, "hits").sharding_key("intDiv(id, 10000)");
    let back = back.with(hits);
    scene.run(&back).with(0);
    scene.check(&back);
    // Each server has the same rows as before.
    for server in [0, 1] {
        let digest = |database: &str| scene.digest(&[server], "cityHash64(d, id, s, v)", &format!("{database}.hits"));
        assert_eq!(digest(&restored), digest(&scene.src));
    }
}
