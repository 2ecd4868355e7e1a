//! The state of a piece.

use serde::Serialize;

use super::holders::Holders;
use super::spent::Spent;
use crate::plan::{PiecePlan, TablePlan};
use crate::protocol::{Copied, Job, PieceRef, PieceState, TableRecords};
use crate::report::moment::Moment;

/// A piece.
pub(crate) struct PieceModel<'a> {
    /// The number of the piece in the table job.
    pub(crate) index: usize,
    /// The plan of the piece.
    pub(crate) plan: &'a PiecePlan,
    /// The uncompressed bytes, estimated.
    pub(crate) bytes: u64,
    /// The state of the piece, for the target nodes that its batch has now.
    pub(crate) stage: PieceStage,
    /// The number of attempts so far.
    pub(crate) attempts: u32,
    /// The worker that copies the piece.
    pub(crate) worker: Option<&'a str>,
    /// The successful copy, also one to target nodes that are lost.
    pub(crate) copy: Option<PieceCopy<'a>>,
    /// The error of the last attempt, if the piece is not copied.
    pub(crate) error: Option<LastError<'a>>,
    /// The error of the last failed attempt, also of a piece that was copied after it.
    pub(crate) last_error: Option<&'a str>,
}

/// A successful copy of a piece.
pub(crate) struct PieceCopy<'a> {
    /// When it began. `None` if no times were recorded.
    pub(crate) began: Option<Moment>,
    /// The milliseconds that it took.
    pub(crate) millis: u64,
    /// The rows of each partition of the batch.
    pub(crate) rows: &'a [u64],
    /// The time spent on each activity.
    pub(crate) spent: Spent,
}

/// The error of the last attempt at something that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastError<'a> {
    /// The error.
    pub(crate) text: &'a str,
    /// Whether a worker tries it again.
    pub(crate) tried_again: bool,
}

/// The state of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PieceStage {
    /// No worker has claimed it.
    Pending,
    /// A worker copies it.
    Copying,
    /// The rows of the piece were counted in staging tables.
    Copied,
    /// It failed, and this run does not try it again.
    Failed,
}

impl<'a> PieceModel<'a> {
    /// Derives the state of a piece from its plan and its record.
    pub(super) fn of(piece: PieceRef, plan: &'a TablePlan, records: &'a TableRecords, holders: &Holders<'a>) -> Self {
        let index = piece.index;
        let record = &records.pieces[index];
        let worker = holders.holder(Job::Copy(piece));
        // Work for nodes that are lost does not count.
        let valid = record.generation == records.generation_of(index);
        let stage = match &record.state {
            PieceState::Copied(_) if valid => PieceStage::Copied,
            PieceState::Failed { .. } if valid => PieceStage::Failed,
            _ if worker.is_some() => PieceStage::Copying,
            _ => PieceStage::Pending,
        };
        let earlier = record.last_error.as_deref();
        let error = match &record.state {
            // An attempt for lost nodes is not final: the piece is copied again, to other nodes.
            PieceState::Failed { error, .. } => Some(LastError { text: error, tried_again: !valid }),
            PieceState::Copied(_) => None,
            PieceState::Pending | PieceState::Running { .. } => LastError::of_earlier(earlier),
        };
        Self {
            index,
            plan: &plan.pieces[index],
            bytes: plan.bytes_of(index),
            stage,
            attempts: record.attempt.0,
            worker,
            copy: record.copied().map(PieceCopy::of),
            error,
            last_error: error.map(|error| error.text).or(earlier),
        }
    }

    /// Returns the rows that wait in staging tables. `None` if the piece is not copied.
    pub(crate) fn rows_copied(&self) -> Option<u64> {
        Some(self.valid_copy()?.rows.iter().sum())
    }

    /// Returns the copy, if it is one to the target nodes that the batch has now.
    pub(crate) fn valid_copy(&self) -> Option<&PieceCopy<'a>> {
        self.copy.as_ref().filter(|_| self.stage == PieceStage::Copied)
    }
}

impl<'a> PieceCopy<'a> {
    fn of(copied: &'a Copied) -> Self {
        Self {
            began: Some(Moment(copied.began)).filter(|began| began.0 > 0),
            millis: copied.millis,
            rows: &copied.selected,
            spent: Spent::on_copy(copied),
        }
    }
}

impl<'a> LastError<'a> {
    /// Returns the error of an earlier attempt at something that a worker tries again.
    pub(super) fn of_earlier(text: Option<&'a str>) -> Option<Self> {
        text.map(|text| Self { text, tried_again: true })
    }
}
