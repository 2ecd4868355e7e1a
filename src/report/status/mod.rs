//! The progress of a task, as text for people (`text`) and as JSON for programs (this type as it is).
//!
//! *Copied* rows lie in staging tables and were counted there. *Published* rows were counted again in the target table. Bytes are
//! uncompressed; the plan estimates them.

mod amounts;
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

use crate::ledger::overview::TaskOverview;
use crate::protocol::Order;
use crate::protocol::account::Findings;

pub use amounts::Amounts;
use now::{errors, waits, workers};
pub use partition::{PartitionState, PartitionStatus};
pub use pieces::{BatchStatus, PieceStage, PieceStatus};
pub use rate::Speedometer;
pub use table::TableStatus;
#[cfg(test)]
pub(crate) use tests::sample;
pub(crate) use text::{duration, thousands};
pub use worker::{JobStatus, StatementStatus, WorkerStatus};

/// The version of the JSON. It grows when a field is removed or changes its meaning, not when one is added.
pub const SCHEMA: u32 = 1;

/// The status of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The id of the task. Its tables on servers are called `copier_<id>_…`, its statements `copier:<id>:…`.
    pub task: String,
    /// The path of the task in the coordinator.
    pub path: String,
    /// The state of the whole task.
    pub state: TaskState,
    /// The sums over all tables.
    pub total: Amounts,
    /// Bytes copied in a second. Absent when nothing is copied or too little is known.
    pub bytes_per_second: Option<u64>,
    /// Seconds until everything is copied at this rate. Absent before a hundredth is copied.
    pub seconds_left: Option<u64>,
    /// The table jobs.
    pub tables: Vec<TableStatus>,
    /// The workers that have a place, and their jobs.
    pub workers: Vec<WorkerStatus>,
    /// What waits for anything but a free worker, and for what.
    pub waits: Vec<String>,
    /// The last errors of what is not done, whether it is tried again or not.
    pub errors: Vec<ErrorStatus>,
    /// The findings of the account of a finished task (I7).
    pub account: Findings,
    /// The servers that did not answer.
    pub silent: Vec<String>,
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// There is no plan yet.
    Planning,
    /// Workers copy or publish.
    Copying,
    /// No worker works on it. Start one.
    Idle,
    /// It is to pause. Workers finish the jobs that they have begun.
    Pausing,
    /// It is paused.
    Paused,
    /// It was cancelled.
    Cancelled,
    /// Everything is done except what failed, and no worker works on it.
    Failed,
    /// Everything is published. The tables of the task on the servers are being removed, or could not be removed.
    Finishing,
    /// Everything is done, and no table of the task is left.
    Finished,
    /// The state is not known, because a run failed before it read the task. Only a report has it.
    Unknown,
}

/// A piece or a partition that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorStatus {
    /// The table with the piece or the partition.
    pub what: String,
    /// The error of its last attempt.
    pub error: String,
    /// Whether a worker tries it again.
    pub tried_again: bool,
}

impl Status {
    /// Returns the status of a task that was read from `path` of the coordinator.
    pub fn of(overview: &TaskOverview, path: &str) -> Self {
        let tables: Vec<TableStatus> = overview
            .plans
            .iter()
            .zip(&overview.by_table)
            .map(|(plan, records)| TableStatus::of(plan, records))
            .collect();
        let mut total = Amounts::default();
        tables.iter().for_each(|table| total.add(&table.amounts));
        let mut status = Self {
            schema: SCHEMA,
            task: overview.record.id.0.clone(),
            path: path.to_owned(),
            state: TaskState::Idle,
            total,
            bytes_per_second: None,
            seconds_left: None,
            tables,
            workers: workers(overview),
            waits: waits(overview),
            errors: errors(overview),
            account: overview.record.account.clone(),
            silent: overview.silent.clone(),
        };
        status.state = status.state(overview);
        status.at_rate(rate::of_jobs(overview));
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

    /// Returns the state of the whole task.
    fn state(&self, overview: &TaskOverview) -> TaskState {
        let (record, busy) = (&overview.record, !overview.places.is_empty() || !overview.claims.is_empty());
        let of = |state| self.total.partitions.get(&state).copied().unwrap_or(0);
        let all: usize = self.total.partitions.values().sum();
        match overview.order {
            _ if record.finished => TaskState::Finished,
            Order::Cancel => TaskState::Cancelled,
            Order::Pause | Order::PauseNow if busy => TaskState::Pausing,
            Order::Pause | Order::PauseNow => TaskState::Paused,
            Order::Run if !record.planned && busy => TaskState::Planning,
            Order::Run if record.planned && of(PartitionState::Done) == all => TaskState::Finishing,
            Order::Run if busy => TaskState::Copying,
            Order::Run
                if of(PartitionState::Failed) > 0 && of(PartitionState::Failed) + of(PartitionState::Done) == all =>
            {
                TaskState::Failed
            }
            Order::Run => TaskState::Idle,
        }
    }
}
