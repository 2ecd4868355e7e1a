//! The records of a task in the coordinator: read, cached, and changed by compare-and-set.
//!
//! | node | what | written |
//! | --- | --- | --- |
//! | `description` | the XML of the task | once; by people to change settings and `max_workers` |
//! | `status` | counts of partitions, as the original wrote them | after each batch |
//! | `task_active_workers/<id>` | a worker that has a place, ephemeral | |
//! | `task` | [`TaskRecord`] | three times |
//! | `plan/<table>.<chunk>` | [`TablePlan`] in chunks | once |
//! | `pieces/<table>.<group>` | [`PieceRecord`]s of [`GROUP`] pieces | twice a piece |
//! | `batches/<table>.<batch>` | [`BatchRecord`] | twice a batch |
//! | `claims/…` | who copies or publishes what, ephemeral | with the record, in one commit |

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keeper::{Change, Conflict, Error, Op, Session, Version, ensure_path};
use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, BatchRef, Job, PieceRecord, PieceRef, TableBoard, TaskRecord};

/// So many pieces share a node: 300,000 pieces make fewer than 5,000 nodes.
const GROUP: usize = 64;
/// So many bytes of a plan go into a node: ZooKeeper takes less than 1 MiB.
const CHUNK: usize = 512 << 10;
/// So many bytes or steps go into one commit.
const COMMIT_BYTES: usize = 600 << 10;
const COMMIT_STEPS: usize = 500;

/// Why a record could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The coordinator.
    #[error(transparent)]
    Keeper(#[from] Error),
    /// A node holds what this program does not understand.
    #[error("{path} does not hold what it should ({why}): was it written by another version?")]
    Damaged {
        /// The node.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl LedgerError {
    /// Whether the session is gone and another one may succeed.
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Self::Keeper(Error::SessionLost { .. } | Error::Unreachable { .. }))
    }
}

/// What came of trying to change a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is changed.
    Done,
    /// Somebody else was faster: read again.
    Lost,
}

/// The records of a task.
#[derive(Clone)]
pub struct Ledger {
    session: Arc<dyn Session>,
    root: String,
}

/// A record with the version to compare when it is set.
#[derive(Debug, Clone)]
struct Versioned<T> {
    value: T,
    version: Version,
}

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

impl Ledger {
    /// The records below a task path.
    pub fn new(session: Arc<dyn Session>, task_path: &str) -> Self {
        Self { session, root: task_path.trim_end_matches('/').to_owned() }
    }

    /// The session that all goes through.
    pub fn session(&self) -> &Arc<dyn Session> {
        &self.session
    }

    /// The path of a node of the task.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Versioned<T>>, LedgerError> {
        let path = self.path(name);
        match self.session.get(&path).await? {
            None => Ok(None),
            Some(stored) => {
                let value = parsed(&path, &stored.data)?;
                Ok(Some(Versioned { value, version: stored.version }))
            }
        }
    }

    /// The task's XML.
    pub async fn description(&self) -> Result<Option<String>, LedgerError> {
        let path = self.path("description");
        let Some(stored) = self.session.get(&path).await? else { return Ok(None) };
        String::from_utf8(stored.data).map(Some).map_err(|error| LedgerError::Damaged { path, why: error.to_string() })
    }

    /// The task's XML, and when it changes.
    pub async fn watch_description(&self) -> Result<(Option<String>, Change), LedgerError> {
        let (stored, change) = self.session.watch(&self.path("description")).await?;
        Ok((stored.map(|stored| String::from_utf8_lossy(&stored.data).into_owned()), change))
    }

    /// The task's record.
    pub async fn task(&self) -> Result<Option<TaskRecord>, LedgerError> {
        Ok(self.read(TASK).await?.map(|versioned| versioned.value))
    }

    /// The task's record, and when it changes.
    pub async fn watch_task(&self) -> Result<(Option<TaskRecord>, Change), LedgerError> {
        let path = self.path(TASK);
        let (stored, change) = self.session.watch(&path).await?;
        let record = stored.map(|stored| parsed(&path, &stored.data)).transpose()?;
        Ok((record, change))
    }

    /// Makes the task: its nodes, its description and its record. Leaves them if they are there already.
    pub async fn create_task(&self, description: &str, record: &TaskRecord) -> Result<(), LedgerError> {
        for name in ["plan", "pieces", "batches", "claims", "task_active_workers"] {
            ensure_path(self.session.as_ref(), &self.path(name)).await?;
        }
        crate::keeper::create_if_absent(self.session.as_ref(), &self.path("description"), description.into()).await?;
        crate::keeper::create_if_absent(self.session.as_ref(), &self.path("status"), b"{}".to_vec()).await?;
        crate::keeper::create_if_absent(self.session.as_ref(), &self.path(TASK), encoded(record)).await?;
        Ok(())
    }

    /// Writes another description.
    pub async fn upload(&self, description: &str) -> Result<(), LedgerError> {
        self.settle(vec![Op::set(self.path("description"), description, None)]).await.map(drop)
    }

    /// Changes the task's record, by the worker that holds the claim on planning.
    pub async fn set_task(&self, change: impl Fn(&mut TaskRecord) + Send) -> Result<(), LedgerError> {
        loop {
            let Some(mut found) = self.read::<TaskRecord>(TASK).await? else {
                return Err(LedgerError::Damaged { path: self.path(TASK), why: "it is gone".into() });
            };
            change(&mut found.value);
            let op = Op::set(self.path(TASK), encoded(&found.value), found.version);
            if self.settle(vec![op]).await? == Outcome::Done {
                return Ok(());
            }
        }
    }

    /// Stores the plan of a table with a fresh record for each of its pieces and batches. The plan is there when its first
    /// chunk is: that comes last.
    pub async fn store_plan(&self, table: usize, plan: &TablePlan, batches: &[BatchRecord]) -> Result<(), LedgerError> {
        // What an earlier planner left before it died.
        for name in ["plan", "pieces", "batches"] {
            let children = self.session.children(&self.path(name)).await?.unwrap_or_default();
            let own = format!("{table}.");
            let ops = children.iter().filter(|child| child.starts_with(&own));
            self.commit_all(ops.map(|child| Op::delete(self.path(&format!("{name}/{child}")), None)).collect()).await?;
        }
        let mut ops = Vec::new();
        for (group, pieces) in plan.pieces.chunks(GROUP).enumerate() {
            let records = vec![PieceRecord::default(); pieces.len()];
            ops.push(Op::create(self.group_path(table, group), encoded(&records)));
        }
        for (batch, record) in batches.iter().enumerate() {
            ops.push(Op::create(self.batch_path(table, batch), encoded(record)));
        }
        let text = encoded(plan);
        let chunks: Vec<&[u8]> = text.chunks(CHUNK).collect();
        ops.extend(chunks.iter().enumerate().skip(1).map(|(n, chunk)| Op::create(self.chunk_path(table, n), *chunk)));
        self.commit_all(ops).await?;
        let first = chunks.first().copied().unwrap_or_default();
        let head = format!("{}\n", chunks.len()).into_bytes();
        self.commit_all(vec![Op::create(self.chunk_path(table, 0), [head.as_slice(), first].concat())]).await
    }

    /// The plan of a table.
    pub async fn plan(&self, table: usize) -> Result<TablePlan, LedgerError> {
        let path = self.chunk_path(table, 0);
        let damaged = |why: &str| LedgerError::Damaged { path: path.clone(), why: why.to_owned() };
        let first = self.session.get(&path).await?.ok_or_else(|| damaged("it is missing"))?;
        let newline = first.data.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no head"))?;
        let head = std::str::from_utf8(&first.data[..newline]).ok().and_then(|text| text.parse::<usize>().ok());
        let count = head.ok_or_else(|| damaged("its head is no number"))?;
        let mut text = first.data[newline + 1..].to_vec();
        let paths: Vec<String> = (1..count).map(|n| self.chunk_path(table, n)).collect();
        for chunk in self.session.get_many(&paths).await? {
            text.extend(chunk.ok_or_else(|| damaged("a chunk is missing"))?.data);
        }
        parsed(&path, &text)
    }

    /// Reads all records that may still change, and what is claimed. `cache` is empty the first time.
    pub async fn refresh(&self, cache: &mut Cache, plans: &[TablePlan]) -> Result<(), LedgerError> {
        if cache.boards.is_empty() {
            for plan in plans {
                cache.boards.push(TableBoard {
                    pieces_of: plan.batches.iter().map(|batch| batch.pieces.clone()).collect(),
                    preference: (0..plan.pieces.len()).collect(),
                    ..TableBoard::default()
                });
                cache.groups.push(Vec::new());
                cache.batches.push(Vec::new());
            }
        }
        cache.busy = self.claims().await?;
        for (table, plan) in plans.iter().enumerate() {
            let groups = plan.pieces.len().div_ceil(GROUP);
            let open = |n: &usize| match cache.groups[table].get(*n) {
                Some(group) => group.value.iter().any(|piece| piece.copied().is_none()),
                None => true,
            };
            let wanted: Vec<usize> = (0..groups).filter(open).collect();
            let paths: Vec<String> = wanted.iter().map(|n| self.group_path(table, *n)).collect();
            let found = self.session.get_many(&paths).await?;
            for ((n, path), stored) in wanted.into_iter().zip(paths).zip(found) {
                let stored =
                    stored.ok_or_else(|| LedgerError::Damaged { path: path.clone(), why: "it is gone".into() })?;
                put(
                    &mut cache.groups[table],
                    n,
                    Versioned { value: parsed(&path, &stored.data)?, version: stored.version },
                );
            }
            let open = |n: &usize| cache.batches[table].get(*n).is_none_or(|batch| !batch.value.is_done());
            let wanted: Vec<usize> = (0..plan.batches.len()).filter(open).collect();
            let paths: Vec<String> = wanted.iter().map(|n| self.batch_path(table, *n)).collect();
            let found = self.session.get_many(&paths).await?;
            for ((n, path), stored) in wanted.into_iter().zip(paths).zip(found) {
                let stored =
                    stored.ok_or_else(|| LedgerError::Damaged { path: path.clone(), why: "it is gone".into() })?;
                put(
                    &mut cache.batches[table],
                    n,
                    Versioned { value: parsed(&path, &stored.data)?, version: stored.version },
                );
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

    /// Takes a claim without a record: on planning, on finishing.
    pub async fn claim(&self, name: &str, worker: &str) -> Result<Outcome, LedgerError> {
        self.settle(vec![Op::ephemeral(self.path(&format!("claims/{name}")), worker)]).await
    }

    /// Gives a claim back.
    pub async fn release(&self, name: &str) -> Result<(), LedgerError> {
        self.settle(vec![Op::delete(self.path(&format!("claims/{name}")), None)]).await.map(drop)
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
        loop {
            let held = &cache.groups[piece.table][group];
            if held.value[at] == next {
                // An earlier commit of ours whose answer was lost.
                return Ok(Outcome::Done);
            }
            if &held.value[at] != expected {
                return Ok(Outcome::Lost);
            }
            let mut records = held.value.clone();
            records[at] = next.clone();
            let mut ops = vec![Op::set(path.clone(), encoded(&records), held.version)];
            ops.extend(claim.clone());
            match self.session.commit(ops).await {
                Ok(()) => {
                    let version = held.version + 1;
                    cache.put_group(piece.table, group, Versioned { value: records, version });
                    return Ok(Outcome::Done);
                }
                // The claim is there (somebody has it) or gone (we have it no more).
                Err(Error::Conflict { op: 1, .. }) => return Ok(Outcome::Lost),
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {
                    let stored = self.session.get(&path).await?;
                    let stored =
                        stored.ok_or_else(|| LedgerError::Damaged { path: path.clone(), why: "it is gone".into() })?;
                    let value = parsed(&path, &stored.data)?;
                    cache.put_group(piece.table, group, Versioned { value, version: stored.version });
                }
                Err(error) => return Err(error.into()),
            }
        }
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
        loop {
            let held = &cache.batches[batch.table][batch.batch];
            if held.value == next {
                return Ok(Outcome::Done);
            }
            if &held.value != expected {
                return Ok(Outcome::Lost);
            }
            let mut ops = vec![Op::set(path.clone(), encoded(&next), held.version)];
            ops.extend(claim.clone());
            match self.session.commit(ops).await {
                Ok(()) => {
                    let version = held.version + 1;
                    cache.put_batch(batch, Versioned { value: next, version });
                    return Ok(Outcome::Done);
                }
                Err(Error::Conflict { op: 1, .. }) => return Ok(Outcome::Lost),
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {
                    let stored = self.session.get(&path).await?;
                    let stored =
                        stored.ok_or_else(|| LedgerError::Damaged { path: path.clone(), why: "it is gone".into() })?;
                    let value = parsed(&path, &stored.data)?;
                    cache.put_batch(batch, Versioned { value, version: stored.version });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes `/status` as the original did.
    pub async fn write_status(&self, counts: &BTreeMap<String, (usize, usize)>) -> Result<(), LedgerError> {
        self.settle(vec![Op::set(self.path("status"), status_text(counts), None)]).await.map(drop)
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

    /// One commit whose lost answer is found out: each step of it can be repeated without harm, or tells by its conflict
    /// that it was done.
    async fn settle(&self, ops: Vec<Op>) -> Result<Outcome, LedgerError> {
        let mut unknown = false;
        loop {
            match self.session.commit(ops.clone()).await {
                Ok(()) => return Ok(Outcome::Done),
                Err(Error::Unknown { .. }) => unknown = true,
                Err(Error::Conflict { .. }) if unknown => return self.settled(&ops).await,
                Err(Error::Conflict { why: Conflict::Missing, .. })
                    if matches!(ops.as_slice(), [Op::Delete { .. }]) =>
                {
                    return Ok(Outcome::Done);
                }
                Err(Error::Conflict { .. }) => return Ok(Outcome::Lost),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a single-step commit whose answer was lost had been done.
    async fn settled(&self, ops: &[Op]) -> Result<Outcome, LedgerError> {
        let [op] = ops else { return Ok(Outcome::Lost) };
        let stored = self.session.get(op.path()).await?;
        let done = match (op, stored) {
            (Op::Create { data, .. }, Some(stored)) => {
                &stored.data == data && stored.ephemeral_owner.is_none_or(|owner| owner == self.session.id())
            }
            (Op::Set { data, .. }, Some(stored)) => &stored.data == data,
            (Op::Delete { .. }, None) => true,
            _ => false,
        };
        Ok(if done { Outcome::Done } else { Outcome::Lost })
    }

    /// Many independent steps, some at a time. A step that was done already is done.
    async fn commit_all(&self, ops: Vec<Op>) -> Result<(), LedgerError> {
        let mut rest = ops.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |op: &&Op| {
                bytes += match op {
                    Op::Create { data, path, .. } | Op::Set { data, path, .. } => data.len() + path.len(),
                    Op::Delete { path, .. } | Op::Check { path, .. } => path.len(),
                };
                bytes <= COMMIT_BYTES
            };
            let count = rest.iter().take(COMMIT_STEPS).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            match self.session.commit(now.to_vec()).await {
                Ok(()) => {}
                Err(error) if error.may_have_applied() || error.conflict().is_some() => {
                    for op in now {
                        self.settle(vec![op.clone()]).await?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            rest = later;
        }
        Ok(())
    }

    fn group_path(&self, table: usize, group: usize) -> String {
        self.path(&format!("pieces/{table}.{group}"))
    }

    fn batch_path(&self, table: usize, batch: usize) -> String {
        self.path(&format!("batches/{table}.{batch}"))
    }

    fn chunk_path(&self, table: usize, chunk: usize) -> String {
        self.path(&format!("plan/{table}.{chunk}"))
    }
}

const TASK: &str = "task";

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

impl Cache {
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

/// Records are of types that always have a JSON form; an empty text could not be read back and would be noticed.
fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn parsed<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(data).map_err(|error| LedgerError::Damaged { path: path.to_owned(), why: error.to_string() })
}
