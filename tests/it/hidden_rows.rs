//! Rows that a filter hides from an account: on the source they are refused, or skipped if the task says so; on the target they are
//! refused.

use lab::{LabSpec, Release, User};

use crate::harness::{Scene, Task, scene};

const ENGINE: &str = "ENGINE = MergeTree PARTITION BY k ORDER BY id";

/// A laboratory whose account `half` sees every second row of `guarded.hits`, and all rows of other tables.
fn guarded() -> LabSpec {
    let filter = ("guarded".to_owned(), "hits".to_owned(), "id % 2 = 0".to_owned());
    let half = User { filters: vec![filter], ..User::new("half", "") };
    LabSpec { users: vec![half], ..LabSpec::of(Release::V25_8, 2) }
}

/// Creates `guarded.hits` on the first server, with 1000 rows.
fn fill(scene: &Scene) {
    scene.on(&[0, 1], "CREATE DATABASE guarded");
    let table = format!("CREATE TABLE guarded.hits (id UInt64, k UInt8) {ENGINE}");
    scene.on(&[0], &table);
    scene.on(&[0], "INSERT INTO guarded.hits SELECT number, number % 4 FROM system.numbers LIMIT 1000");
}

/// Returns a task that copies `guarded.hits` from the first server to a database of the second, with account `half` on the source or
/// on the target.
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
fn rows_hidden_from_an_account_are_reported() {
    let scene = scene!(own guarded());
    fill(&scene);
    let refused = task(&scene, "refused", true);
    let line = "a row policy or a filter hides 500 rows of guarded.hits from account half";
    scene.launch(&refused).verb("check").run().with(1).reports(&[line, "<hidden_rows>skip</hidden_rows>"]);
    scene.run(&refused).with(1).tells(&[line, "<hidden_rows>skip</hidden_rows>"]);
    assert!(!scene.has_database(1, &scene.database("refused")));

    let mut skipped = task(&scene, "skipped", true);
    skipped.tables[0] = skipped.tables[0].clone().with("hidden_rows", "skip");
    scene.run(&skipped).with(0).tells(&[line, "they are not copied"]);
    let arrived = format!("SELECT count(), sum(id % 2) FROM {}.hits", scene.database("skipped"));
    assert_eq!(scene.ask(1, &arrived), "500\t0");

    // The target's account can neither count nor keep rows that it does not see.
    scene.on(&[1], &format!("CREATE TABLE guarded.hits (id UInt64, k UInt8) {ENGINE}"));
    scene.on(&[1], "INSERT INTO guarded.hits SELECT number, 7 FROM system.numbers LIMIT 10");
    let mut target = task(&scene, "target", false);
    target.tables[0] = target.tables[0].clone().to("guarded", "hits").with("if_target_not_empty", "append");
    let line = "a row policy or a filter hides 5 rows of guarded.hits from account half";
    scene.run(&target).with(1).tells(&[line, "the target"]);
    assert_eq!(scene.ask(1, "SELECT count() FROM guarded.hits"), "10");
}

/// For tables without parts, hidden rows cannot be counted; a row policy is reported unless it shows all rows. 18.16 has no policies.
#[test]
fn a_row_policy_on_a_table_without_parts_is_reported() {
    let scene = scene!(own guarded());
    fill(&scene);
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

/// Rows removed by a lightweight DELETE are still in the parts, but they are not hidden rows. 18.16 has no such statement.
#[test]
fn deleted_rows_are_not_reported_as_hidden() {
    let scene = scene!(Release::V25_8);
    scene.on(&[0], &format!("CREATE TABLE {}.hits (id UInt64, k UInt8) {ENGINE}", scene.src));
    scene.on(&[0], &format!("INSERT INTO {}.hits SELECT number, number % 4 FROM numbers(1000)", scene.src));
    scene.on(&[0], &format!("DELETE FROM {}.hits WHERE id < 100", scene.src));
    let task = scene.task(&[&[0]], &[&[1]]).with(scene.table("hits"));
    scene.run(&task).with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.dst)), "900");

    // A read-only account may not count deleted rows. Its policies tell whether others are hidden.
    let to = scene.database("read_only");
    let mut read_only = scene.task(&[&[0]], &[&[1]]).at("read_only").with(scene.table("hits").to(&to, "hits"));
    read_only.source_account = Some(("readonly".to_owned(), String::new()));
    let policy = format!("few ON {}.hits", scene.src);
    scene.on(&[0], &format!("CREATE ROW POLICY {policy} USING id % 2 = 0 TO readonly"));
    let refused = scene.run(&read_only);
    scene.on(&[0], &format!("DROP ROW POLICY {policy}"));
    refused.with(1).tells(&["row policy few may hide rows of", "from account readonly"]);
    scene.run(&read_only).with(0);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {to}.hits")), "900");
}

/// A view shows the rows that its reader may see of the tables below. 18.16 has no policies.
#[test]
fn a_row_policy_on_a_table_below_a_view_is_reported() {
    let scene = scene!(own guarded());
    fill(&scene);
    scene.on(&[0], "CREATE VIEW guarded.view AS SELECT id FROM guarded.hits WHERE id < 500");
    scene.on(&[0], "CREATE VIEW guarded.outer AS SELECT id FROM guarded.view");
    scene.on(&[0], "CREATE TABLE guarded.merged (id UInt64) ENGINE = Merge('guarded', '^log$')");
    scene.on(&[0], "CREATE TABLE guarded.log (id UInt64) ENGINE = Log");
    scene.on(&[0], "CREATE ROW POLICY few ON guarded.log USING id < 5 TO half");
    let task_of = |name: &str, table: &str| {
        let mut task = task(&scene, name, true);
        task.tables[0] = task.tables[0].clone().from("guarded", table).engine("MergeTree ORDER BY id");
        task
    };
    // The server names a filter of users.xml after its account.
    for (view, policy, table) in [("view", "half", "hits"), ("outer", "half", "hits"), ("merged", "few", "log")] {
        let line = format!(
            "row policy {policy} may hide rows of guarded.{table}, which guarded.{view} reads, from account half"
        );
        scene.run(&task_of(view, view)).with(1).tells(&[&line, "<hidden_rows>skip</hidden_rows>"]);
    }
    let mut skipped = task_of("skipped", "outer");
    skipped.tables[0] = skipped.tables[0].clone().with("hidden_rows", "skip");
    scene.run(&skipped).with(0).tells(&["of guarded.hits, which guarded.outer reads", "they are not copied"]);
    assert_eq!(scene.ask(1, &format!("SELECT count() FROM {}.hits", scene.database("skipped"))), "250");
}

/// A Distributed table shows the rows that the account of its cluster may see on the other servers. 18.16 has no policies.
#[test]
fn a_row_policy_on_a_server_behind_a_distributed_table_is_reported() {
    let scene = scene!(own guarded());
    scene.lab().define_cluster(&scene.lab().cluster("behind", &[&[1]])).unwrap();
    scene.on(&[0, 1], "CREATE DATABASE guarded");
    scene.on(&[1], &format!("CREATE TABLE guarded.hits (id UInt64, k UInt8) {ENGINE}"));
    scene.on(&[1], "INSERT INTO guarded.hits SELECT number, number % 4 FROM numbers(1000)");
    scene.on(&[0], "CREATE TABLE guarded.all (id UInt64, k UInt8) ENGINE = Distributed(behind, guarded, hits)");
    scene.on(&[0], "CREATE VIEW guarded.view AS SELECT id, k FROM guarded.all");
    let task_of = |name: &str, table: &str| {
        let target = scene.table("hits").from("guarded", table).to(&scene.database(name), "hits");
        scene.task(&[&[0]], &[&[0]]).at(name).with(target.engine("MergeTree PARTITION BY k ORDER BY id"))
    };
    scene.run(&task_of("open", "all")).with(0);
    // An account that may not use cluster() copies, and the report says what is not known.
    scene.on(&[0], "CREATE USER limited IDENTIFIED WITH no_password");
    scene.on(&[0], "GRANT SELECT ON *.* TO limited");
    let with_account = |mut task: Task, account: &str| {
        task.source_account = Some((account.to_owned(), String::new()));
        task
    };
    let limited = with_account(task_of("limited", "all"), "limited");
    let unknown = "hide rows of guarded.hits from readers of guarded.all cannot be told";
    scene.run(&limited).with(0).tells(&["whether the servers of cluster behind", unknown]);

    scene.on(&[1], "DELETE FROM guarded.hits WHERE id < 100");
    scene.run(&task_of("deleted", "view")).with(0);
    assert_eq!(scene.ask(0, &format!("SELECT count() FROM {}.hits", scene.database("deleted"))), "900");

    scene.on(&[1], "CREATE ROW POLICY few ON guarded.hits USING id % 2 = 0 TO default");
    // A read-only account may not count deleted rows.
    let read_only = with_account(task_of("read_only", "all"), "readonly");
    let words = ["do not see 550 rows of guarded.hits on the servers of cluster behind", "or they were deleted"];
    scene.run(&read_only).with(1).tells(&words);
    for (name, task) in [("direct", task_of("direct", "all")), ("viewed", task_of("viewed", "view"))] {
        let line = "rows of guarded.hits on the servers of cluster behind from readers of guarded.all";
        scene.run(&task).with(1).tells(&["a row policy or a filter hides 500", line]);
        assert!(!scene.has_database(0, &scene.database(name)));
    }
    let mut skipped = task_of("skipped", "all");
    skipped.tables[0] = skipped.tables[0].clone().with("hidden_rows", "skip");
    scene.run(&skipped).with(0).tells(&["on the servers of cluster behind", "they are not copied"]);
    assert_eq!(scene.ask(0, &format!("SELECT count() FROM {}.hits", scene.database("skipped"))), "450");
}
