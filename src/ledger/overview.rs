//! The state of a task, as somebody who looks at it sees it.

#[cfg(test)]
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::Running;
use crate::plan::TablePlan;
use crate::protocol::{Order, PieceRef, TableRecords, TaskRecord};

/// What was seen.
#[derive(Debug, Clone)]
pub struct TaskOverview {
    /// The task's record.
    pub record: TaskRecord,
    /// What its workers were told.
    pub order: Order,
    /// At most so many pieces at a server at once.
    pub max_jobs_per_server: Option<u32>,
    /// How many workers may have a place; `None`: all.
    pub max_workers: Option<u32>,
    /// The plans; empty before there are any.
    pub plans: Arc<Vec<TablePlan>>,
    /// The records.
    pub by_table: Vec<TableRecords>,
    /// Who has a place.
    pub places: Vec<String>,
    /// What is claimed (as in the coordinator: `t0-p12`, `t0-b3`, `planning`), and by whom.
    pub claims: Vec<(String, String)>,
    /// Places on servers that are taken: `<address>#<number>`.
    pub on_servers: Vec<String>,
    /// Statements of the task, with the node that each runs on.
    pub statements: Vec<(String, PieceRef, Running)>,
    /// Nodes that did not answer, and what came instead.
    pub silent: Vec<String>,
}

impl TaskOverview {
    /// Of what is recorded, and nothing else.
    pub fn alone(record: TaskRecord, order: Order, plans: Arc<Vec<TablePlan>>, by_table: Vec<TableRecords>) -> Self {
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
    /// Of a task that has nothing.
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
