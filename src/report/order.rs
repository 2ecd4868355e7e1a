//! The outcome of an order to all workers of a task, as one JSON object.

use serde::Serialize;

use super::leftovers::CleanupReport;

/// The outcome of `pause`, `resume` or `cancel`, as JSON. Fields that have no value are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderReport {
    /// The task's path.
    pub path: String,
    /// The outcome of the order.
    pub outcome: Obeyed,
    /// The errors of servers that did not tell whether statements of the task run on them.
    pub not_looked_at: Vec<String>,
    /// The removals of a cancelled task.
    pub cleanup: Option<CleanupReport>,
}

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obeyed {
    /// Workers that waited continue.
    Resumed,
    /// The task was not paused.
    WasNotPaused,
    /// No statement of the task runs on any server that answered.
    Paused,
    /// The task is cancelled.
    Cancelled,
    /// Somebody resumed the task while the command waited.
    Overruled,
    /// The order stays, but the command stopped waiting for it.
    Interrupted,
}
