//! The verb `cleanup`: lists the tables and statements that a task without live workers left on servers, and removes them on request.
//!
//! # Guarantees
//! - Only tables and statements of the task are removed: those whose whole name has the form that the task uses
//!   ([`crate::protocol::judge_table`]). Nothing is removed while a worker of the task is alive.
//! - A later run can finish the task: finished batches stay finished, the others are copied again.
//!
//! # A worker that starts meanwhile
//! Two measures protect a worker that starts during the cleanup. Each of them alone protects its rows; with both, the worker
//! is not disturbed at all.
//!
//! 1. *The cleaner holds all places.* Before it lists anything, [`membership::take_all`] takes a place that excludes all others, if
//!    there is no worker and no claim. Its commit compares the same version as the commit of a worker that takes a place, so that
//!    only one of them succeeds. A worker that starts sees the place of the cleaner and waits until it is free. The place is ephemeral:
//!    if the cleaner dies, the worker continues when the session of the cleaner ends.
//! 2. *The cleaner changes the records before it removes tables.* A place is no mutex: the cleaner may freeze, lose its session, and
//!    continue to remove tables for a moment. So before it drops the first table, it records that the unfinished batches are given up
//!    (their generation grows). It writes that by compare-and-set through the session that holds the place, which fails if the
//!    session is over. After that no record refers to a table in the list of the cleaner. A worker that starts copies those
//!    pieces in new attempts, in tables with new names, by statements with new ids. The cleaner drops tables and ends statements one by
//!    one by the names in its list, never by a prefix, so a late drop can only hit tables that were given up.
//!
//! A cleaner that dies between the two steps does no harm: the tables stay, no record refers to them, and the next cleanup lists them.
//!
//! # Assumptions
//! - A worker without a place in the coordinator is dead, or finds after it thaws that its session is over, and then drops its work.
//!   A statement that it sent before may still arrive and create one more table. Then clean up again, or run the task.
//! - If only the identity of a task is known (`--task-id`), the cleaner cannot tell whether the task is alive. The user must know.

mod find;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::ledger::{Cache, Forgotten, Ledger, membership};
use crate::model::{Node, TableName};
use crate::nodes::pool::NodePool;
use crate::planning::errors::RunError;
use crate::planning::task_file::{parse, refuse_differences};
use crate::protocol::{Claim, LeftoverVerdict, TableRecords, TaskId, TaskRecord};
use crate::runtime::random::Randomness;
use crate::task::{SecretSource, Task, TaskText};

/// The parameters of a cleanup.
pub struct Request {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The source of the task's secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// The path of the task in the coordinator.
    pub task_path: String,
    /// The text of the task file, if the user gave one.
    pub description: Option<TaskText>,
    /// The task that the user named, instead of the one at the path.
    pub task_id: Option<TaskId>,
    /// Whether to remove tables and statements. Then the cleaner takes all places.
    pub remove: bool,
    /// This machine's name.
    pub host: String,
}

/// A cleanup of a task.
pub struct Cleaner {
    ledger: Ledger,
    pool: NodePool,
    task: Arc<Task>,
    task_path: String,
    id: Option<TaskId>,
    /// The record, if the task at the path is the one to clean up.
    record: Option<TaskRecord>,
    name: String,
    holds_places: bool,
    cache: Cache,
}

/// The findings of a cleanup.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The task to clean up. `None` when there is no task at the path and the user named none.
    pub id: Option<TaskId>,
    /// The path of the task.
    pub task_path: String,
    /// The progress of the task.
    pub standing: Standing,
    /// The live workers of the task.
    pub holders: Vec<Holder>,
    /// The tables and statements on servers, each with a verdict. Those that may be removed come first.
    pub leftovers: Vec<Leftover>,
    /// The errors of nodes that could not be read. Tables may be left there.
    pub silent: Vec<String>,
    /// The tasks next to this one, with their paths.
    pub neighbours: BTreeMap<TaskId, String>,
}

/// The progress of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is no task at the path.
    Absent,
    /// The user named the task, and it is not at the path.
    Named,
    /// Its removal from the coordinator has begun and is not complete.
    HalfForgotten,
    /// It is not planned yet.
    NotPlanned,
    /// Some of its batches are published.
    Unfinished {
        /// The number of published batches.
        done: usize,
        /// The number of all batches.
        batches: usize,
        /// The number of batches whose publication had begun. Their partitions on the target may hold rows already.
        begun: usize,
    },
    /// It is finished.
    Finished,
}

/// A live worker of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name: host, process and a number.
    pub worker: String,
    /// The claims that it holds.
    pub claims: Vec<Claim>,
}

/// A table or statement on a server.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// The server.
    pub node: Arc<Node>,
    /// The table or statement.
    pub what: LeftoverKind,
    /// The meaning of its name, for a person.
    pub description: String,
    /// Whether it may be removed.
    pub verdict: LeftoverVerdict,
}

/// The kind of a leftover.
#[derive(Debug, Clone, PartialEq)]
pub enum LeftoverKind {
    /// A table, with its numbers of rows and uncompressed bytes where they are known.
    Table(TableName, Option<(u64, u64)>),
    /// A running statement.
    Statement {
        /// The id of the statement.
        query_id: String,
        /// How long it has run, in seconds.
        elapsed: f64,
    },
}

/// The result of a removal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// The number of dropped tables.
    pub tables: usize,
    /// The number of ended statements.
    pub statements: usize,
    /// The number of batches whose staged rows were given up.
    pub given_up: usize,
    /// The errors of tables and statements that could not be removed.
    pub failed: Vec<String>,
    /// Whether a signal ended the removal before it was complete.
    pub interrupted: bool,
}

impl Findings {
    /// Returns the leftovers that may be removed.
    pub(crate) fn removable(&self) -> impl Iterator<Item = &Leftover> {
        self.leftovers.iter().filter(|leftover| matches!(leftover.verdict, LeftoverVerdict::Goes(_)))
    }

    /// Returns whether there are tables or statements of a task that is not next to this one.
    pub(crate) fn has_leftovers_of_unknown_tasks(&self) -> bool {
        self.leftovers.iter().any(|leftover| match &leftover.verdict {
            LeftoverVerdict::OfAnother(id) => !self.neighbours.contains_key(id),
            LeftoverVerdict::NotOurs => false,
            LeftoverVerdict::Goes(_) | LeftoverVerdict::Held { .. } => true,
        })
    }

    /// Returns whether a removal removed all removable leftovers, and all servers answered.
    pub(crate) fn are_gone(&self, removal: &Removal) -> bool {
        !removal.interrupted && removal.failed.is_empty() && self.silent.is_empty()
    }
}

impl Cleaner {
    /// Reads the task. Takes all places if leftovers are to be removed and there is no live worker.
    ///
    /// # Errors
    /// When neither a file nor a record names the servers, or the file does not match the task at the path.
    pub async fn open(request: Request) -> Result<Self, RunError> {
        let session = request.coordinator.session().await?;
        let ledger = Ledger::new(session, &request.task_path);
        let opened = Self::begin(&request, ledger.clone()).await;
        if opened.is_err() {
            ledger.session().close().await;
        }
        opened
    }

    async fn begin(request: &Request, ledger: Ledger) -> Result<Self, RunError> {
        let secrets = request.secrets.as_ref();
        let own = request.description.clone().map(|text| parse(text, secrets)).transpose()?.map(|file| file.task);
        let record = ledger.task().await?;
        let is_this_task = |record: &TaskRecord| request.task_id.as_ref().is_none_or(|id| *id == record.id);
        let record = record.filter(is_this_task);
        if let Some(record) = &record {
            if record.format != TaskRecord::FORMAT {
                let (path, format) = (&request.task_path, record.format);
                let line =
                    format!("the task at {path} was created by another version of this program (format {format})");
                return Err(RunError::task(line));
            }
            refuse_differences(&request.task_path, &record.inputs, own.as_deref())?;
        }
        let task = match (own, ledger.description().await?) {
            (Some(task), _) => task,
            (None, Some(stored)) => parse(TaskText::new(stored, ledger.path("description")), secrets)?.task,
            (None, None) => {
                return Err(RunError::task(format!(
                    "there is no task at {}: --task-file says which servers to look at",
                    request.task_path
                )));
            }
        };
        let id = record.as_ref().map(|record| record.id.clone()).or_else(|| request.task_id.clone());
        let name = format!("{}-{}-{}", request.host, std::process::id(), Randomness::fair().unique(4));
        let holds_places = request.remove
            && record.is_some()
            && membership::take_all(&ledger, &membership::cleaner_place(&name), &name).await?;
        Ok(Self {
            pool: NodePool::new(request.client.clone(), request.host.clone()),
            task,
            task_path: request.task_path.clone(),
            id,
            record,
            name,
            holds_places,
            cache: Cache::default(),
            ledger,
        })
    }

    /// Removes the task from the coordinator. Call this only after all its leftovers are removed from the servers: without the identity
    /// of the task they could not be recognized.
    ///
    /// # Errors
    /// When the cleaner does not hold all places, or the coordinator is lost. The same call then continues the removal.
    pub(crate) async fn forget(&mut self) -> Result<Forgotten, RunError> {
        if !self.holds_places {
            return Err(RunError::servers(format!("there is no task at {} to forget", self.task_path)));
        }
        let forgotten = self.ledger.forget(&membership::cleaner_place(&self.name)).await?;
        Ok(forgotten)
    }

    /// Ends the session, and so releases the places.
    pub async fn close(self) {
        self.ledger.session().close().await;
    }

    fn by_table(&self) -> Option<&[TableRecords]> {
        self.record.as_ref().map(|_| self.cache.by_table.as_slice())
    }
}
