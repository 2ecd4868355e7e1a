//! Cleaning up after a task whose workers are all dead: what is left on servers is listed, and removed when asked for.
//!
//! # Guarantees
//! - Nothing goes but what the task itself made: tables and statements whose whole name is one that it gives
//!   ([`crate::protocol::judge_table`]). Nothing goes while a worker is alive in the task.
//! - A run afterwards finishes the task: what was done stays done, the rest is copied again.
//!
//! # A worker that starts meanwhile
//! Two things keep a worker that starts while we remove from being harmed, and from harming. Either would do for its
//! rows; together nobody even notices.
//!
//! 1. *All places are ours.* Before anything is looked at, [`membership::take_all`] takes a place that excludes all others, if
//!    there is no worker and no claim; its commit compares the same version as that of a worker that takes a place, so that
//!    never both succeed. A worker that starts sees our place and waits for its end. The place is ephemeral: if we die,
//!    the worker goes on when our session ends.
//! 2. *First the record, then the deed.* A place is no mutex: we may stand still, lose our session, and go on removing for
//!    a moment. So before the first table is dropped, the batches that are not done are recorded as given up (their
//!    generation grows). That is written by compare-and-set through the session that holds the place: it fails if the
//!    session is over. From then on no record counts on any table that is in our list; a worker that starts copies those
//!    pieces under new attempts, in tables with new names, by statements with new ids. Tables are dropped and statements
//!    ended one by one by the names in the list, never by a prefix, so a late drop of ours can only hit what was given up.
//!
//! Dying between the two steps costs nothing: the tables stay, nobody counts on them, and the next look finds them.
//!
//! # Assumptions
//! - A worker that is not in the coordinator is dead or, when it thaws, finds its session over and gives everything up.
//!   What it had sent before may still arrive and make one more table: then clean up again, or run the task.
//! - Of a task that is known by its identity only (`--task-id`) nobody can tell here whether it lives; the person does.

mod find;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::model::{Node, TableName};
use crate::protocol::{TableRecords, TaskId, TaskRecord, Verdict};
use crate::task::{SecretSource, Task};

use crate::ledger::membership;
use crate::ledger::{Cache, Forgotten, Ledger};
use crate::nodes::pool::NodePool;
use crate::planning::errors::RunError;
use crate::planning::task_file::{parse, refuse_differences};
use crate::runtime::random::Randomness;

/// What a clean-up is started with.
pub struct Request {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// Where secrets of the task come from.
    pub secrets: Arc<dyn SecretSource>,
    /// The task's place in the coordinator.
    pub task_path: String,
    /// The XML of the task file, if one was given, and the file's name.
    pub description: Option<(String, String)>,
    /// The task that a person named, instead of the one at the path.
    pub task_id: Option<TaskId>,
    /// Whether things are to be removed: then nobody else may have a place.
    pub remove: bool,
    /// This machine's name.
    pub host: String,
}

/// Who cleans up.
pub struct Cleaner {
    ledger: Ledger,
    pool: NodePool,
    task: Task,
    task_path: String,
    id: Option<TaskId>,
    /// The record, when the task at the path is the one that is cleaned up.
    record: Option<TaskRecord>,
    name: String,
    holds_places: bool,
    cache: Cache,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The task that is cleaned up; `None` when there is none at the path and none was named.
    pub id: Option<TaskId>,
    /// Its path.
    pub task_path: String,
    /// How far it is.
    pub standing: Standing,
    /// Who is alive in it.
    pub holders: Vec<Holder>,
    /// What is there, with what is to become of it; what may go comes first.
    pub things: Vec<Leftover>,
    /// What nodes said that could not be looked at: something may be left there.
    pub silent: Vec<String>,
    /// Tasks beside this one, with their paths.
    pub neighbours: BTreeMap<TaskId, String>,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is none at the path.
    Absent,
    /// A person named it; the path knows nothing of it.
    Named,
    /// It is removed from the coordinator, half way.
    HalfForgotten,
    /// It is not planned yet.
    NotPlanned,
    /// Some of its batches are published.
    Unfinished {
        /// So many are.
        done: usize,
        /// Of so many.
        batches: usize,
        /// So many others were being published: their partitions on the target may hold rows already.
        begun: usize,
    },
    /// It is finished.
    Finished,
}

/// Somebody who is alive in a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name: host, process and a number.
    pub worker: String,
    /// What it claims.
    pub claims: Vec<String>,
}

/// A thing on a server.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Where.
    pub node: Arc<Node>,
    /// What.
    pub what: Thing,
    /// What its name tells, for a person.
    pub told: String,
    /// What is to become of it.
    pub verdict: Verdict,
}

/// What a thing is.
#[derive(Debug, Clone, PartialEq)]
pub enum Thing {
    /// A table, with rows and uncompressed bytes where they are known.
    Table(TableName, Option<(u64, u64)>),
    /// A running statement.
    Statement {
        /// Its id.
        query_id: String,
        /// Seconds.
        elapsed: f64,
    },
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Tables dropped.
    pub tables: usize,
    /// Statements ended.
    pub statements: usize,
    /// Batches whose staged rows were given up.
    pub given_up: usize,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
    /// Whether it was ended half way by a signal.
    pub interrupted: bool,
}

impl Findings {
    /// What may go.
    pub fn removable(&self) -> impl Iterator<Item = &Leftover> {
        self.things.iter().filter(|thing| matches!(thing.verdict, Verdict::Goes(_)))
    }

    /// Whether all that may go is gone after a removal, from servers that all answered.
    pub fn are_gone(&self, removal: &Removal) -> bool {
        !removal.interrupted && removal.failed.is_empty() && self.silent.is_empty()
    }
}

impl Cleaner {
    /// Reads the task, and takes all places if something is to be removed and nobody is there.
    ///
    /// # Errors
    /// When there is nothing that says which servers to look at, or the file is not of the task at the path.
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
        let own = request.description.as_ref().map(|(text, file)| parse(text, file, secrets)).transpose()?;
        let record = ledger.task().await?;
        let here = |record: &TaskRecord| request.task_id.as_ref().is_none_or(|id| *id == record.id);
        let record = record.filter(here);
        if let Some(record) = &record {
            if record.format != TaskRecord::FORMAT {
                let (path, format) = (&request.task_path, record.format);
                let line =
                    format!("the task at {path} was created by another version of this program (format {format})");
                return Err(RunError::Task(vec![line]));
            }
            refuse_differences(&request.task_path, &record.inputs, own.as_ref())?;
        }
        let task = match (own, ledger.description().await?) {
            (Some(task), _) => task,
            (None, Some(stored)) => parse(&stored, &ledger.path("description"), secrets)?,
            (None, None) => {
                return Err(RunError::Task(vec![format!(
                    "there is no task at {}: --task-file says which servers to look at",
                    request.task_path
                )]));
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

    /// Removes the task from the coordinator. Only after everything of it is gone from the servers: without its identity
    /// nobody could tell what is its.
    ///
    /// # Errors
    /// When somebody else has a place, or the coordinator is lost; the same again then goes on.
    pub async fn forget(&mut self) -> Result<Forgotten, RunError> {
        if !self.holds_places {
            return Err(RunError::World(vec![format!("there is no task at {} to forget", self.task_path)]));
        }
        let forgotten = self.ledger.forget(&membership::cleaner_place(&self.name)).await?;
        Ok(forgotten)
    }

    /// Ends the session, and gives the places back with it.
    pub async fn close(self) {
        self.ledger.session().close().await;
    }

    fn by_table(&self) -> Option<&[TableRecords]> {
        self.record.as_ref().map(|_| self.cache.by_table.as_slice())
    }
}
