//! The groups of a table job, and what is known of its pieces and batches.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use super::super::names::BatchRef;
use super::super::record::BatchState;
use super::super::table_records::TableRecords;

/// So many pieces share a node at the most. Each change of one of them writes all of them.
pub(super) const MOST: usize = 16;
/// A small task is cut into so many groups, that its workers do not stand in each other's way.
const FEW: usize = 256;

/// Which pieces are recorded together: those of consecutive batches, as long as they fit, and those of a batch that is too
/// large for that in groups of its own. `pieces_of` has the pieces of each batch.
pub fn groups(pieces_of: &[Range<usize>]) -> Vec<Range<usize>> {
    let size = (pieces_of.last().map_or(0, |range| range.end) / FEW).clamp(2, MOST);
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

/// What a worker likes, of one table job.
#[derive(Debug, Clone, Default)]
pub struct Preferences {
    /// Bytes of each batch.
    pub bytes: Vec<u64>,
    /// Of each piece whether its source is on the worker's own host, and its rows.
    pub pieces: Vec<(bool, u64)>,
    /// For each batch those of other table jobs that must be published before it; none where the list is shorter.
    pub after: Vec<Vec<BatchRef>>,
}

/// The largest batches first, table by table; of a large batch all groups together; each worker begins somewhere else.
pub(super) type Rank = (Reverse<u32>, (usize, usize), u64);

#[derive(Debug)]
pub(super) struct Table {
    pub(super) groups: Vec<Group>,
    /// By piece: its group.
    pub(super) group_of: Vec<usize>,
    /// By batch: the group of its first piece.
    pub(super) first_of: Vec<usize>,
    /// By piece: whether its rows wait for their batch to be published.
    pub(super) copied: Vec<bool>,
    /// By batch: how many of its pieces do not.
    pub(super) missing: Vec<usize>,
    /// By batch.
    pub(super) generation: Vec<u32>,
    /// Batches to be published.
    pub(super) ready: BTreeSet<usize>,
    /// By batch, as in [`Preferences::after`].
    pub(super) after: Vec<Vec<BatchRef>>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) pieces: Range<usize>,
    /// The batch that it is only a part of.
    pub(super) large: Option<usize>,
    pub(super) rank: Rank,
    /// Its pieces, as this worker would take them.
    pub(super) order: Vec<usize>,
}

impl Table {
    pub(super) fn new(table: usize, records: &TableRecords, preferences: &Preferences, spread: u64) -> Self {
        let ranges = groups(&records.pieces_of);
        let bytes = |batch: usize| preferences.bytes.get(batch).copied().unwrap_or(0);
        let size = |batch: usize| Reverse(u64::BITS - bytes(batch).leading_zeros());
        let group = |(at, pieces): (usize, Range<usize>)| {
            let first = records.batch_of[pieces.start];
            let large = (records.pieces_of[first].len() > pieces.len()).then_some(first);
            let mut order: Vec<usize> = pieces.clone().collect();
            let liked = |piece: &usize| preferences.pieces.get(*piece).copied().unwrap_or_default();
            order.sort_by_key(|piece| {
                let (batch, (near, rows)) = (records.batch_of[*piece], liked(piece));
                (size(batch), batch, !near, Reverse(rows))
            });
            let largest = order.first().map_or(Reverse(0), |piece| size(records.batch_of[*piece]));
            // All groups of a large batch stand together. The rest is chance, another one for each worker.
            let line = (table, large.unwrap_or(usize::MAX));
            let turn = (at as u64 ^ spread).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Group { pieces, large, rank: (largest, line, turn), order }
        };
        let groups: Vec<Group> = ranges.into_iter().enumerate().map(group).collect();
        let mut group_of = vec![0; records.pieces.len()];
        for (at, group) in groups.iter().enumerate() {
            group_of[group.pieces.clone()].fill(at);
        }
        let first_of =
            records.pieces_of.iter().map(|pieces| group_of.get(pieces.start).copied().unwrap_or(0)).collect();
        Self {
            groups,
            group_of,
            first_of,
            copied: vec![false; records.pieces.len()],
            missing: records.pieces_of.iter().map(ExactSizeIterator::len).collect(),
            generation: records.batches.iter().map(|batch| batch.generation).collect(),
            ready: BTreeSet::new(),
            after: preferences.after.clone(),
        }
    }

    pub(super) fn saw_piece(&mut self, records: &TableRecords, piece: usize) {
        let (batch, record) = (records.batch_of[piece], &records.pieces[piece]);
        let copied = record.generation == self.generation[batch] && record.copied().is_some();
        if std::mem::replace(&mut self.copied[piece], copied) != copied {
            if copied {
                self.missing[batch] -= 1;
            } else {
                self.missing[batch] += 1;
            }
            self.saw_state(records, batch);
        }
    }

    pub(super) fn saw_state(&mut self, records: &TableRecords, batch: usize) {
        let over = matches!(records.batches[batch].state, BatchState::Done(_) | BatchState::Failed { .. });
        if self.missing[batch] == 0 && !over {
            self.ready.insert(batch);
        } else {
            self.ready.remove(&batch);
        }
    }
}
