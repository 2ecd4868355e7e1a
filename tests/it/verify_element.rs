//! The element `<verify>`: what counts and checksums find.

use std::time::Instant;

use lab::Release;
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Scene, Task, fill, fill_every_type, rows, scene};

const FEW: [&str; 5] = [
    "--max-table-tries=1",
    "--max-shard-partition-tries=2",
    "--max-shard-partition-piece-tries-for-alter=3",
    "--retry-delay-ms=100",
    "--jobs=1",
];

#[apply(both)]
fn verify_checksum_compares_every_column_type(#[case] release: Release) {
    let scene = scene!(release);
    for source in [0, 1] {
        fill_every_type(scene.server(source), &format!("{}.hits", scene.src), "3000");
    }
    // Another type, and a column that only the target has and that is another one each time.
    let there = "(d Date, id String, s String, n Nullable(Int64), a Array(Nullable(String)), u UUID, dec Decimal(18, 4), \
                 e Enum8('a' = 1, 'it\\'s' = 2), f FixedString(3), nest Nested(x UInt8, y String), t DateTime, fl Float64, \
                 aa Array(Array(Int16)), tu Tuple(UInt8, String), nu Nullable(UUID), c String, \
                 m UInt64 MATERIALIZED toUInt64(id) * 3, at DateTime DEFAULT now())";
    scene.on(&[2, 3], &format!("CREATE DATABASE {}", scene.dst));
    scene.on(&[2, 3], &format!("CREATE TABLE {}.other {there} {BY_MONTH}", scene.dst));
    let same = scene.table("hits").sharding_key("id").with("number_of_splits", "3").with("batch_bytes", "200000");
    let other = scene.table("other").from(&scene.src, "hits").sharding_key("cityHash64(id)");
    let task = scene.task(&[&[0], &[1]], &[&[2], &[3]]).more("<verify>checksum</verify>").with(same).with(other);
    let ended = scene.run(&task).with(0).reports(&["equal, checksum too", "not compared: at"]);
    assert!(!ended.stdout.contains("by their text"), "{}", ended.stdout);
    scene.check_rows(&task, &task.tables[0], "1");
    scene.check_nothing_left(&task);
}

/// A view that returns the same number of rows each time, with other values.
fn restless(scene: &Scene, verify: &str) -> Task {
    fill(scene, &[0], BY_MONTH, 5000, 1);
    let select = format!("SELECT d, id, s, toInt32(rand() % 1000000) AS v FROM {}.hits", scene.src);
    scene.ask(0, &format!("CREATE VIEW {}.restless {COLUMNS} AS {select}", scene.src));
    let table = scene.table("restless").engine(BY_MONTH).with("verify", verify);
    scene.task(&[&[0]], &[&[1]]).with(table)
}

#[apply(both)]
fn verify_checksum_notices_values_that_change_while_they_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let task = restless(&scene, "checksum");
    let ended = scene.launch(&task).args(&FEW).run().with(3);
    ended.tells(&["restless", scene.server(0).host(), "5000 rows to copy with checksum", "column `v` differs"]);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.restless", scene.dst)), "0");
}

#[apply(both)]
fn verify_count_does_not_notice_values_that_change_while_they_are_copied(#[case] release: Release) {
    let scene = scene!(release);
    let task = restless(&scene, "count");
    let ended = scene.run(&task).with(0);
    assert!(ended.stdout.contains("equal") && !ended.stdout.contains("checksum"), "{}", ended.stdout);
}

/// The staged rows of a copied piece are replaced by as many other rows before publication.
#[apply(both)]
fn changed_staged_rows_are_not_reported_as_equal(#[case] release: Release) {
    for (engine, kind) in
        [(BY_MONTH, "plain"), ("ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)", "merging")]
    {
        let scene = scene!(release);
        scene.short_sessions();
        fill(&scene, &[0], BY_MONTH, 5000, 1);
        let hits = scene.table("hits").engine(engine).with("verify", "checksum");
        let task = scene.task(&[&[0]], &[&[1]]).with(hits).at(kind);
        let worker = scene.launch(&task).args(&["--jobs", "1"]).stop_at("piece-recorded").start();
        worker.reaches("piece-recorded");
        worker.kill_9();
        let staging = scene.ask(
            1,
            &format!("SELECT name FROM system.tables WHERE database = '{}' AND name LIKE 'copier%'", scene.dst),
        );
        let staging = format!("{}.{staging}", scene.dst);
        scene.ask(1, &format!("ALTER TABLE {staging} DROP PARTITION 201801"));
        let rows = "SELECT toDate('2018-01-02') AS d, number AS id, 'other' AS s, toInt32(1) AS v FROM system.numbers";
        scene.ask(1, &format!("INSERT INTO {staging} (d, id, s, v) {rows} LIMIT 5000"));
        let ended = scene.launch(&task).args(&FEW).run();
        if kind == "plain" {
            // The rows are published, and reported as different.
            ended.with(3).tells(&["partition 201801", "with other contents"]);
        } else {
            // The change is found before publication, and the piece is copied again.
            ended.with(0).tells(&["are not those that were copied"]).reports(&["equal, checksum too"]);
            scene.check(&task);
        }
        scene.ask(1, &format!("DROP TABLE {}.hits", scene.dst));
    }
}

#[apply(both)]
fn merging_engines_are_compared_before_they_merge(#[case] release: Release) {
    let scene = scene!(release);
    // Every row exists twice; the target merges them into one.
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    scene.ask(0, &format!("INSERT INTO {0}.hits SELECT * FROM {0}.hits", scene.src));
    let engine = "ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    let hits = scene.table("hits").engine(engine).with("number_of_splits", "3").with("verify", "checksum");
    let task = scene.task(&[&[0]], &[&[1]]).with(hits);
    scene.run(&task).with(0);
    let row = "cityHash64(d, id, s, v)";
    let once = scene.digest(&[0], row, &format!("(SELECT DISTINCT d, id, s, v FROM {}.hits)", scene.src));
    let found = scene.digest(&[1], row, &format!("(SELECT DISTINCT d, id, s, v FROM {}.hits)", scene.dst));
    assert_eq!(found, once);
    scene.check_nothing_left(&task);
}

/// With `none` the source is asked less. Rows are still counted on the target before they are recorded as copied.
#[apply(both)]
fn verify_none_still_counts_the_copied_rows(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, &[0, 1], BY_MONTH, 5000, 2);
    let counts = |scene: &Scene| {
        scene.on(&[0, 1], "SYSTEM FLUSH LOGS");
        let kind = "query LIKE '%toUInt64(count())%' AND query LIKE '%toYYYYMM(d)%'";
        let sql = format!(
            "SELECT count() FROM system.query_log WHERE toInt8(type) = 2 AND {kind} AND query NOT LIKE '%query_log%' \
             AND position(query, '`{}`.`hits`') > 0",
            scene.src
        );
        scene.sum(&[0, 1], &sql)
    };
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("id");
    let small = |name: &str, verify: &str| {
        let table = hits.clone().to(&scene.dst, name).with("batch_bytes", "1").with("verify", verify);
        scene.task(&[&[0], &[1]], &[&[2], &[3]]).at(name).with(table)
    };
    let quiet = small("quiet", "none");
    scene.run(&quiet).with(0);
    scene.check(&quiet);
    assert_eq!(counts(&scene), 0, "four pieces were planned from what the parts say, and none was counted again");
    let counted = small("counted", "count");
    scene.run(&counted).with(0);
    assert_eq!(counts(&scene), 4);
    // Two months on two shards.
    scene.check_partitions(&quiet, &[("hits", 2)]);
    // If rows were inserted after planning, the source is asked.
    let later = small("later", "none");
    let worker = scene.launch(&later).args(&["--jobs", "1"]).stop_at("tables-created").start();
    worker.reaches("tables-created");
    scene.ask(0, &format!("INSERT INTO {}.hits VALUES ('2018-01-03', 1, 'late', 1)", scene.src));
    worker.kill_9();
    scene.run(&later).with(0);
    scene.check(&later);
    assert_eq!(counts(&scene), 5, "one piece had more rows than were planned");
}

/// What a checksum costs, as a share of the copy: `cargo test --test it measure_the_cost_of_a_checksum -- --ignored --nocapture`.
#[apply(both)]
#[ignore = "a measurement"]
fn measure_the_cost_of_a_checksum(#[case] release: Release) {
    let scene = scene!(release);
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 8_000_000, 4)));
    for round in 0..2 {
        let mut seconds = Vec::new();
        for verify in ["none", "count", "checksum"] {
            let name = format!("{verify}_{round}");
            let hits = scene.table("hits").engine(BY_MONTH).to(&scene.dst, &name).with("verify", verify);
            let task = scene.task(&[&[0]], &[&[1]]).at(&name).with(hits);
            let begun = Instant::now();
            scene.run(&task).with(0);
            seconds.push(begun.elapsed().as_secs_f64());
            scene.ask(1, &format!("DROP TABLE {}.{name}", scene.dst));
        }
        let share = |kind: f64| (kind / seconds[1] - 1.0) * 100.0;
        println!("count {:.2} s, none {:+.0} %, checksum {:+.0} %", seconds[1], share(seconds[0]), share(seconds[2]));
    }
}
