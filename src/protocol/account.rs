//! The account (I7): checks that the rows of the source, of the plan, of the records and of the target add up. Pure.
//!
//! It compares three sums, which share nothing with each other:
//!
//! 1. *Before copying*: the rows that a query counts on each source shard, with the rows that the plan lists there
//!    ([`judge_shard`]).
//! 2. *After publishing*: the rows counted before copying, with the selected rows in the records ([`judge_source`]).
//! 3. *After publishing*: the rows put into each partition of each target node, with the rows that the node holds
//!    ([`Expected`]).
//!
//! # Assumptions
//! - A server that is asked to read the rows counts them: settings that answer from metadata are switched off.
//! - A part never changes, and its name contains its block numbers. A merge keeps the first block, the last block,
//!   the last mutation and the rows of a partition. A TTL or an engine that merges rows changes the rows, which
//!   counts as a change of the source.
//! - If as many rows leave a partition as come into it, the block numbers show it; the number of rows does not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::PartitionId;

/// How often a changing source is read before the plan accepts it as it is.
pub(crate) const MAX_OBSERVATIONS: usize = 3;

/// The block numbers in the parts of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBlocks {
    /// Rows of all parts.
    #[serde(rename = "r")]
    pub rows: u64,
    /// The first block.
    #[serde(rename = "f")]
    pub first: u64,
    /// The last block.
    #[serde(rename = "l")]
    pub last: u64,
    /// The last mutation that any part has seen.
    #[serde(rename = "m")]
    pub mutation: u64,
}

/// The parts of a table at one instant, in a form that merges do not change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// A text that changes when the table is recreated or altered.
    pub table: String,
    /// The blocks by partition of the source.
    pub partitions: BTreeMap<PartitionId, PartitionBlocks>,
}

impl Blocks {
    /// Returns the blocks of parts, each with its partition, name and rows.
    pub(crate) fn of<'a>(table: &str, parts: impl IntoIterator<Item = (&'a PartitionId, &'a str, u64)>) -> Self {
        let mut partitions: BTreeMap<PartitionId, PartitionBlocks> = BTreeMap::new();
        for (id, name, rows) in parts {
            let (first, last, mutation) = blocks_in(name);
            let new = PartitionBlocks { rows: 0, first, last, mutation };
            let entry = partitions.entry(id.clone()).or_insert(new);
            entry.rows += rows;
            entry.first = entry.first.min(first);
            entry.last = entry.last.max(last);
            entry.mutation = entry.mutation.max(mutation);
        }
        Self { table: table.to_owned(), partitions }
    }

    /// Returns the partitions whose rows may have changed since `before`: all partitions if the table was recreated.
    pub(crate) fn changed_since(&self, before: &Self) -> BTreeSet<PartitionId> {
        let all = self.partitions.keys().chain(before.partitions.keys());
        let differs =
            |id: &&PartitionId| self.table != before.table || self.partitions.get(*id) != before.partitions.get(*id);
        all.filter(differs).cloned().collect()
    }
}

/// Returns the first block, the last block and the mutation in a part's name: `<partition>_<first>_<last>_<level>`,
/// with `…_<version>` after a mutation. In tables of the old syntax, `<day>_<day>` stands for the partition. For a
/// name of another form it returns a hash of the name, so that a merge counts as a change.
fn blocks_in(name: &str) -> (u64, u64, u64) {
    let fields: Vec<&str> = name.split('_').collect();
    let is_day = |text: &&str| text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit());
    let head = if fields.len() > 4 && fields.iter().take(2).all(is_day) { 2 } else { 1 };
    let numbers: Option<Vec<u64>> = fields.iter().skip(head).map(|field| field.parse().ok()).collect();
    match numbers.as_deref() {
        Some([first, last, _]) => (*first, *last, 0),
        Some([first, last, _, mutation]) => (*first, *last, *mutation),
        _ => {
            let number = name.bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            (number, number, 0)
        }
    }
}

/// One observation of a source shard while a table job is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardObservation {
    /// Rows of all listed partitions.
    pub(crate) listed: u64,
    /// Rows that a query counted after the listing.
    pub(crate) counted: u64,
    /// The parts around the count; `None` if the table has no parts or they could not be read.
    pub(crate) parts: Option<ObservedParts>,
}

/// The parts of a source shard before and after a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedParts {
    /// The parts before the count.
    pub(crate) before: Blocks,
    /// The parts after the count.
    pub(crate) after: Blocks,
}

/// The result of comparing the observations of a source shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardBalance {
    /// The listed rows equal the counted rows.
    Even,
    /// The rows differ, and the source did not change meanwhile.
    Differs,
    /// The rows differ, and the source changed or may have changed meanwhile.
    Moved,
}

/// Judges the last observation of a source shard.
pub(crate) fn judge_shard(observations: &[ShardObservation]) -> ShardBalance {
    let Some(last) = observations.last() else { return ShardBalance::Moved };
    if last.listed == last.counted {
        return ShardBalance::Even;
    }
    let held_still = match &last.parts {
        Some(parts) => parts.after.changed_since(&parts.before).is_empty(),
        // A table without parts is stable if two observations in a row are equal; nothing else shows it.
        None => observations.iter().rev().nth(1).is_some_and(|other| other == last),
    };
    if held_still { ShardBalance::Differs } else { ShardBalance::Moved }
}

/// How the source of a table job changed between planning and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The source did not change.
    None,
    /// Partitions that were copied have other parts.
    Copied,
    /// Other partitions changed, or the changed partition is not known.
    Elsewhere,
    /// The source has no parts that would show a change.
    Unknown,
}

/// The facts at the end about the rows of a table job's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceFacts {
    /// Rows of the plan's partitions, by the count before copying.
    pub(crate) planned: u64,
    /// Selected rows according to the records.
    pub(crate) selected: u64,
    /// How the source changed meanwhile.
    pub(crate) change: Change,
    /// Rows that a query counts now in the same partitions, if it ran.
    pub(crate) now: Option<u64>,
}

/// The verdict on the source rows of a table job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceVerdict {
    /// All rows were selected.
    Even,
    /// The source must be counted again before a verdict is possible.
    CountAgain,
    /// The number of selected rows differs from the source's, and the source did not change.
    Differs,
    /// The source changed and was not copied again. The number is the difference between the rows selected and the
    /// rows that it holds now; 0 if its parts changed and the number of rows did not.
    Moved(u64),
}

/// Judges whether all rows of a source were selected.
pub(crate) fn judge_source(facts: SourceFacts) -> SourceVerdict {
    let SourceFacts { planned, selected, change, now } = facts;
    match (change, now) {
        (Change::None, _) if planned == selected => SourceVerdict::Even,
        (Change::None, _) => SourceVerdict::Differs,
        (_, None) => SourceVerdict::CountAgain,
        // If the copy has the rows that the change brought, the change came before the copy. Otherwise nobody can
        // know.
        (Change::Copied, Some(now)) if now == selected && planned == selected => SourceVerdict::Moved(0),
        (_, Some(now)) if now == selected => SourceVerdict::Even,
        (Change::Unknown, Some(now)) if now == planned => SourceVerdict::Differs,
        (_, Some(now)) => SourceVerdict::Moved(now.abs_diff(selected)),
    }
}

/// The rows that a publication put into the target, kept for the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The partitions, by their ids in the target.
    #[serde(rename = "i")]
    pub ids: Vec<PartitionId>,
    /// Rows put into each partition, by node.
    #[serde(rename = "n")]
    pub added: BTreeMap<String, Vec<u64>>,
    /// Rows of other origin that stayed, by node, for each partition that held some; 0 for a partition that was
    /// emptied.
    #[serde(rename = "b", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
}

impl Placed {
    /// Returns the expected rows of a node after this publication, by partition. It leaves out partitions that the
    /// publication did not touch there.
    pub(crate) fn on(&self, node: &str) -> Vec<(&PartitionId, Expected)> {
        let before = |id: &PartitionId| self.before.get(node).and_then(|rows| rows.get(id)).copied();
        let Some(added) = self.added.get(node) else { return Vec::new() };
        let rows = self.ids.iter().zip(added).filter(|(id, added)| **added > 0 || before(id).is_some());
        rows.map(|(id, added)| (id, Expected { before: before(id).unwrap_or(0), added: *added, shrinks: false }))
            .collect()
    }
}

/// The rows that a partition of a target node must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Rows that were not written by the task.
    pub(crate) before: u64,
    /// Rows written by the task.
    pub(crate) added: u64,
    /// Whether merges or a TTL of the target may remove rows.
    pub(crate) shrinks: bool,
}

impl Expected {
    /// Adds the rows of another publication. The rows of other origin are those that the first publication found.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            before: self.before.min(other.before),
            added: self.added + other.added,
            shrinks: self.shrinks || other.shrinks,
        }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(self) -> u64 {
        self.before + self.added
    }

    /// Returns whether the counted number of rows is correct.
    pub(crate) fn is_met_by(self, counted: u64) -> bool {
        counted == self.rows() || (self.shrinks && counted < self.rows())
    }
}

/// The findings of a task's account, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Missing rows and excess rows.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Rows that the account cannot confirm: the source changed, or a server did not answer.
    #[serde(default)]
    pub unaccounted: Vec<String>,
}

impl Findings {
    /// Returns whether everything adds up.
    pub(crate) fn is_even(&self) -> bool {
        self.differences.is_empty() && self.unaccounted.is_empty()
    }

    /// Returns all lines, each with its kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        let differ = self.differences.iter().map(|line| format!("DIFFERENT: {line}"));
        let unknown = self.unaccounted.iter().map(|line| format!("not accounted: {line}"));
        differ.chain(unknown).collect()
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
