//! The groups of a table job, and the known state of its pieces and batches.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use super::super::names::BatchRef;
use super::super::record::BatchState;
use super::super::table_records::TableRecords;
use crate::model::Generation;

/// The largest number of pieces in one coordinator node. Each change of one piece writes all of them.
pub(super) const MAX_GROUP_PIECES: usize = 16;
/// The number of groups that a small task is cut into, so that its workers do not disturb each other.
const TARGET_GROUPS: usize = 256;

/// Returns which pieces are recorded together: small consecutive batches share a group, and a batch that is too large
/// gets groups of its own. `pieces_of` holds the pieces of each batch.
pub fn groups(pieces_of: &[Range<usize>]) -> Vec<Range<usize>> {
    let size = (pieces_of.last().map_or(0, |range| range.end) / TARGET_GROUPS).clamp(2, MAX_GROUP_PIECES);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut room = 0;
    for pieces in pieces_of.iter().filter(|pieces| !pieces.is_empty()) {
        match groups.last_mut() {
            Some(last) if pieces.len() <= room => {
                last.end = pieces.end;
                room -= pieces.len();
            }
            _ if pieces.len() <= size => {
                groups.push(pieces.clone());
                room = size - pieces.len();
            }
            _ => {
                groups.extend(pieces.clone().step_by(size).map(|first| first..pieces.end.min(first + size)));
                room = 0;
            }
        }
    }
    groups
}

/// The preference of a worker for a piece: near pieces come first, then large ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PiecePreference {
    /// Whether a source of the piece is on the worker's own host.
    pub(crate) near: bool,
    /// The rows of the piece.
    pub(crate) rows: u64,
}

/// The preferences of a worker for one table job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preferences {
    /// Bytes of each batch.
    pub(crate) bytes: Vec<u64>,
    /// The preference for each piece.
    pub(crate) pieces: Vec<PiecePreference>,
    /// For each batch: the batches of other table jobs that must be published before it. A list that is too short
    /// means none.
    pub(crate) after: Vec<Vec<BatchRef>>,
}

/// The rank of a group: the largest batches first, table by table; all groups of a large batch together; a different
/// start for each worker.
pub(super) type Rank = (Reverse<u32>, (usize, usize), u64);

#[derive(Debug)]
pub(super) struct Table {
    pub(super) groups: Vec<Group>,
    /// The group of each piece.
    pub(super) group_of: Vec<usize>,
    /// The group of each batch's first piece.
    pub(super) first_group_of: Vec<usize>,
    /// Whether each piece's rows wait for their batch to be published.
    pub(super) copied: Vec<bool>,
    /// The number of pieces of each batch that are not copied.
    pub(super) uncopied: Vec<usize>,
    /// The generation of each batch.
    pub(super) generation: Vec<Generation>,
    /// Batches that are ready to be published.
    pub(super) ready: BTreeSet<usize>,
    /// For each batch, as in [`Preferences::after`].
    pub(super) after: Vec<Vec<BatchRef>>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) pieces: Range<usize>,
    /// The large batch that this group is a part of.
    pub(super) large: Option<usize>,
    pub(super) rank: Rank,
    /// The pieces in the order in which this worker takes them.
    pub(super) order: Vec<usize>,
}

impl Table {
    pub(super) fn new(table: usize, records: &TableRecords, preferences: &Preferences, worker_hash: u64) -> Self {
        let ranges = groups(&records.pieces_of);
        let bytes = |batch: usize| preferences.bytes.get(batch).copied().unwrap_or(0);
        let size = |batch: usize| Reverse(u64::BITS - bytes(batch).leading_zeros());
        let group = |(index, pieces): (usize, Range<usize>)| {
            let first = records.batch_of[pieces.start];
            let large = (records.pieces_of[first].len() > pieces.len()).then_some(first);
            let mut order: Vec<usize> = pieces.clone().collect();
            let preference = |piece: &usize| preferences.pieces.get(*piece).copied().unwrap_or_default();
            order.sort_by_key(|piece| {
                let (batch, PiecePreference { near, rows }) = (records.batch_of[*piece], preference(piece));
                (size(batch), batch, !near, Reverse(rows))
            });
            let largest = order.first().map_or(Reverse(0), |piece| size(records.batch_of[*piece]));
            // All groups of a large batch stay together. The rest is random, and different for each worker.
            let batch_key = (table, large.unwrap_or(usize::MAX));
            let random = (index as u64 ^ worker_hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Group { pieces, large, rank: (largest, batch_key, random), order }
        };
        let groups: Vec<Group> = ranges.into_iter().enumerate().map(group).collect();
        let mut group_of = vec![0; records.pieces.len()];
        for (index, group) in groups.iter().enumerate() {
            group_of[group.pieces.clone()].fill(index);
        }
        let first_group_of =
            records.pieces_of.iter().map(|pieces| group_of.get(pieces.start).copied().unwrap_or(0)).collect();
        Self {
            groups,
            group_of,
            first_group_of,
            copied: vec![false; records.pieces.len()],
            uncopied: records.pieces_of.iter().map(ExactSizeIterator::len).collect(),
            generation: records.batches.iter().map(|batch| batch.generation).collect(),
            ready: BTreeSet::new(),
            after: preferences.after.clone(),
        }
    }

    pub(super) fn update_piece(&mut self, records: &TableRecords, piece: usize) {
        let (batch, record) = (records.batch_of[piece], &records.pieces[piece]);
        let copied = record.generation == self.generation[batch] && record.copied().is_some();
        if std::mem::replace(&mut self.copied[piece], copied) != copied {
            if copied {
                self.uncopied[batch] -= 1;
            } else {
                self.uncopied[batch] += 1;
            }
            self.update_ready(records, batch);
        }
    }

    pub(super) fn update_ready(&mut self, records: &TableRecords, batch: usize) {
        let over = matches!(records.batches[batch].state, BatchState::Done(_) | BatchState::Failed { .. });
        if self.uncopied[batch] == 0 && !over {
            self.ready.insert(batch);
        } else {
            self.ready.remove(&batch);
        }
    }
}
