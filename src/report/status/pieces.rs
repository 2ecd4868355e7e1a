//! The pieces of one partition, which the status of a whole task leaves out.

use serde::Serialize;

use crate::ledger::overview::TaskOverview;
use crate::protocol::{BatchState, Job, PieceRef, PieceState};

/// The batch of a partition, with its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchStatus {
    /// The table job.
    pub table: String,
    /// The requested partition.
    pub partition: String,
    /// The number of the batch.
    pub batch: usize,
    /// All partitions of the batch, which are published together.
    pub partitions: Vec<String>,
    /// The number of attempts at publishing so far.
    pub publications: u32,
    /// The worker that publishes it now.
    pub publisher: Option<String>,
    /// The error of the last failed attempt at publishing.
    pub error: Option<String>,
    /// The pieces.
    pub pieces: Vec<PieceStatus>,
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PieceStatus {
    /// The number of the piece in the table job.
    pub piece: usize,
    /// The source shards that the piece reads, counted from 1.
    pub shards: Vec<usize>,
    /// The state of the piece.
    pub state: PieceStage,
    /// The rows at planning.
    pub rows: u64,
    /// The uncompressed bytes, estimated.
    pub bytes: u64,
    /// The rows that were counted in staging tables.
    pub rows_copied: Option<u64>,
    /// The milliseconds of the attempt that copied the piece.
    pub millis: Option<u64>,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The worker that copies the piece.
    pub worker: Option<String>,
    /// The error of the last failed attempt, until the piece is copied.
    pub error: Option<String>,
}

/// The state of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PieceStage {
    /// No worker has claimed it.
    Pending,
    /// A worker copies it.
    Copying,
    /// Its rows were counted in staging tables.
    Copied,
    /// It failed, and this run does not try it again.
    Failed,
}

impl BatchStatus {
    /// Returns the batch of a partition. `table` and `partition` are indexes of the table job and of its partition.
    /// Returns `None` if there is no such partition.
    pub fn of(overview: &TaskOverview, table: usize, partition: usize) -> Option<Self> {
        let (plan, records) = (overview.plans.get(table)?, overview.by_table.get(table)?);
        let mut partitions_so_far = 0;
        let batch = (0..records.batches.len()).find(|batch| {
            partitions_so_far += plan.partitions_of(*batch).len();
            partition < partitions_so_far
        })?;
        let partitions: Vec<String> = plan.partitions_of(batch).iter().map(|one| one.name.clone()).collect();
        let at = partition + partitions.len() - partitions_so_far;
        let record = &records.batches[batch];
        let claimant = |job: Job| {
            let mut claims = overview.claims.iter();
            claims.find(|(claim, _)| claim.job() == Some(job)).map(|(_, worker)| worker.clone())
        };
        let pieces = records.pieces_of[batch].clone().map(|piece| {
            let (planned, piece_record) = (plan.pieces.get(piece)?, records.pieces.get(piece)?);
            let worker = claimant(Job::Copy(PieceRef { table, index: piece }));
            // A copy to nodes that are lost does not count.
            let valid = piece_record.generation == record.generation;
            let copied = piece_record.copied().filter(|_| valid);
            let (state, failed) = match &piece_record.state {
                PieceState::Copied(_) if valid => (PieceStage::Copied, None),
                PieceState::Failed { error, .. } if valid => (PieceStage::Failed, Some(error)),
                _ if worker.is_some() => (PieceStage::Copying, None),
                _ => (PieceStage::Pending, None),
            };
            Some(PieceStatus {
                piece,
                shards: planned.sources.iter().map(|share| share.shard + 1).collect(),
                state,
                rows: planned.rows(),
                bytes: plan.bytes_of(piece),
                rows_copied: copied.map(|copied| copied.selected.iter().sum()),
                millis: copied.map(|copied| copied.millis),
                attempts: piece_record.attempt.0,
                worker,
                error: failed.or(piece_record.last_error.as_ref()).cloned(),
            })
        });
        Some(Self {
            table: plan.name.clone(),
            partition: partitions.get(at)?.clone(),
            batch,
            publications: record.publication.0,
            publisher: claimant(Job::Publish(crate::protocol::BatchRef { table, index: batch })),
            error: match &record.state {
                BatchState::Failed { error, .. } => Some(error.clone()),
                BatchState::Done(_) => None,
                BatchState::Copying | BatchState::Publishing { .. } => record.last_error.clone(),
            },
            pieces: pieces.collect::<Option<_>>()?,
            partitions,
        })
    }
}
