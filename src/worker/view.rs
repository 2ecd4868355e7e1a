//! A view of a working worker, for other parts of the same process. Reading it changes nothing and delays nothing: it leaves out
//! answers that do not come in time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::counters::Counters;
use super::jobs::JobRunner;
use crate::client::Running;
use crate::ledger::overview::TaskOverview;
use crate::ledger::{Cache, LedgerError, membership};
use crate::model::{AttemptNo, Node};
use crate::protocol::{
    BatchRef, BatchState, Claim, HeldClaim, Job, MadeStatement, Order, PieceRef, PieceState, TableRecords, TaskRecord,
};

pub(crate) use super::counters::Totals;

/// How long to wait for the statements of a server, or for the cache of the worker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The view of a worker. Clones share it.
#[derive(Clone, Default)]
pub struct View {
    shown: watch::Sender<Option<WorkerState>>,
    last: Arc<Mutex<Option<WorkerState>>>,
    counters: Arc<Counters>,
}

/// The handles to a worker at work.
#[derive(Clone)]
struct WorkerState {
    runner: JobRunner,
    record: TaskRecord,
}

/// A guard that hides the worker again when it is dropped.
pub(super) struct ShownGuard<'a>(&'a View);

/// A reader of the view.
pub(crate) struct Watcher {
    shown: watch::Receiver<Option<WorkerState>>,
    cache: Cache,
}

/// A piece that the worker copies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningPiece {
    /// The piece.
    pub(crate) piece: PieceRef,
    /// The number of the attempt.
    pub(crate) attempt: AttemptNo,
    /// The table job, and the partition or the number of partitions.
    pub(crate) name: String,
    /// The planned number of rows.
    pub(crate) rows: u64,
    /// The number of rows read or written so far, according to the servers.
    pub(crate) so_far: u64,
}

impl View {
    /// Creates a reader.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher { shown: self.shown.subscribe(), cache: Cache::default() }
    }

    /// Returns the totals of the worker so far.
    pub(crate) fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Returns the counters of the worker.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns how many pieces and batches the worker works on, according to the records in its cache. Returns `None` when it is not
    /// at work.
    pub(crate) async fn jobs_in_hand(&self) -> Option<(usize, usize)> {
        let WorkerState { runner, .. } = self.shown.borrow().clone()?;
        let worker = &runner.context.worker;
        let cache = runner.cache.lock().await;
        let (mut copies, mut publications) = (0, 0);
        for (job, _) in held_jobs(&cache.by_table).filter(|(_, holder)| holder == worker) {
            match job {
                Job::Copy(_) => copies += 1,
                Job::Publish(_) => publications += 1,
            }
        }
        Some((copies, publications))
    }

    /// Shows a worker until the returned guard is dropped.
    pub(super) fn show(&self, runner: &JobRunner, record: &TaskRecord) -> ShownGuard<'_> {
        let shown = WorkerState { runner: runner.clone(), record: record.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
        self.shown.send_replace(Some(shown));
        ShownGuard(self)
    }

    /// Returns the last known state of the task, after the run. Asks no server. Returns `None` when the worker never was at work.
    pub(crate) async fn last(&self) -> Option<TaskOverview> {
        let WorkerState { runner, record } = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        // No job should hold the lock now. If one hangs, there is no overview.
        let cache = tokio::time::timeout(ANSWER_TIMEOUT, runner.cache.lock()).await.ok()?;
        let record = TaskRecord { planned: true, ..record };
        Some(TaskOverview::alone(record, Order::Run, runner.context.plans.clone(), cache.by_table.clone()))
    }
}

impl Drop for ShownGuard<'_> {
    fn drop(&mut self) {
        self.0.shown.send_replace(None);
    }
}

impl Watcher {
    /// Waits until the worker is at work. Never returns when the worker has ended.
    pub(crate) async fn at_work(&mut self) {
        if self.shown.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads the whole task as it is recorded now, without the statements on servers. Returns `None` when the worker is not at work, or
    /// the coordinator did not answer.
    pub(crate) async fn read(&mut self) -> Option<TaskOverview> {
        let WorkerState { runner, record } = self.shown.borrow().clone()?;
        match self.read_records(&runner, record).await {
            Ok(overview) => Some(overview),
            Err(error) => {
                tracing::debug!("how far the task is cannot be seen: {error}");
                // The cache may be incomplete.
                self.cache = Cache::default();
                None
            }
        }
    }

    async fn read_records(&mut self, runner: &JobRunner, record: TaskRecord) -> Result<TaskOverview, LedgerError> {
        let context = &runner.context;
        runner.ledger.refresh(&mut self.cache, &context.plans).await?;
        let task = context.task();
        Ok(TaskOverview {
            record: TaskRecord { planned: true, ..record },
            order: Order::Run,
            max_jobs_per_server: task.max_jobs_per_server.map(std::num::NonZeroU32::get),
            max_workers: Some(task.max_workers).filter(|limit| *limit != u32::MAX),
            plans: context.plans.clone(),
            // Reading the claims themselves would take a request for each of them.
            claims: held_jobs(&self.cache.by_table)
                .map(|(job, worker)| HeldClaim { claim: Claim::Job(job), worker: worker.to_owned() })
                .collect(),
            by_table: self.cache.by_table.clone(),
            places: membership::places(&runner.ledger).await?,
            on_servers: Vec::new(),
            statements: Vec::new(),
            silent: Vec::new(),
        })
    }

    /// Returns the pieces that this worker copies now. Asks each of their nodes once.
    pub(crate) async fn running_pieces(&self) -> Vec<RunningPiece> {
        let Some(WorkerState { runner, .. }) = self.shown.borrow().clone() else { return Vec::new() };
        let context = &runner.context;
        let (mut running_pieces, mut nodes): (Vec<RunningPiece>, BTreeMap<String, Arc<Node>>) = Default::default();
        {
            let cache = runner.cache.lock().await;
            for (job, _) in held_jobs(&cache.by_table).filter(|(_, holder)| *holder == context.worker) {
                let Job::Copy(piece) = job else { continue };
                let (plan, records) = (&context.plans[piece.table], &cache.by_table[piece.table]);
                let batch = records.batch_of[piece.index];
                let what = match plan.partitions_of(batch) {
                    [one] => one.name.clone(),
                    many => format!("{} partitions", many.len()),
                };
                let name = format!("{} piece {} ({what})", plan.name, piece.index);
                let (attempt, rows) = (records.pieces[piece.index].attempt, plan.pieces[piece.index].rows());
                running_pieces.push(RunningPiece { piece, attempt, name, rows, so_far: 0 });
                for node in context.statement_nodes(piece, &records.batches[batch].nodes) {
                    nodes.insert(node.url(), node);
                }
            }
        }
        let (client, prefix) = (&context.pool.client, context.id.queries());
        let answers =
            join_all(nodes.values().map(|node| tokio::time::timeout(ANSWER_TIMEOUT, client.running(node, &prefix))));
        let statements: Vec<_> = answers.await.into_iter().flatten().flatten().flatten().collect();
        for held in &mut running_pieces {
            let of_piece = |statement: &&Running| {
                let origin = MadeStatement::parse(&statement.query_id);
                origin.is_some_and(|origin| origin.piece == held.piece && origin.attempt == held.attempt)
            };
            held.so_far = rows_so_far(statements.iter().filter(of_piece)).min(held.rows);
        }
        running_pieces
    }
}

/// Returns how many rows the statements of one attempt have written so far. A push or a pull reads ahead of what it sends, so its
/// read rows tell nothing. For a relay whose INSERT is not visible yet, returns the rows that its SELECT has read.
fn rows_so_far<'a>(statements: impl Iterator<Item = &'a Running>) -> u64 {
    let (mut read, mut written) = (0, None);
    for statement in statements {
        if statement.only_reads() {
            read += statement.read_rows;
        } else {
            *written.get_or_insert(0) += statement.written_rows;
        }
    }
    written.unwrap_or(read)
}

/// Returns the jobs that workers hold according to the records, each with its worker.
fn held_jobs(by_table: &[TableRecords]) -> impl Iterator<Item = (Job, &str)> {
    by_table.iter().enumerate().flat_map(|(table, records)| {
        let pieces = records.pieces.iter().enumerate().filter_map(move |(index, record)| match &record.state {
            PieceState::Running { worker } => Some((Job::Copy(PieceRef { table, index }), worker.as_str())),
            _ => None,
        });
        let batches = records.batches.iter().enumerate().filter_map(move |(index, record)| match &record.state {
            BatchState::Publishing { worker, .. } => Some((Job::Publish(BatchRef { table, index }), worker.as_str())),
            _ => None,
        });
        pieces.chain(batches)
    })
}
