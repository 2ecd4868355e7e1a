//! A worker at work: take what can be taken, up to `jobs` at once, until nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use crate::coordinator::{Change, Error as KeeperError};
use crate::model::counted;
use crate::protocol::{BatchRef, BatchState, Job, Next, Order, PieceRef, PieceState};
use crate::task::SecretSource;

use super::jobs::JobRunner;
use crate::ledger::membership;
use crate::ledger::{ClaimChange, LedgerError, Processed};
use crate::planning::errors::RunError;
use crate::runtime::signals::{Hand, Interrupt};
use crate::task::edited::changed_task;

/// `/status` is written at most this often, and at the end.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// The pause before a fresh start is that after so many failures in a row.
const LONG_PAUSE: u32 = 6;

/// How a shift ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopEnd {
    /// Everything is done.
    Finished,
    /// What is left has failed.
    Stuck,
    /// There are too many workers now: wait for a place again.
    Surplus,
    /// The run is to end; what was in hand is finished.
    Interrupted,
    /// The run is to end at once; what was in hand is given up.
    Stopped,
    /// The task is paused; what was in hand is finished.
    Paused,
    /// It is paused, and what was in hand is given up.
    GivenUp,
    /// It is cancelled; what was in hand is given up.
    Cancelled,
}

/// A worker at work.
pub struct MainLoop<'a> {
    /// What jobs need.
    pub runner: JobRunner,
    /// For a description that changes.
    pub secrets: &'a dyn SecretSource,
    /// What the plan depends on.
    pub inputs: &'a BTreeMap<String, String>,
    /// When to end.
    pub interrupt: &'a Interrupt,
    /// Ends what only waits, with the run or with a pause.
    pub breaks: Hand,
    /// Whether what failed in an earlier run is to be tried again.
    pub retry_failed: bool,
    /// What was counted for the last `/status`.
    pub processed: Processed,
}

/// Jobs are tasks of their own: one that holds the cache must go on while the shift waits for the cache.
type Running = JoinSet<Result<Job, LedgerError>>;

impl MainLoop<'_> {
    /// Works until nothing is left for this worker.
    ///
    /// # Errors
    /// When the coordinator is lost: all work in hand is dropped then, and its claims are gone or go with the session.
    pub async fn work(&mut self) -> Result<LoopEnd, RunError> {
        let mut running = Running::new();
        let mut description = self.next_description().await?;
        let mut places = self.next_places().await?;
        let (mut order, mut orders) = self.next_order().await?;
        let (mut last_status, mut status_due, mut status_pause) = (Instant::now(), false, STATUS_PAUSE);
        let session = membership::session(&self.runner.ledger);
        if self.retry_failed {
            self.revive(self.failed(true).await, true).await?;
        }
        loop {
            let surplus = self.is_surplus().await?;
            let taking = !surplus && !self.interrupt.is_finishing() && order.lets_begin();
            let (next, claims) = if taking { self.take(&mut running).await? } else { (Next::Wait, None) };
            if status_due && (running.is_empty() || last_status.elapsed() > status_pause) {
                let began = Instant::now();
                self.write_status().await?;
                // With thousands of tables it takes longer: at most a tenth of the time goes into it.
                status_pause = STATUS_PAUSE.max(began.elapsed() * 10);
                (last_status, status_due) = (Instant::now(), false);
            }
            if running.is_empty() {
                if self.interrupt.is_finishing() {
                    return Ok(LoopEnd::Interrupted);
                }
                match order {
                    Order::Run => {}
                    Order::Pause | Order::PauseNow => return Ok(LoopEnd::Paused),
                    Order::Cancel => return Ok(LoopEnd::Cancelled),
                }
                if surplus {
                    return Ok(LoopEnd::Surplus);
                }
                match next {
                    Next::Finished => return Ok(LoopEnd::Finished),
                    Next::Stuck if self.start_afresh().await? => continue,
                    Next::Stuck => return Ok(LoopEnd::Stuck),
                    Next::Wait | Next::Claim(_) | Next::Look(_) => {}
                }
            }
            // Nothing is awaited inside the arms: a job that goes on must not wait for what another event needs.
            // The most urgent first: a job may have ended because the session did.
            let event = tokio::select! {
                biased;
                () = self.interrupt.stop() => Event::Stop,
                lost = session.lost() => Event::Lost(lost),
                () = self.interrupt.finish(), if !self.interrupt.is_finishing() => Event::Finish,
                Some(done) = running.join_next(), if !running.is_empty() => Event::Done(done),
                () = &mut description => Event::Description,
                () = &mut places => Event::Places,
                () = &mut orders => Event::Order,
                () = fired(claims) => Event::Claims,
            };
            match event {
                Event::Done(job) => {
                    let job = job.map_err(|panic| RunError::World(vec![format!("internal error: {panic}")]))??;
                    status_due |= matches!(job, Job::Publish(_));
                }
                Event::Claims => {}
                Event::Finish => self.breaks.signal(),
                Event::Description => {
                    // The watch is set before the look, so that no change is missed.
                    description = self.next_description().await?;
                    self.take_over(self.runner.ledger.description().await?.as_deref());
                    places = self.next_places().await?;
                }
                Event::Places => places = self.next_places().await?,
                Event::Order => {
                    (order, orders) = self.next_order().await?;
                    if !order.lets_begin() {
                        self.breaks.signal();
                    }
                    if order.stops() {
                        running.shutdown().await;
                        return Ok(if order == Order::Cancel { LoopEnd::Cancelled } else { LoopEnd::GivenUp });
                    }
                    if order == Order::Pause {
                        tracing::info!(
                            "the task is to pause, and first to finish {} in hand",
                            counted(running.len(), "job")
                        );
                    }
                }
                Event::Stop => {
                    running.shutdown().await;
                    return Ok(LoopEnd::Stopped);
                }
                Event::Lost(error) => return Err(error.into()),
            }
        }
    }

    /// Claims jobs until the hands are full or nothing can be claimed. Gives what is next then, and a watch that was set
    /// before the last look.
    async fn take(&self, running: &mut Running) -> Result<(Next, Option<Change>), RunError> {
        let (mut watch, mut sure) = (None, false);
        while running.len() < self.runner.context.concurrency.jobs() {
            // Held until what was chosen is claimed or looked at: jobs in hand change what is known.
            let mut cache = self.runner.cache.lock().await;
            match cache.what_next() {
                Next::Claim(job) => {
                    if let Some(claimed) = self.runner.claim(&mut cache, job).await? {
                        let runner = self.runner.clone();
                        running.spawn(async move { runner.perform(claimed).await }.in_current_span());
                    }
                }
                Next::Look(groups) => self.runner.ledger.look(&mut cache, &groups).await?,
                Next::Finished => return Ok((Next::Finished, None)),
                // What has failed may have been tried again meanwhile.
                Next::Stuck if !sure => {
                    sure = true;
                    self.runner.ledger.refresh(&mut cache, &self.runner.context.plans).await?;
                }
                other if watch.is_some() => return Ok((other, watch)),
                // What is known may be old: look again, and be told of what changes from then on.
                _ => watch = Some(self.runner.ledger.look_at_claims(&mut cache).await?),
            }
        }
        Ok((Next::Wait, None))
    }

    /// Reads every record that may have changed.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        let mut cache = self.runner.cache.lock().await;
        self.runner.ledger.refresh(&mut cache, &self.runner.context.plans).await
    }

    async fn next_description(&self) -> Result<BoxFuture<'static, ()>, LedgerError> {
        let (_, change) = self.runner.ledger.watch_description().await?;
        Ok(fired(Some(change)).boxed())
    }

    /// Takes this worker's share of what all may move in a second, where there is such a cap; and waits for it to change.
    async fn next_places(&self) -> Result<BoxFuture<'static, ()>, LedgerError> {
        let context = &self.runner.context;
        let task = context.task();
        if task.max_bytes_per_second_of_task.is_none() {
            return Ok(fired(None).boxed());
        }
        let (places, change) = membership::watch_places(&self.runner.ledger).await?;
        context.bandwidth.share(&task, places.len());
        Ok(fired(Some(change)).boxed())
    }

    async fn next_order(&self) -> Result<(Order, BoxFuture<'static, ()>), LedgerError> {
        let (order, change) = self.runner.ledger.watch_order().await?;
        Ok((order, fired(Some(change)).boxed()))
    }

    async fn is_surplus(&self) -> Result<bool, LedgerError> {
        let limit = self.runner.context.task().max_workers;
        if limit == u32::MAX {
            return Ok(false);
        }
        let places = membership::places(&self.runner.ledger).await?;
        Ok(membership::is_surplus(&places, &self.runner.context.worker, limit))
    }

    /// The pieces and batches that failed and are to have another chance: when the run begins all of them, later as often as
    /// the rounds allow those that another try could help.
    async fn failed(&self, all: bool) -> Vec<Job> {
        let rounds = self.runner.context.worker_options.rounds;
        let again = |transient: bool, had: u32| all || (transient && had + 1 < rounds);
        let cache = self.runner.cache.lock().await;
        let mut failed = Vec::new();
        for (table, records) in cache.by_table.iter().enumerate() {
            for (piece, record) in records.pieces.iter().enumerate() {
                if matches!(record.state, PieceState::Failed { transient, .. } if again(transient, record.rounds)) {
                    failed.push(Job::Copy(PieceRef { table, piece }));
                }
            }
            for (batch, record) in records.batches.iter().enumerate() {
                if matches!(record.state, BatchState::Failed { transient, .. } if again(transient, record.rounds)) {
                    failed.push(Job::Publish(BatchRef { table, batch }));
                }
            }
        }
        failed
    }

    /// Gives what failed another chance, after a pause. Whether there is something to do again.
    async fn start_afresh(&self) -> Result<bool, LedgerError> {
        let failed = self.failed(false).await;
        if failed.is_empty() {
            return Ok(false);
        }
        let pause = self.runner.context.pause(LONG_PAUSE);
        let count = counted(failed.len(), "job");
        tracing::warn!("{count} failed, to be tried afresh in {:.0} s", pause.as_secs_f64());
        tokio::select! {
            biased;
            () = self.interrupt.finish() => return Ok(true),
            () = tokio::time::sleep(pause) => {}
        }
        self.revive(failed, false).await?;
        Ok(true)
    }

    /// Makes failed jobs ones that nobody has begun. `new_run`: their rounds are counted from the beginning.
    async fn revive(&self, failed: Vec<Job>, new_run: bool) -> Result<(), LedgerError> {
        let mut cache = self.runner.cache.lock().await;
        let (none, worker) = (ClaimChange::None, &self.runner.context.worker);
        for job in failed {
            match job {
                Job::Copy(piece) => {
                    let record = cache.by_table[piece.table].pieces[piece.piece].clone();
                    // Unless another worker was faster.
                    if matches!(record.state, PieceState::Failed { .. }) {
                        let next = record.fresh_start(new_run);
                        self.runner.ledger.change_piece(&mut cache, piece, &record, next, none, worker).await?;
                    }
                }
                Job::Publish(batch) => {
                    let record = cache.by_table[batch.table].batches[batch.batch].clone();
                    if matches!(record.state, BatchState::Failed { .. }) {
                        let next = record.fresh_start(new_run);
                        self.runner.ledger.change_batch(&mut cache, batch, &record, next, none, worker).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes over a changed description: settings and `max_workers`. What the plan depends on cannot change any more.
    fn take_over(&self, text: Option<&str>) {
        let Some(text) = text else {
            tracing::warn!("the description of the task was deleted; the copy goes on as planned");
            return;
        };
        if let Some(task) = changed_task(text, self.secrets, self.inputs) {
            tracing::info!(
                "the description of the task has changed: its settings, transfer, limits and max_workers apply from now on"
            );
            self.runner.context.set_task(Arc::new(task));
        }
    }

    /// Writes `/status` from what is recorded.
    pub async fn write_status(&mut self) -> Result<(), LedgerError> {
        self.runner.ledger.write_status(&self.runner.context.plans, &mut self.processed).await
    }
}

enum Event {
    Done(Result<Result<Job, LedgerError>, JoinError>),
    Claims,
    Description,
    Places,
    Order,
    Finish,
    Stop,
    Lost(KeeperError),
}

async fn fired(change: Option<Change>) {
    match change {
        Some(change) => {
            // A watch that cannot fire any more means that the session is over, which has an event of its own.
            if change.fired().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
