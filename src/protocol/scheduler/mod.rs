//! What one worker takes next: kept up with each record that it sees, so that a choice costs as much among 100,000 pieces as
//! among ten.
//!
//! # The order
//! 1. A batch whose pieces are all copied is published: that frees the disks of the targets. Of jobs that fill one partition, the
//!    first in the task's order comes first.
//! 2. Pieces of the group *at hand*. A group is what one node of the coordinator records ([`groups`]): whole small batches, or
//!    a part of a large one. A worker stays in its group, where nobody else changes the record before it does, and so finishes
//!    one batch before it begins the next.
//! 3. Another group, nobody else's if there is one: of a large batch that is begun, so that few batches hold disk space twice;
//!    else of the largest batch, so that nothing large is left for the end, when nothing is beside it. Sizes count as equal
//!    within a factor of two, and among equals each worker begins somewhere else. What is near a worker comes first only
//!    within a batch: rows pass through a worker by relay alone, and all batches half done would cost every disk.
//! 4. When only groups are left that others have been seen in, those: they have left something, or need help.
//!
//! What others did is learned when a group is looked at, and only then; a look at the claims comes with it. Whatever is not
//! copied and not claimed, as far as is known, is tried: that our knowledge was old shows then. So a worker waits only for claims
//! that are there, and a watch on them is enough to wake it. Who copied the last piece of a large batch may not know it: after
//! each of its pieces, when no group of that batch is free, a worker looks at those that were open when it saw them last. The
//! last one to record sees all of them copied.

mod table;

use crate::protocol::GroupRef;
use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::names::Job;
use super::names::{BatchRef, PieceRef};
use super::record::{BatchState, PieceState};
use super::table_records::{Next, TableRecords};

pub use table::{Preferences, groups};
use table::{Rank, Table};

/// So many groups are looked at together.
const TOGETHER: usize = 64;

/// What one worker would take next. Told of every record and claim that it sees.
#[derive(Debug, Default)]
pub struct Scheduler {
    tables: Vec<Table>,
    /// What is claimed, by anybody.
    busy: HashSet<Job>,
    /// Groups that this worker takes from.
    at_hand: Vec<GroupRef>,
    /// Groups with something to take that nobody was seen in.
    fresh: BTreeSet<(Rank, GroupRef)>,
    /// Groups with something to take, perhaps, that others were seen in.
    met: BTreeSet<(Rank, GroupRef)>,
    /// Large batches of which something is done.
    begun: BTreeSet<BatchRef>,
    /// Large batches of which this worker has copied something since it looked at all of them.
    due: BTreeSet<BatchRef>,
    /// How many groups to look at: more each time that nothing was found.
    reach: usize,
    worker: String,
    spread: u64,
}

/// What can be done with a piece, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Copied,
    Busy,
    Failed,
    /// Somebody knows of newer target nodes than we do.
    Newer,
    Free,
}

impl Scheduler {
    /// Of a worker that has seen these records. `likings` are by table job.
    pub fn new(by_table: &[TableRecords], likings: &[Preferences], worker: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        worker.hash(&mut hasher);
        let spread = hasher.finish();
        let tables = by_table.iter().zip(likings).enumerate();
        let tables =
            tables.map(|(table, (records, preferences))| Table::new(table, records, preferences, spread)).collect();
        let mut scheduler = Self { tables, worker: worker.to_owned(), spread, reach: 1, ..Self::default() };
        for (table, records) in by_table.iter().enumerate() {
            (0..records.batches.len()).for_each(|batch| scheduler.saw_batch(by_table, BatchRef { table, batch }));
            for group in 0..scheduler.tables[table].groups.len() {
                let group = GroupRef { table, group };
                scheduler.saw_group(by_table, group);
                scheduler.met.remove(&scheduler.ranked(group));
                if scheduler.has_something(by_table, group) {
                    scheduler.fresh.insert(scheduler.ranked(group));
                }
            }
        }
        scheduler
    }

    /// Takes note of the records of a group.
    pub fn saw_group(&mut self, by_table: &[TableRecords], group: GroupRef) {
        let Some(table) = self.tables.get_mut(group.table) else { return };
        let records = &by_table[group.table];
        for piece in table.groups[group.group].pieces.clone() {
            table.saw_piece(records, piece);
        }
        if let Some(batch) = table.groups[group.group].large
            && table.groups[group.group].pieces.clone().any(|piece| records.pieces[piece].attempt > 0)
            && table.missing[batch] > 0
        {
            self.begun.insert(BatchRef { table: group.table, batch });
        }
        // Two who came at once: one of them goes where nobody is.
        if !self.fresh.is_empty() && self.gives_way(records, group) {
            self.at_hand.retain(|held| *held != group);
        }
        self.keep(by_table, group);
    }

    /// Whether somebody else is at work in a group who is not to give way to this worker.
    fn gives_way(&self, records: &TableRecords, group: GroupRef) -> bool {
        let pieces = self.tables[group.table].groups[group.group].pieces.clone();
        records.pieces[pieces]
            .iter()
            .any(|record| matches!(&record.state, PieceState::Running { worker } if *worker < self.worker))
    }

    /// Takes note of the record of a batch.
    pub fn saw_batch(&mut self, by_table: &[TableRecords], batch: BatchRef) {
        let Some(table) = self.tables.get_mut(batch.table) else { return };
        let records = &by_table[batch.table];
        let generation = records.batches[batch.batch].generation;
        let moved = std::mem::replace(&mut table.generation[batch.batch], generation) != generation;
        table.saw_state(records, batch.batch);
        if !moved {
            return;
        }
        let pieces = records.pieces_of[batch.batch].clone();
        pieces.clone().for_each(|piece| table.saw_piece(records, piece));
        let groups: BTreeSet<usize> = pieces.map(|piece| table.group_of[piece]).collect();
        groups.into_iter().for_each(|group| self.keep(by_table, GroupRef { table: batch.table, group }));
    }

    /// Takes note of all claims.
    pub fn saw_claims(&mut self, by_table: &[TableRecords], claims: HashSet<Job>) {
        let before = std::mem::replace(&mut self.busy, claims);
        let gone: Vec<Job> = before.difference(&self.busy).copied().collect();
        for job in gone {
            // What became of it is not known.
            if let Some(group) = self.group_of(job)
                && !self.is_closed(group, job)
            {
                self.meet(group);
            }
        }
        let others: Vec<GroupRef> = self.busy.iter().filter_map(|job| self.group_of(*job)).collect();
        for group in others {
            let ranked = self.ranked(group);
            if self.fresh.remove(&ranked) {
                self.met.insert(ranked);
            }
            if let Some(batch) = self.tables[group.table].groups[group.group].large
                && by_table[group.table].batches[batch].state == BatchState::Copying
            {
                self.begun.insert(BatchRef { table: group.table, batch });
            }
        }
    }

    /// Takes note of a claim, ours or somebody's.
    pub fn claimed(&mut self, job: Job) {
        self.busy.insert(job);
    }

    /// Takes note that a claim of ours is given back.
    pub fn released(&mut self, by_table: &[TableRecords], job: Job) {
        self.busy.remove(&job);
        let Some(group) = self.group_of(job) else { return };
        if let (Job::Copy(_), Some(batch)) = (job, self.tables[group.table].groups[group.group].large) {
            self.due.insert(BatchRef { table: group.table, batch });
        }
        self.keep(by_table, group);
    }

    /// Takes note that these groups were looked at just now, with their batches and with all claims: the best of them is at
    /// hand now, if there is something to take.
    pub fn looked(&mut self, by_table: &[TableRecords], groups: &[GroupRef]) {
        let mut found: Vec<GroupRef> = Vec::new();
        for group in groups {
            let ranked = self.ranked(*group);
            if self.has_something(by_table, *group) {
                found.push(*group);
            } else {
                self.fresh.remove(&ranked);
                self.met.remove(&ranked);
            }
        }
        self.reach = if found.is_empty() { (self.reach * 2).min(TOGETHER) } else { 1 };
        let count = found.len();
        let best = (0..count)
            .map(|n| found[(n + self.spread as usize % count) % count])
            .min_by_key(|group| (self.others_in(*group), self.ranked(*group).0.0));
        // Two in one group are in each other's way: only where there is nothing else to do.
        if let Some(group) = best.filter(|group| self.fresh.is_empty() || self.others_in(*group) == 0) {
            let ranked = self.ranked(group);
            self.fresh.remove(&ranked);
            self.met.remove(&ranked);
            self.at_hand.push(group);
        }
    }

    /// What to do now.
    pub fn next(&mut self, by_table: &[TableRecords]) -> Next {
        for (table, of) in self.tables.iter().enumerate() {
            let ready = of.ready.iter().map(|batch| BatchRef { table, batch: *batch });
            let mut jobs = ready.filter(|batch| !self.is_behind(by_table, *batch)).map(Job::Publish);
            if let Some(job) = jobs.find(|job| !self.busy.contains(job)) {
                return Next::Claim(job);
            }
        }
        while let Some(group) = self.at_hand.first().copied() {
            if let Some(piece) = self.free_piece(by_table, group) {
                return Next::Claim(Job::Copy(piece));
            }
            self.at_hand.remove(0);
            if self.has_something(by_table, group) {
                self.meet(group);
            }
        }
        match self.another() {
            groups if groups.is_empty() => self.verdict(by_table),
            groups => Next::Look(groups),
        }
    }

    /// Groups to look at: one that seems free, or several where something may be left.
    fn another(&mut self) -> Vec<GroupRef> {
        while let Some(batch) = self.due.first().copied() {
            let fresh = self.fresh_of(batch);
            if !fresh.is_empty() {
                return fresh;
            }
            self.due.remove(&batch);
            let open = self.open_groups(batch);
            if !open.is_empty() {
                return open;
            }
        }
        while let Some(batch) = self.begun.first().copied() {
            let fresh = self.fresh_of(batch);
            if !fresh.is_empty() {
                return fresh;
            }
            self.begun.remove(&batch);
        }
        let some = if self.fresh.is_empty() { &self.met } else { &self.fresh };
        let reach = if self.fresh.is_empty() { TOGETHER } else { self.reach };
        some.iter().take(reach).map(|(_, group)| *group).collect()
    }

    /// When nothing can be taken.
    fn verdict(&self, by_table: &[TableRecords]) -> Next {
        let (mut waiting, mut failed) = (false, false);
        for (table, records) in by_table.iter().enumerate() {
            for (batch, record) in records.batches.iter().enumerate().filter(|(_, record)| !record.is_done()) {
                failed |= matches!(record.state, BatchState::Failed { .. });
                waiting |=
                    self.tables[table].ready.contains(&batch) && !self.is_behind(by_table, BatchRef { table, batch });
                for piece in records.pieces_of[batch].clone() {
                    match self.standing(by_table, PieceRef { table, piece }) {
                        Standing::Copied => {}
                        Standing::Failed => failed = true,
                        Standing::Busy | Standing::Newer | Standing::Free => waiting = true,
                    }
                }
            }
        }
        match (waiting, failed) {
            (true, _) => Next::Wait,
            (false, true) => Next::Stuck,
            (false, false) => Next::Finished,
        }
    }

    /// Whether a batch must wait until batches of other table jobs are published. The verdict counts those themselves as waiting or
    /// failed.
    fn is_behind(&self, by_table: &[TableRecords], batch: BatchRef) -> bool {
        let after = self.tables[batch.table].after.get(batch.batch);
        after.is_some_and(|others| others.iter().any(|other| !by_table[other.table].batches[other.batch].is_done()))
    }

    fn standing(&self, by_table: &[TableRecords], piece: PieceRef) -> Standing {
        let (records, record) = (&by_table[piece.table], &by_table[piece.table].pieces[piece.piece]);
        if self.tables[piece.table].copied[piece.piece] {
            return Standing::Copied;
        }
        if record.generation > records.generation_of(piece.piece) {
            return Standing::Newer;
        }
        if self.busy.contains(&Job::Copy(piece)) {
            return Standing::Busy;
        }
        match record.state {
            PieceState::Failed { .. } if !records.is_void(piece.piece) => Standing::Failed,
            _ => Standing::Free,
        }
    }

    fn pieces(&self, group: GroupRef) -> impl Iterator<Item = PieceRef> + '_ {
        let order = &self.tables[group.table].groups[group.group].order;
        order.iter().map(move |piece| PieceRef { table: group.table, piece: *piece })
    }

    fn free_piece(&self, by_table: &[TableRecords], group: GroupRef) -> Option<PieceRef> {
        self.pieces(group).find(|piece| self.standing(by_table, *piece) == Standing::Free)
    }

    fn has_something(&self, by_table: &[TableRecords], group: GroupRef) -> bool {
        self.pieces(group).any(|piece| matches!(self.standing(by_table, piece), Standing::Free | Standing::Newer))
    }

    fn others_in(&self, group: GroupRef) -> usize {
        self.pieces(group).filter(|piece| self.busy.contains(&Job::Copy(*piece))).count()
    }

    fn ranked(&self, group: GroupRef) -> (Rank, GroupRef) {
        (self.tables[group.table].groups[group.group].rank, group)
    }

    fn group_of(&self, job: Job) -> Option<GroupRef> {
        let (table, group) = match job {
            Job::Copy(piece) => (piece.table, *self.tables.get(piece.table)?.group_of.get(piece.piece)?),
            Job::Publish(batch) => (batch.table, *self.tables.get(batch.table)?.first_of.get(batch.batch)?),
        };
        (group < self.tables[table].groups.len()).then_some(GroupRef { table, group })
    }

    /// Whether a claim that is gone has nothing to tell: its record can change no more, as far as is known.
    fn is_closed(&self, group: GroupRef, job: Job) -> bool {
        match job {
            Job::Copy(piece) => self.tables[group.table].copied[piece.piece],
            Job::Publish(batch) => !self.tables[group.table].ready.contains(&batch.batch),
        }
    }

    fn meet(&mut self, group: GroupRef) {
        let ranked = self.ranked(group);
        if !self.at_hand.contains(&group) && !self.fresh.contains(&ranked) {
            self.met.insert(ranked);
        }
    }

    /// A group with something to take is never forgotten.
    fn keep(&mut self, by_table: &[TableRecords], group: GroupRef) {
        if self.has_something(by_table, group) {
            self.meet(group);
        }
    }

    /// The next groups of a large batch that nobody was seen in.
    fn fresh_of(&self, batch: BatchRef) -> Vec<GroupRef> {
        let Some(first) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let (size, line, _) = self.ranked(first).0;
        let from = ((size, line, 0), GroupRef { table: 0, group: 0 });
        let of_batch = self.fresh.range(from..).take_while(|((_, of, _), _)| *of == line);
        of_batch.take(self.reach).map(|(_, group)| *group).collect()
    }

    /// The groups of a large batch of which something was not copied when they were seen last.
    fn open_groups(&self, batch: BatchRef) -> Vec<GroupRef> {
        let table = &self.tables[batch.table];
        let Some(GroupRef { group: first, .. }) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let of_batch = (first..table.groups.len()).take_while(|group| table.groups[*group].large == Some(batch.batch));
        let is_open = |group: &usize| table.groups[*group].pieces.clone().any(|piece| !table.copied[piece]);
        of_batch.filter(is_open).map(|group| GroupRef { table: batch.table, group }).collect()
    }
}

#[cfg(test)]
mod tests;
