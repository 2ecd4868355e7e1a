//! The status of a worker: its jobs, and their statements on servers.

use serde::Serialize;

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WorkerStatus {
    /// The name of the worker: host, process and a number.
    pub(crate) name: String,
    /// The jobs that it does now.
    pub(crate) jobs: Vec<JobStatus>,
}

/// A job of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct JobStatus {
    /// The job as a person says it: `copies hits piece 3 (201801)`.
    pub(crate) what: String,
    /// The table job.
    pub(crate) table: Option<String>,
    /// The piece.
    pub(crate) piece: Option<usize>,
    /// The number of the attempt.
    pub(crate) attempt: Option<u32>,
    /// The statements that servers run for it.
    pub(crate) statements: Vec<StatementStatus>,
}

/// A statement on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatementStatus {
    /// The server.
    pub(crate) node: String,
    /// The id of the statement, by which it is found in the logs of the server or killed.
    pub(crate) query_id: String,
    /// How long it has run, in milliseconds.
    pub(crate) millis: u64,
    /// Rows read so far.
    pub(crate) rows_read: u64,
    /// Rows written so far.
    pub(crate) rows_written: u64,
}
