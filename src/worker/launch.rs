//! The parameters of a run.

use std::sync::Arc;

use super::context::WorkerOptions;
use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::plan::Document;
use crate::runtime::random::Randomness;
use crate::task::{SecretSource, TaskFile};

/// The parameters of a run.
pub struct Launch {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The source of the task's secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// The path of the task in the coordinator.
    pub task_path: String,
    /// The task file, if the user gave one.
    pub description: Option<TaskFile>,
    /// Whether that XML replaces a stored one.
    pub upload_force: bool,
    /// The plan of `--plan`, which the run must follow where the task is not planned yet.
    pub agreed: Option<Document>,
    /// Whether a finished task starts its next pass, which copies what has changed since.
    pub incremental: Option<Incremental>,
    /// The options of the worker.
    pub worker_options: WorkerOptions,
    /// This machine's name.
    pub host: String,
    /// The unique name of this worker.
    pub worker: String,
    /// The source of randomness.
    pub randomness: Randomness,
}

/// The options of the next pass of a finished task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremental {
    /// Whether the target drops partitions that the source no longer has.
    pub drop_vanished: bool,
}
