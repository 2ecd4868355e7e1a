//! The sums over partitions: how many there are, how many rows and bytes they have.

use std::collections::BTreeMap;

use serde::Serialize;

use super::partition::{PartitionState, PartitionStatus};

/// The amounts of a table job or of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Amounts {
    /// The number of partitions in each state.
    pub partitions: BTreeMap<PartitionState, usize>,
    /// Rows: of a published partition those selected, of another one those counted when it was planned.
    pub rows: u64,
    /// Rows that are staged or published.
    pub rows_copied: u64,
    /// Rows that were counted in the target table.
    pub rows_published: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
    /// Bytes that are staged or published.
    pub bytes_copied: u64,
    /// Partitions whose contents were compared by checksum, and not only by count.
    pub partitions_compared: usize,
    /// Attempts after the first, at pieces and at publishing.
    pub retries: u32,
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

    /// Adds a partition without its retries, which belong to its whole batch.
    pub(super) fn add_partition(&mut self, partition: &PartitionStatus) {
        *self.partitions.entry(partition.state).or_default() += 1;
        self.rows += partition.rows;
        self.rows_copied += partition.rows_copied;
        self.rows_published += partition.rows_published.unwrap_or(0);
        self.bytes += partition.bytes;
        self.bytes_copied += (partition.bytes as f64 * copied_share(partition)) as u64;
        self.partitions_compared += usize::from(partition.compared);
    }
}

/// Returns the share of a partition's rows that are copied, from 0 to 1. It is at most 1 also for a partition that has grown since
/// it was planned.
fn copied_share(partition: &PartitionStatus) -> f64 {
    match partition.rows {
        _ if partition.state == PartitionState::Pending => 0.0,
        0 => 1.0,
        rows => (partition.rows_copied as f64 / rows as f64).min(1.0),
    }
}
