//! The progress of a task, as text for people (`text`) and as JSON for programs (this type as it is). It is a form of
//! [`TaskModel`].

mod now;
mod partition;
mod pieces;
mod rate;
mod table;
mod text;
mod worker;

#[cfg(test)]
pub(super) mod tests;

use serde::Serialize;

use super::state::TaskModel;
use crate::ledger::overview::TaskOverview;
use crate::protocol::account::Findings;

pub(crate) use super::state::Amounts;
pub use super::state::{PartitionState, PieceStage, TaskState};
use now::{errors, waits, workers};
pub(crate) use partition::PartitionStatus;
pub use pieces::BatchStatus;
pub(crate) use rate::Speedometer;
pub(crate) use table::TableStatus;
#[cfg(test)]
pub(crate) use tests::sample;
pub(crate) use text::{duration, thousands};
pub(crate) use worker::{JobStatus, StatementStatus, WorkerStatus};

/// The version of the JSON. It grows when a field is removed or changes its meaning, not when one is added.
pub const SCHEMA: u32 = 1;

/// The status of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The id of the task. Its tables on servers are called `copier_<id>_…`, its statements `copier:<id>:…`.
    pub(crate) task: String,
    /// The path of the task in the coordinator.
    pub(crate) path: String,
    /// The state of the whole task.
    pub state: TaskState,
    /// The sums over all tables.
    pub(crate) total: Amounts,
    /// Bytes copied in a second. Absent when nothing is copied or too little is known.
    pub(crate) bytes_per_second: Option<u64>,
    /// Seconds until everything is copied at this rate. Absent before a hundredth is copied.
    pub(crate) seconds_left: Option<u64>,
    /// The table jobs.
    pub(crate) tables: Vec<TableStatus>,
    /// The workers that have a place, and their jobs.
    pub(crate) workers: Vec<WorkerStatus>,
    /// What waits for anything but a free worker, and for what.
    pub(crate) waits: Vec<String>,
    /// The last errors of what is not done, whether it is tried again or not.
    pub(crate) errors: Vec<ErrorStatus>,
    /// The findings of the account of a finished task (I7).
    pub(crate) account: Findings,
    /// The servers that did not answer.
    pub(crate) silent: Vec<String>,
}

/// A piece or a partition that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorStatus {
    /// The table with the piece or the partition.
    pub(crate) what: String,
    /// The error of its last attempt.
    pub(crate) error: String,
    /// Whether a worker tries it again.
    pub(crate) tried_again: bool,
}

impl Status {
    /// Returns the status of a task that was read from `path` of the coordinator.
    pub fn of(overview: &TaskOverview, path: &str) -> Self {
        Self::of_model(&TaskModel::of(overview), path)
    }

    /// Returns the status of a task from its state.
    pub(super) fn of_model(model: &TaskModel<'_>, path: &str) -> Self {
        let overview = model.overview;
        let mut status = Self {
            schema: SCHEMA,
            task: overview.record.id.0.clone(),
            path: path.to_owned(),
            state: model.state,
            total: model.total.clone(),
            bytes_per_second: None,
            seconds_left: None,
            tables: model.tables.iter().map(TableStatus::of).collect(),
            workers: workers(model),
            waits: waits(overview),
            errors: errors(model),
            account: overview.record.account.clone(),
            silent: overview.silent.clone(),
        };
        status.at_rate(model.bytes_per_second);
        status
    }

    /// Returns the status of a task that could not be read.
    pub fn unknown(path: &str) -> Self {
        Self {
            schema: SCHEMA,
            task: String::new(),
            path: path.to_owned(),
            state: TaskState::Unknown,
            total: Amounts::default(),
            bytes_per_second: None,
            seconds_left: None,
            tables: Vec::new(),
            workers: Vec::new(),
            waits: Vec::new(),
            errors: Vec::new(),
            account: Findings::default(),
            silent: Vec::new(),
        }
    }

    /// Sets a measured rate, and the time that the rest takes at this rate.
    pub fn at_rate(&mut self, bytes_per_second: Option<u64>) {
        let (copied, all) = (self.total.bytes_copied, self.total.bytes);
        self.bytes_per_second = bytes_per_second.filter(|rate| *rate > 0);
        let enough = copied >= all / 100 && copied > 0;
        self.seconds_left =
            self.bytes_per_second.filter(|_| enough).map(|rate| all.saturating_sub(copied).div_ceil(rate));
    }
}
