//! What is recorded in the coordinator. A record changes only by compare-and-set, and only in the ways that the methods
//! here allow.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::PartitionId;

use super::account::{Findings, Placed};
use super::names::TaskId;

/// The task itself, at `<task-path>/task`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The form of the records below; another one is refused.
    pub format: u32,
    /// The task's identity.
    pub id: TaskId,
    /// What the plan depends on, by element.
    pub inputs: BTreeMap<String, String>,
    /// Whether the plan of every table is there.
    pub planned: bool,
    /// Whether every target table is there.
    pub prepared: bool,
    /// Whether everything is copied and nothing of ours is left on any server that answered.
    pub finished: bool,
    /// How often the task was begun anew after it was finished, to copy what has changed since (`run --incremental`). Each
    /// pass has an identity of its own, as if the task had been made anew: what is late of an earlier one can touch nothing.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub pass: u32,
    /// Whether this pass drops on the target what an earlier one has copied and the source does not have any more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drops_vanished: bool,
    /// Whether the task is being removed from the coordinator: nobody may work on it any more, since some of its records
    /// may be gone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forgotten: bool,
    /// What the account of the pass that is finished found (I7).
    #[serde(default, skip_serializing_if = "is_default")]
    pub account: Findings,
}

impl TaskRecord {
    /// The form that this program writes and reads.
    pub const FORMAT: u32 = 2;

    /// The record of a finished task's next pass.
    pub fn next_pass(&self, id: TaskId, drops_vanished: bool) -> Self {
        let pass = self.pass + 1;
        let account = Findings::default();
        Self { id, planned: false, prepared: false, finished: false, pass, drops_vanished, account, ..self.clone() }
    }
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PieceRecord {
    /// The last attempt given out; 0 when there was none.
    #[serde(rename = "a", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// Attempts that failed since the last fresh start.
    #[serde(rename = "f", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Fresh starts after all tries failed.
    #[serde(rename = "o", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub rounds: u32,
    /// The generation of the batch's target nodes that the last attempt was for: what was copied for an older one is void.
    #[serde(rename = "v", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub generation: u32,
    /// How often attempts ran out of memory: the next one moves fewer rows at once.
    #[serde(rename = "m", default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub narrow: u32,
    /// Source nodes on which attempts may have made tables, to clone parts: what is left there must be removed in the end.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub lent: BTreeSet<String>,
    /// Why the last attempt that failed did, until the piece is copied.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub last_error: Option<String>,
    /// Where it stands.
    #[serde(rename = "s")]
    pub state: PieceState,
}

/// Where a piece stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum PieceState {
    /// Nobody has it.
    #[default]
    #[serde(rename = "p")]
    Pending,
    /// An attempt runs, if its worker still holds the claim.
    #[serde(rename = "r")]
    Running {
        /// The worker.
        #[serde(rename = "w")]
        worker: String,
    },
    /// Its rows lie in staging tables and were counted there.
    #[serde(rename = "c")]
    Copied(Copied),
    /// All tries failed.
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

/// What was counted when a piece was copied.
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
    /// Milliseconds that it took.
    #[serde(rename = "ms")]
    pub millis: u64,
    /// When it began, in milliseconds since 1970 by its worker's clock; 0 where that was not recorded yet.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub began: u64,
    /// Milliseconds of it that counting and comparing took.
    #[serde(rename = "v", default, skip_serializing_if = "is_default")]
    pub verifying: u64,
    /// Milliseconds before it in which it waited for servers to be free.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub waiting: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// The nodes that get the rows: for each target shard the addresses of its target nodes. Empty for a shard that gets
    /// none.
    pub nodes: Vec<Vec<String>>,
    /// Nodes that held staged rows of it before others were chosen: what is left there counts for nothing, and must not be
    /// published by somebody who has not heard of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub former: Vec<String>,
    /// How often other nodes had to be chosen.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub generation: u32,
    /// The last attempt at publishing given out; 0 when there was none.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub publication: u32,
    /// Attempts at publishing that failed since the last fresh start.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Fresh starts after all tries failed.
    #[serde(default, deserialize_with = "count", skip_serializing_if = "is_default")]
    pub rounds: u32,
    /// Why the last attempt at publishing that failed did.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_error: Option<String>,
    /// Where it stands.
    pub state: BatchState,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchState {
    /// Pieces are being copied.
    #[serde(rename = "copying")]
    Copying,
    /// An attempt at publishing runs, if its worker still holds the claim.
    #[serde(rename = "publishing")]
    Publishing {
        /// The worker.
        worker: String,
        /// For `append`: rows that the partitions held before the first row of ours was added, by target node.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
    },
    /// Its rows are in the target table and were counted there.
    #[serde(rename = "done")]
    Done(Published),
    /// It could not be published.
    #[serde(rename = "failed")]
    Failed {
        /// The first error of the last attempt.
        error: String,
        /// Whether another try could help.
        transient: bool,
        /// Kept from publishing.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
    },
}

/// What was counted when a batch was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Published {
    /// For each partition of the batch, in the plan's order.
    pub partitions: Vec<PartitionResult>,
    /// Milliseconds that putting in place took, and counting there.
    pub millis: u64,
    /// When that began, in milliseconds since 1970 by its worker's clock; 0 where that was not recorded yet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub began: u64,
    /// Milliseconds of it that comparing contents, and waiting for replicas, took.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verifying: u64,
    /// Milliseconds before it in which staged rows were gathered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gathering: u64,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What was put on which node, for the account; `None` in records of versions that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
}

/// Rows of a partition on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PartitionResult {
    /// Selected at the source.
    #[serde(rename = "s")]
    pub selected: u64,
    /// Of them on the target, counted after publishing, over all shards.
    #[serde(rename = "t")]
    pub target: u64,
    /// The checksum of those rows, where contents were compared.
    #[serde(rename = "k", default, skip_serializing_if = "is_default")]
    pub checksum: Option<u64>,
}

impl BatchRecord {
    /// A batch of which nothing was done.
    pub fn new(nodes: Vec<Vec<String>>) -> Self {
        Self {
            nodes,
            former: Vec::new(),
            generation: 0,
            publication: 0,
            failures: 0,
            rounds: 0,
            last_error: None,
            state: BatchState::Copying,
        }
    }

    /// The record of the next attempt at publishing, for the worker that has the claim.
    pub fn next_attempt(&self, worker: &str) -> Self {
        Self {
            publication: self.publication + 1,
            state: BatchState::Publishing { worker: worker.to_owned(), before: self.before() },
            ..self.clone()
        }
    }

    /// The record after a failure of the running attempt at publishing.
    pub fn after_failure(&self, worker: &str, failure: Failure, limit: u32) -> Self {
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

    /// A fresh start after all tries failed: what was recorded before the first row was added stays. In a new run the
    /// rounds are counted from the beginning.
    pub fn fresh_start(&self, new_run: bool) -> Self {
        let rounds = if new_run { 0 } else { self.rounds + 1 };
        Self { failures: 0, rounds, state: self.not_published(), ..self.clone() }
    }

    /// Other nodes are to hold it, since one of the old ones is lost: all its pieces are to be copied again.
    pub fn moved(&self, nodes: Vec<Vec<String>>) -> Self {
        let held: BTreeSet<&String> = self.nodes.iter().flatten().chain(&self.former).collect();
        let former = held.into_iter().filter(|node| !nodes.iter().flatten().any(|of| of == *node)).cloned().collect();
        let state = self.not_published();
        Self { nodes, former, generation: self.generation + 1, failures: 0, state, ..self.clone() }
    }

    /// Its staged rows are given up: all its pieces are to be copied again, to the same nodes.
    pub fn void(&self) -> Self {
        self.moved(self.nodes.clone())
    }

    fn not_published(&self) -> BatchState {
        match self.before() {
            before if before.is_empty() => BatchState::Copying,
            before => BatchState::Publishing { worker: String::new(), before },
        }
    }

    /// What `append` recorded before it added the first row.
    pub fn before(&self) -> BTreeMap<String, BTreeMap<PartitionId, u64>> {
        match &self.state {
            BatchState::Publishing { before, .. } | BatchState::Failed { before, .. } => before.clone(),
            BatchState::Copying | BatchState::Done(_) => BTreeMap::new(),
        }
    }

    /// Whether nothing more will happen to it.
    pub fn is_done(&self) -> bool {
        matches!(self.state, BatchState::Done(_))
    }
}

impl PieceRecord {
    /// Whether its rows wait in staging tables.
    pub fn copied(&self) -> Option<&Copied> {
        match &self.state {
            PieceState::Copied(copied) => Some(copied),
            _ => None,
        }
    }

    /// Whether there is anything to copy for the target nodes of a generation: an attempt at a piece that waits there already
    /// would be one that its publisher has not heard of.
    pub fn is_to_copy(&self, generation: u32) -> bool {
        self.generation <= generation && (self.generation < generation || self.copied().is_none())
    }

    /// The record of the next attempt, for the worker that has the claim, into the target nodes of a generation.
    pub fn next_attempt(&self, worker: &str, generation: u32) -> Self {
        // What failed for other nodes says nothing about these.
        let failures = if generation == self.generation { self.failures } else { 0 };
        let state = PieceState::Running { worker: worker.to_owned() };
        Self { attempt: self.attempt + 1, failures, generation, state, ..self.clone() }
    }

    /// The record of what was counted.
    pub fn done(&self, copied: Copied) -> Self {
        Self { state: PieceState::Copied(copied), last_error: None, ..self.clone() }
    }

    /// The record after a failure of the running attempt.
    pub fn after_failure(&self, worker: &str, failure: Failure, limit: u32) -> Self {
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

    /// A fresh start after all tries failed; in a new run the rounds are counted from the beginning.
    pub fn fresh_start(&self, new_run: bool) -> Self {
        let rounds = if new_run { 0 } else { self.rounds + 1 };
        Self { failures: 0, rounds, state: PieceState::Pending, ..self.clone() }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The first error, as a person reads it.
    pub error: String,
    /// Whether another try could help.
    pub transient: bool,
    /// Whether it moved more at once than a server could take.
    pub too_large: bool,
    /// Whether a server asked for time: that does not count as a try.
    pub overload: bool,
}

/// An error that is kept beside many others.
fn shortened(error: &str) -> String {
    const LONGEST: usize = 300;
    let mut text: String = error.chars().take(LONGEST).collect();
    if error.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

/// A task has no more passes, and nothing in it more attempts, failures or generations. They are counted up, and a number must never come
/// a second time.
const MOST_COUNTED: u32 = 1 << 30;

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let count = u32::deserialize(deserializer)?;
    match count {
        0..=MOST_COUNTED => Ok(count),
        _ => Err(D::Error::custom(format_args!("{count} is more than can be counted"))),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
