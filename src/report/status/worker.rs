//! The status of a worker: its jobs, and their statements on servers.

use serde::Serialize;

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// The name of the worker: host, process and a number.
    pub name: String,
    /// The jobs that it does now.
    pub jobs: Vec<JobStatus>,
}

/// A job of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStatus {
    /// The job as a person says it: `copies hits piece 3 (201801)`.
    pub what: String,
    /// The table job.
    pub table: Option<String>,
    /// The piece.
    pub piece: Option<usize>,
    /// The number of the attempt.
    pub attempt: Option<u32>,
    /// The statements that servers run for it.
    pub statements: Vec<StatementStatus>,
}

/// A statement on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatementStatus {
    /// The server.
    pub node: String,
    /// The id of the statement, by which it is found in the logs of the server or killed.
    pub query_id: String,
    /// How long it has run, in milliseconds.
    pub millis: u64,
    /// Rows read so far.
    pub rows_read: u64,
    /// Rows written so far.
    pub rows_written: u64,
}
