//! The description of a task that may have been edited after the task was planned.

use std::collections::BTreeMap;

use crate::task::{Faults, SecretSource, Task, differences};

/// Why workers do not use a description.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It cannot be parsed.
    #[error("the changed description of the task is not used: {0}")]
    Faults(Faults),
    /// It changes inputs of the plan: a line for each difference.
    #[error(
        "the changed description of the task is not used, since the plan depends on what has changed: {}",
        .0.join("; ")
    )]
    Differs(Vec<String>),
}

/// Returns the task of a description that fits the plan. `inputs` are the inputs of the plan.
pub(crate) fn usable_task(
    text: &str,
    secrets: &dyn SecretSource,
    inputs: &BTreeMap<String, String>,
) -> Result<Task, Unusable> {
    let task = Task::parse(text, secrets).map_err(Unusable::Faults)?.task;
    let found = differences(inputs, &task.plan_inputs());
    if found.is_empty() { Ok(task) } else { Err(Unusable::Differs(found)) }
}

/// Returns the task; `None`, and a warning, if workers do not use the description.
pub(crate) fn changed_task(text: &str, secrets: &dyn SecretSource, inputs: &BTreeMap<String, String>) -> Option<Task> {
    usable_task(text, secrets, inputs).inspect_err(|why| tracing::warn!("{why}")).ok()
}
