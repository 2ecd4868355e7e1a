//! The description of a task: parses it, and compares it with the planned one.

use std::collections::BTreeMap;

use super::errors::RunError;
use crate::task::{SecretSource, Task, TaskFile, TaskText, differences};

/// Parses a description and logs its warnings.
pub(crate) fn parse(text: TaskText, secrets: &dyn SecretSource) -> Result<TaskFile, RunError> {
    let file = text.parse(secrets)?;
    log_warnings(&file);
    Ok(file)
}

/// Logs the warnings about a description.
pub(crate) fn log_warnings(file: &TaskFile) {
    for line in file.warning_lines() {
        tracing::warn!("{line}");
    }
}

/// Refuses a task that was changed in elements that the plan depends on, and names the difference.
pub(crate) fn refuse_differences(
    place: &str,
    planned: &BTreeMap<String, String>,
    task: Option<&Task>,
) -> Result<(), RunError> {
    refuse_unless_same(place, planned, task, || "Give a changed task a --task-path of its own".to_owned())
}

/// Refuses the same differences for a task that is not created again, and names the commands for the user.
pub(crate) fn refuse_another(
    path: &str,
    planned: &BTreeMap<String, String>,
    task: Option<&Task>,
) -> Result<(), RunError> {
    refuse_unless_same(path, planned, task, || {
        format!(
            "Give the changed task a path of its own, such as --task-path {path}-2, or remove the old one first, \
             which leaves its rows where they are: clickhouse-copier cleanup --task-path {path} --remove --forget"
        )
    })
}

fn refuse_unless_same(
    place: &str,
    planned: &BTreeMap<String, String>,
    task: Option<&Task>,
    todo: impl Fn() -> String,
) -> Result<(), RunError> {
    let Some(task) = task else { return Ok(()) };
    let found = differences(planned, &task.plan_inputs());
    if found.is_empty() {
        return Ok(());
    }
    let line = format!("this is not the task that was created at {place}: {}. {}", found.join("; "), todo());
    Err(RunError::task(line))
}
