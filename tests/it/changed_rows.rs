//! Sources with updates and deletes that are not yet applied to the parts: every transfer copies what a SELECT of the account
//! returns.

use lab::{LabSpec, Release, User};
use rstest_reuse::apply;

use crate::both;
use crate::harness::{Scene, Task, scene};

const TRANSFERS: [&str; 5] = ["push", "pull", "relay", "clone", "auto"];

/// Creates a table of a thousand rows in two partitions.
fn fill(scene: &Scene, table: &str, settings: &str) {
    scene.on(
        &[0],
        &format!(
            "CREATE TABLE {}.{table} (id UInt64, k UInt8, s String) ENGINE = MergeTree PARTITION BY k ORDER BY id {settings}",
            scene.src
        ),
    );
    let rows = "SELECT number, number % 2, 'as inserted' FROM system.numbers LIMIT 1000";
    scene.on(&[0], &format!("INSERT INTO {}.{table} {rows}", scene.src));
}

/// Returns a task that copies a table with this transfer into its own database.
fn task(scene: &Scene, table: &str, transfer: &str) -> Task {
    let database = scene.database(&format!("{table}_{transfer}"));
    let job = scene.table(table).to(&database, table).with("transfer", transfer).with("verify", "checksum");
    scene.task(&[&[0]], &[&[1]]).at(&format!("{table}_{transfer}")).with(job)
}

/// Returns what a query finds in the target table of a task.
fn arrived(scene: &Scene, task: &Task, what: &str) -> String {
    let (database, table) = &task.tables[0].target;
    scene.ask(1, &format!("SELECT {what} FROM {database}.{table}"))
}

const WHAT: &str = "count(), countIf(s = 'changed'), sum(id)";

/// Before 25.7 there are no patch parts.
#[test]
fn every_transfer_applies_lightweight_updates_and_deletes() {
    let scene = scene!(Release::V25_8);
    let settings =
        "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1, apply_patches_on_merge = 0";
    let patches = [("allow_experimental_lightweight_update", "1"), ("lightweight_delete_mode", "lightweight_update")];
    for table in ["updated", "deleted"] {
        fill(&scene, table, settings);
        let change = match table {
            "updated" => "UPDATE {} SET s = 'changed' WHERE id < 100",
            _ => "DELETE FROM {} WHERE id < 100",
        };
        let change = change.replace("{}", &format!("{}.{table}", scene.src));
        scene.server(0).query_with(&patches, &change).unwrap();
        let parts = format!(
            "SELECT count() FROM system.parts WHERE active AND database = '{}' AND table = '{table}' AND partition_id LIKE 'patch-%'",
            scene.src
        );
        let wanted = scene.ask(0, &format!("SELECT {WHAT} FROM {}.{table}", scene.src));
        for transfer in TRANSFERS {
            let task = task(&scene, table, transfer);
            let ended = scene.run(&task).with(0);
            assert_eq!(arrived(&scene, &task, WHAT), wanted, "{table} by {transfer}");
            scene.check_partitions(&task, &[(table, 2)]);
            if transfer == "clone" {
                ended.tells(&["not clone, since", "patch parts of lightweight updates"]);
            }
            scene.launch(&task).verb("verify").run().with(0);
        }
        assert_ne!(scene.ask(0, &parts), "0", "the patches were applied meanwhile: nothing was tried");
    }
}

/// 18.16 has no lightweight UPDATE and DELETE.
#[test]
fn rows_removed_by_a_lightweight_delete_are_not_copied() {
    let scene = scene!(Release::V25_8);
    fill(&scene, "masked", "");
    scene.on(&[0], &format!("DELETE FROM {}.masked WHERE id < 100", scene.src));
    for transfer in TRANSFERS {
        let task = task(&scene, "masked", transfer);
        scene.run(&task).with(0);
        assert_eq!(arrived(&scene, &task, "count(), min(id)"), "900\t100", "{transfer}");
    }
}

/// A SELECT does not show the result of an unfinished mutation.
#[apply(both)]
fn unfinished_mutations_do_not_change_what_is_copied(#[case] release: Release) {
    let scene = scene!(release);
    fill(&scene, "waiting", "");
    scene.on(&[0], &format!("SYSTEM STOP MERGES {}.waiting", scene.src));
    scene.mutate(0, &format!("ALTER TABLE {}.waiting UPDATE s = 'changed' WHERE id < 100", scene.src));
    scene.mutate(0, &format!("ALTER TABLE {}.waiting DELETE WHERE id > 900", scene.src));
    for transfer in TRANSFERS {
        // Clone is possible too, because parts do not have unfinished mutations.
        let task = task(&scene, "waiting", transfer);
        scene.run(&task).with(0);
        assert_eq!(arrived(&scene, &task, WHAT), "1000\t0\t499500", "{transfer}");
    }
}

/// An account with `apply_mutations_on_fly` sees the result of unfinished mutations, and this result is copied. 18.16 has no such
/// setting.
#[test]
fn mutations_applied_on_the_fly_are_copied() {
    let user = User { settings: vec![("apply_mutations_on_fly".into(), "1".into())], ..User::new("sees", "") };
    let lab = LabSpec { users: vec![user], ..LabSpec::of(Release::V25_8, 2) };
    let scene = scene!(own lab);
    fill(&scene, "seen", "");
    scene.on(&[0], &format!("SYSTEM STOP MERGES {}.seen", scene.src));
    scene.mutate(0, &format!("ALTER TABLE {}.seen UPDATE s = 'changed' WHERE id < 100", scene.src));
    scene.mutate(0, &format!("ALTER TABLE {}.seen DELETE WHERE id >= 900", scene.src));
    for transfer in ["push", "pull", "relay", "auto", "clone"] {
        let mut task = task(&scene, "seen", transfer);
        task.source_account = Some(("sees".to_owned(), String::new()));
        if transfer == "clone" {
            scene.run(&task).with(1).tells(&["clone does not work", "apply_mutations_on_fly"]);
            continue;
        }
        scene.run(&task).with(0);
        assert_eq!(arrived(&scene, &task, "count(), countIf(s = 'changed')"), "900\t100", "{transfer}");
    }
}
