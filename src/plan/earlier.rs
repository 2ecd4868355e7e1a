//! The results of earlier passes of a task, and what the next pass does with each partition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Found, PartitionPlan, Reading, Sharding, TablePlan};
use crate::model::PartitionValue;
use crate::protocol::PartitionResult;
use crate::sql::KeyElement;

/// The result of earlier passes for a table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// How the source was read.
    pub reading: Reading,
    /// The columns that were transferred.
    pub columns: Vec<String>,
    /// The target's partition key.
    pub key: Vec<KeyElement>,
    /// The sharding key and slots.
    pub sharding: Option<Sharding>,
    /// The partitions of the target that hold rows of the task.
    pub partitions: Vec<CopiedPartition>,
}

/// A partition that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedPartition {
    /// The partition as it was planned.
    #[serde(rename = "p")]
    pub partition: PartitionPlan,
    /// The rows of the partition on the target, counted over all shards.
    #[serde(rename = "t")]
    pub target: u64,
}

/// The present state of a copied partition on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnTarget {
    /// Rows on the target, summed over all shards. If replicas are written one by one, the replica with the fewest
    /// rows counts.
    pub(crate) least: u64,
    /// The same sum with the replica with the most rows.
    pub(crate) most: u64,
    /// Whether the target's servers may have removed rows: by a TTL or by an engine that merges rows.
    pub(crate) may_shrink: bool,
}

/// What the next pass does with a copied partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: it is unchanged on both sides.
    Unchanged,
    /// Copy it again and replace its rows, for this reason.
    Again(Again),
}

/// Why a partition is copied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Again {
    /// The parts of the partition at the source have changed.
    Changed,
    /// Whether it changed is not known.
    Unknown,
    /// Replicas of the target differ: one was away during the copy, or is new.
    Replica,
    /// The target no longer holds the copied rows, but this number of rows.
    Lost(u64),
}

impl Earlier {
    /// Returns the results after a pass: the partitions that it copied, and those that it left alone. `results` are
    /// the counts of the plan's partitions when they were published.
    pub(crate) fn after(before: Option<Self>, plan: &TablePlan, results: &[PartitionResult]) -> Self {
        let mut partitions: BTreeMap<PartitionValue, CopiedPartition> = BTreeMap::new();
        for copied in before.into_iter().flat_map(|earlier| earlier.partitions) {
            partitions.insert(copied.partition.value.clone(), copied);
        }
        for (partition, result) in plan.partitions.iter().zip(results) {
            if result.selected == 0 && result.target == 0 {
                partitions.remove(&partition.value);
                continue;
            }
            let mut partition = PartitionPlan { renews: false, ..partition.clone() };
            // Rows arrived or left after its parts were read.
            if result.selected != partition.rows {
                partition.mark = None;
            }
            let copied = CopiedPartition { partition, target: result.target };
            partitions.insert(copied.partition.value.clone(), copied);
        }
        Self {
            reading: plan.reading.clone(),
            columns: plan.columns.clone(),
            key: plan.key.clone(),
            sharding: plan.sharding.clone(),
            partitions: partitions.into_values().collect(),
        }
    }

    /// Returns the partitions that a plan left alone.
    pub(crate) fn beside<'a>(&'a self, plan: &'a TablePlan) -> impl Iterator<Item = &'a CopiedPartition> {
        let planned: std::collections::BTreeSet<&PartitionValue> =
            plan.partitions.iter().map(|partition| &partition.value).collect();
        self.partitions.iter().filter(move |copied| !planned.contains(&copied.partition.value))
    }
}

impl CopiedPartition {
    /// Returns the number of rows on the target if it differs from the copied rows.
    pub(crate) fn lost(&self, on_target: OnTarget) -> Option<u64> {
        // If replicas differ, one of them may hold the copied rows.
        let rows = self.target.clamp(on_target.least, on_target.most);
        (rows != self.target && !(on_target.may_shrink && rows < self.target)).then_some(rows)
    }

    /// Returns what the next pass does with a copied partition.
    pub(crate) fn due(&self, found: &Found, on_target: OnTarget) -> Due {
        if let Some(rows) = self.lost(on_target) {
            return Due::Again(Again::Lost(rows));
        }
        match (&found.mark, &self.partition.mark) {
            _ if on_target.least != on_target.most => Due::Again(Again::Replica),
            (Some(now), Some(before)) if now.is_as(before) => Due::Unchanged,
            (Some(_), Some(_)) => Due::Again(Again::Changed),
            _ => Due::Again(Again::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Mark, ShardMark, ShardSize};
    use super::*;

    fn value(text: &str) -> PartitionValue {
        PartitionValue(vec![text.into()])
    }

    fn mark(content: &str) -> Option<Mark> {
        Some(Mark(vec![ShardMark::of(0, "t", [("1_1_1_0", 5, content)])]))
    }

    fn partition(name: &str, rows: u64) -> PartitionPlan {
        let mark = mark("a");
        PartitionPlan { value: value(name), name: name.into(), id: None, rows, bytes: 1, mark, renews: false }
    }

    fn plan(partitions: Vec<PartitionPlan>) -> TablePlan {
        let reading = Reading { columns: None, raw: Vec::new(), values: Vec::new(), condition: None, left: Vec::new() };
        TablePlan::empty(reading, partitions)
    }

    fn result(selected: u64, target: u64) -> PartitionResult {
        PartitionResult { selected, target, checksum: None }
    }

    fn names(earlier: &Earlier) -> Vec<(&str, u64)> {
        earlier.partitions.iter().map(|copied| (copied.partition.name.as_str(), copied.target)).collect()
    }

    #[test]
    fn a_later_pass_remembers_unchanged_partitions_and_forgets_dropped_ones() {
        let first = plan(vec![partition("1", 5), partition("2", 5), partition("3", 5)]);
        let first = Earlier::after(None, &first, &[result(5, 5), result(5, 5), result(5, 5)]);
        let mut dropped = partition("3", 0);
        dropped.renews = true;
        let second = plan(vec![partition("2", 7), dropped, partition("4", 1)]);
        let second = Earlier::after(Some(first), &second, &[result(7, 7), result(0, 0), result(1, 1)]);
        assert_eq!(names(&second), [("1", 5), ("2", 7), ("4", 1)]);
        let third = plan(vec![partition("2", 7)]);
        let left: Vec<&str> = second.beside(&third).map(|copied| copied.partition.name.as_str()).collect();
        assert_eq!(left, ["1", "4"]);
    }

    const FIVE: ShardSize = ShardSize { rows: 5, bytes: 5 };

    #[test]
    fn a_partition_that_changed_during_its_copy_is_copied_again() {
        let earlier =
            Earlier::after(None, &plan(vec![partition("1", 5), partition("2", 5)]), &[result(6, 6), result(5, 5)]);
        let due = |name: &str, rows| {
            let found = Found {
                value: value(name),
                name: name.into(),
                id: None,
                shards: vec![FIVE],
                mark: mark("a"),
                renews: false,
            };
            let on_target = OnTarget { least: rows, most: rows, may_shrink: false };
            earlier
                .partitions
                .iter()
                .find(|copied| copied.partition.name == name)
                .map(|copied| copied.due(&found, on_target))
        };
        assert_eq!(due("1", 6), Some(Due::Again(Again::Unknown)));
        assert_eq!(due("2", 5), Some(Due::Unchanged));
        assert_eq!(due("3", 5), None);
    }

    #[test]
    fn a_partition_is_skipped_only_if_source_and_target_are_unchanged() {
        let copied = CopiedPartition { partition: partition("1", 5), target: 5 };
        let found = |content| {
            let shards = vec![FIVE];
            Found { value: value("1"), name: "1".into(), id: None, shards, mark: mark(content), renews: false }
        };
        let holds = |rows, may_shrink| OnTarget { least: rows, most: rows, may_shrink };
        assert_eq!(copied.due(&found("a"), holds(5, false)), Due::Unchanged);
        assert_eq!(copied.due(&found("b"), holds(5, false)), Due::Again(Again::Changed));
        assert_eq!(copied.due(&found("a"), holds(0, false)), Due::Again(Again::Lost(0)));
        assert_eq!(copied.due(&found("a"), holds(4, true)), Due::Unchanged, "the target's TTL has removed a row");
        assert_eq!(copied.due(&found("a"), holds(6, true)), Due::Again(Again::Lost(6)));
        for (least, most, why) in [(0, 5, Again::Replica), (3, 9, Again::Replica), (6, 9, Again::Lost(6))] {
            let apart = OnTarget { least, most, may_shrink: false };
            assert_eq!(copied.due(&found("a"), apart), Due::Again(why));
        }
        let unmarked = Found { mark: None, ..found("a") };
        assert_eq!(copied.due(&unmarked, holds(5, false)), Due::Again(Again::Unknown));
    }
}
