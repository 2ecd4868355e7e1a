//! The state of a task for reports, status and metrics.

#[cfg(test)]
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::Running;
use crate::plan::TablePlan;
use crate::protocol::{HeldClaim, Order, PieceRef, ServerPlace, TableRecords, TaskRecord};

/// The state of a task at one moment.
#[derive(Debug, Clone)]
pub struct TaskOverview {
    /// The task's record.
    pub record: TaskRecord,
    /// The current order to the workers.
    pub order: Order,
    /// The most pieces that use a server at once.
    pub max_jobs_per_server: Option<u32>,
    /// The most workers that may have a place. `None` means no limit.
    pub max_workers: Option<u32>,
    /// The plans. Empty before planning.
    pub plans: Arc<Vec<TablePlan>>,
    /// The records.
    pub by_table: Vec<TableRecords>,
    /// The workers that have a place.
    pub places: Vec<String>,
    /// The claims.
    pub claims: Vec<HeldClaim>,
    /// The taken places on servers: `<address>#<number>`.
    pub on_servers: Vec<ServerPlace>,
    /// The running statements of the task.
    pub statements: Vec<TaskStatement>,
    /// The errors of nodes that did not answer.
    pub silent: Vec<String>,
}

/// A statement of a task that runs on a server.
#[derive(Debug, Clone)]
pub struct TaskStatement {
    /// The address of the server.
    pub node: String,
    /// The piece that it is for.
    pub piece: PieceRef,
    /// The statement as the server shows it.
    pub running: Running,
}

impl TaskOverview {
    /// Creates the state from the records alone.
    pub(crate) fn alone(
        record: TaskRecord,
        order: Order,
        plans: Arc<Vec<TablePlan>>,
        by_table: Vec<TableRecords>,
    ) -> Self {
        Self {
            record,
            order,
            max_jobs_per_server: None,
            max_workers: None,
            plans,
            by_table,
            places: Vec::new(),
            claims: Vec::new(),
            on_servers: Vec::new(),
            statements: Vec::new(),
            silent: Vec::new(),
        }
    }
}

#[cfg(test)]
impl TaskOverview {
    /// Creates the state of a task without tables.
    pub(crate) fn empty() -> Self {
        let id = crate::protocol::TaskId("0123456789ab".into());
        let record = TaskRecord {
            format: TaskRecord::FORMAT,
            id,
            inputs: BTreeMap::new(),
            planned: true,
            prepared: true,
            finished: false,
            pass: 0,
            drops_vanished: false,
            forgotten: false,
            account: Default::default(),
        };
        Self::alone(record, Order::Run, Arc::default(), Vec::new())
    }
}
