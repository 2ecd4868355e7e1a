//! The pieces of one partition, which the status of a whole task leaves out.

use serde::Serialize;

use super::super::state::{BatchModel, Holders, PieceModel, PieceStage};
use crate::ledger::overview::TaskOverview;
use crate::protocol::BatchRef;

/// The batch of a partition, with its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchStatus {
    /// The table job.
    pub(crate) table: String,
    /// The requested partition.
    pub(crate) partition: String,
    /// The number of the batch.
    pub(crate) batch: usize,
    /// All partitions of the batch, which are published together.
    pub(crate) partitions: Vec<String>,
    /// The number of attempts at publishing so far.
    pub(crate) publications: u32,
    /// The worker that publishes it now.
    pub(crate) publisher: Option<String>,
    /// The error of the last failed attempt at publishing.
    pub(crate) error: Option<String>,
    /// The pieces.
    pub(crate) pieces: Vec<PieceStatus>,
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PieceStatus {
    /// The number of the piece in the table job.
    pub(crate) piece: usize,
    /// The source shards that the piece reads, counted from 1.
    pub(crate) shards: Vec<usize>,
    /// The state of the piece.
    pub(crate) state: PieceStage,
    /// The rows at planning.
    pub(crate) rows: u64,
    /// The uncompressed bytes, estimated.
    pub(crate) bytes: u64,
    /// The rows that were counted in staging tables.
    pub(crate) rows_copied: Option<u64>,
    /// The milliseconds of the attempt that copied the piece.
    pub(crate) millis: Option<u64>,
    /// The number of attempts so far.
    pub(crate) attempts: u32,
    /// The worker that copies the piece.
    pub(crate) worker: Option<String>,
    /// The error of the last failed attempt, until the piece is copied.
    pub(crate) error: Option<String>,
}

impl BatchStatus {
    /// Returns the batch of a partition. `table` and `partition` are indexes of the table job and of its partition.
    /// Returns `None` if there is no such partition.
    pub fn of(overview: &TaskOverview, table: usize, partition: usize) -> Option<Self> {
        let (plan, records) = (overview.plans.get(table)?, overview.by_table.get(table)?);
        let mut partitions_so_far = 0;
        let index = (0..records.batches.len()).find(|batch| {
            partitions_so_far += plan.partitions_of(*batch).len();
            partition < partitions_so_far
        })?;
        // The state of one batch is enough: a task may have a hundred thousand pieces.
        let batch = BatchModel::of(BatchRef { table, index }, plan, records, &Holders::of(&overview.claims));
        let position = partition + batch.partitions.len() - partitions_so_far;
        Some(Self {
            table: plan.name.clone(),
            partition: batch.partitions.get(position)?.name.to_owned(),
            batch: index,
            partitions: batch.partitions.iter().map(|partition| partition.name.to_owned()).collect(),
            publications: batch.publications,
            publisher: batch.publisher.map(str::to_owned),
            error: batch.publishing_error.map(|error| error.text.to_owned()),
            pieces: batch.pieces.iter().map(PieceStatus::of).collect(),
        })
    }
}

impl PieceStatus {
    fn of(piece: &PieceModel<'_>) -> Self {
        Self {
            piece: piece.index,
            shards: piece.plan.sources.iter().map(|share| share.shard + 1).collect(),
            state: piece.stage,
            rows: piece.plan.rows(),
            bytes: piece.bytes,
            rows_copied: piece.rows_copied(),
            millis: piece.valid_copy().map(|copy| copy.millis),
            attempts: piece.attempts,
            worker: piece.worker.map(str::to_owned),
            error: piece.last_error.map(str::to_owned),
        }
    }
}
