//! Chooses the next job of one worker. The scheduler updates its state with each record that it sees, so a choice
//! costs as much among 100,000 pieces as among ten.
//!
//! # The order
//! 1. A batch whose pieces are all copied is published first, because that frees the disks of the targets. If several
//!    jobs fill one partition, the first in the task's order is published first.
//! 2. Pieces of the worker's *current groups* come next. A group is what one node of the coordinator records
//!    ([`groups`]): whole small batches, or a part of a large one. A worker stays in its group: nobody else changes
//!    the record before it does, and it finishes one batch before it starts the next.
//! 3. Then comes another group, if possible one where no other worker was seen. A group of a large batch that is
//!    already started comes first, so that few batches need disk space twice. Then comes the group of the largest
//!    batch, so that no large batch runs alone at the end. Sizes within a factor of two count as equal; among equals
//!    each worker starts at another group. A source on the worker's own host is preferred only within a batch: rows
//!    pass through a worker only with relay, and many half-copied batches would fill every disk.
//! 4. If only groups with other workers are left, the worker takes one of those: they have work left, or need help.
//!
//! The scheduler learns what others did only when the worker reads a group; the claims are read at the same time. It
//! tries every piece that is neither copied nor claimed, as far as it knows; a failed try shows that its knowledge
//! was old. So a worker waits only for existing claims, and a watch on them is enough to wake it. The worker that
//! copies the last piece of a large batch may not know that it was the last. After each of its pieces, if no group of
//! that batch is free, a worker therefore reads the groups that were open when it read them last. The last worker to
//! record a piece sees all of them copied.

mod table;

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::claims::Job;
use super::names::{BatchRef, PieceRef};
use super::record::{BatchState, PieceState};
use super::table_records::{Next, TableRecords};
use crate::model::AttemptNo;
use crate::protocol::GroupRef;

pub use table::groups;
pub(crate) use table::{PiecePreference, Preferences};
use table::{Rank, Table};

/// The largest number of groups that are read together.
const MAX_GROUPS_PER_READ: usize = 64;

/// The scheduler of one worker. It must be told of every record and claim that the worker sees.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    tables: Vec<Table>,
    /// The jobs that any worker has claimed.
    claimed_jobs: HashSet<Job>,
    /// The groups that this worker takes pieces from.
    current_groups: Vec<GroupRef>,
    /// Groups with work left in which no other worker was seen.
    unvisited: BTreeSet<(Rank, GroupRef)>,
    /// Groups that may have work left and in which other workers were seen.
    shared: BTreeSet<(Rank, GroupRef)>,
    /// Large batches that are partly done.
    started_batches: BTreeSet<BatchRef>,
    /// Large batches of which this worker has copied a piece since it last read all their groups.
    batches_to_reread: BTreeSet<BatchRef>,
    /// How many groups to read next. It grows each time that a read finds no work.
    groups_per_read: usize,
    worker: String,
    worker_hash: u64,
}

/// The state of a piece, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PieceStatus {
    Copied,
    Busy,
    Failed,
    /// The record is for newer target nodes than the known ones.
    Newer,
    Free,
}

impl Scheduler {
    /// Returns the scheduler of a worker that has read these records. `preferences` are by table job.
    pub(crate) fn new(by_table: &[TableRecords], preferences: &[Preferences], worker: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        worker.hash(&mut hasher);
        let worker_hash = hasher.finish();
        let tables = by_table.iter().zip(preferences).enumerate();
        let tables = tables
            .map(|(table, (records, preferences))| Table::new(table, records, preferences, worker_hash))
            .collect();
        let mut scheduler =
            Self { tables, worker: worker.to_owned(), worker_hash, groups_per_read: 1, ..Self::default() };
        for (table, records) in by_table.iter().enumerate() {
            (0..records.batches.len())
                .for_each(|batch| scheduler.update_batch(by_table, BatchRef { table, index: batch }));
            for group in 0..scheduler.tables[table].groups.len() {
                let group = GroupRef { table, group };
                scheduler.update_group(by_table, group);
                scheduler.shared.remove(&scheduler.ranked(group));
                if scheduler.has_work(by_table, group) {
                    scheduler.unvisited.insert(scheduler.ranked(group));
                }
            }
        }
        scheduler
    }

    /// Updates the state from the records of a group.
    pub(crate) fn update_group(&mut self, by_table: &[TableRecords], group: GroupRef) {
        let Some(table) = self.tables.get_mut(group.table) else { return };
        let records = &by_table[group.table];
        for piece in table.groups[group.group].pieces.clone() {
            table.update_piece(records, piece);
        }
        if let Some(batch) = table.groups[group.group].large
            && table.groups[group.group].pieces.clone().any(|piece| records.pieces[piece].attempt > AttemptNo(0))
            && table.uncopied[batch] > 0
        {
            self.started_batches.insert(BatchRef { table: group.table, index: batch });
        }
        // If two workers come at once, one of them moves to a group without workers.
        if !self.unvisited.is_empty() && self.must_leave(records, group) {
            self.current_groups.retain(|held| *held != group);
        }
        self.requeue(by_table, group);
    }

    /// Returns whether this worker must leave a group to another worker there.
    fn must_leave(&self, records: &TableRecords, group: GroupRef) -> bool {
        let pieces = self.tables[group.table].groups[group.group].pieces.clone();
        records.pieces[pieces]
            .iter()
            .any(|record| matches!(&record.state, PieceState::Running { worker } if *worker < self.worker))
    }

    /// Updates the state from the record of a batch.
    pub(crate) fn update_batch(&mut self, by_table: &[TableRecords], batch: BatchRef) {
        let Some(table) = self.tables.get_mut(batch.table) else { return };
        let records = &by_table[batch.table];
        let generation = records.batches[batch.index].generation;
        let moved = std::mem::replace(&mut table.generation[batch.index], generation) != generation;
        table.update_ready(records, batch.index);
        if !moved {
            return;
        }
        let pieces = records.pieces_of[batch.index].clone();
        pieces.clone().for_each(|piece| table.update_piece(records, piece));
        let groups: BTreeSet<usize> = pieces.map(|piece| table.group_of[piece]).collect();
        groups.into_iter().for_each(|group| self.requeue(by_table, GroupRef { table: batch.table, group }));
    }

    /// Updates the state from the list of all claims.
    pub(crate) fn update_claims(&mut self, by_table: &[TableRecords], claims: HashSet<Job>) {
        let before = std::mem::replace(&mut self.claimed_jobs, claims);
        let gone: Vec<Job> = before.difference(&self.claimed_jobs).copied().collect();
        for job in gone {
            // The result of this job is not known.
            if let Some(group) = self.group_of(job)
                && !self.is_settled(group, job)
            {
                self.add_shared(group);
            }
        }
        let others: Vec<GroupRef> = self.claimed_jobs.iter().filter_map(|job| self.group_of(*job)).collect();
        for group in others {
            let ranked = self.ranked(group);
            if self.unvisited.remove(&ranked) {
                self.shared.insert(ranked);
            }
            if let Some(batch) = self.tables[group.table].groups[group.group].large
                && by_table[group.table].batches[batch].state == BatchState::Copying
            {
                self.started_batches.insert(BatchRef { table: group.table, index: batch });
            }
        }
    }

    /// Marks a job as claimed, by this worker or another.
    pub(crate) fn claimed(&mut self, job: Job) {
        self.claimed_jobs.insert(job);
    }

    /// Marks a claim of this worker as given back.
    pub(crate) fn released(&mut self, by_table: &[TableRecords], job: Job) {
        self.claimed_jobs.remove(&job);
        let Some(group) = self.group_of(job) else { return };
        if let (Job::Copy(_), Some(batch)) = (job, self.tables[group.table].groups[group.group].large) {
            self.batches_to_reread.insert(BatchRef { table: group.table, index: batch });
        }
        self.requeue(by_table, group);
    }

    /// Updates the state after these groups were read together with their batches and all claims. The best group with
    /// work left becomes the current group.
    pub(crate) fn groups_read(&mut self, by_table: &[TableRecords], groups: &[GroupRef]) {
        let mut found: Vec<GroupRef> = Vec::new();
        for group in groups {
            let ranked = self.ranked(*group);
            if self.has_work(by_table, *group) {
                found.push(*group);
            } else {
                self.unvisited.remove(&ranked);
                self.shared.remove(&ranked);
            }
        }
        self.groups_per_read = if found.is_empty() { (self.groups_per_read * 2).min(MAX_GROUPS_PER_READ) } else { 1 };
        let count = found.len();
        let best = (0..count)
            .map(|n| found[(n + self.worker_hash as usize % count) % count])
            .min_by_key(|group| (self.claims_in(*group), self.ranked(*group).0.0));
        // Two workers in one group disturb each other, so this is the last choice.
        if let Some(group) = best.filter(|group| self.unvisited.is_empty() || self.claims_in(*group) == 0) {
            let ranked = self.ranked(group);
            self.unvisited.remove(&ranked);
            self.shared.remove(&ranked);
            self.current_groups.push(group);
        }
    }

    /// Returns what to do now.
    pub(crate) fn next(&mut self, by_table: &[TableRecords]) -> Next {
        for (table, state) in self.tables.iter().enumerate() {
            let ready = state.ready.iter().map(|batch| BatchRef { table, index: *batch });
            let mut jobs = ready.filter(|batch| !self.waits_for_other_jobs(by_table, *batch)).map(Job::Publish);
            if let Some(job) = jobs.find(|job| !self.claimed_jobs.contains(job)) {
                return Next::Claim(job);
            }
        }
        while let Some(group) = self.current_groups.first().copied() {
            if let Some(piece) = self.free_piece(by_table, group) {
                return Next::Claim(Job::Copy(piece));
            }
            self.current_groups.remove(0);
            if self.has_work(by_table, group) {
                self.add_shared(group);
            }
        }
        match self.groups_to_read() {
            groups if groups.is_empty() => self.idle_result(by_table),
            groups => Next::ReadGroups(groups),
        }
    }

    /// Returns the groups to read: one that seems free, or several that may have work left.
    fn groups_to_read(&mut self) -> Vec<GroupRef> {
        while let Some(batch) = self.batches_to_reread.first().copied() {
            let unvisited = self.unvisited_groups_of(batch);
            if !unvisited.is_empty() {
                return unvisited;
            }
            self.batches_to_reread.remove(&batch);
            let open = self.open_groups(batch);
            if !open.is_empty() {
                return open;
            }
        }
        while let Some(batch) = self.started_batches.first().copied() {
            let unvisited = self.unvisited_groups_of(batch);
            if !unvisited.is_empty() {
                return unvisited;
            }
            self.started_batches.remove(&batch);
        }
        let some = if self.unvisited.is_empty() { &self.shared } else { &self.unvisited };
        let groups_per_read = if self.unvisited.is_empty() { MAX_GROUPS_PER_READ } else { self.groups_per_read };
        some.iter().take(groups_per_read).map(|(_, group)| *group).collect()
    }

    /// Returns the result when no job can be taken.
    fn idle_result(&self, by_table: &[TableRecords]) -> Next {
        let (mut waiting, mut failed) = (false, false);
        for (table, records) in by_table.iter().enumerate() {
            for (batch, record) in records.batches.iter().enumerate().filter(|(_, record)| !record.is_done()) {
                failed |= matches!(record.state, BatchState::Failed { .. });
                waiting |= self.tables[table].ready.contains(&batch)
                    && !self.waits_for_other_jobs(by_table, BatchRef { table, index: batch });
                for piece in records.pieces_of[batch].clone() {
                    match self.status_of(by_table, PieceRef { table, index: piece }) {
                        PieceStatus::Copied => {}
                        PieceStatus::Failed => failed = true,
                        PieceStatus::Busy | PieceStatus::Newer | PieceStatus::Free => waiting = true,
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

    /// Returns whether a batch must wait until batches of other table jobs are published. The caller counts those
    /// batches themselves as waiting or failed.
    fn waits_for_other_jobs(&self, by_table: &[TableRecords], batch: BatchRef) -> bool {
        let after = self.tables[batch.table].after.get(batch.index);
        after.is_some_and(|others| others.iter().any(|other| !by_table[other.table].batches[other.index].is_done()))
    }

    fn status_of(&self, by_table: &[TableRecords], piece: PieceRef) -> PieceStatus {
        let (records, record) = (&by_table[piece.table], &by_table[piece.table].pieces[piece.index]);
        if self.tables[piece.table].copied[piece.index] {
            return PieceStatus::Copied;
        }
        if record.generation > records.generation_of(piece.index) {
            return PieceStatus::Newer;
        }
        if self.claimed_jobs.contains(&Job::Copy(piece)) {
            return PieceStatus::Busy;
        }
        match record.state {
            PieceState::Failed { .. } if !records.is_void(piece.index) => PieceStatus::Failed,
            _ => PieceStatus::Free,
        }
    }

    fn pieces(&self, group: GroupRef) -> impl Iterator<Item = PieceRef> + '_ {
        let order = &self.tables[group.table].groups[group.group].order;
        order.iter().map(move |piece| PieceRef { table: group.table, index: *piece })
    }

    fn free_piece(&self, by_table: &[TableRecords], group: GroupRef) -> Option<PieceRef> {
        self.pieces(group).find(|piece| self.status_of(by_table, *piece) == PieceStatus::Free)
    }

    fn has_work(&self, by_table: &[TableRecords], group: GroupRef) -> bool {
        self.pieces(group)
            .any(|piece| matches!(self.status_of(by_table, piece), PieceStatus::Free | PieceStatus::Newer))
    }

    fn claims_in(&self, group: GroupRef) -> usize {
        self.pieces(group).filter(|piece| self.claimed_jobs.contains(&Job::Copy(*piece))).count()
    }

    fn ranked(&self, group: GroupRef) -> (Rank, GroupRef) {
        (self.tables[group.table].groups[group.group].rank, group)
    }

    fn group_of(&self, job: Job) -> Option<GroupRef> {
        let (table, group) = match job {
            Job::Copy(piece) => (piece.table, *self.tables.get(piece.table)?.group_of.get(piece.index)?),
            Job::Publish(batch) => (batch.table, *self.tables.get(batch.table)?.first_group_of.get(batch.index)?),
        };
        (group < self.tables[table].groups.len()).then_some(GroupRef { table, group })
    }

    /// Returns whether the end of a claim brings no news: its record can no longer change, as far as is known.
    fn is_settled(&self, group: GroupRef, job: Job) -> bool {
        match job {
            Job::Copy(piece) => self.tables[group.table].copied[piece.index],
            Job::Publish(batch) => !self.tables[group.table].ready.contains(&batch.index),
        }
    }

    fn add_shared(&mut self, group: GroupRef) {
        let ranked = self.ranked(group);
        if !self.current_groups.contains(&group) && !self.unvisited.contains(&ranked) {
            self.shared.insert(ranked);
        }
    }

    /// Keeps a group with work left in one of the two sets.
    fn requeue(&mut self, by_table: &[TableRecords], group: GroupRef) {
        if self.has_work(by_table, group) {
            self.add_shared(group);
        }
    }

    /// Returns the next groups of a large batch in which no worker was seen.
    fn unvisited_groups_of(&self, batch: BatchRef) -> Vec<GroupRef> {
        let Some(first) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let (size, batch_key, _) = self.ranked(first).0;
        let from = ((size, batch_key, 0), GroupRef { table: 0, group: 0 });
        let of_batch = self.unvisited.range(from..).take_while(|((_, key, _), _)| *key == batch_key);
        of_batch.take(self.groups_per_read).map(|(_, group)| *group).collect()
    }

    /// Returns the groups of a large batch that were not fully copied when they were read last.
    fn open_groups(&self, batch: BatchRef) -> Vec<GroupRef> {
        let table = &self.tables[batch.table];
        let Some(GroupRef { group: first, .. }) = self.group_of(Job::Publish(batch)) else { return Vec::new() };
        let of_batch = (first..table.groups.len()).take_while(|group| table.groups[*group].large == Some(batch.index));
        let is_open = |group: &usize| table.groups[*group].pieces.clone().any(|piece| !table.copied[piece]);
        of_batch.filter(is_open).map(|group| GroupRef { table: batch.table, group }).collect()
    }
}

#[cfg(test)]
mod tests;
