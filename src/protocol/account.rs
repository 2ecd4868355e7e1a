//! The account (I7): whether the rows of the source, of the plan, of the records and of the target add up. Pure.
//!
//! Three sums are compared that share nothing with each other:
//! 1. *Before copying*: what a query counts on each source shard, and what the plan lists there ([`weigh`]).
//! 2. *After publishing*: what was counted before copying, and what the records say was selected ([`judge_source`]).
//! 3. *After publishing*: what was put into each partition of each target node, and what the node holds ([`Expected`]).
//!
//! # Assumptions
//! - A server that is asked to read the rows counts them: settings that answer from metadata are switched off.
//! - A part never changes, and its name tells the blocks in it. A merge keeps the first and the last block, the last mutation and
//!   the rows of a partition; a TTL or an engine that merges rows changes the rows, and that is a change of the source.
//! - Rows that leave a partition while as many others come are seen by their blocks, not by their number.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::PartitionId;

/// How often a source that changes is looked at before it is planned as it is.
pub const MOST_LOOKS: usize = 3;

/// The blocks in the parts of one partition.
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

/// The parts of a table at one instant, told so that merges change nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Another text when the table was made anew or altered.
    pub table: String,
    /// By partition of the source.
    pub partitions: BTreeMap<PartitionId, PartitionBlocks>,
}

impl Blocks {
    /// Returns the blocks of parts, each with its partition, name and rows.
    pub fn of<'a>(table: &str, parts: impl IntoIterator<Item = (&'a PartitionId, &'a str, u64)>) -> Self {
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

    /// Returns the partitions whose rows may be others than before: all of them where the table was made anew.
    pub fn changed_since(&self, before: &Self) -> BTreeSet<PartitionId> {
        let all = self.partitions.keys().chain(before.partitions.keys());
        let differs =
            |id: &&PartitionId| self.table != before.table || self.partitions.get(*id) != before.partitions.get(*id);
        all.filter(differs).cloned().collect()
    }
}

/// Returns the first block, the last block and the mutation that a part's name tells: `<partition>_<first>_<last>_<level>`, after a
/// mutation `…_<version>`; in tables of the old syntax `<day>_<day>` stands for the partition. A name of another form stands for
/// itself, so that a merge is taken for a change.
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

/// One look at a source shard while a table job is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Rows of all partitions that were listed.
    pub listed: u64,
    /// Rows that a query counted after that.
    pub counted: u64,
    /// The parts before and after; `None` where the table has none, or they could not be looked at.
    pub parts: Option<(Blocks, Blocks)>,
}

/// What a source shard's looks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighed {
    /// The rows that were listed are the rows that were counted.
    Even,
    /// They are not, and nothing changed meanwhile.
    Differs,
    /// They are not, and the source changed meanwhile, or may have.
    Moved,
}

/// Judges the last look at a source shard.
pub fn weigh(looks: &[Look]) -> Weighed {
    let Some(last) = looks.last() else { return Weighed::Moved };
    if last.listed == last.counted {
        return Weighed::Even;
    }
    let held_still = match &last.parts {
        Some((before, after)) => after.changed_since(before).is_empty(),
        // Two looks that see the same: nothing else tells it of a table without parts.
        None => looks.iter().rev().nth(1).is_some_and(|other| other == last),
    };
    if held_still { Weighed::Differs } else { Weighed::Moved }
}

/// How the source of a table job changed between planning and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did not.
    None,
    /// Partitions that were copied have other parts.
    Copied,
    /// Others have, or it cannot be told which.
    Elsewhere,
    /// The source has no parts that would tell.
    Unknown,
}

/// What is known at the end about the rows of a table job's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFacts {
    /// Rows of the plan's partitions, by the account before copying.
    pub planned: u64,
    /// Rows that the records say were selected.
    pub selected: u64,
    /// What became of the source meanwhile.
    pub change: Change,
    /// Rows of the same partitions that a query counts now, if it was asked.
    pub now: Option<u64>,
}

/// What follows for a table job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceVerdict {
    /// All rows were selected.
    Even,
    /// It cannot be told before the source is counted again.
    CountAgain,
    /// Other rows were selected than the source held, and it held still.
    Differs,
    /// The source changed, and was not copied again. So many rows more or fewer were selected than it holds now; 0 where its
    /// parts are others and their rows are as many.
    Moved(u64),
}

/// Judges whether all rows of a source were selected.
pub fn judge_source(facts: SourceFacts) -> SourceVerdict {
    let SourceFacts { planned, selected, change, now } = facts;
    match (change, now) {
        (Change::None, _) if planned == selected => SourceVerdict::Even,
        (Change::None, _) => SourceVerdict::Differs,
        (_, None) => SourceVerdict::CountAgain,
        // The change came before the copy where the copy has the rows that came with it. Else nobody can tell.
        (Change::Copied, Some(now)) if now == selected && planned == selected => SourceVerdict::Moved(0),
        (_, Some(now)) if now == selected => SourceVerdict::Even,
        (Change::Unknown, Some(now)) if now == planned => SourceVerdict::Differs,
        (_, Some(now)) => SourceVerdict::Moved(now.abs_diff(selected)),
    }
}

/// What a publication put into the target, kept for the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The partitions, by their ids in the target.
    #[serde(rename = "i")]
    pub ids: Vec<PartitionId>,
    /// By node: rows put into each of them.
    #[serde(rename = "n")]
    pub added: BTreeMap<String, Vec<u64>>,
    /// By node: rows of others that stayed, for each partition in which some did; and 0 for one that was emptied.
    #[serde(rename = "b", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, BTreeMap<PartitionId, u64>>,
}

impl Placed {
    /// Returns what a node must hold since this publication, by partition; partitions that it did not touch there are left out.
    pub fn on(&self, node: &str) -> Vec<(&PartitionId, Expected)> {
        let before = |id: &PartitionId| self.before.get(node).and_then(|rows| rows.get(id)).copied();
        let Some(added) = self.added.get(node) else { return Vec::new() };
        let rows = self.ids.iter().zip(added).filter(|(id, added)| **added > 0 || before(id).is_some());
        rows.map(|(id, added)| (id, Expected { before: before(id).unwrap_or(0), added: *added, shrinks: false }))
            .collect()
    }
}

/// What a partition of a target node must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Rows of others.
    pub before: u64,
    /// Rows of the task.
    pub added: u64,
    /// Whether merges or a TTL of the target may remove rows.
    pub shrinks: bool,
}

impl Expected {
    /// Adds what another publication put there: rows of others are those that the first of them found.
    pub fn and(self, other: Self) -> Self {
        Self {
            before: self.before.min(other.before),
            added: self.added + other.added,
            shrinks: self.shrinks || other.shrinks,
        }
    }

    /// Returns the number of rows.
    pub fn rows(self) -> u64 {
        self.before + self.added
    }

    /// Whether so many rows are what must be there.
    pub fn is_met_by(self, counted: u64) -> bool {
        counted == self.rows() || (self.shrinks && counted < self.rows())
    }
}

/// What the account of a task found, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Rows that are missing, or too many.
    #[serde(default)]
    pub differences: Vec<String>,
    /// Rows that the account cannot vouch for: the source changed, or a server did not answer.
    #[serde(default)]
    pub unaccounted: Vec<String>,
}

impl Findings {
    /// Whether everything adds up.
    pub fn is_even(&self) -> bool {
        self.differences.is_empty() && self.unaccounted.is_empty()
    }

    /// Returns all lines, each with what it is.
    pub fn lines(&self) -> Vec<String> {
        let differ = self.differences.iter().map(|line| format!("DIFFERENT: {line}"));
        let unknown = self.unaccounted.iter().map(|line| format!("not accounted: {line}"));
        differ.chain(unknown).collect()
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
