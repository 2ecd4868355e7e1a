//! The records in the coordinator. A record changes only by compare-and-set, and only in the ways that the methods
//! here allow.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::account::{Findings, Placed};
use super::names::TaskId;
use crate::model::{AttemptNo, Generation, PartitionId, PublicationNo};

/// The record of the task itself, at `<task-path>/task`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The format of the records below. Other formats are refused.
    pub format: u32,
    /// The task's identity.
    pub id: TaskId,
    /// The inputs that the plan depends on, by element.
    pub inputs: BTreeMap<String, String>,
    /// Whether the plan of every table is stored.
    pub planned: bool,
    /// Whether every target table exists.
    pub prepared: bool,
    /// Whether everything is copied and no server that answered holds anything of the task.
    pub finished: bool,
    /// How often the task was started again after it was finished, to copy changes (`run --incremental`). Each pass
    /// has an identity of its own, like a new task. A late statement of an earlier pass can therefore touch nothing.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub pass: u32,
    /// Whether this pass drops on the target what an earlier pass copied and the source no longer has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drops_vanished: bool,
    /// Whether the task is being removed from the coordinator. No worker may work on it then, because some of its
    /// records may be gone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forgotten: bool,
    /// The findings of the account of the finished pass (I7).
    #[serde(default, skip_serializing_if = "is_default")]
    pub account: Findings,
}

impl TaskRecord {
    /// The record format that this program writes and reads.
    pub const FORMAT: u32 = 2;

    /// Returns the record of a finished task's next pass.
    pub(crate) fn next_pass(&self, id: TaskId, drops_vanished: bool) -> Self {
        let pass = self.pass + 1;
        let account = Findings::default();
        Self { id, planned: false, prepared: false, finished: false, pass, drops_vanished, account, ..self.clone() }
    }
}

/// The record of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PieceRecord {
    /// The last attempt given out; 0 if there was none.
    #[serde(rename = "a", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub attempt: AttemptNo,
    /// Attempts that failed since the last fresh start.
    #[serde(rename = "f", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Fresh starts after all tries failed.
    #[serde(rename = "o", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub rounds: u32,
    /// The generation of the batch's target nodes that the last attempt was for. Everything copied for an older
    /// generation is void.
    #[serde(rename = "v", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub generation: Generation,
    /// How often attempts ran out of memory. The next attempt moves fewer rows at once.
    #[serde(rename = "m", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub narrow: u32,
    /// Source nodes on which attempts may have made tables to clone parts. These tables must be removed in the end.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub lent: BTreeSet<String>,
    /// The error of the last failed attempt, until the piece is copied.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub last_error: Option<String>,
    /// The state of the piece.
    #[serde(rename = "s")]
    pub state: PieceState,
}

/// The state of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum PieceState {
    /// No worker has it.
    #[default]
    #[serde(rename = "p")]
    Pending,
    /// An attempt is running, if its worker still holds the claim.
    #[serde(rename = "r")]
    Running {
        /// The worker.
        #[serde(rename = "w")]
        worker: String,
    },
    /// The rows of the piece are in staging tables and were counted there.
    #[serde(rename = "c")]
    Copied(Copied),
    /// All attempts failed.
    #[serde(rename = "x")]
    Failed {
        /// The first error of the last attempt.
        #[serde(rename = "e")]
        error: String,
        /// Whether another try could help.
        #[serde(rename = "t")]
        transient: bool,
    },
}

/// The counts of a copied piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Copied {
    /// Rows selected at the source, for each partition of the batch in the plan's order.
    #[serde(rename = "n")]
    pub selected: Vec<u64>,
    /// Rows staged, for each target shard.
    #[serde(rename = "g")]
    pub staged: Vec<u64>,
    /// Checksums of the rows selected, for each partition as in `selected`; empty where only counts were compared.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub checksums: Vec<u64>,
    /// Duration in milliseconds.
    #[serde(rename = "ms")]
    pub millis: u64,
    /// Start time in milliseconds since 1970, by the worker's clock; 0 in records of versions that did not record it.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub began: u64,
    /// Milliseconds of the duration spent on counting and comparing.
    #[serde(rename = "v", default, skip_serializing_if = "is_default")]
    pub verifying: u64,
    /// Milliseconds that the piece waited for free servers before it started.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub waiting: u64,
}

/// The record of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// The target nodes: for each target shard the addresses of the nodes that get rows. Empty for a shard that gets
    /// no rows.
    pub nodes: Vec<Vec<String>>,
    /// Nodes that held staged rows of the batch before other nodes were chosen. Rows there do not count, and a worker
    /// with an old record must not publish them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub former: Vec<String>,
    /// How often other target nodes had to be chosen.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub generation: Generation,
    /// The last attempt at publishing given out; 0 if there was none.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub publication: PublicationNo,
    /// Attempts at publishing that failed since the last fresh start.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Fresh starts after all tries failed.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub rounds: u32,
    /// The error of the last failed attempt at publishing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_error: Option<String>,
    /// The state of the batch.
    pub state: BatchState,
}

/// The state of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchState {
    /// Pieces are being copied.
    #[serde(rename = "copying")]
    Copying,
    /// An attempt at publishing is running, if its worker still holds the claim.
    #[serde(rename = "publishing")]
    Publishing {
        /// The worker.
        worker: String,
        /// For `append`: rows that the partitions held before the first row of ours was added, by target node.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
    },
    /// The rows of the batch are in the target table and were counted there.
    #[serde(rename = "done")]
    Done(Published),
    /// It could not be published.
    #[serde(rename = "failed")]
    Failed {
        /// The first error of the last attempt.
        error: String,
        /// Whether another try could help.
        transient: bool,
        /// Copied from the state `publishing`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
    },
}

/// The counts of a published batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Published {
    /// Results for each partition of the batch, in the plan's order.
    pub partitions: Vec<PartitionResult>,
    /// Milliseconds of the publication, including the count.
    pub millis: u64,
    /// Start time in milliseconds since 1970, by the worker's clock; 0 in records of versions that did not record it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub began: u64,
    /// Milliseconds of it spent on comparing contents and on waiting for replicas.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verifying: u64,
    /// Milliseconds before it in which staged rows were gathered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gathering: u64,
    /// Remarks for the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// The rows put on each node, for the account; `None` in records of versions that did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
}

/// Rows of a partition on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PartitionResult {
    /// Rows selected at the source.
    #[serde(rename = "s")]
    pub selected: u64,
    /// Rows of these on the target, counted after publishing, over all shards.
    #[serde(rename = "t")]
    pub target: u64,
    /// Checksum of those rows, if contents were compared.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub checksum: Option<u64>,
}

impl BatchRecord {
    /// Returns the record of a batch before any work.
    pub fn new(nodes: Vec<Vec<String>>) -> Self {
        Self {
            nodes,
            former: Vec::new(),
            generation: Generation::default(),
            publication: PublicationNo::default(),
            failures: 0,
            rounds: 0,
            last_error: None,
            state: BatchState::Copying,
        }
    }

    /// Returns the record of the next attempt at publishing, for the worker that has the claim.
    pub(crate) fn next_attempt(&self, worker: &str) -> Self {
        Self {
            publication: self.publication.next(),
            state: BatchState::Publishing { worker: worker.to_owned(), before: self.before() },
            ..self.clone()
        }
    }

    /// Returns the record after the running attempt at publishing failed.
    pub(crate) fn after_failure(&self, worker: &str, failure: Failure, limit: u32) -> Self {
        let failures = self.failures + u32::from(!failure.overload);
        let again = failure.transient && (failure.overload || failures < limit);
        let base = Self { failures, last_error: Some(shortened(&failure.error)), ..self.clone() };
        if again {
            base.next_attempt(worker)
        } else {
            let Failure { error, transient, .. } = failure;
            Self { state: BatchState::Failed { error, transient, before: self.before() }, ..base }
        }
    }

    /// Returns the record of a fresh start after all attempts failed. It keeps the row counts from before the first
    /// added row. In a new run, rounds count from the beginning.
    pub(crate) fn fresh_start(&self, new_run: bool) -> Self {
        let rounds = if new_run { 0 } else { self.rounds + 1 };
        Self { failures: 0, rounds, state: self.not_published(), ..self.clone() }
    }

    /// Returns the record with other target nodes, after one of the old nodes is lost. All pieces of the batch must
    /// be copied again.
    pub(crate) fn moved(&self, nodes: Vec<Vec<String>>) -> Self {
        let held: BTreeSet<&String> = self.nodes.iter().flatten().chain(&self.former).collect();
        let former =
            held.into_iter().filter(|node| !nodes.iter().flatten().any(|kept| kept == *node)).cloned().collect();
        let state = self.not_published();
        Self { nodes, former, generation: self.generation.next(), failures: 0, state, ..self.clone() }
    }

    /// Returns the record with the staged rows given up. All pieces must be copied again, to the same nodes.
    pub(crate) fn void(&self) -> Self {
        self.moved(self.nodes.clone())
    }

    fn not_published(&self) -> BatchState {
        match self.before() {
            before if before.is_empty() => BatchState::Copying,
            before => BatchState::Publishing { worker: String::new(), before },
        }
    }

    /// Returns the row counts that `append` recorded before it added the first row.
    pub(crate) fn before(&self) -> BTreeMap<String, BTreeMap<PartitionId, u64>> {
        match &self.state {
            BatchState::Publishing { before, .. } | BatchState::Failed { before, .. } => before.clone(),
            BatchState::Copying | BatchState::Done(_) => BTreeMap::new(),
        }
    }

    /// Returns whether the record is final.
    pub fn is_done(&self) -> bool {
        matches!(self.state, BatchState::Done(_))
    }
}

impl PieceRecord {
    /// Returns the counts if the rows wait in staging tables.
    pub fn copied(&self) -> Option<&Copied> {
        match &self.state {
            PieceState::Copied(copied) => Some(copied),
            _ => None,
        }
    }

    /// Returns whether the piece must be copied for the target nodes of a generation. If its rows already wait there,
    /// a new attempt would be unknown to the batch's publisher.
    pub(crate) fn is_to_copy(&self, generation: Generation) -> bool {
        self.generation <= generation && (self.generation < generation || self.copied().is_none())
    }

    /// Returns the record of the next attempt, for the worker that has the claim, into the target nodes of a
    /// generation.
    pub(crate) fn next_attempt(&self, worker: &str, generation: Generation) -> Self {
        // Failures on other nodes say nothing about these nodes.
        let failures = if generation == self.generation { self.failures } else { 0 };
        let state = PieceState::Running { worker: worker.to_owned() };
        Self { attempt: self.attempt.next(), failures, generation, state, ..self.clone() }
    }

    /// Returns the record after a successful copy.
    pub(crate) fn done(&self, copied: Copied) -> Self {
        Self { state: PieceState::Copied(copied), last_error: None, ..self.clone() }
    }

    /// Returns the record after the running attempt failed.
    pub(crate) fn after_failure(&self, worker: &str, failure: Failure, limit: u32) -> Self {
        let failures = self.failures + u32::from(!failure.overload);
        let again = failure.transient && (failure.overload || failures < limit);
        let narrow = self.narrow + u32::from(failure.too_large);
        let base = Self { failures, narrow, last_error: Some(shortened(&failure.error)), ..self.clone() };
        if again {
            base.next_attempt(worker, self.generation)
        } else {
            let Failure { error, transient, .. } = failure;
            Self { state: PieceState::Failed { error, transient }, ..base }
        }
    }

    /// Returns the record of a fresh start after all attempts failed. In a new run, rounds count from the beginning.
    pub(crate) fn fresh_start(&self, new_run: bool) -> Self {
        let rounds = if new_run { 0 } else { self.rounds + 1 };
        Self { failures: 0, rounds, state: PieceState::Pending, ..self.clone() }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The first error, as a person reads it.
    pub(crate) error: String,
    /// Whether another attempt could help.
    pub(crate) transient: bool,
    /// Whether the attempt moved more at once than a server could take.
    pub(crate) too_large: bool,
    /// Whether a server was overloaded. Such a failure does not count as an attempt.
    pub(crate) overload: bool,
}

/// Returns an error shortened for a record that is stored beside many others.
fn shortened(error: &str) -> String {
    const LONGEST: usize = 300;
    let mut text: String = error.chars().take(LONGEST).collect();
    if error.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

/// Upper limit for the numbers of passes, attempts, failures and generations. They only grow, and a number must never
/// occur twice.
const MOST_COUNTED: u32 = 1 << 30;

fn count<'de, D: Deserializer<'de>, T: From<u32>>(deserializer: D) -> Result<T, D::Error> {
    let count = u32::deserialize(deserializer)?;
    match count {
        0..=MOST_COUNTED => Ok(count.into()),
        _ => Err(D::Error::custom(format_args!("{count} is more than can be counted"))),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
