//! Pieces, batches and claims: cached, and changed by compare-and-set.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keeper::{Change, Error, Op};
use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, BatchRef, Job, PieceRecord, PieceRef, TableBoard};

use super::{GROUP, Ledger, LedgerError, Outcome, Versioned, encoded, versioned};

/// All records of the tables, as last seen.
#[derive(Debug, Default)]
pub struct Cache {
    groups: Vec<Vec<Versioned<Vec<PieceRecord>>>>,
    batches: Vec<Vec<Versioned<BatchRecord>>>,
    /// The same, as the protocol wants it.
    pub boards: Vec<TableBoard>,
    /// What is claimed, by anybody.
    pub busy: HashSet<Job>,
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
    /// Whether a group has pieces whose batch has moved to other nodes.
    fn has_void(&self, table: usize, group: usize) -> bool {
        let board = &self.boards[table];
        let pieces = group * GROUP..board.pieces.len().min((group + 1) * GROUP);
        pieces.into_iter().any(|piece| board.pieces[piece].generation != board.generation_of(piece))
    }

    fn put_group(&mut self, table: usize, group: usize, records: Versioned<Vec<PieceRecord>>) {
        for (at, record) in records.value.iter().enumerate() {
            put(&mut self.boards[table].pieces, group * GROUP + at, record.clone());
        }
        put(&mut self.groups[table], group, records);
    }

    fn put_batch(&mut self, batch: BatchRef, record: Versioned<BatchRecord>) {
        put(&mut self.boards[batch.table].batches, batch.batch, record.value.clone());
        put(&mut self.batches[batch.table], batch.batch, record);
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

fn claim_name(job: Job) -> String {
    match job {
        Job::Copy(piece) => format!("t{}-p{}", piece.table, piece.piece),
        Job::Publish(batch) => format!("t{}-b{}", batch.table, batch.batch),
    }
}

fn job_of(name: &str) -> Option<Job> {
    let (table, rest) = name.strip_prefix('t')?.split_once('-')?;
    let table = table.parse().ok()?;
    match rest.split_at_checked(1)? {
        ("p", piece) => Some(Job::Copy(PieceRef { table, piece: piece.parse().ok()? })),
        ("b", batch) => Some(Job::Publish(BatchRef { table, batch: batch.parse().ok()? })),
        _ => None,
    }
}

fn put<T>(all: &mut Vec<T>, at: usize, value: T) {
    if at < all.len() { all[at] = value } else { all.push(value) }
}

impl Ledger {
    /// Reads all records that may still change, and what is claimed. `cache` is empty the first time.
    pub async fn refresh(&self, cache: &mut Cache, plans: &[TablePlan]) -> Result<(), LedgerError> {
        if cache.boards.is_empty() {
            for plan in plans {
                cache.boards.push(TableBoard {
                    pieces_of: plan.batches.iter().map(|batch| batch.pieces.clone()).collect(),
                    batch_of: plan.pieces.iter().map(|piece| piece.batch).collect(),
                    preference: (0..plan.pieces.len()).collect(),
                    ..TableBoard::default()
                });
                cache.groups.push(Vec::new());
                cache.batches.push(Vec::new());
            }
        }
        cache.busy = self.claims().await?;
        for (table, plan) in plans.iter().enumerate() {
            let open = |n: &usize| cache.batches[table].get(*n).is_none_or(|batch| !batch.value.is_done());
            let wanted: Vec<usize> = (0..plan.batches.len()).filter(open).collect();
            let paths = wanted.iter().map(|n| self.batch_path(table, *n)).collect();
            for (batch, record) in wanted.into_iter().zip(self.read_all(paths).await?) {
                cache.put_batch(BatchRef { table, batch }, record);
            }
            let open = |n: &usize| match cache.groups[table].get(*n) {
                Some(group) => group.value.iter().any(|piece| piece.copied().is_none()) || cache.has_void(table, *n),
                None => true,
            };
            let wanted: Vec<usize> = (0..plan.pieces.len().div_ceil(GROUP)).filter(open).collect();
            let paths = wanted.iter().map(|n| self.group_path(table, *n)).collect();
            for (group, records) in wanted.into_iter().zip(self.read_all(paths).await?) {
                cache.put_group(table, group, records);
            }
        }
        Ok(())
    }

    async fn claims(&self) -> Result<HashSet<Job>, LedgerError> {
        let children = self.session.children(&self.path("claims")).await?.unwrap_or_default();
        Ok(children.iter().filter_map(|name| job_of(name)).collect())
    }

    /// Fires when a claim is taken or given back. To be asked for before a look at the records.
    pub async fn watch_claims(&self) -> Result<Change, LedgerError> {
        Ok(self.session.watch_children(&self.path("claims")).await?.1)
    }

    /// Gives a claim back without a change of its record.
    pub async fn give_up_claim(&self, job: Job) -> Result<(), LedgerError> {
        self.release(&claim_name(job)).await
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
        let (group, at) = (piece.piece / GROUP, piece.piece % GROUP);
        let path = self.group_path(piece.table, group);
        let claim = self.claim_op(Job::Copy(piece), claim, worker);
        let mut held = cache.groups[piece.table][group].clone();
        let edit = |records: &Vec<PieceRecord>| {
            let mut changed = records.clone();
            changed[at] = next.clone();
            Edit::of(&records[at], expected, &next, changed)
        };
        let outcome = self.change(&path, &mut held, claim, edit).await;
        cache.put_group(piece.table, group, held);
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
        let claim = self.claim_op(Job::Publish(batch), claim, worker);
        let mut held = cache.batches[batch.table][batch.batch].clone();
        let edit = |record: &BatchRecord| Edit::of(record, expected, &next, next.clone());
        let outcome = self.change(&path, &mut held, claim, edit).await;
        cache.put_batch(batch, held);
        outcome
    }

    /// Compare-and-set of a node, with a claim in the same commit. Where somebody else was faster, or the answer was lost,
    /// the node is read again and `edit` decides anew.
    async fn change<T: Serialize + DeserializeOwned + Clone>(
        &self,
        path: &str,
        held: &mut Versioned<T>,
        claim: Option<Op>,
        edit: impl Fn(&T) -> Edit<T>,
    ) -> Result<Outcome, LedgerError> {
        loop {
            let changed = match edit(&held.value) {
                Edit::Write(changed) => changed,
                Edit::Written => return Ok(Outcome::Done),
                Edit::Lost => return Ok(Outcome::Lost),
            };
            let mut ops = vec![Op::set(path, encoded(&changed), held.version)];
            ops.extend(claim.clone());
            match self.session.commit(ops).await {
                Ok(()) => {
                    *held = Versioned { value: changed, version: held.version + 1 };
                    return Ok(Outcome::Done);
                }
                // The claim is there (somebody has it) or gone (we have it no more).
                Err(Error::Conflict { op: 1, .. }) => return Ok(Outcome::Lost),
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {
                    *held = versioned(path.to_owned(), self.session.get(path).await?)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn claim_op(&self, job: Job, change: ClaimChange, worker: &str) -> Option<Op> {
        let path = self.path(&format!("claims/{}", claim_name(job)));
        match change {
            ClaimChange::Take => Some(Op::ephemeral(path, worker)),
            ClaimChange::Keep => Some(Op::check(path, None)),
            ClaimChange::GiveBack => Some(Op::delete(path, None)),
            ClaimChange::None => None,
        }
    }

    /// Writes `/status` as the original did.
    pub async fn write_status(&self, counts: &BTreeMap<String, (usize, usize)>) -> Result<(), LedgerError> {
        self.settle(vec![Op::set(self.path("status"), status_text(counts), None)]).await.map(drop)
    }
}
