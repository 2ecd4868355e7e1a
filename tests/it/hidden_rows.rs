//! Rows that a filter hides from an account: of the source they are refused or skipped on purpose, on the target they are refused.

use lab::{LabSpec, Release, User};

use crate::harness::{Scene, Task, scene};

const ENGINE: &str = "ENGINE = MergeTree PARTITION BY k ORDER BY id";

/// A laboratory whose account `half` sees every second row of `guarded.hits` and nothing less of other tables.
fn guarded(here: &str, release: Release) -> Scene {
    let filter = ("guarded".to_owned(), "hits".to_owned(), "id % 2 = 0".to_owned());
    let half = User { filters: vec![filter], ..User::new("half", "") };
    let scene = Scene::own(here, LabSpec { users: vec![half], ..LabSpec::of(release, 2) });
    scene.on(&[0, 1], "CREATE DATABASE guarded");
    let table = format!("CREATE TABLE guarded.hits (id UInt64, k UInt8) {ENGINE}");
    scene.on(&[0], &table);
    scene.on(&[0], "INSERT INTO guarded.hits SELECT number, number % 4 FROM system.numbers LIMIT 1000");
    scene
}

/// Copies `guarded.hits` of the first server to a database of the second, as `half` on the side that is told.
fn task(scene: &Scene, name: &str, source: bool) -> Task {
    let table = scene.table("hits").from("guarded", "hits").to(&scene.database(name), "hits");
    let mut task = scene.task(&[&[0]], &[&[1]]).at(name).with(table);
    let half = Some(("half".to_owned(), String::new()));
    if source {
        task.source_account = half;
    } else {
        task.target_account = half;
    }
    task
}

/// 18.16 has no filters and no row policies.
#[test]
fn rows_that_an_account_does_not_see_are_named() {
    fn here() {}
    let scene = guarded(std::any::type_name_of_val(&here), Release::V25_8);
    let refused = task(&scene, "refused", true);
    let line = "a row policy or a filter hides 500 rows of guarded.hits from account half";
    scene.launch(&refused).verb("check").run().with(1).reports(&[line, "<hidden_rows>skip</hidden_rows>"]);
    scene.run(&refused).with(1).tells(&[line, "<hidden_rows>skip</hidden_rows>"]);
    let made = format!("SELECT count() FROM system.databases WHERE name = '{}'", scene.database("refused"));
    assert_eq!(scene.ask(1, &made), "0");

    let mut skipped = task(&scene, "skipped", true);
    skipped.tables[0] = skipped.tables[0].clone().with("hidden_rows", "skip");
    scene.run(&skipped).with(0).tells(&[line, "they are not copied"]);
    let arrived = format!("SELECT count(), sum(id % 2) FROM {}.hits", scene.database("skipped"));
    assert_eq!(scene.ask(1, &arrived), "500\t0");

    // The target's account: what it does not see it could neither count nor keep.
    scene.on(&[1], &format!("CREATE TABLE guarded.hits (id UInt64, k UInt8) {ENGINE}"));
    scene.on(&[1], "INSERT INTO guarded.hits SELECT number, 7 FROM system.numbers LIMIT 10");
    let mut target = task(&scene, "target", false);
    target.tables[0] = target.tables[0].clone().to("guarded", "hits").with("if_target_not_empty", "append");
    let line = "a row policy or a filter hides 5 rows of guarded.hits from account half";
    scene.run(&target).with(1).tells(&[line, "the target"]);
    assert_eq!(scene.ask(1, "SELECT count() FROM guarded.hits"), "10");
}

/// Tables without parts cannot tell what is hidden; a policy can, unless it shows all rows. 18.16 has no policies.
#[test]
fn a_policy_on_a_table_without_parts_is_named() {
    fn here() {}
    let scene = guarded(std::any::type_name_of_val(&here), Release::V25_8);
    scene.on(&[0], "CREATE TABLE guarded.log (id UInt64) ENGINE = Log");
    scene.on(&[0], "INSERT INTO guarded.log SELECT number FROM numbers(10)");
    scene.on(&[0], "CREATE ROW POLICY few ON guarded.log USING id < 5 TO half");
    let engine = "MergeTree ORDER BY id";
    let mut of_log = task(&scene, "log", true);
    of_log.tables[0] = of_log.tables[0].clone().from("guarded", "log").engine(engine);
    scene.run(&of_log).with(1).tells(&["row policy few may hide rows of guarded.log from account half"]);
    scene.on(&[0], "CREATE ROW POLICY everything ON guarded.log USING 1 TO half");
    let ended = scene.launch(&of_log).verb("check").run();
    assert!(!ended.stdout.contains("row policy"), "{}", ended.stdout);
}

/// Rows that a lightweight DELETE removed are in the parts, and hidden from nobody. 18.16 has no such statement.
#[test]
fn deleted_rows_are_not_hidden_rows() {
    let scene = scene!(Release::V25_8);
    scene.on(&[0], &format!("CREATE TABLE {}.hits (id UInt64, k UInt8) {ENGINE}", scene.src));
    scene.on(&[0], &format!("INSERT INTO {}.hits SELECT number, number % 4 FROM numbers(1000)", scene.src));
    scene.on(&[0], &format!("DELETE FROM {}.hits WHERE id < 100", scene.src));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "900");
}

/// A view shows what its reader sees of the tables beneath. 18.16 has no policies.
#[test]
fn a_policy_beneath_a_view_is_named() {
    fn here() {}
    let scene = guarded(std::any::type_name_of_val(&here), Release::V25_8);
    scene.on(&[0], "CREATE VIEW guarded.view AS SELECT id FROM guarded.hits WHERE id < 500");
    scene.on(&[0], "CREATE VIEW guarded.outer AS SELECT id FROM guarded.view");
    scene.on(&[0], "CREATE TABLE guarded.merged (id UInt64) ENGINE = Merge('guarded', '^log$')");
    scene.on(&[0], "CREATE TABLE guarded.log (id UInt64) ENGINE = Log");
    scene.on(&[0], "CREATE ROW POLICY few ON guarded.log USING id < 5 TO half");
    let of = |name: &str, table: &str| {
        let mut task = task(&scene, name, true);
        task.tables[0] = task.tables[0].clone().from("guarded", table).engine("MergeTree ORDER BY id");
        task
    };
    // The server names a filter of users.xml after its account.
    for (view, policy, table) in [("view", "half", "hits"), ("outer", "half", "hits"), ("merged", "few", "log")] {
        let line = format!(
            "row policy {policy} may hide rows of guarded.{table}, which guarded.{view} reads, from account half"
        );
        scene.run(&of(view, view)).with(1).tells(&[&line, "<hidden_rows>skip</hidden_rows>"]);
    }
    let mut skipped = of("skipped", "outer");
    skipped.tables[0] = skipped.tables[0].clone().with("hidden_rows", "skip");
    scene.run(&skipped).with(0).tells(&["of guarded.hits, which guarded.outer reads", "they are not copied"]);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.database("skipped"))), "250");
}
