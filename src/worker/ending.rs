//! How a run ended, and what there is to report of it.

use std::sync::Arc;

use crate::plan::TablePlan;
use crate::protocol::account::Findings;
use crate::protocol::{Order, TableRecords, TaskRecord};
use crate::task::Task;

use crate::ledger::overview::TaskOverview;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The task was finished before this run began.
    WasFinished,
    /// It is finished now.
    Finished,
    /// It is finished, and the account found that source and target differ (I7).
    Different,
    /// It is finished, and there are rows that the account cannot vouch for.
    Unaccounted,
    /// Every partition is published and accounted for, and tables of the task are left on servers.
    Uncleaned,
    /// Something failed; everything else is done.
    Partial,
    /// The run was told to end.
    Interrupted,
    /// The task was cancelled.
    Cancelled,
}

impl Ending {
    /// Returns how a task ended, with what its account found: `even` where everything adds up.
    pub fn after(even: Self, account: &Findings) -> Self {
        match account {
            Findings { differences, .. } if !differences.is_empty() => Self::Different,
            account if account.is_even() => even,
            _ => Self::Unaccounted,
        }
    }

    /// Whether all batches of the task are published.
    pub fn is_end(self) -> bool {
        matches!(self, Self::WasFinished | Self::Finished | Self::Different | Self::Unaccounted | Self::Uncleaned)
    }
}

/// What there is to report.
pub struct Summary {
    /// How the run ended.
    pub ending: Ending,
    /// The task's record.
    pub record: TaskRecord,
    /// The plans.
    pub plans: Arc<Vec<TablePlan>>,
    /// The records.
    pub by_table: Vec<TableRecords>,
    /// What is left on servers, and why: lines for a person.
    pub left: Vec<String>,
    /// The task, as it was last read.
    pub task: Arc<Task>,
    /// Whether it was this worker, of all, that recorded the end of the task.
    pub ended_it: bool,
}

impl Summary {
    /// Returns what this run has left of the task. Nobody else is looked for.
    pub fn state(&self) -> TaskOverview {
        let order = if self.ending == Ending::Cancelled { Order::Cancel } else { Order::Run };
        TaskOverview::alone(self.record.clone(), order, self.plans.clone(), self.by_table.clone())
    }
}
