//! The records of a task in the coordinator: read, cached, and changed by compare-and-set.
//!
//! | node | contents | written |
//! | --- | --- | --- |
//! | `description` | the XML of the task | once; by people to change settings and `max_workers` |
//! | `status` | counts of partitions, as the original wrote them | after batches, at most once a second |
//! | `task_active_workers/<id>` | a worker that has a place, ephemeral | |
//! | `task_active_workers_version` | nothing; its version changes with each place that is taken | |
//! | `task` | [`TaskRecord`] | four times a pass |
//! | `plan/<table>.<chunk>` | [`TablePlan`](crate::plan::TablePlan) in chunks | once |
//! | `earlier/<pass>.<table>.<chunk>` | [`Earlier`](crate::plan::Earlier): the partitions that earlier passes have copied, in chunks | once a pass |
//! | `pieces/<table>.<group>` | [`PieceRecord`](crate::protocol::PieceRecord)s of up to 16 pieces, see [`groups`](crate::protocol::groups) | twice a piece |
//! | `batches/<table>.<batch>` | [`BatchRecord`](crate::protocol::BatchRecord) | twice a batch |
//! | `processed/<table>.<bit>` | nothing; a version of n counts n times 2 to the power of `bit` partitions as done | with the record of a batch |
//! | `claims/…` | the worker that copies a piece or publishes a batch, ephemeral | with the record, in one commit |
//! | `order` | the order of a person to all workers: [`Order`](crate::protocol::Order); absent: work | by verbs |
//! | `on_servers/<address>#<number>` | the worker with this place on a server, ephemeral; where the task limits jobs per server | before and after an attempt |
//!
//! Long records are compressed (see `packed.rs`), for example the task's record with thousands of tables.

mod cleaning;
pub mod membership;
mod order;
pub mod overview;
mod packed;
mod plans;
mod servers;
mod work;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::coordinator::{Change, Conflict, Error, Op, Session, Stored, Version, ensure_path};
use crate::protocol::TaskRecord;

pub(crate) use cleaning::Forgotten;
pub(crate) use packed::{encoded, parsed};
pub(crate) use plans::footprint;
pub use work::status_text;
pub(crate) use work::{Cache, ClaimChange, Processed};

/// The most bytes of a plan in one node. ZooKeeper takes less than 1 MiB.
const CHUNK_BYTES: usize = 512 << 10;
/// The most bytes in one commit.
const COMMIT_BYTES: usize = 600 << 10;
/// The most operations in one commit.
const COMMIT_STEPS: usize = 500;

/// Why a record could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The coordinator failed.
    #[error(transparent)]
    Keeper(#[from] Error),
    /// A node holds a text that this program cannot read.
    #[error("{path} does not hold what it should ({why}): was it written by another version?")]
    Damaged {
        /// The node.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl LedgerError {
    /// Returns whether the session is lost, so that a new session may succeed.
    pub(crate) fn is_session_lost(&self) -> bool {
        matches!(self, Self::Keeper(Error::SessionLost { .. } | Error::Unreachable { .. }))
    }
}

/// The result of an attempt to change a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The record is changed.
    Done,
    /// Another writer was faster. The record must be read again.
    Lost,
}

/// The records of a task.
#[derive(Clone)]
pub struct Ledger {
    session: Arc<dyn Session>,
    root: String,
}

/// A record with its version, for compare-and-set.
#[derive(Debug, Clone)]
struct Versioned<T> {
    value: T,
    version: Version,
}

impl Ledger {
    /// Creates the ledger for the records below a task path.
    pub fn new(session: Arc<dyn Session>, task_path: &str) -> Self {
        Self { session, root: task_path.trim_end_matches('/').to_owned() }
    }

    /// Returns the session of the ledger.
    pub(crate) fn session(&self) -> &Arc<dyn Session> {
        &self.session
    }

    /// Returns the path of a node of the task.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Versioned<T>>, LedgerError> {
        let path = self.path(name);
        match self.session.get(&path).await? {
            None => Ok(None),
            Some(stored) => {
                let value = parsed(&path, &stored.data)?;
                Ok(Some(Versioned { value, version: stored.version }))
            }
        }
    }

    /// Reads the task's XML.
    pub(crate) async fn description(&self) -> Result<Option<String>, LedgerError> {
        let path = self.path("description");
        let Some(stored) = self.session.get(&path).await? else { return Ok(None) };
        String::from_utf8(stored.data).map(Some).map_err(|error| LedgerError::Damaged { path, why: error.to_string() })
    }

    /// Reads the task's XML, and watches for its next change.
    pub(crate) async fn watch_description(&self) -> Result<(Option<String>, Change), LedgerError> {
        let (stored, change) = self.session.watch(&self.path("description")).await?;
        Ok((stored.map(|stored| String::from_utf8_lossy(&stored.data).into_owned()), change))
    }

    /// Reads the task's record.
    pub(crate) async fn task(&self) -> Result<Option<TaskRecord>, LedgerError> {
        Ok(self.read(TASK).await?.map(|versioned| versioned.value))
    }

    /// Reads the task's record, and watches for its next change.
    pub(crate) async fn watch_task(&self) -> Result<(Option<TaskRecord>, Change), LedgerError> {
        let path = self.path(TASK);
        let (stored, change) = self.session.watch(&path).await?;
        let record = stored.map(|stored| parsed(&path, &stored.data)).transpose()?;
        Ok((record, change))
    }

    /// Creates the task: its nodes, its description and its record. Leaves those that exist already.
    pub async fn create_task(&self, description: &str, record: &TaskRecord) -> Result<(), LedgerError> {
        for name in ["plan", "pieces", "batches", "processed", "claims", servers::ON_SERVERS, PLACES] {
            ensure_path(self.session.as_ref(), &self.path(name)).await?;
        }
        crate::coordinator::create_if_absent(self.session.as_ref(), &self.path("description"), description.into())
            .await?;
        crate::coordinator::create_if_absent(self.session.as_ref(), &self.path("status"), b"{}".to_vec()).await?;
        crate::coordinator::create_if_absent(self.session.as_ref(), &self.path(TASK), encoded(record)).await?;
        Ok(())
    }

    /// Replaces the description.
    pub(crate) async fn upload(&self, description: &str) -> Result<(), LedgerError> {
        self.settle(vec![Op::set(self.path("description"), description, None)]).await.map(drop)
    }

    /// Changes the task's record. Reads it and applies `change` again when another writer was faster.
    pub(crate) async fn set_task(&self, change: impl Fn(&mut TaskRecord) + Send) -> Result<(), LedgerError> {
        loop {
            let Some(mut found) = self.read::<TaskRecord>(TASK).await? else {
                return Err(LedgerError::Damaged { path: self.path(TASK), why: "it is gone".into() });
            };
            change(&mut found.value);
            let op = Op::set(self.path(TASK), encoded(&found.value), found.version);
            if self.settle(vec![op]).await? == Outcome::Done {
                return Ok(());
            }
        }
    }

    /// Reads nodes that must exist.
    async fn read_all<T: DeserializeOwned>(&self, paths: Vec<String>) -> Result<Vec<Versioned<T>>, LedgerError> {
        let found = self.session.get_many(&paths).await?;
        paths.into_iter().zip(found).map(|(path, stored)| versioned(path, stored)).collect()
    }

    /// Takes a claim that belongs to no record: on planning or finishing.
    pub(crate) async fn claim(&self, name: &str, worker: &str) -> Result<Outcome, LedgerError> {
        self.settle(vec![Op::ephemeral(self.path(&format!("claims/{name}")), worker)]).await
    }

    /// Releases a claim.
    pub(crate) async fn release(&self, name: &str) -> Result<(), LedgerError> {
        self.give_up(&format!("claims/{name}")).await
    }

    /// Deletes an ephemeral node of this session. Without that it would exist until the session ends.
    pub(crate) async fn give_up(&self, name: &str) -> Result<(), LedgerError> {
        self.settle(vec![Op::delete(self.path(name), None)]).await.map(drop)
    }

    /// Commits operations, and finds the result when the answer was lost. Each operation can be repeated without harm, or its conflict
    /// shows that it was done.
    async fn settle(&self, ops: Vec<Op>) -> Result<Outcome, LedgerError> {
        let mut unknown = false;
        loop {
            match self.session.commit(ops.clone()).await {
                Ok(()) => return Ok(Outcome::Done),
                Err(Error::Unknown { .. }) => unknown = true,
                Err(Error::Conflict { .. }) if unknown => return self.outcome_of_lost(&ops).await,
                Err(Error::Conflict { why: Conflict::Missing, .. })
                    if matches!(ops.as_slice(), [Op::Delete { .. }]) =>
                {
                    return Ok(Outcome::Done);
                }
                Err(Error::Conflict { .. }) => return Ok(Outcome::Lost),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns whether a commit of one operation was done although its answer was lost.
    async fn outcome_of_lost(&self, ops: &[Op]) -> Result<Outcome, LedgerError> {
        let [op] = ops else { return Ok(Outcome::Lost) };
        let stored = self.session.get(op.path()).await?;
        let done = match (op, stored) {
            (Op::Create { data, .. }, Some(stored)) => {
                &stored.data == data && stored.ephemeral_owner.is_none_or(|owner| owner == self.session.id())
            }
            (Op::Set { data, .. }, Some(stored)) => &stored.data == data,
            (Op::Delete { .. }, None) => true,
            _ => false,
        };
        Ok(if done { Outcome::Done } else { Outcome::Lost })
    }

    /// Commits many independent operations in several commits. Ignores operations that were done already.
    async fn commit_all(&self, ops: Vec<Op>) -> Result<(), LedgerError> {
        let mut remaining = ops.as_slice();
        while !remaining.is_empty() {
            let mut bytes = 0;
            let fits = |op: &&Op| {
                bytes += match op {
                    Op::Create { data, path, .. } | Op::Set { data, path, .. } => data.len() + path.len(),
                    Op::Delete { path, .. } | Op::Check { path, .. } => path.len(),
                };
                bytes <= COMMIT_BYTES
            };
            let count = remaining.iter().take(COMMIT_STEPS).take_while(fits).count().max(1);
            let (current, later) = remaining.split_at(count);
            match self.session.commit(current.to_vec()).await {
                Ok(()) => {}
                Err(error) if error.may_have_applied() || error.conflict().is_some() => {
                    for op in current {
                        self.settle(vec![op.clone()]).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            remaining = later;
        }
        Ok(())
    }

    fn group_path(&self, table: usize, group: usize) -> String {
        self.path(&format!("pieces/{table}.{group}"))
    }

    fn batch_path(&self, table: usize, batch: usize) -> String {
        self.path(&format!("batches/{table}.{batch}"))
    }

    fn processed_path(&self, table: usize, bit: usize) -> String {
        self.path(&format!("processed/{table}.{bit}"))
    }
}

/// The node of the task's record.
const TASK: &str = "task";
/// The node of the partitions that earlier passes have copied.
const EARLIER: &str = "earlier";
/// The node of the workers that have a place.
pub(crate) const PLACES: &str = "task_active_workers";
/// The node whose version changes whenever a place is taken, so that two workers cannot both take the last place.
pub(crate) const PLACES_VERSION: &str = "task_active_workers_version";

/// Parses the record of a node that must exist.
fn versioned<T: DeserializeOwned>(path: String, stored: Option<Stored>) -> Result<Versioned<T>, LedgerError> {
    let stored = stored.ok_or_else(|| LedgerError::Damaged { path: path.clone(), why: "it is gone".into() })?;
    Ok(Versioned { value: parsed(&path, &stored.data)?, version: stored.version })
}
