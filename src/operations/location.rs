//! The place of a task.

use std::sync::Arc;

use crate::coordinator::Coordinator;

/// A coordinator, and the path of a task in it.
pub(crate) struct TaskLocation {
    /// The coordinator.
    pub(crate) coordinator: Arc<dyn Coordinator>,
    /// The path of the task.
    pub(crate) task_path: String,
}
