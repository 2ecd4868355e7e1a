//! The records of pieces and batches with their claims, cached and changed by compare-and-set.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Ledger, LedgerError, Outcome, Versioned, encoded, versioned};
use crate::coordinator::{Change, Error, Op};
use crate::plan::{BatchPlan, TablePlan};
use crate::protocol::{
    BatchRecord, BatchRef, BatchState, Claim, Extent, GroupRef, Job, Next, PieceRecord, PieceRef, Preferences,
    Scheduler, TableRecords, groups,
};

/// All records of the tables, as last read.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    layout: Vec<Vec<Range<usize>>>,
    /// The numbers of partitions and shards that the records of each batch must list.
    extents: Vec<Vec<Extent>>,
    groups: Vec<Vec<Versioned<Vec<PieceRecord>>>>,
    batches: Vec<Vec<Versioned<BatchRecord>>>,
    /// The same records in the form of the protocol.
    pub(crate) by_table: Vec<TableRecords>,
    scheduler: Scheduler,
}

/// The change of a claim in the same commit as the change of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimChange {
    /// Takes the claim. No other worker may hold it.
    Take,
    /// Checks that this worker still holds the claim.
    Keep,
    /// Releases the claim.
    GiveBack,
    /// Does not touch the claim.
    None,
}

/// The decision about a node, given its contents.
enum Edit<T> {
    /// Write this value.
    Write(T),
    /// The value is written already, by an earlier commit of ours whose answer was lost.
    Written,
    /// The node holds another value than expected.
    Lost,
}

impl<T> Edit<T> {
    fn of<R: PartialEq>(found: &R, expected: &R, next: &R, changed: T) -> Self {
        if found == next {
            Self::Written
        } else if found == expected {
            Self::Write(changed)
        } else {
            Self::Lost
        }
    }
}

impl Cache {
    /// Creates the scheduler that chooses the jobs of a worker; see [`Scheduler::new`].
    pub(crate) fn build_scheduler(&mut self, preferences: &[Preferences], worker: &str) {
        self.scheduler = Scheduler::new(&self.by_table, preferences, worker);
    }

    /// Returns what that worker does next.
    pub(crate) fn what_next(&mut self) -> Next {
        self.scheduler.next(&self.by_table)
    }

    /// Records a claim of this or another worker.
    pub(crate) fn claimed(&mut self, job: Job) {
        self.scheduler.claimed(job);
    }

    /// Records that this worker has released a claim.
    pub(crate) fn released(&mut self, job: Job) {
        self.scheduler.released(&self.by_table, job);
    }

    /// Returns whether a group has pieces whose batch has moved to other nodes.
    fn has_void(&self, table: usize, group: usize) -> bool {
        let records = &self.by_table[table];
        self.layout[table][group].clone().any(|piece| records.pieces[piece].generation != records.generation_of(piece))
    }

    /// Returns the group of a piece, and the index of the piece in the group.
    fn group_of(&self, piece: PieceRef) -> (GroupRef, usize) {
        let layout = &self.layout[piece.table];
        let group = layout.partition_point(|pieces| pieces.end <= piece.index);
        (GroupRef { table: piece.table, group }, piece.index - layout[group].start)
    }

    /// Checks the records of a group against the plan.
    fn check_group(&self, group: GroupRef, records: &[PieceRecord]) -> Result<(), String> {
        let pieces = self.layout[group.table][group.group].clone();
        if records.len() != pieces.len() {
            return Err(format!("it has {} records of {} pieces", records.len(), pieces.len()));
        }
        let table = &self.by_table[group.table];
        pieces.zip(records).try_for_each(|(piece, record)| {
            let extent = self.extents[group.table][table.batch_of[piece]];
            record.check(extent).map_err(|why| format!("piece {piece}: {why}"))
        })
    }

    /// Checks that no piece of a group has a newer generation of target nodes than its batch. Batches are read after their pieces, so
    /// this cannot be true of good records, and a worker would read such a batch again for ever.
    fn check_generations(&self, group: GroupRef, records: &[PieceRecord]) -> Result<(), String> {
        let table = &self.by_table[group.table];
        let pieces = self.layout[group.table][group.group].clone();
        let newer = |(piece, record): &(usize, &PieceRecord)| {
            table.batches.get(table.batch_of[*piece]).is_some_and(|batch| record.generation > batch.generation)
        };
        match pieces.zip(records).find(newer) {
            Some((piece, _)) => Err(format!("piece {piece} is of newer target nodes than its batch")),
            None => Ok(()),
        }
    }

    /// Checks the record of a batch against the plan.
    fn check_batch(&self, batch: BatchRef, record: &BatchRecord) -> Result<(), String> {
        record.check(self.extents[batch.table][batch.index]).map_err(|why| why.to_string())
    }

    fn put_group(&mut self, group: GroupRef, records: Versioned<Vec<PieceRecord>>) {
        let pieces = self.layout[group.table][group.group].clone();
        for (piece, record) in pieces.zip(&records.value) {
            put(&mut self.by_table[group.table].pieces, piece, record.clone());
        }
        put(&mut self.groups[group.table], group.group, records);
        self.scheduler.update_group(&self.by_table, group);
    }

    fn put_batch(&mut self, batch: BatchRef, record: Versioned<BatchRecord>) {
        put(&mut self.by_table[batch.table].batches, batch.index, record.value.clone());
        put(&mut self.batches[batch.table], batch.index, record);
        self.scheduler.update_batch(&self.by_table, batch);
    }
}

/// Returns the text of `/status`: `{"table": {"all_partitions_count": n, "processed_partitions_count": m}}`.
pub fn status_text(counts: &BTreeMap<String, (usize, usize)>) -> String {
    #[derive(Serialize)]
    struct Counts {
        all_partitions_count: usize,
        processed_partitions_count: usize,
    }
    let tables: BTreeMap<&String, Counts> = counts
        .iter()
        .map(|(name, (all, done))| (name, Counts { all_partitions_count: *all, processed_partitions_count: *done }))
        .collect();
    serde_json::to_string(&tables).unwrap_or_else(|_| "{}".into())
}

fn jobs_of(claims: &[String]) -> HashSet<Job> {
    claims.iter().filter_map(|name| Claim::parse(name).job()).collect()
}

fn put<T>(all: &mut Vec<T>, index: usize, value: T) {
    if index < all.len() { all[index] = value } else { all.push(value) }
}

impl Ledger {
    /// Reads all records that may still change. `cache` is empty the first time.
    pub(crate) async fn refresh(&self, cache: &mut Cache, plans: &[TablePlan]) -> Result<(), LedgerError> {
        if cache.by_table.is_empty() {
            for plan in plans {
                let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
                cache.layout.push(groups(&pieces_of));
                let batch_of = plan.pieces.iter().map(|piece| piece.batch).collect();
                cache.by_table.push(TableRecords { pieces_of, batch_of, ..TableRecords::default() });
                let shards = plan.replicated.len();
                let extent = |batch: &BatchPlan| Extent { partitions: batch.partitions.len(), shards };
                cache.extents.push(plan.batches.iter().map(extent).collect());
                cache.groups.push(Vec::new());
                cache.batches.push(Vec::new());
            }
        }
        let (mut groups, mut batches) = (Vec::new(), Vec::new());
        for (table, plan) in plans.iter().enumerate() {
            let open = |n: &usize| cache.batches[table].get(*n).is_none_or(|batch| !batch.value.is_done());
            batches.extend((0..plan.batches.len()).filter(open).map(|batch| BatchRef { table, index: batch }));
            let open = |n: &usize| match cache.groups[table].get(*n) {
                Some(group) => group.value.iter().any(|piece| piece.copied().is_none()) || cache.has_void(table, *n),
                None => true,
            };
            groups.extend((0..cache.layout[table].len()).filter(open).map(|group| GroupRef { table, group }));
        }
        self.read_records(cache, &groups, &batches).await
    }

    /// Reads some groups, their batches, and the claims.
    pub(crate) async fn read_groups(&self, cache: &mut Cache, groups: &[GroupRef]) -> Result<(), LedgerError> {
        let claims = self.claims().await?;
        let open_batches = |group: &GroupRef| {
            let records = &cache.by_table[group.table];
            let mut batches: Vec<usize> =
                cache.layout[group.table][group.group].clone().map(|piece| records.batch_of[piece]).collect();
            batches.dedup();
            batches.into_iter().filter(|batch| !records.batches[*batch].is_done()).collect::<Vec<_>>()
        };
        let batches = groups.iter().flat_map(|group| {
            let table = group.table;
            open_batches(group).into_iter().map(move |batch| BatchRef { table, index: batch })
        });
        let mut batches: Vec<BatchRef> = batches.collect();
        batches.dedup();
        self.read_records(cache, groups, &batches).await?;
        cache.scheduler.update_claims(&cache.by_table, claims);
        cache.scheduler.groups_read(&cache.by_table, groups);
        Ok(())
    }

    /// Reads records. Reads batches after their pieces, so that the record of a batch is never older than those of its pieces.
    async fn read_records(
        &self,
        cache: &mut Cache,
        groups: &[GroupRef],
        batches: &[BatchRef],
    ) -> Result<(), LedgerError> {
        let paths = groups.iter().map(|group| self.group_path(group.table, group.group)).collect();
        let records: Vec<Versioned<Vec<PieceRecord>>> = self.read_all(paths).await?;
        let paths = batches.iter().map(|batch| self.batch_path(batch.table, batch.index)).collect();
        for (batch, record) in batches.iter().zip(self.read_all::<BatchRecord>(paths).await?) {
            let path = || self.batch_path(batch.table, batch.index);
            cache.check_batch(*batch, &record.value).map_err(|why| LedgerError::Damaged { path: path(), why })?;
            cache.put_batch(*batch, record);
        }
        for (group, records) in groups.iter().zip(records) {
            let path = || self.group_path(group.table, group.group);
            let fits = cache.check_group(*group, &records.value);
            fits.and_then(|()| cache.check_generations(*group, &records.value))
                .map_err(|why| LedgerError::Damaged { path: path(), why })?;
            cache.put_group(*group, records);
        }
        Ok(())
    }

    async fn claims(&self) -> Result<HashSet<Job>, LedgerError> {
        let children = self.session.children(&self.path("claims")).await?.unwrap_or_default();
        Ok(jobs_of(&children))
    }

    /// Reads the claims. The change fires when a claim is taken or released after that.
    pub(crate) async fn read_claims(&self, cache: &mut Cache) -> Result<Change, LedgerError> {
        let (children, change) = self.session.watch_children(&self.path("claims")).await?;
        cache.scheduler.update_claims(&cache.by_table, jobs_of(&children.unwrap_or_default()));
        Ok(change)
    }

    /// Watches the claims. The change fires when a claim is taken or released. Call this before reading the records.
    pub(crate) async fn watch_claims(&self) -> Result<Change, LedgerError> {
        Ok(self.session.watch_children(&self.path("claims")).await?.1)
    }

    /// Releases a claim without a change of its record.
    pub(crate) async fn give_up_claim(&self, job: Job) -> Result<(), LedgerError> {
        self.release(&job.claim()).await
    }

    /// Reads the current record of a batch.
    pub(crate) async fn batch(&self, batch: BatchRef) -> Result<BatchRecord, LedgerError> {
        let path = self.batch_path(batch.table, batch.index);
        let stored = self.session.get(&path).await?;
        Ok(versioned::<BatchRecord>(path, stored)?.value)
    }

    /// Changes the record of a piece together with its claim. On [`Outcome::Lost`] the cache has the current record.
    pub(crate) async fn change_piece(
        &self,
        cache: &mut Cache,
        piece: PieceRef,
        expected: &PieceRecord,
        next: PieceRecord,
        claim: ClaimChange,
        worker: &str,
    ) -> Result<Outcome, LedgerError> {
        let (group, at) = cache.group_of(piece);
        let path = self.group_path(piece.table, group.group);
        let with: Vec<Op> = self.claim_op(Job::Copy(piece), claim, worker).into_iter().collect();
        let mut held = cache.groups[piece.table][group.group].clone();
        let edit = |records: &Vec<PieceRecord>| {
            let mut changed = records.clone();
            changed[at] = next.clone();
            Edit::of(&records[at], expected, &next, changed)
        };
        let fits = |records: &Vec<PieceRecord>| cache.check_group(group, records);
        let outcome = self.change(&path, &mut held, &with, edit, fits).await;
        cache.put_group(group, held);
        outcome
    }

    /// Changes the record of a batch together with its claim. On [`Outcome::Lost`] the cache has the current record.
    pub(crate) async fn change_batch(
        &self,
        cache: &mut Cache,
        batch: BatchRef,
        expected: &BatchRecord,
        next: BatchRecord,
        claim: ClaimChange,
        worker: &str,
    ) -> Result<Outcome, LedgerError> {
        let path = self.batch_path(batch.table, batch.index);
        let mut with: Vec<Op> = self.claim_op(Job::Publish(batch), claim, worker).into_iter().collect();
        if let BatchState::Done(published) = &next.state {
            with.extend(self.count_processed(batch.table, published.partitions.len()));
        }
        let mut held = cache.batches[batch.table][batch.index].clone();
        let edit = |record: &BatchRecord| Edit::of(record, expected, &next, next.clone());
        let fits = |record: &BatchRecord| cache.check_batch(batch, record);
        let outcome = self.change(&path, &mut held, &with, edit, fits).await;
        cache.put_batch(batch, held);
        outcome
    }

    /// Changes a node by compare-and-set, with further operations in the same commit, the claim first. When another writer was faster or
    /// the answer was lost, reads the node again and lets `edit` decide again. `fits` checks the value that was read.
    async fn change<T: Serialize + DeserializeOwned + Clone>(
        &self,
        path: &str,
        held: &mut Versioned<T>,
        with: &[Op],
        edit: impl Fn(&T) -> Edit<T>,
        fits: impl Fn(&T) -> Result<(), String>,
    ) -> Result<Outcome, LedgerError> {
        loop {
            let changed = match edit(&held.value) {
                Edit::Write(changed) => changed,
                Edit::Written => return Ok(Outcome::Done),
                Edit::Lost => return Ok(Outcome::Lost),
            };
            let mut ops = vec![Op::set(path, encoded(&changed), held.version)];
            ops.extend_from_slice(with);
            match self.session.commit(ops).await {
                Ok(()) => {
                    *held = Versioned { value: changed, version: held.version + 1 };
                    return Ok(Outcome::Done);
                }
                // Another worker holds the claim, or this worker no longer holds it.
                Err(Error::Conflict { op: 1, .. }) => return Ok(Outcome::Lost),
                Err(Error::Conflict { op: 2.., path, why, .. }) => {
                    return Err(LedgerError::Damaged { path, why: why.to_string() });
                }
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {
                    let found: Versioned<T> = versioned(path.to_owned(), self.session.get(path).await?)?;
                    fits(&found.value).map_err(|why| LedgerError::Damaged { path: path.to_owned(), why })?;
                    *held = found;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the operation for a claim.
    fn claim_op(&self, job: Job, change: ClaimChange, worker: &str) -> Option<Op> {
        let path = self.path(&format!("claims/{}", job.claim()));
        match change {
            ClaimChange::Take => Some(Op::ephemeral(path, worker)),
            ClaimChange::Keep => Some(Op::check(path, None)),
            ClaimChange::GiveBack => Some(Op::delete(path, None)),
            ClaimChange::None => None,
        }
    }

    /// Returns the operations that count partitions as processed, for the commit that records it. Each node stands for a power of two,
    /// and the operations set those nodes whose sum is `partitions`. Workers do not conflict: the version of a node is its count, and
    /// no version is compared.
    fn count_processed(&self, table: usize, partitions: usize) -> impl Iterator<Item = Op> + '_ {
        let digits = (usize::BITS - partitions.leading_zeros()) as usize;
        let bits = (0..digits).filter(move |bit| partitions & (1 << bit) != 0);
        bits.map(move |bit| Op::set(self.processed_path(table, bit), Vec::new(), None))
    }

    /// Reads how many partitions of each unfinished table are recorded as done.
    async fn count_again(&self, processed: &mut Processed, plans: &[TablePlan]) -> Result<(), LedgerError> {
        processed.0.resize(plans.len(), 0);
        let open = |(table, plan): &(usize, &TablePlan)| processed.0[*table] < plan.partitions.len();
        let nodes: Vec<(usize, usize)> = plans
            .iter()
            .enumerate()
            .filter(open)
            .flat_map(|(table, plan)| (0..processed_bits(plan)).map(move |bit| (table, bit)))
            .collect();
        let paths: Vec<String> = nodes.iter().map(|(table, bit)| self.processed_path(*table, *bit)).collect();
        let found = self.session.get_many(&paths).await?;
        let mut counted: BTreeMap<usize, usize> = BTreeMap::new();
        for ((table, bit), stored) in nodes.into_iter().zip(found) {
            *counted.entry(table).or_default() += (stored.map_or(0, |node| node.version) as usize) << bit;
        }
        counted.into_iter().for_each(|(table, count)| processed.0[table] = count);
        Ok(())
    }

    /// Writes `/status` as the original did. `processed` has the last counts.
    pub(crate) async fn write_status(&self, plans: &[TablePlan], processed: &mut Processed) -> Result<(), LedgerError> {
        self.count_again(processed, plans).await?;
        let counts =
            plans.iter().zip(&processed.0).map(|(plan, done)| (plan.name.clone(), (plan.partitions.len(), *done)));
        let text = status_text(&counts.collect());
        self.settle(vec![Op::set(self.path("status"), text, None)]).await.map(drop)
    }
}

/// The number of partitions of each table that were recorded as done at the last count.
#[derive(Debug, Default)]
pub(crate) struct Processed(Vec<usize>);

/// Returns how many nodes count the finished partitions of a table: the number of binary digits of the number of partitions in its
/// largest batch.
pub(super) fn processed_bits(plan: &TablePlan) -> usize {
    let largest = plan.batches.iter().map(|batch| batch.partitions.len()).max().unwrap_or(0);
    (usize::BITS - largest.leading_zeros()) as usize
}
