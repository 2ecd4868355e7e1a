//! The sums over partitions: how many there are, how many rows and bytes they have.

use std::collections::BTreeMap;

use serde::Serialize;

use super::batch::{BatchModel, PartitionState};

/// The amounts of a table job or of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Amounts {
    /// The number of partitions in each state.
    pub(crate) partitions: BTreeMap<PartitionState, usize>,
    /// Rows: of a published partition those selected, of another one those counted when it was planned.
    pub(crate) rows: u64,
    /// Rows that are staged or published.
    pub(crate) rows_copied: u64,
    /// Rows that were counted in the target table.
    pub(crate) rows_published: u64,
    /// Uncompressed bytes.
    pub(crate) bytes: u64,
    /// Bytes that are staged or published.
    pub(crate) bytes_copied: u64,
    /// Partitions whose contents were compared by checksum, and not only by count.
    pub(crate) partitions_compared: usize,
    /// Attempts after the first, at pieces and at publishing.
    pub(crate) retries: u32,
}

impl Amounts {
    /// Adds the amounts of a table job.
    pub(super) fn add(&mut self, other: &Self) {
        for (state, count) in &other.partitions {
            *self.partitions.entry(*state).or_default() += count;
        }
        self.rows += other.rows;
        self.rows_copied += other.rows_copied;
        self.rows_published += other.rows_published;
        self.bytes += other.bytes;
        self.bytes_copied += other.bytes_copied;
        self.partitions_compared += other.partitions_compared;
        self.retries += other.retries;
    }

    /// Adds the partitions and the retries of a batch.
    pub(super) fn add_batch(&mut self, batch: &BatchModel<'_>) {
        for partition in &batch.partitions {
            *self.partitions.entry(batch.state).or_default() += 1;
            self.rows += partition.rows;
            self.rows_copied += partition.rows_copied;
            self.rows_published += partition.rows_published.unwrap_or(0);
            self.bytes += partition.bytes;
            self.bytes_copied += partition.bytes_copied;
            self.partitions_compared += usize::from(partition.compared);
        }
        self.retries += batch.retries;
    }

    /// Returns the number of partitions in a state.
    pub(crate) fn count(&self, state: PartitionState) -> usize {
        self.partitions.get(&state).copied().unwrap_or(0)
    }

    /// Returns the number of partitions in all states.
    pub(crate) fn all_partitions(&self) -> usize {
        self.partitions.values().sum()
    }
}
