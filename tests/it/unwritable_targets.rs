//! A target server that cannot write: its disk is full, or its Replicated table is read-only. Other partitions are copied; the
//! affected ones are reported as failed, and copied by the next run after the server is repaired.

use std::collections::BTreeMap;

use lab::{LabSpec, Release};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{BY_MONTH, COLUMNS, Launch, fill, rows, scene};

/// Makes a run give up soon.
fn few_tries(launch: Launch<'_>) -> Launch<'_> {
    let few = ["--max-table-tries=1", "--max-shard-partition-tries=2", "--max-shard-partition-piece-tries-for-alter=2"];
    launch.args(&few).args(&["--retry-delay-ms=100"])
}

#[apply(both)]
fn a_full_target_disk_fails_only_its_own_partitions(#[case] release: Release) {
    // February goes to the second shard, whose disk is small.
    let scene = scene!(own LabSpec { small_disks: BTreeMap::from([(2, 64)]), ..LabSpec::of(release, 3) });
    scene.ask(0, &format!("CREATE TABLE {}.hits {COLUMNS} {BY_MONTH}", scene.src));
    scene.ask(0, &format!("INSERT INTO {}.hits {}", scene.src, rows(0, 300_000, 3)));
    let hits = scene.table("hits").engine(BY_MONTH).sharding_key("toMonth(d) = 2").with("batch_bytes", "4000000");
    let task = scene.task(&[&[0]], &[&[1], &[2]]).with(hits);
    // Enough for empty tables, and not for their rows.
    scene.server(2).fill_disk(300 << 10).unwrap();
    let ended = few_tries(scene.launch(&task)).run().with(3);
    let host = scene.server(2).host();
    let message = if release.is_modern() { "not enough space" } else { "No space left on device" };
    let ended = ended.tells(&["WARN", host, message]).tells(&["ERROR", "201802", host, message, "free space"]);
    ended.reports(&["2 of 3 partitions are published", "201802 failed: ", host, message]);
    scene.check_rows(&task, &task.tables[0], "toMonth(d) != 2");
    let before = scene.pieces(&task);

    scene.server(2).free_disk().unwrap();
    few_tries(scene.launch(&task)).run().with(0);
    scene.check(&task);
    // The second run copied the missing partition and nothing else.
    let after = scene.pieces(&task);
    let again: Vec<usize> = (0..after.len()).filter(|&piece| after[piece] != before[piece]).collect();
    assert_eq!(again.len(), 1, "{before:?} {after:?}");
}

/// The target server has lost its ZooKeeper; the workers' own is another one.
#[apply(both)]
fn a_read_only_replicated_table_fails_only_its_own_partitions(#[case] release: Release) {
    // That the session is lost is noticed soon.
    let merge_tree = vec![("zookeeper_session_expiration_check_period".to_owned(), "1".to_owned())];
    let scene = scene!(own LabSpec { merge_tree, ..LabSpec::of(release, 2) });
    std::fs::write(scene.keeper_xml(), scene.keeper_text_of(lab::Lab::shared(release), "")).unwrap();
    fill(&scene, &[0], BY_MONTH, 5000, 2);
    let replicated = "ReplicatedMergeTree('/tables/hits', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)";
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits").engine(replicated).with("number_of_splits", "2"));
    let task = task.with(scene.table("plain").from(&scene.src, "hits").engine(BY_MONTH));
    let worker = few_tries(scene.launch(&task)).freeze_at("tables-created").start();
    worker.freezes_at("tables-created");
    scene.lab().zookeeper().kill_9().unwrap();
    let nothing = format!("ALTER TABLE {}.hits DROP PARTITION ID '200001'", scene.dst);
    let answer = || scene.server(1).query(&nothing).map_err(|error| error.to_string());
    scene.eventually("the table is read-only", || match answer() {
        Err(error) if error.contains("Code: 242") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // On 18.16 REPLACE PARTITION says 999 then, session expired, where other statements say 242.
    worker.thaw();
    let host = scene.server(1).host();
    let ended =
        worker.ends().with(3).tells(&["ERROR", "table hits partition 201801", host, "code 999", "own ZooKeeper"]);
    assert!(!ended.stderr.contains("attempt 3"), "it was told to give up after two: {}", ended.stderr);
    ended.reports(&["2 of 4 partitions are published", "201802", host, "code 999"]);
    scene.check_rows(&task, &task.tables[1], "1");

    scene.lab().zookeeper().start().unwrap();
    scene.eventually("the table takes rows again", || answer().map(drop));
    // What was copied is not copied again.
    let ended = scene.launch(&task).run().with(0);
    assert!(!ended.stderr.contains("rows copied in"), "{}", ended.stderr);
    for table in &task.tables {
        scene.check_rows(&task, table, "1");
    }
    scene.check_no_tables(&task);
}
