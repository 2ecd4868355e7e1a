//! What a run is started with.

use std::sync::Arc;

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::plan::Document;
use crate::task::SecretSource;

use super::context::WorkerOptions;
use crate::runtime::random::Randomness;

/// What a run is started with.
pub struct Launch {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// Where secrets of the task come from.
    pub secrets: Arc<dyn SecretSource>,
    /// The task's place in the coordinator.
    pub task_path: String,
    /// The XML of the task file, if one was given, and the file's name.
    pub description: Option<(String, String)>,
    /// Whether that XML replaces a stored one.
    pub upload_force: bool,
    /// A plan that the run is held to, where the task is not planned yet.
    pub agreed: Option<Document>,
    /// Whether a finished task is begun anew, to copy what has changed since.
    pub incremental: Option<Incremental>,
    /// How to behave.
    pub worker_options: WorkerOptions,
    /// This machine's name.
    pub host: String,
    /// This worker's name, which no other one has.
    pub worker: String,
    /// Its chance.
    pub randomness: Randomness,
}

/// How a finished task is begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incremental {
    /// Whether what the source does not have any more is dropped on the target.
    pub drop_vanished: bool,
}
