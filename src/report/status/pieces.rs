//! The pieces of one partition: what the form of a whole task leaves out.

use serde::Serialize;

use crate::ledger::overview::TaskOverview;
use crate::protocol::{BatchState, Job, PieceRef, PieceState, job_of_claim};

/// The batch of a partition, with its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchStatus {
    /// The table job.
    pub table: String,
    /// The partition that was asked for.
    pub partition: String,
    /// The number of its batch.
    pub batch: usize,
    /// All partitions of the batch, which are published together.
    pub partitions: Vec<String>,
    /// Attempts at publishing so far.
    pub publications: u32,
    /// Who publishes it now.
    pub publisher: Option<String>,
    /// Why the last attempt at publishing that failed did.
    pub error: Option<String>,
    /// Its pieces.
    pub pieces: Vec<PieceStatus>,
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PieceStatus {
    /// Its number in the table job.
    pub piece: usize,
    /// The source shards that it reads, counted from 1.
    pub shards: Vec<usize>,
    /// Where it stands.
    pub state: PieceStage,
    /// Rows when it was planned.
    pub rows: u64,
    /// Uncompressed bytes, estimated.
    pub bytes: u64,
    /// Rows that were counted in staging.
    pub rows_copied: Option<u64>,
    /// Milliseconds that the attempt took which copied it.
    pub millis: Option<u64>,
    /// Attempts so far.
    pub attempts: u32,
    /// Who copies it.
    pub worker: Option<String>,
    /// Why the last attempt that failed did, until it is copied.
    pub error: Option<String>,
}

/// Where a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PieceStage {
    /// Nobody has it.
    Pending,
    /// A worker copies it.
    Copying,
    /// Its rows were counted in staging.
    Copied,
    /// It failed, and is not tried again by this run.
    Failed,
}

impl BatchStatus {
    /// Of the partition with this index in the list of the table job with that one. `None`: there is none.
    pub fn of(overview: &TaskOverview, table: usize, partition: usize) -> Option<Self> {
        let (plan, records) = (overview.plans.get(table)?, overview.by_table.get(table)?);
        let mut before = 0;
        let batch = (0..records.batches.len()).find(|batch| {
            before += plan.partitions_of(*batch).len();
            partition < before
        })?;
        let partitions: Vec<String> = plan.partitions_of(batch).iter().map(|one| one.name.clone()).collect();
        let at = partition + partitions.len() - before;
        let record = &records.batches[batch];
        let claimant = |job: Job| {
            let mut claims = overview.claims.iter();
            claims.find(|(claim, _)| job_of_claim(claim) == Some(job)).map(|(_, worker)| worker.clone())
        };
        let pieces = records.pieces_of[batch].clone().map(|piece| {
            let (of, known) = (plan.pieces.get(piece)?, records.pieces.get(piece)?);
            let worker = claimant(Job::Copy(PieceRef { table, piece }));
            // What was copied to nodes that are lost counts for nothing.
            let valid = known.generation == record.generation;
            let copied = known.copied().filter(|_| valid);
            let (state, failed) = match &known.state {
                PieceState::Copied(_) if valid => (PieceStage::Copied, None),
                PieceState::Failed { error, .. } if valid => (PieceStage::Failed, Some(error)),
                _ if worker.is_some() => (PieceStage::Copying, None),
                _ => (PieceStage::Pending, None),
            };
            Some(PieceStatus {
                piece,
                shards: of.sources.iter().map(|share| share.shard + 1).collect(),
                state,
                rows: of.rows(),
                bytes: plan.bytes_of(piece),
                rows_copied: copied.map(|copied| copied.selected.iter().sum()),
                millis: copied.map(|copied| copied.millis),
                attempts: known.attempt,
                worker,
                error: failed.or(known.last_error.as_ref()).cloned(),
            })
        });
        Some(Self {
            table: plan.name.clone(),
            partition: partitions.get(at)?.clone(),
            batch,
            publications: record.publication,
            publisher: claimant(Job::Publish(crate::protocol::BatchRef { table, batch })),
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
