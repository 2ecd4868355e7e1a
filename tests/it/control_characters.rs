//! Names and values with control characters. Anyone who may write to a table chooses its values; every verb must print them escaped,
//! so that the terminal shows them and does not execute them.

use std::fs;

use clickhouse_copier::model::is_obeyed;
use lab::Release;
use rstest_reuse::apply;
use serde_json::Value;

use crate::both;
use crate::harness::{Ended, Scene, Task, scene, tick};

/// Control sequences that clear the screen, set the title and reverse the text, and a line that imitates output of the program.
const VALUE: &str = r"p\x1b[2J\x1b]0;title\x07\xc2\x9b2J\x7f\xe2\x80\xae\r\n201802: 5 rows, equal";
/// The same without characters that XML cannot hold, since a task file names the table.
const TABLE: &str = "t\u{9b}2J\u{7f}\u{202e}x";
/// The name of a column is not in a task file.
const COLUMN: &str = "c\u{1b}[2J\u{1b}]0;title\u{7}";

#[track_caller]
fn is_shown(what: &str, text: &str) {
    // A carriage return at the end of a line is harmless.
    let found = text.char_indices().find(|(_, c)| is_obeyed(*c));
    if let Some((at, c)) = found {
        let around: String = text[..at].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect();
        panic!("{what}: U+{:04X} after {around:?}", u32::from(c));
    }
    assert!(
        !text.lines().any(|line| line.trim_start().starts_with("201802: 5 rows, equal")),
        "{what}: a forged line:\n{text}"
    );
}

#[track_caller]
fn all_shown(what: &str, ended: &Ended) {
    is_shown(&format!("{what}, standard output"), &ended.stdout);
    is_shown(&format!("{what}, standard error"), &ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// Makes a table whose rows are sorted by these columns, and a task that copies it.
fn task(scene: &Scene, order: &str) -> Task {
    let columns = format!("(id UInt64, p String, {} String)", tick(COLUMN));
    let engine = format!("MergeTree PARTITION BY p ORDER BY ({order})");
    let table = tick(TABLE);
    scene.ask(0, &format!("CREATE TABLE {}.{table} {columns} ENGINE = {engine}", scene.src));
    let rows = format!("SELECT number, if(number % 2 = 0, '{VALUE}', 'q'), '{VALUE}' FROM system.numbers LIMIT 20");
    scene.ask(0, &format!("INSERT INTO {}.{table} {rows}", scene.src));
    let hostile = format!("SELECT count() FROM {}.{table} WHERE p LIKE '%\\x1b[2J%'", scene.src);
    assert_eq!(scene.ask(0, &hostile), "10");
    scene.task(&[&[0]], &[&[1]]).with(scene.table("hostile").from(&scene.src, TABLE).to(&scene.dst, TABLE))
}

#[apply(both)]
fn every_verb_escapes_control_characters_of_names_and_values(#[case] release: Release) {
    let scene = scene!(release);
    let task = task(&scene, &format!("id, {}", tick(COLUMN)));
    let logs = scene.dir().join("all.log").display().to_string();
    let run = |verb: &str, arguments: &[&str]| {
        let launch = if verb == "run" { scene.launch(&task) } else { scene.launch(&task).verb(verb) };
        let ended = launch.args(arguments).run();
        all_shown(&format!("{verb} {arguments:?}"), &ended);
        ended
    };
    for format in ["--format=text", "--format=json"] {
        run("check", &[format]);
        let planned = run("plan", &[format]).with(0);
        assert!(planned.stdout.contains("2J"), "{}", planned.stdout);
    }
    // The task does not exist yet.
    run("status", &[]);
    let reports = ["html", "json", "md", "txt"].map(|ending| format!("--report=report.{ending}"));
    let reports: Vec<&str> = reports.iter().map(String::as_str).collect();
    let copied = run("run", &[&reports[..], &["--log-level=trace", "--log-file", &logs]].concat()).with(0);
    assert!(copied.stdout.contains("\\x1B[2J") || copied.stdout.contains("\\u{1b}[2J"), "{}", copied.stdout);
    for file in ["report.html", "report.json", "report.md", "report.txt", "all.log"] {
        is_shown(file, &fs::read_to_string(scene.dir().join(file)).unwrap());
    }
    let report = scene.read_json("report.json");
    let target = format!("{}.{TABLE}", scene.dst);
    assert_eq!(report["tables"][0]["target"], target.as_str(), "JSON has the name as it is");
    // Now a key differs, and a partition.
    let target = format!("{}.{}", scene.dst, tick(TABLE));
    scene.ask(1, &format!("INSERT INTO {target} SELECT number, '{VALUE}', '{VALUE}' FROM system.numbers LIMIT 3"));
    scene.ask(
        1,
        &format!("INSERT INTO {target} SELECT number, '{VALUE} only here', '{VALUE}' FROM system.numbers LIMIT 3"),
    );
    for format in ["--format=text", "--format=json"] {
        let differs = run("verify", &[format]).with(4);
        assert!(differs.stdout.contains("title"), "no key is told: {}", differs.stdout);
        run("status", &[format]).with(0);
        run("reverse", &[format]);
        run("cleanup", &[format]);
    }
    run("status", &["--watch=1"]).with(0);
    run("run", &["--status"]).with(0);
    run("reverse", &["--output=back.xml"]);
    for order in ["pause", "resume"] {
        run(order, &[]);
    }
    // The same with a log in JSON.
    let again = task.clone().at("json");
    let mut again = Task { tables: vec![scene.table("json").from(&scene.src, TABLE)], ..again };
    again.more = "<verify>checksum</verify>".to_owned();
    let ended = scene.launch(&again).args(&["--log-format=json", "--log-level=trace"]).run().with(0);
    all_shown("run with JSON", &ended);
    for line in ended.stderr.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    // Error messages of servers, which repeat the text; and an incremental run that finds rows of others.
    let wrong = format!("throwIf({}, 'no \u{9b}2J')", tick(COLUMN));
    let condition =
        task.clone().at("condition").with(scene.table("wrong").from(&scene.src, TABLE).with("where_condition", &wrong));
    for verb in ["check", "run"] {
        let launch = scene.launch(&condition);
        let launch =
            if verb == "run" { launch.args(&["--max-table-tries=1", "--retry-delay-ms=1"]) } else { launch.verb(verb) };
        all_shown(&format!("{verb} with a condition"), &launch.run());
    }
    let again = scene.launch(&task).args(&["--incremental"]).run();
    all_shown("run --incremental", &again);
    run("cancel", &[]);
    run("cleanup", &["--remove", "--forget"]);
}

/// `init` takes names from the command line, and asks servers about them.
#[apply(both)]
fn init_writes_valid_xml_for_odd_names_or_nothing(#[case] release: Release) {
    let scene = scene!(release);
    task(&scene, "id");
    let made = "bad\u{1b}[2J".to_owned();
    scene.ask(0, &format!("CREATE TABLE {}.{} (id UInt64) ENGINE = MergeTree ORDER BY id", scene.src, tick(&made)));
    let (one, two) = (scene.server(0).host(), scene.server(1).host());
    for (name, table, code) in [("good", TABLE, 0), ("bad", made.as_str(), 1), ("absent", "no\u{1b}[2J\u{9b}2J", 1)] {
        let table = format!("{}.{table}", scene.src);
        let file = format!("{name}.xml");
        for output in [&["--output", &file][..], &[], &["--format=json"]] {
            let launch = scene.launch_text("").without_task_file().without_keeper().verb("init");
            let launch = launch.args(&["--from", one, "--to", two, "--table", &table, "--database", &scene.dst]);
            let ended = launch.args(output).run().with(code);
            all_shown(&format!("init of {name} {output:?}"), &ended);
        }
        let written = fs::read_to_string(scene.dir().join(&file)).ok();
        assert_eq!(written.is_some(), code == 0, "{name}");
        let Some(xml) = written else { continue };
        is_shown(&file, &xml);
        let document: String = xml.lines().filter(|line| line.contains("<table_pull>")).collect();
        assert!(document.contains("t&#x9B;2J&#x7F;&#x202E;x"), "{xml}");
        // The written file works and names the table.
        scene.launch_text(&xml).without_keeper().args(&["--state-dir=state", "--task-path=/t"]).run().with(0);
        // Servers may know clusters that other tests have made, and then `init` takes one with several shards.
        let rows = format!("SELECT sum(rows) FROM system.parts WHERE active AND database = '{}'", scene.dst);
        assert_eq!(scene.sum(&[0, 1, 2, 3, 4], &rows), 20);
    }
}
