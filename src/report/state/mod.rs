//! The state of a task, derived in one place from its plans, its records and its claims. Pure.
//!
//! The status, the report of a run, the page and the metrics are forms of [`TaskModel`]. None of them reads a record.
//!
//! *Copied* rows lie in staging tables and were counted there. *Published* rows were counted again in the target
//! table. Bytes are uncompressed; the plan estimates them.

mod amounts;
mod batch;
mod holders;
mod piece;
mod spent;
mod table;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::ledger::overview::TaskOverview;
use crate::protocol::{Job, Order, PieceRef};

pub(crate) use amounts::Amounts;
pub use batch::PartitionState;
pub(crate) use batch::{BatchModel, PartitionModel};
pub(crate) use holders::Holders;
pub use piece::PieceStage;
pub(crate) use piece::{LastError, PieceModel};
pub(crate) use spent::Spent;
pub(crate) use table::TableModel;

/// The state of a task at one moment.
pub(crate) struct TaskModel<'a> {
    /// What was read.
    pub(crate) overview: &'a TaskOverview,
    /// The state of the whole task.
    pub(crate) state: TaskState,
    /// The table jobs.
    pub(crate) tables: Vec<TableModel<'a>>,
    /// The sums over all tables.
    pub(crate) total: Amounts,
    /// The time that all workers spent on each activity.
    pub(crate) spent: Spent,
    /// The bytes copied in a second: the average of a copy so far, times the number of pieces that workers copy now.
    /// `None` when nothing is copied now, or nothing was copied yet.
    pub(crate) bytes_per_second: Option<u64>,
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

impl<'a> TaskModel<'a> {
    /// Derives the state from what was read.
    pub(crate) fn of(overview: &'a TaskOverview) -> Self {
        let holders = Holders::of(&overview.claims);
        let tables = overview.plans.iter().zip(&overview.by_table).enumerate();
        let tables: Vec<TableModel<'a>> =
            tables.map(|(table, (plan, records))| TableModel::of(table, plan, records, &holders)).collect();
        let (mut total, mut spent) = (Amounts::default(), Spent::default());
        for table in &tables {
            total.add(&table.amounts);
            spent.add(table.spent);
        }
        let state = TaskState::of(overview, &total);
        let bytes_per_second = bytes_per_second(overview, &tables);
        Self { overview, state, tables, total, spent, bytes_per_second }
    }

    /// Returns a batch of a table job. `None` if there is no such batch.
    pub(crate) fn batch(&self, table: usize, batch: usize) -> Option<&BatchModel<'a>> {
        self.tables.get(table)?.batches.get(batch)
    }

    /// Returns a piece. `None` if there is no such piece.
    pub(crate) fn piece(&self, piece: PieceRef) -> Option<&PieceModel<'a>> {
        let planned = self.tables.get(piece.table)?.plan.pieces.get(piece.index)?;
        self.batch(piece.table, planned.batch)?.pieces.iter().find(|model| model.index == piece.index)
    }
}

impl TaskState {
    /// Derives the state of the whole task from the sums over its partitions, the order, and whether a worker is there.
    fn of(overview: &TaskOverview, total: &Amounts) -> Self {
        let (record, busy) = (&overview.record, !overview.places.is_empty() || !overview.claims.is_empty());
        let (done, failed) = (total.count(PartitionState::Done), total.count(PartitionState::Failed));
        let all = total.all_partitions();
        match overview.order {
            _ if record.finished => Self::Finished,
            Order::Cancel => Self::Cancelled,
            Order::Pause | Order::PauseNow if busy => Self::Pausing,
            Order::Pause | Order::PauseNow => Self::Paused,
            Order::Run if !record.planned && busy => Self::Planning,
            Order::Run if record.planned && done == all => Self::Finishing,
            Order::Run if busy => Self::Copying,
            Order::Run if failed > 0 && failed + done == all => Self::Failed,
            Order::Run => Self::Idle,
        }
    }
}

/// Returns the average rate of the copies so far, times the number of pieces that workers copy now.
fn bytes_per_second(overview: &TaskOverview, tables: &[TableModel<'_>]) -> Option<u64> {
    let (mut bytes, mut millis) = (0, 0);
    for piece in tables.iter().flat_map(TableModel::pieces) {
        if let Some(copy) = &piece.copy {
            bytes += piece.bytes;
            millis += copy.millis;
        }
    }
    let jobs = overview.claims.iter().filter(|held| matches!(held.claim.job(), Some(Job::Copy(_)))).count();
    (jobs > 0 && millis > 0).then(|| (bytes as f64 / millis as f64 * 1000.0 * jobs as f64) as u64)
}
