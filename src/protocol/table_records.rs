//! The records of a table job, and what a worker can be told to do.

use super::names::{GroupRef, Job};
use super::record::{BatchRecord, PieceRecord};

/// The records of one table job.
#[derive(Debug, Clone, Default)]
pub struct TableRecords {
    /// By index of the batch.
    pub batches: Vec<BatchRecord>,
    /// The pieces of each batch, as a range of indices.
    pub pieces_of: Vec<std::ops::Range<usize>>,
    /// The batch of each piece.
    pub batch_of: Vec<usize>,
    /// By index of the piece.
    pub pieces: Vec<PieceRecord>,
}

/// What a worker should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Claim this.
    Claim(Job),
    /// See what others have done to these groups, to their batches, and what is claimed; then ask again.
    Look(Vec<GroupRef>),
    /// Others are at work on what is left.
    Wait,
    /// Nothing is left, and nothing failed.
    Finished,
    /// Nothing is left but what failed.
    Stuck,
}

impl TableRecords {
    /// The generation of target nodes that a piece's rows are to be in.
    pub fn generation_of(&self, piece: usize) -> u32 {
        self.batches[self.batch_of[piece]].generation
    }

    /// Whether what was done for a piece was for target nodes that are lost.
    pub(super) fn is_void(&self, piece: usize) -> bool {
        let record = &self.pieces[piece];
        record.generation < self.generation_of(piece) && record.attempt > 0
    }
}
