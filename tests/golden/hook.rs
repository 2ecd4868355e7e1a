//! The input of the commands of `--on-finish` and `--on-failure`.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{check, json};

#[test]
fn a_hook_gets_the_outcome_in_its_environment_and_the_report_on_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("task.xml"), "<clickhouse/>").expect("task.xml");
    let status = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"))
        .args(["run", "--task-file", "task.xml", "--report", "report.json"])
        .args(["--on-failure", "env | grep ^CLICKHOUSE_COPIER_ | sort > environment; cat > input.json"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the program starts");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("the file is there");
    let mut report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(report, serde_json::from_str::<Value>(&read("input.json")).expect("JSON"));
    for name in ["worker", "ended", "seconds", "version", "error", "warnings"] {
        assert!(report.get(name).is_some(), "no {name}");
        report[name] = Value::from("(masked)");
    }
    let output = format!("exit {:?}\n{}{}", status.code(), read("environment"), json(&report));
    check("hook.txt", &output);
}
