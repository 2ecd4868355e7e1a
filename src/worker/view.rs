//! What a worker lets others in its process see of it while it works. Looking changes nothing and holds nothing up: an answer
//! that does not come is done without.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use crate::client::Running;
use crate::model::Node;
use crate::protocol::{
    BatchRecord, BatchRef, BatchState, Job, MadeStatement, Order, PieceRecord, PieceRef, PieceState, TableRecords,
    TaskRecord,
};

use super::counters::Tally;
use super::jobs::JobRunner;
use crate::ledger::membership;
use crate::ledger::overview::TaskOverview;
use crate::ledger::{Cache, LedgerError};

pub use super::counters::Done;

/// So long a server is asked for what runs there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a worker shows itself. A clone shows the same.
#[derive(Clone, Default)]
pub struct View {
    shown: watch::Sender<Option<Shown>>,
    last: Arc<Mutex<Option<Shown>>>,
    tally: Arc<Tally>,
}

#[derive(Clone)]
struct Shown {
    runner: JobRunner,
    record: TaskRecord,
}

/// Ends the show when it goes.
pub(super) struct Showing<'a>(&'a View);

/// Who looks on.
pub struct Watcher {
    shown: watch::Receiver<Option<Shown>>,
    cache: Cache,
}

/// A piece that the worker copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InHand {
    /// The piece.
    pub piece: PieceRef,
    /// The number of the attempt.
    pub attempt: u32,
    /// The table job, and the partition or how many there are.
    pub name: String,
    /// Rows when it was planned.
    pub rows: u64,
    /// Rows that are read or written, as far as servers told.
    pub so_far: u64,
}

impl View {
    /// Somebody who looks on from now on.
    pub fn watcher(&self) -> Watcher {
        Watcher { shown: self.shown.subscribe(), cache: Cache::default() }
    }

    /// What the worker has done so far.
    pub fn done(&self) -> Done {
        self.tally.done()
    }

    /// Where that is counted.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// How many pieces and batches the worker has in hand, going by the records that it knows. `None`: it is not at work.
    pub async fn jobs_in_hand(&self) -> Option<(usize, usize)> {
        let Shown { runner, .. } = self.shown.borrow().clone()?;
        let worker = &runner.context.worker;
        let cache = runner.cache.lock().await;
        let pieces = cache.by_table.iter().flat_map(|records| &records.pieces);
        let copies =
            |record: &&PieceRecord| matches!(&record.state, PieceState::Running { worker: of } if of == worker);
        let batches = cache.by_table.iter().flat_map(|records| &records.batches);
        let publishes =
            |record: &&BatchRecord| matches!(&record.state, BatchState::Publishing { worker: of, .. } if of == worker);
        Some((pieces.filter(copies).count(), batches.filter(publishes).count()))
    }

    pub(super) fn show(&self, runner: &JobRunner, record: &TaskRecord) -> Showing<'_> {
        let shown = Shown { runner: runner.clone(), record: record.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
        self.shown.send_replace(Some(shown));
        Showing(self)
    }

    /// What the worker knew last of the task, when its run is over. Asks nobody. `None`: it never was at work.
    pub async fn last(&self) -> Option<TaskOverview> {
        let Shown { runner, record } = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        // No job is left that could hold it; if one hangs, there is no such look.
        let cache = tokio::time::timeout(PATIENCE, runner.cache.lock()).await.ok()?;
        let record = TaskRecord { planned: true, ..record };
        Some(TaskOverview::alone(record, Order::Run, runner.context.plans.clone(), cache.by_table.clone()))
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        self.0.shown.send_replace(None);
    }
}

impl Watcher {
    /// Returns when the worker is at work. Never, when it will not be any more.
    pub async fn at_work(&mut self) {
        if self.shown.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The whole task, as it is recorded now; what runs on servers is left out. `None`: the worker is not at work, or the
    /// coordinator did not answer.
    pub async fn look(&mut self) -> Option<TaskOverview> {
        let Shown { runner, record } = self.shown.borrow().clone()?;
        match self.read(&runner, record).await {
            Ok(overview) => Some(overview),
            Err(error) => {
                tracing::debug!("how far the task is cannot be seen: {error}");
                // What was read may be half of it.
                self.cache = Cache::default();
                None
            }
        }
    }

    async fn read(&mut self, runner: &JobRunner, record: TaskRecord) -> Result<TaskOverview, LedgerError> {
        let context = &runner.context;
        runner.ledger.refresh(&mut self.cache, &context.plans).await?;
        let task = context.task();
        Ok(TaskOverview {
            record: TaskRecord { planned: true, ..record },
            order: Order::Run,
            max_jobs_per_server: task.max_jobs_per_server.map(std::num::NonZeroU32::get),
            max_workers: Some(task.max_workers).filter(|limit| *limit != u32::MAX),
            plans: context.plans.clone(),
            claims: self
                .cache
                .by_table
                .iter()
                .enumerate()
                .flat_map(|(table, records)| claims(table, records))
                .collect(),
            by_table: self.cache.by_table.clone(),
            places: membership::places(&runner.ledger).await?,
            on_servers: Vec::new(),
            statements: Vec::new(),
            silent: Vec::new(),
        })
    }

    /// The pieces that this worker has in hand. Each node that they are on is asked once.
    pub async fn in_hand(&self) -> Vec<InHand> {
        let Some(Shown { runner, .. }) = self.shown.borrow().clone() else { return Vec::new() };
        let context = &runner.context;
        let (mut in_hand, mut nodes): (Vec<InHand>, BTreeMap<String, Arc<Node>>) = Default::default();
        {
            let cache = runner.cache.lock().await;
            for (table, records) in cache.by_table.iter().enumerate() {
                for (piece, record) in records.pieces.iter().enumerate() {
                    if matches!(&record.state, PieceState::Running { worker } if *worker == context.worker) {
                        let plan = &context.plans[table];
                        let of = PieceRef { table, piece };
                        let batch = records.batch_of[piece];
                        let what = match plan.partitions_of(batch) {
                            [one] => one.name.clone(),
                            many => format!("{} partitions", many.len()),
                        };
                        let name = format!("{} piece {piece} ({what})", plan.name);
                        let (attempt, rows) = (record.attempt, plan.pieces[piece].rows());
                        in_hand.push(InHand { piece: of, attempt, name, rows, so_far: 0 });
                        for node in context.statement_nodes(of, &records.batches[batch].nodes) {
                            nodes.insert(node.url(), node);
                        }
                    }
                }
            }
        }
        let (client, prefix) = (&context.pool.client, context.id.queries());
        let looks = join_all(nodes.values().map(|node| tokio::time::timeout(PATIENCE, client.running(node, &prefix))));
        let statements: Vec<_> = looks.await.into_iter().flatten().flatten().flatten().collect();
        for held in &mut in_hand {
            let of_piece = |statement: &&Running| {
                let of = MadeStatement::parse(&statement.query_id);
                of.is_some_and(|of| of.piece == held.piece && of.attempt == held.attempt)
            };
            held.so_far = rows_so_far(statements.iter().filter(of_piece)).min(held.rows);
        }
        in_hand
    }
}

/// Returns how many rows the statements of one attempt have written so far. A push or a pull reads ahead of what it sends, so
/// what it has read tells nothing; of a relay whose INSERT is not seen yet, what its SELECT has read.
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

/// What is claimed, going by the records: a look at the claims themselves would ask for each of them.
fn claims(table: usize, records: &TableRecords) -> impl Iterator<Item = (String, String)> + '_ {
    let pieces = records.pieces.iter().enumerate().filter_map(move |(piece, record)| match &record.state {
        PieceState::Running { worker } => Some((Job::Copy(PieceRef { table, piece }), worker)),
        _ => None,
    });
    let batches = records.batches.iter().enumerate().filter_map(move |(batch, record)| match &record.state {
        BatchState::Publishing { worker, .. } => Some((Job::Publish(BatchRef { table, batch }), worker)),
        _ => None,
    });
    pieces.chain(batches).map(|(job, worker)| (job.claim(), worker.clone()))
}
