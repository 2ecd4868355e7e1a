//! The records of a table job, and the next step of a worker.

use super::claims::Job;
use super::names::GroupRef;
use super::record::{BatchRecord, PieceRecord};
use crate::model::{AttemptNo, Generation};

/// The records of one table job.
#[derive(Debug, Clone, Default)]
pub struct TableRecords {
    /// The records of the batches, by index.
    pub batches: Vec<BatchRecord>,
    /// The pieces of each batch, as a range of indices.
    pub pieces_of: Vec<std::ops::Range<usize>>,
    /// The batch of each piece.
    pub batch_of: Vec<usize>,
    /// The records of the pieces, by index.
    pub pieces: Vec<PieceRecord>,
}

/// The next step of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Claim this job.
    Claim(Job),
    /// Read the records of these groups and of their batches, and the claims; then ask again.
    ReadGroups(Vec<GroupRef>),
    /// Wait: other workers are at work on the rest.
    Wait,
    /// All jobs are done, and none failed.
    Finished,
    /// Only failed jobs are left.
    Stuck,
}

impl TableRecords {
    /// Returns the generation of target nodes that a piece's rows must be in.
    pub(crate) fn generation_of(&self, piece: usize) -> Generation {
        self.batches[self.batch_of[piece]].generation
    }

    /// Returns whether the recorded work on a piece was for target nodes that are lost.
    pub(super) fn is_void(&self, piece: usize) -> bool {
        let record = &self.pieces[piece];
        record.generation < self.generation_of(piece) && record.attempt > AttemptNo(0)
    }
}
