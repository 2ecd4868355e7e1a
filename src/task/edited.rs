//! The description of a task that may have been edited since the task was planned.

use std::collections::BTreeMap;

use crate::task::{Faults, SecretSource, Task, differences};

/// Why workers do not use a description.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It does not parse.
    #[error("the changed description of the task is not used: {0}")]
    Faults(Faults),
    /// The plan depends on what was changed: a line for each difference.
    #[error(
        "the changed description of the task is not used, since the plan depends on what has changed: {}",
        .0.join("; ")
    )]
    Differs(Vec<String>),
}

/// Returns the task of a description that fits the plan. `inputs` is what the plan depends on.
pub fn usable_task(
    text: &str,
    secrets: &dyn SecretSource,
    inputs: &BTreeMap<String, String>,
) -> Result<Task, Unusable> {
    let task = Task::parse(text, secrets).map_err(Unusable::Faults)?.task;
    let found = differences(inputs, &task.plan_inputs());
    if found.is_empty() { Ok(task) } else { Err(Unusable::Differs(found)) }
}

/// The same; `None`, and a warning, where workers do not use it.
pub fn changed_task(text: &str, secrets: &dyn SecretSource, inputs: &BTreeMap<String, String>) -> Option<Task> {
    usable_task(text, secrets, inputs).inspect_err(|why| tracing::warn!("{why}")).ok()
}
