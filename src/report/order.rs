//! What became of an order to all workers of a task, as one object.

use serde::Serialize;

use super::leftovers::CleanupReport;

/// What `pause`, `resume` and `cancel` have brought about, as JSON. Fields that have no value are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderReport {
    /// The task's path.
    pub path: String,
    /// What became of the order.
    pub outcome: Obeyed,
    /// What servers said that did not tell whether something of the task runs on them.
    pub not_looked_at: Vec<String>,
    /// What was removed of a cancelled task.
    pub cleanup: Option<CleanupReport>,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obeyed {
    /// Workers that waited go on.
    Resumed,
    /// There was nothing to resume.
    WasNotPaused,
    /// Nothing of the task runs anywhere, but perhaps on servers that did not answer.
    Paused,
    /// It is given up.
    Cancelled,
    /// Somebody resumed it while this waited.
    Overruled,
    /// The order stays; whether it has come true was not waited for.
    Interrupted,
}
