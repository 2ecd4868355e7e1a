//! Pieces, batches and claims: cached, and changed by compare-and-set.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::coordinator::{Change, Error, Op};
use crate::plan::{BatchPlan, TablePlan};
use crate::protocol::{
    BatchRecord, BatchRef, BatchState, Extent, GroupRef, Job, Next, PieceRecord, PieceRef, Preferences, Scheduler,
    TableRecords, groups, job_of_claim,
};

use super::{Ledger, LedgerError, Outcome, Versioned, encoded, versioned};

/// All records of the tables, as last seen.
#[derive(Debug, Default)]
pub struct Cache {
    layout: Vec<Vec<Range<usize>>>,
    /// What the records of each batch must list.
    extents: Vec<Vec<Extent>>,
    groups: Vec<Vec<Versioned<Vec<PieceRecord>>>>,
    batches: Vec<Vec<Versioned<BatchRecord>>>,
    /// The same, as the protocol wants it.
    pub by_table: Vec<TableRecords>,
    scheduler: Scheduler,
}

/// What becomes of a claim when a record changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimChange {
    /// Take it: nobody else may have it.
    Take,
    /// It must still be there.
    Keep,
    /// Give it back.
    GiveBack,
    /// It has nothing to do with it.
    None,
}

/// What to do with a node, from what it holds.
enum Edit<T> {
    /// Set it to this.
    Write(T),
    /// It is set already, by an earlier commit of ours whose answer was lost.
    Written,
    /// It holds something else than expected.
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
    /// From now on it tells what a worker does next; see [`Scheduler::new`].
    pub fn look_out(&mut self, likings: &[Preferences], worker: &str) {
        self.scheduler = Scheduler::new(&self.by_table, likings, worker);
    }

    /// What that worker does next.
    pub fn what_next(&mut self) -> Next {
        self.scheduler.next(&self.by_table)
    }

    /// Takes note of a claim, ours or somebody's.
    pub fn claimed(&mut self, job: Job) {
        self.scheduler.claimed(job);
    }

    /// Takes note that a claim of ours is given back.
    pub fn released(&mut self, job: Job) {
        self.scheduler.released(&self.by_table, job);
    }

    /// Whether a group has pieces whose batch has moved to other nodes.
    fn has_void(&self, table: usize, group: usize) -> bool {
        let records = &self.by_table[table];
        self.layout[table][group].clone().any(|piece| records.pieces[piece].generation != records.generation_of(piece))
    }

    fn group_of(&self, piece: PieceRef) -> (GroupRef, usize) {
        let layout = &self.layout[piece.table];
        let group = layout.partition_point(|pieces| pieces.end <= piece.piece);
        (GroupRef { table: piece.table, group }, piece.piece - layout[group].start)
    }

    /// Checks the records of a group against the plan.
    fn check_group(&self, of: GroupRef, records: &[PieceRecord]) -> Result<(), String> {
        let pieces = self.layout[of.table][of.group].clone();
        if records.len() != pieces.len() {
            return Err(format!("it has {} records of {} pieces", records.len(), pieces.len()));
        }
        let table = &self.by_table[of.table];
        pieces.zip(records).try_for_each(|(piece, record)| {
            let extent = self.extents[of.table][table.batch_of[piece]];
            record.check(extent).map_err(|why| format!("piece {piece}: {why}"))
        })
    }

    /// Checks that no piece of a group is of target nodes that its batch does not have yet. Batches are read after their pieces: such a
    /// batch would be looked at for ever.
    fn check_generations(&self, of: GroupRef, records: &[PieceRecord]) -> Result<(), String> {
        let table = &self.by_table[of.table];
        let pieces = self.layout[of.table][of.group].clone();
        let newer = |(piece, record): &(usize, &PieceRecord)| {
            table.batches.get(table.batch_of[*piece]).is_some_and(|batch| record.generation > batch.generation)
        };
        match pieces.zip(records).find(newer) {
            Some((piece, _)) => Err(format!("piece {piece} is of newer target nodes than its batch")),
            None => Ok(()),
        }
    }

    /// Checks the record of a batch against the plan.
    fn check_batch(&self, of: BatchRef, record: &BatchRecord) -> Result<(), String> {
        record.check(self.extents[of.table][of.batch]).map_err(|why| why.to_string())
    }

    fn put_group(&mut self, of: GroupRef, records: Versioned<Vec<PieceRecord>>) {
        let pieces = self.layout[of.table][of.group].clone();
        for (piece, record) in pieces.zip(&records.value) {
            put(&mut self.by_table[of.table].pieces, piece, record.clone());
        }
        put(&mut self.groups[of.table], of.group, records);
        self.scheduler.saw_group(&self.by_table, of);
    }

    fn put_batch(&mut self, batch: BatchRef, record: Versioned<BatchRecord>) {
        put(&mut self.by_table[batch.table].batches, batch.batch, record.value.clone());
        put(&mut self.batches[batch.table], batch.batch, record);
        self.scheduler.saw_batch(&self.by_table, batch);
    }
}

/// The text of `/status`: `{"table": {"all_partitions_count": n, "processed_partitions_count": m}}`.
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
    claims.iter().filter_map(|name| job_of_claim(name)).collect()
}

fn put<T>(all: &mut Vec<T>, at: usize, value: T) {
    if at < all.len() { all[at] = value } else { all.push(value) }
}

impl Ledger {
    /// Reads all records that may still change. `cache` is empty the first time.
    pub async fn refresh(&self, cache: &mut Cache, plans: &[TablePlan]) -> Result<(), LedgerError> {
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
            batches.extend((0..plan.batches.len()).filter(open).map(|batch| BatchRef { table, batch }));
            let open = |n: &usize| match cache.groups[table].get(*n) {
                Some(group) => group.value.iter().any(|piece| piece.copied().is_none()) || cache.has_void(table, *n),
                None => true,
            };
            groups.extend((0..cache.layout[table].len()).filter(open).map(|group| GroupRef { table, group }));
        }
        self.read_records(cache, &groups, &batches).await
    }

    /// Reads some groups, their batches, and what is claimed.
    pub async fn look(&self, cache: &mut Cache, groups: &[GroupRef]) -> Result<(), LedgerError> {
        let claims = self.claims().await?;
        let of_group = |group: &GroupRef| {
            let records = &cache.by_table[group.table];
            let mut batches: Vec<usize> =
                cache.layout[group.table][group.group].clone().map(|piece| records.batch_of[piece]).collect();
            batches.dedup();
            batches.into_iter().filter(|batch| !records.batches[*batch].is_done()).collect::<Vec<_>>()
        };
        let batches = groups.iter().flat_map(|group| {
            let table = group.table;
            of_group(group).into_iter().map(move |batch| BatchRef { table, batch })
        });
        let mut batches: Vec<BatchRef> = batches.collect();
        batches.dedup();
        self.read_records(cache, groups, &batches).await?;
        cache.scheduler.saw_claims(&cache.by_table, claims);
        cache.scheduler.looked(&cache.by_table, groups);
        Ok(())
    }

    /// Batches are read after their pieces: what is known of them is never older.
    async fn read_records(
        &self,
        cache: &mut Cache,
        groups: &[GroupRef],
        batches: &[BatchRef],
    ) -> Result<(), LedgerError> {
        let paths = groups.iter().map(|of| self.group_path(of.table, of.group)).collect();
        let records: Vec<Versioned<Vec<PieceRecord>>> = self.read_all(paths).await?;
        let paths = batches.iter().map(|of| self.batch_path(of.table, of.batch)).collect();
        for (batch, record) in batches.iter().zip(self.read_all::<BatchRecord>(paths).await?) {
            let path = || self.batch_path(batch.table, batch.batch);
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

    /// Reads what is claimed. The change fires when a claim is taken or given back after that.
    pub async fn look_at_claims(&self, cache: &mut Cache) -> Result<Change, LedgerError> {
        let (children, change) = self.session.watch_children(&self.path("claims")).await?;
        cache.scheduler.saw_claims(&cache.by_table, jobs_of(&children.unwrap_or_default()));
        Ok(change)
    }

    /// Fires when a claim is taken or given back. To be asked for before a look at the records.
    pub async fn watch_claims(&self) -> Result<Change, LedgerError> {
        Ok(self.session.watch_children(&self.path("claims")).await?.1)
    }

    /// Gives a claim back without a change of its record.
    pub async fn give_up_claim(&self, job: Job) -> Result<(), LedgerError> {
        self.release(&job.claim()).await
    }

    /// The record of a batch as it is now.
    pub async fn batch(&self, batch: BatchRef) -> Result<BatchRecord, LedgerError> {
        let path = self.batch_path(batch.table, batch.batch);
        let stored = self.session.get(&path).await?;
        Ok(versioned::<BatchRecord>(path, stored)?.value)
    }

    /// Changes the record of a piece together with its claim. On [`Outcome::Lost`] the cache has what is there now.
    pub async fn change_piece(
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

    /// Changes the record of a batch together with its claim. On [`Outcome::Lost`] the cache has what is there now.
    pub async fn change_batch(
        &self,
        cache: &mut Cache,
        batch: BatchRef,
        expected: &BatchRecord,
        next: BatchRecord,
        claim: ClaimChange,
        worker: &str,
    ) -> Result<Outcome, LedgerError> {
        let path = self.batch_path(batch.table, batch.batch);
        let mut with: Vec<Op> = self.claim_op(Job::Publish(batch), claim, worker).into_iter().collect();
        if let BatchState::Done(published) = &next.state {
            with.extend(self.count_processed(batch.table, published.partitions.len()));
        }
        let mut held = cache.batches[batch.table][batch.batch].clone();
        let edit = |record: &BatchRecord| Edit::of(record, expected, &next, next.clone());
        let fits = |record: &BatchRecord| cache.check_batch(batch, record);
        let outcome = self.change(&path, &mut held, &with, edit, fits).await;
        cache.put_batch(batch, held);
        outcome
    }

    /// Compare-and-set of a node, with more in the same commit: the claim first. Where somebody else was faster, or the answer was lost,
    /// the node is read again and `edit` decides anew. `fits` checks what is read.
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
                // The claim is there (somebody has it) or gone (we have it no more).
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

    fn claim_op(&self, job: Job, change: ClaimChange, worker: &str) -> Option<Op> {
        let path = self.path(&format!("claims/{}", job.claim()));
        match change {
            ClaimChange::Take => Some(Op::ephemeral(path, worker)),
            ClaimChange::Keep => Some(Op::check(path, None)),
            ClaimChange::GiveBack => Some(Op::delete(path, None)),
            ClaimChange::None => None,
        }
    }

    /// Counts partitions as processed, in the commit that records it: so many are set that their number is the sum of the
    /// powers of two that the nodes stand for. Nobody is in anybody's way: no version is compared, the version is the count.
    fn count_processed(&self, table: usize, partitions: usize) -> impl Iterator<Item = Op> + '_ {
        let digits = (usize::BITS - partitions.leading_zeros()) as usize;
        let bits = (0..digits).filter(move |bit| partitions & (1 << bit) != 0);
        bits.map(move |bit| Op::set(self.processed_path(table, bit), Vec::new(), None))
    }

    /// Reads how many partitions of each table are recorded as done, of those tables that had any left.
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
            *counted.entry(table).or_default() += (stored.map_or(0, |it| it.version) as usize) << bit;
        }
        counted.into_iter().for_each(|(table, count)| processed.0[table] = count);
        Ok(())
    }

    /// Writes `/status` as the original did. `processed` is what was counted the last time.
    pub async fn write_status(&self, plans: &[TablePlan], processed: &mut Processed) -> Result<(), LedgerError> {
        self.count_again(processed, plans).await?;
        let counts =
            plans.iter().zip(&processed.0).map(|(plan, done)| (plan.name.clone(), (plan.partitions.len(), *done)));
        let text = status_text(&counts.collect());
        self.settle(vec![Op::set(self.path("status"), text, None)]).await.map(drop)
    }
}

/// How many partitions of each table were recorded as done when they were counted last.
#[derive(Debug, Default)]
pub struct Processed(Vec<usize>);

/// How many nodes count the partitions of a table that are done: the number of partitions of its largest batch has so many binary digits.
pub(super) fn processed_bits(plan: &TablePlan) -> usize {
    let largest = plan.batches.iter().map(|batch| batch.partitions.len()).max().unwrap_or(0);
    (usize::BITS - largest.leading_zeros()) as usize
}
