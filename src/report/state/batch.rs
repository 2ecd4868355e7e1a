//! The state of a batch and of its partitions.

use serde::Serialize;

use super::holders::Holders;
use super::piece::{LastError, PieceCopy, PieceModel, PieceStage};
use super::spent::Spent;
use crate::plan::{PartitionPlan, TablePlan};
use crate::protocol::{BatchRecord, BatchRef, BatchState, Job, PieceRef, Published, TableRecords};
use crate::report::moment::Moment;

/// A batch. Its partitions have the same state, times and errors.
pub(crate) struct BatchModel<'a> {
    /// The number of the batch in the table job.
    pub(crate) index: usize,
    /// The state of its partitions.
    pub(crate) state: PartitionState,
    /// The number of attempts at publishing so far.
    pub(crate) publications: u32,
    /// The worker that publishes it now.
    pub(crate) publisher: Option<&'a str>,
    /// Attempts after the first, at pieces and at publishing.
    pub(crate) retries: u32,
    /// Milliseconds that copying and publishing took, of all workers together.
    pub(crate) millis: u64,
    /// The time spent on each activity.
    pub(crate) spent: Spent,
    /// When the first copied piece began.
    pub(crate) began_at: Option<Moment>,
    /// When the last piece was copied, once all are.
    pub(crate) copied_at: Option<Moment>,
    /// When the batch was published.
    pub(crate) published_at: Option<Moment>,
    /// Why it failed: the error of publishing, or else that of its first piece that failed.
    pub(crate) failure: Option<&'a str>,
    /// The error of the last attempt at publishing, if the batch is not done.
    pub(crate) publishing_error: Option<LastError<'a>>,
    /// Remarks of publishing.
    pub(crate) remarks: &'a [String],
    /// The partitions.
    pub(crate) partitions: Vec<PartitionModel<'a>>,
    /// The pieces.
    pub(crate) pieces: Vec<PieceModel<'a>>,
}

/// A partition of the target, without what it shares with its batch.
pub(crate) struct PartitionModel<'a> {
    /// The name of the partition as a person writes it.
    pub(crate) name: &'a str,
    /// Rows: those selected when it is published, before that those counted when it was planned.
    pub(crate) rows: u64,
    /// Uncompressed bytes, estimated.
    pub(crate) bytes: u64,
    /// Rows staged or published so far.
    pub(crate) rows_copied: u64,
    /// Bytes of these rows, estimated.
    pub(crate) bytes_copied: u64,
    /// Rows counted in the target table, once it is published.
    pub(crate) rows_published: Option<u64>,
    /// Whether its contents were compared by checksum.
    pub(crate) compared: bool,
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

impl<'a> BatchModel<'a> {
    /// Derives the state of a batch from its plan, its record and the records of its pieces.
    pub(crate) fn of(batch: BatchRef, plan: &'a TablePlan, records: &'a TableRecords, holders: &Holders<'a>) -> Self {
        let BatchRef { table, index } = batch;
        let record = &records.batches[index];
        let pieces = records.pieces_of[index].clone().map(|index| PieceRef { table, index });
        let pieces: Vec<PieceModel<'a>> = pieces.map(|piece| PieceModel::of(piece, plan, records, holders)).collect();
        let published = match &record.state {
            BatchState::Done(published) => Some(published),
            _ => None,
        };
        let publishing_error = publishing_error(record);
        let failure = final_errors(publishing_error, &pieces).next();
        let state = state(published.is_some(), failure.is_some(), &pieces);
        let times = Times::of(&pieces, published);
        let partition = |(at, partition)| PartitionModel::of(at, partition, state, published, &pieces);
        let partitions = plan.partitions_of(index).iter().enumerate().map(partition).collect();
        Self {
            index,
            state,
            publications: record.publication.0,
            publisher: holders.holder(Job::Publish(batch)),
            retries: retries(record, &pieces),
            millis: times.millis,
            spent: times.spent,
            began_at: times.began_at,
            copied_at: times.copied_at,
            published_at: times.published_at,
            failure,
            publishing_error,
            remarks: published.map_or(&[], |published| &published.remarks),
            partitions,
            pieces,
        }
    }
}

impl<'a> PartitionModel<'a> {
    /// Derives the state of the partition with this index in its batch.
    fn of(
        at: usize,
        partition: &'a PartitionPlan,
        state: PartitionState,
        published: Option<&Published>,
        pieces: &[PieceModel<'_>],
    ) -> Self {
        let result = published.and_then(|published| published.partitions.get(at));
        let rows = result.map_or(partition.rows, |result| result.selected);
        let staged = || pieces.iter().filter_map(PieceModel::valid_copy).filter_map(|copy| copy.rows.get(at)).sum();
        let rows_copied = if result.is_some() { rows } else { staged() };
        // A partition that has grown since it was planned is copied once, and not more.
        let copied_share = match rows {
            _ if state == PartitionState::Pending => 0.0,
            0 => 1.0,
            rows => (rows_copied as f64 / rows as f64).min(1.0),
        };
        Self {
            name: &partition.name,
            rows,
            bytes: partition.bytes,
            rows_copied,
            bytes_copied: (partition.bytes as f64 * copied_share) as u64,
            rows_published: result.map(|result| result.target),
            compared: result.is_some_and(|result| result.checksum.is_some()),
        }
    }
}

/// Returns the error of the last attempt at publishing, if the batch is not done.
fn publishing_error(record: &BatchRecord) -> Option<LastError<'_>> {
    match &record.state {
        BatchState::Failed { error, .. } => Some(LastError { text: error, tried_again: false }),
        BatchState::Done(_) => None,
        BatchState::Copying | BatchState::Publishing { .. } => LastError::of_earlier(record.last_error.as_deref()),
    }
}

/// Returns the errors after which this run tries nothing again: that of publishing, then those of pieces.
fn final_errors<'a>(publishing: Option<LastError<'a>>, pieces: &[PieceModel<'a>]) -> impl Iterator<Item = &'a str> {
    let errors = publishing.into_iter().chain(pieces.iter().filter_map(|piece| piece.error));
    errors.filter(|error| !error.tried_again).map(|error| error.text)
}

/// Returns the state that all partitions of the batch have.
fn state(published: bool, failed: bool, pieces: &[PieceModel<'_>]) -> PartitionState {
    match () {
        () if published => PartitionState::Done,
        () if failed => PartitionState::Failed,
        () if are_copied(pieces) => PartitionState::Publishing,
        () if pieces.iter().any(|piece| piece.attempts > 0) => PartitionState::Copying,
        () => PartitionState::Pending,
    }
}

/// Returns whether all pieces are copied to the target nodes that the batch has now.
fn are_copied(pieces: &[PieceModel<'_>]) -> bool {
    pieces.iter().all(|piece| piece.stage == PieceStage::Copied)
}

/// Returns the attempts after the first, at pieces and at publishing. The earlier attempt failed, or its worker did.
fn retries(record: &BatchRecord, pieces: &[PieceModel<'_>]) -> u32 {
    let attempts = pieces.iter().map(|piece| piece.attempts).chain([record.publication.0]);
    attempts.map(|attempts| attempts.saturating_sub(1)).sum()
}

/// The times of a batch.
struct Times {
    millis: u64,
    spent: Spent,
    began_at: Option<Moment>,
    copied_at: Option<Moment>,
    published_at: Option<Moment>,
}

impl Times {
    /// Derives the times from all copies, also those to target nodes that are lost, and from the publication.
    fn of(pieces: &[PieceModel<'_>], published: Option<&Published>) -> Self {
        let copies = || pieces.iter().filter_map(|piece| piece.copy.as_ref());
        let mut spent = Spent::default();
        copies().for_each(|copy| spent.add(copy.spent));
        if let Some(published) = published {
            spent.add(Spent::on_publication(published));
        }
        let ended = |copy: &PieceCopy<'_>| copy.began.map(|began| Moment(began.0 + copy.millis));
        let timed = published.filter(|published| published.began > 0);
        Self {
            millis: copies().map(|copy| copy.millis).sum::<u64>() + published.map_or(0, |published| published.millis),
            spent,
            began_at: copies().filter_map(|copy| copy.began).min(),
            copied_at: copies().filter_map(ended).max().filter(|_| are_copied(pieces) || published.is_some()),
            published_at: timed.map(|published| Moment(published.began + published.millis)),
        }
    }
}
