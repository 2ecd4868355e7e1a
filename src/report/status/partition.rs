//! The status of a partition.

use serde::Serialize;

use super::super::moment::Moment;
use super::super::state::{BatchModel, PartitionModel, PartitionState};

/// A partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// The name of the partition as a person writes it.
    pub name: String,
    /// The state of the partition.
    pub(crate) state: PartitionState,
    /// Rows: those selected when it is published, before that those counted when it was planned.
    pub rows: u64,
    /// Uncompressed bytes, estimated.
    pub(crate) bytes: u64,
    /// Rows staged so far.
    pub(crate) rows_copied: u64,
    /// Rows counted in the target table, once it is published.
    pub rows_published: Option<u64>,
    /// Whether its contents were compared by checksum.
    pub compared: bool,
    /// Attempts after the first, at pieces and at publishing, of its whole batch.
    pub(crate) retries: u32,
    /// Milliseconds that its batch has taken so far, of all workers together.
    pub(crate) millis: u64,
    /// The number of partitions in its batch.
    pub(crate) together: usize,
    /// When the first copied piece of its batch began.
    pub(crate) began_at: Option<Moment>,
    /// When the last piece of its batch was copied, once all are.
    pub(crate) copied_at: Option<Moment>,
    /// When its batch was published.
    pub(crate) published_at: Option<Moment>,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

impl PartitionStatus {
    /// Returns the status of a partition of this batch.
    pub(super) fn of(batch: &BatchModel<'_>, partition: &PartitionModel<'_>) -> Self {
        Self {
            name: partition.name.to_owned(),
            state: batch.state,
            rows: partition.rows,
            bytes: partition.bytes,
            rows_copied: partition.rows_copied,
            rows_published: partition.rows_published,
            compared: partition.compared,
            retries: batch.retries,
            millis: batch.millis,
            together: batch.partitions.len(),
            began_at: batch.began_at,
            copied_at: batch.copied_at,
            published_at: batch.published_at,
            error: batch.failure.map(str::to_owned),
        }
    }
}
