//! From everything recorded to the next thing to do.

use std::collections::HashSet;

use super::names::{BatchRef, PieceRef};
use super::record::{BatchRecord, BatchState, PieceRecord, PieceState};

/// The records of one table job.
#[derive(Debug, Clone, Default)]
pub struct TableBoard {
    /// By index of the batch.
    pub batches: Vec<BatchRecord>,
    /// The pieces of each batch, as a range of indices.
    pub pieces_of: Vec<std::ops::Range<usize>>,
    /// The batch of each piece.
    pub batch_of: Vec<usize>,
    /// By index of the piece.
    pub pieces: Vec<PieceRecord>,
    /// The order in which this worker likes to take pieces: near ones first.
    pub preference: Vec<usize>,
}

/// Something that a worker can claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Copy a piece.
    Copy(PieceRef),
    /// Publish a batch.
    Publish(BatchRef),
}

/// What a worker should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Claim this.
    Claim(Job),
    /// Others are at work on what is left.
    Wait,
    /// Nothing is left, and nothing failed.
    Finished,
    /// Nothing is left but what failed.
    Stuck,
}

/// Chooses for one worker. `busy` are the jobs that are claimed, by anybody.
///
/// Publishing comes first: it frees the disks of the targets.
pub fn next(tables: &[TableBoard], busy: &HashSet<Job>) -> Next {
    let mut waiting = false;
    let mut failed = false;
    for (table, board) in tables.iter().enumerate() {
        for (batch, record) in board.batches.iter().enumerate() {
            let job = Job::Publish(BatchRef { table, batch });
            match &record.state {
                BatchState::Done(_) => {}
                BatchState::Failed { .. } => failed = true,
                _ if !board.is_copied(batch) => {}
                _ if busy.contains(&job) => waiting = true,
                _ => return Next::Claim(job),
            }
        }
    }
    for (table, board) in tables.iter().enumerate() {
        for &piece in &board.preference {
            let job = Job::Copy(PieceRef { table, piece });
            match &board.pieces[piece].state {
                // Somebody knows of newer target nodes than we do.
                _ if board.pieces[piece].generation > board.generation_of(piece) => waiting = true,
                _ if board.is_void(piece) && busy.contains(&job) => waiting = true,
                _ if board.is_void(piece) => return Next::Claim(job),
                PieceState::Copied(_) => {}
                PieceState::Failed { .. } => failed = true,
                _ if busy.contains(&job) => waiting = true,
                _ => return Next::Claim(job),
            }
        }
    }
    match (waiting, failed) {
        (true, _) => Next::Wait,
        (false, true) => Next::Stuck,
        (false, false) => Next::Finished,
    }
}

impl TableBoard {
    /// Whether every piece of a batch waits in staging tables.
    pub fn is_copied(&self, batch: usize) -> bool {
        let generation = self.batches[batch].generation;
        let copied = |piece: &PieceRecord| piece.generation == generation && piece.copied().is_some();
        self.pieces[self.pieces_of[batch].clone()].iter().all(copied)
    }

    /// The generation of target nodes that a piece's rows are to be in.
    pub fn generation_of(&self, piece: usize) -> u32 {
        self.batches[self.batch_of[piece]].generation
    }

    /// Whether what was done for a piece was for target nodes that are lost.
    fn is_void(&self, piece: usize) -> bool {
        let record = &self.pieces[piece];
        record.generation < self.generation_of(piece) && record.attempt > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Copied, Published};
    use super::*;

    fn board(pieces: Vec<PieceState>, state: BatchState) -> TableBoard {
        let pieces: Vec<PieceRecord> =
            pieces.into_iter().map(|state| PieceRecord { state, ..Default::default() }).collect();
        let mut batch = BatchRecord::new(vec![]);
        batch.state = state;
        TableBoard {
            batches: vec![batch],
            pieces_of: std::iter::once(0..pieces.len()).collect(),
            batch_of: vec![0; pieces.len()],
            preference: (0..pieces.len()).rev().collect(),
            pieces,
        }
    }

    fn copied() -> PieceState {
        PieceState::Copied(Copied::default())
    }

    fn publish() -> Job {
        Job::Publish(BatchRef { table: 0, batch: 0 })
    }

    #[test]
    fn a_batch_is_published_when_every_piece_of_it_is_copied_and_not_before() {
        let half = board(vec![copied(), PieceState::Pending], BatchState::Copying);
        assert_eq!(next(&[half], &HashSet::new()), Next::Claim(Job::Copy(PieceRef { table: 0, piece: 1 })));
        let whole = board(vec![copied(), copied()], BatchState::Copying);
        assert_eq!(next(std::slice::from_ref(&whole), &HashSet::new()), Next::Claim(publish()));
        assert_eq!(next(&[whole], &HashSet::from([publish()])), Next::Wait);
    }

    #[test]
    fn what_a_dead_worker_left_is_taken_over() {
        let running = PieceState::Running { worker: "gone".into() };
        let job = Job::Copy(PieceRef { table: 0, piece: 0 });
        let left = board(vec![running], BatchState::Copying);
        assert_eq!(next(std::slice::from_ref(&left), &HashSet::from([job])), Next::Wait);
        assert_eq!(next(&[left], &HashSet::new()), Next::Claim(job));
    }

    #[test]
    fn what_was_copied_for_lost_nodes_is_copied_again() {
        let mut moved = board(vec![copied(), copied()], BatchState::Copying);
        moved.batches[0].generation = 1;
        moved.pieces[0].attempt = 1;
        moved.pieces[1].attempt = 1;
        assert_eq!(
            next(std::slice::from_ref(&moved), &HashSet::new()),
            Next::Claim(Job::Copy(PieceRef { table: 0, piece: 1 }))
        );
        moved.pieces.iter_mut().for_each(|piece| piece.generation = 1);
        assert_eq!(next(std::slice::from_ref(&moved), &HashSet::new()), Next::Claim(publish()));
        moved.batches[0].generation = 0;
        assert_eq!(next(&[moved], &HashSet::new()), Next::Wait, "our knowledge of the batch is old");
    }

    #[test]
    fn a_failed_piece_keeps_its_batch_from_being_published_and_the_task_from_being_finished() {
        let failed = PieceState::Failed { error: "e".into(), transient: true };
        assert_eq!(next(&[board(vec![failed, copied()], BatchState::Copying)], &HashSet::new()), Next::Stuck);
        let done = board(vec![copied()], BatchState::Done(Published::default()));
        assert_eq!(next(&[done], &HashSet::new()), Next::Finished);
    }
}
