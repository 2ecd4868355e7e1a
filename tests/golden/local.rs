//! The state directory of one machine, and what the program prints about a task in it. No server answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use clickhouse_copier::coordinator::{Coordinator, LocalCoordinator};
use clickhouse_copier::ledger::Ledger;
use clickhouse_copier::protocol::account::Findings;
use clickhouse_copier::protocol::{TaskId, TaskRecord};
use clickhouse_copier::task::{GivenSecrets, Task};
use rusqlite::Connection;
use serde_json::Value;

use super::run::TASK;
use super::{check, json};

/// Nothing listens on port 1.
fn task_file() -> String {
    let at = |host: &str| format!("<host>{host}</host>");
    ["s1", "t1", "t2"].into_iter().enumerate().fold(TASK.to_owned(), |text, (number, host)| {
        text.replace(&at(host), &format!("<host>127.0.0.{}</host><http_port>1</http_port>", number + 1))
    })
}

/// A task that is not planned yet.
async fn make_task(folder: &Path) {
    let text = task_file();
    std::fs::write(folder.join("task.xml"), &text).expect("task.xml");
    let inputs = Task::parse(&text, &GivenSecrets::default()).expect("a task").task.plan_inputs();
    let record = TaskRecord {
        format: TaskRecord::FORMAT,
        id: TaskId("0123456789ab".into()),
        inputs,
        planned: false,
        prepared: false,
        finished: false,
        pass: 0,
        drops_vanished: false,
        forgotten: false,
        account: Findings::default(),
    };
    let session = LocalCoordinator::new(folder.join("clickhouse-copier-state")).session().await.expect("a session");
    Ledger::new(session.clone(), "/task").create_task(&text, &record).await.expect("a task");
    session.close().await;
}

/// Runs the program and returns its exit code and what it prints.
fn copier(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Messages of servers and systems differ between machines.
fn masked(value: Value) -> Value {
    const TEXTS: [&str; 8] = ["what", "todo", "error", "not_looked_at", "silent", "warnings", "written", "failed"];
    const VALUES: [&str; 4] = ["worker", "ended", "seconds", "version"];
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let value = match value {
                        Value::String(_) if TEXTS.contains(&name.as_str()) => Value::from("(text)"),
                        Value::Array(list) if TEXTS.contains(&name.as_str()) => {
                            Value::from(if list.is_empty() { "(no texts)" } else { "(texts)" })
                        }
                        _ if VALUES.contains(&name.as_str()) => Value::from("(masked)"),
                        other => masked(other),
                    };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(masked).collect()),
        other => other,
    }
}

#[tokio::test]
async fn verbs_keep_their_json_output_and_exit_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    make_task(folder.path()).await;
    let address = ["--task-file", "task.xml", "--format", "json"];
    let mut printed = BTreeMap::new();
    for (number, verb) in [
        &["status"][..],
        &["check"],
        &["plan"],
        &["verify"],
        &["cleanup"],
        &["pause"],
        &["pause", "--now"],
        &["status"],
        &["resume"],
        &["resume"],
        &["cancel"],
        &["resume"],
        &["status"],
    ]
    .iter()
    .enumerate()
    {
        let (code, out) = copier(folder.path(), &[*verb, &address].concat());
        let document = if out.is_empty() { Value::Null } else { serde_json::from_str(&out).expect("one document") };
        printed.insert(format!("{number:02} {}: exit {code}", verb.join(" ")), masked(document));
    }
    let (code, out) = copier(folder.path(), &["--status", "--task-file", "task.xml"]);
    printed.insert(format!("13 --status: exit {code}"), serde_json::from_str(&out).expect("one document"));
    check("local-verbs.json", &json(&printed));
}

/// Workers of several versions may share the file.
#[tokio::test]
async fn the_state_directory_keeps_its_files_and_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    make_task(folder.path()).await;
    let state = folder.path().join("clickhouse-copier-state");
    let mut lines: Vec<String> = std::fs::read_dir(&state)
        .expect("the state directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    lines.sort();
    let connection = Connection::open(state.join(LocalCoordinator::FILE)).expect("the file opens");
    let form: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a number");
    lines.push(format!("user_version {form}"));
    let mut query =
        connection.prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").expect("SQL");
    let tables = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    lines.extend(tables.map(|sql| sql.expect("a text").split_whitespace().collect::<Vec<_>>().join(" ")));
    let mut query = connection.prepare("SELECT parent, name FROM node ORDER BY parent, name").expect("SQL");
    let nodes = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).expect("rows");
    lines.extend(nodes.map(|node| format!("node {:?}", node.expect("a node"))));
    check("local-state.txt", &lines.join("\n"));
}
