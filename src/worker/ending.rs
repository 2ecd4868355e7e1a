//! The end of a run, and the facts that its report needs.

use std::sync::Arc;

use crate::ledger::overview::TaskOverview;
use crate::plan::TablePlan;
use crate::protocol::account::Findings;
use crate::protocol::{Order, TableRecords, TaskRecord};
use crate::task::Task;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The task was finished before this run began.
    WasFinished,
    /// This run finished the task.
    Finished,
    /// The task is finished, and the account found that source and target differ (I7).
    Different,
    /// The task is finished, and the account cannot tell whether all rows arrived.
    Unaccounted,
    /// All partitions are published and accounted for, but tables of the task are left on servers.
    Uncleaned,
    /// Some partitions failed; all others are done.
    Partial,
    /// A signal ended the run.
    Interrupted,
    /// The task was cancelled.
    Cancelled,
}

impl Ending {
    /// Returns how a task ended, given the findings of its account. Returns `even` where the account found nothing.
    pub(crate) fn after(even: Self, account: &Findings) -> Self {
        match account {
            Findings { differences, .. } if !differences.is_empty() => Self::Different,
            account if account.is_even() => even,
            _ => Self::Unaccounted,
        }
    }

    /// Returns whether all batches of the task are published.
    pub fn is_end(self) -> bool {
        matches!(self, Self::WasFinished | Self::Finished | Self::Different | Self::Unaccounted | Self::Uncleaned)
    }
}

/// The facts that the report of a run needs.
pub struct Summary {
    /// How the run ended.
    pub ending: Ending,
    /// The task's record.
    pub(crate) record: TaskRecord,
    /// The plans.
    pub plans: Arc<Vec<TablePlan>>,
    /// The records.
    pub by_table: Vec<TableRecords>,
    /// The tables that are left on servers, and why, as lines for a person.
    pub(crate) left: Vec<String>,
    /// The task, as the worker last read it.
    pub(crate) task: Arc<Task>,
    /// Whether this worker recorded the end of the task.
    pub(crate) ended_it: bool,
}

impl Summary {
    /// Returns the state of the task after this run. Does not look for other workers.
    pub(crate) fn state(&self) -> TaskOverview {
        let order = if self.ending == Ending::Cancelled { Order::Cancel } else { Order::Run };
        TaskOverview::alone(self.record.clone(), order, self.plans.clone(), self.by_table.clone())
    }
}
