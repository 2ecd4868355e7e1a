//! The status of a partition, from the records of its batch.

use serde::Serialize;

use super::super::moment::Moment;
use crate::model::AttemptNo;
use crate::plan::{PartitionPlan, TablePlan};
use crate::protocol::{BatchRecord, BatchState, Copied, PieceRecord, PieceState, Published, TableRecords};

/// A partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// The name of the partition as a person writes it.
    pub name: String,
    /// The state of the partition.
    pub state: PartitionState,
    /// Rows: those selected when it is published, before that those counted when it was planned.
    pub rows: u64,
    /// Uncompressed bytes, estimated.
    pub bytes: u64,
    /// Rows staged so far.
    pub rows_copied: u64,
    /// Rows counted in the target table, once it is published.
    pub rows_published: Option<u64>,
    /// Whether its contents were compared by checksum.
    pub compared: bool,
    /// Attempts after the first, at pieces and at publishing, of its whole batch.
    pub retries: u32,
    /// Milliseconds that its batch has taken so far, of all workers together.
    pub millis: u64,
    /// The number of partitions in its batch.
    pub together: usize,
    /// When the first copied piece of its batch began.
    pub began_at: Option<Moment>,
    /// When the last piece of its batch was copied, once all are.
    pub copied_at: Option<Moment>,
    /// When its batch was published.
    pub published_at: Option<Moment>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The state of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// It is in the target table, and its rows were counted there.
    Done,
    /// All its pieces are copied. A worker publishes it now or next.
    Publishing,
    /// Some of its pieces are copied or being copied.
    Copying,
    /// No attempt at it has begun.
    Pending,
    /// It failed, and this run does not try it again.
    Failed,
}

/// The records of a batch and of its pieces.
pub(super) struct BatchRecords<'a> {
    plan: &'a TablePlan,
    batch: usize,
    record: &'a BatchRecord,
    pieces: &'a [PieceRecord],
}

impl<'a> BatchRecords<'a> {
    /// Returns the records of the batch with this index.
    pub fn new(plan: &'a TablePlan, records: &'a TableRecords, batch: usize) -> Self {
        let pieces = &records.pieces[records.pieces_of[batch].clone()];
        Self { plan, batch, record: &records.batches[batch], pieces }
    }

    /// Returns the result of publishing, once the batch is done.
    pub fn published(&self) -> Option<&'a Published> {
        match &self.record.state {
            BatchState::Done(published) => Some(published),
            _ => None,
        }
    }

    /// Returns the attempts after the first, at pieces and at publishing.
    pub fn retries(&self) -> u32 {
        let attempts = self.pieces.iter().map(|piece| piece.attempt.0).chain([self.record.publication.0]);
        attempts.map(|attempts| attempts.saturating_sub(1)).sum()
    }

    /// Returns the status of each partition of the batch.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let partitions = self.plan.partitions_of(self.batch);
        // All partitions of a batch have the same state, times and error.
        let shared = PartitionStatus {
            name: String::new(),
            state: self.state(),
            rows: 0,
            bytes: 0,
            rows_copied: 0,
            rows_published: None,
            compared: false,
            retries: self.retries(),
            millis: self.millis(),
            together: partitions.len(),
            began_at: self.began_at(),
            copied_at: self.copied_at(),
            published_at: self.published_at(),
            error: self.error().cloned(),
        };
        let status = |(at, partition): (usize, &PartitionPlan)| {
            let result = self.published().and_then(|published| published.partitions.get(at));
            let rows = result.map_or(partition.rows, |result| result.selected);
            PartitionStatus {
                name: partition.name.clone(),
                rows,
                bytes: partition.bytes,
                rows_copied: if result.is_some() { rows } else { self.rows_staged(at) },
                rows_published: result.map(|result| result.target),
                compared: result.is_some_and(|result| result.checksum.is_some()),
                ..shared.clone()
            }
        };
        partitions.iter().enumerate().map(status).collect()
    }

    /// Returns the state that all partitions of the batch have.
    fn state(&self) -> PartitionState {
        let has_failed = matches!(self.record.state, BatchState::Failed { .. })
            || self.pieces.iter().any(|piece| matches!(piece.state, PieceState::Failed { .. }));
        match () {
            () if self.published().is_some() => PartitionState::Done,
            () if has_failed => PartitionState::Failed,
            () if self.is_copied() => PartitionState::Publishing,
            () if self.pieces.iter().any(|piece| piece.attempt > AttemptNo(0)) => PartitionState::Copying,
            () => PartitionState::Pending,
        }
    }

    /// Returns whether a piece was last copied to the target nodes that its batch has now.
    fn is_valid(&self, piece: &PieceRecord) -> bool {
        piece.generation == self.record.generation
    }

    /// Returns whether all pieces are copied to the target nodes that the batch has now.
    fn is_copied(&self) -> bool {
        self.pieces.iter().all(|piece| self.is_valid(piece) && piece.copied().is_some())
    }

    /// Returns the results of the pieces that are copied, to whichever target nodes.
    fn copies(&self) -> impl Iterator<Item = &'a Copied> {
        self.pieces.iter().filter_map(PieceRecord::copied)
    }

    /// Returns the staged rows of the partition with this index in the batch.
    fn rows_staged(&self, at: usize) -> u64 {
        let valid = self.pieces.iter().filter(|piece| self.is_valid(piece));
        valid.filter_map(PieceRecord::copied).filter_map(|copied| copied.selected.get(at)).sum()
    }

    /// Returns the milliseconds that copying and publishing took, of all workers together.
    fn millis(&self) -> u64 {
        let copying: u64 = self.copies().map(|copied| copied.millis).sum();
        copying + self.published().map_or(0, |published| published.millis)
    }

    /// Returns when the first copied piece began.
    fn began_at(&self) -> Option<Moment> {
        self.copies().filter(|copied| copied.began > 0).map(|copied| Moment(copied.began)).min()
    }

    /// Returns when the last piece was copied, once all are.
    fn copied_at(&self) -> Option<Moment> {
        let timed = self.copies().filter(|copied| copied.began > 0);
        let last = timed.map(|copied| Moment(copied.began + copied.millis)).max();
        last.filter(|_| self.is_copied() || self.published().is_some())
    }

    /// Returns when the batch was published.
    fn published_at(&self) -> Option<Moment> {
        let published = self.published().filter(|published| published.began > 0)?;
        Some(Moment(published.began + published.millis))
    }

    /// Returns the error of the batch, or else that of its first piece that failed.
    fn error(&self) -> Option<&'a String> {
        match &self.record.state {
            BatchState::Failed { error, .. } => Some(error),
            _ => self.pieces.iter().find_map(|piece| match &piece.state {
                PieceState::Failed { error, .. } => Some(error),
                _ => None,
            }),
        }
    }
}
