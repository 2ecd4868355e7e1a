//! The main loop of a worker: it takes jobs, up to `jobs` at once, until none is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument;

use super::jobs::JobRunner;
use crate::coordinator::{Change, Error as CoordinatorError};
use crate::ledger::{ClaimChange, LedgerError, Processed, membership};
use crate::model::counted;
use crate::planning::errors::RunError;
use crate::protocol::{BatchRef, BatchState, Job, Next, Order, PieceRef, PieceState};
use crate::runtime::signals::{Interrupt, InterruptSender};
use crate::task::SecretSource;
use crate::task::edited::changed_task;

/// The least time between two writes of `/status`. It is also written at the end.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// How the main loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopEnd {
    /// Every job is done.
    Finished,
    /// Every job that is left has failed.
    Stuck,
    /// There are too many workers now. The worker waits for a place again.
    Surplus,
    /// The run is to end. The jobs in hand are finished.
    Interrupted,
    /// The run is to end at once. The jobs in hand are given up.
    Stopped,
    /// The task is paused. The jobs in hand are finished.
    Paused,
    /// The task is paused. The jobs in hand are given up.
    GivenUp,
    /// The task is cancelled. The jobs in hand are given up.
    Cancelled,
}

/// The main loop of a worker.
pub(crate) struct MainLoop<'a> {
    /// The runner of the jobs.
    pub(crate) runner: JobRunner,
    /// The secrets of a description that changes.
    pub(crate) secrets: &'a dyn SecretSource,
    /// The elements of the task that the plan depends on.
    pub(crate) inputs: &'a BTreeMap<String, String>,
    /// Tells when the run is to end.
    pub(crate) interrupt: &'a Interrupt,
    /// Ends jobs that only wait, when the run or a pause requires it.
    pub(crate) breaks: InterruptSender,
    /// Whether jobs that failed in an earlier run are tried again.
    pub(crate) retry_failed: bool,
    /// The counts of the last `/status`.
    pub(crate) processed: Processed,
}

/// The jobs in hand. Each is a task of the runtime: a job that holds the cache must go on while the loop waits for the cache.
type Running = JoinSet<Result<Job, LedgerError>>;

impl MainLoop<'_> {
    /// Works until nothing is left for this worker.
    ///
    /// # Errors
    /// When the coordinator is lost. Then all jobs are dropped, and their claims are gone or go with the session.
    pub(crate) async fn work(&mut self) -> Result<LoopEnd, RunError> {
        let mut running = Running::new();
        let mut watches = self.watch().await?;
        let mut status = StatusTimer { written: Instant::now(), is_due: false, pause: STATUS_PAUSE };
        let session = membership::session(&self.runner.ledger);
        if self.retry_failed {
            self.revive(self.failed(true).await, true).await?;
        }
        loop {
            let surplus = self.is_surplus().await?;
            let taking = !surplus && !self.interrupt.is_finishing() && watches.order.lets_begin();
            let (next, claims) = if taking { self.take(&mut running).await? } else { (Next::Wait, None) };
            if status.is_due && (running.is_empty() || status.written.elapsed() > status.pause) {
                let began = Instant::now();
                self.write_status().await?;
                status.restart(began);
            }
            if running.is_empty() {
                match self.when_idle(watches.order, surplus, next).await? {
                    Idle::End(end) => return Ok(end),
                    Idle::Continue => continue,
                    Idle::Wait => {}
                }
            }
            // Nothing is awaited inside the arms: a job that goes on must not wait for what another event needs.
            // The most urgent event is first: a job may have ended because the session did.
            let event = tokio::select! {
                biased;
                () = self.interrupt.stop() => Event::Stop,
                lost = session.lost() => Event::Lost(lost),
                () = self.interrupt.finish(), if !self.interrupt.is_finishing() => Event::Finish,
                Some(done) = running.join_next(), if !running.is_empty() => Event::Done(done),
                () = &mut watches.description => Event::Description,
                () = &mut watches.places => Event::Places,
                () = &mut watches.orders => Event::Order,
                () = fired(claims) => Event::Claims,
            };
            if let Event::Done(job) = event {
                let job = job.map_err(|panic| RunError::servers(format!("internal error: {panic}")))??;
                status.is_due |= matches!(job, Job::Publish(_));
            } else if let Some(end) = self.react(event, &mut running, &mut watches).await? {
                return Ok(end);
            }
        }
    }

    /// Sets the watches of the loop.
    async fn watch(&self) -> Result<Watches, RunError> {
        let description = self.next_description().await?;
        let places = self.next_places().await?;
        let (order, orders) = self.next_order().await?;
        Ok(Watches { description, places, order, orders })
    }

    /// Decides what a worker does that has no job in hand: it ends, takes jobs again, or waits for an event.
    async fn when_idle(&self, order: Order, surplus: bool, next: Next) -> Result<Idle, LedgerError> {
        if self.interrupt.is_finishing() {
            return Ok(Idle::End(LoopEnd::Interrupted));
        }
        match order {
            Order::Run => {}
            Order::Pause | Order::PauseNow => return Ok(Idle::End(LoopEnd::Paused)),
            Order::Cancel => return Ok(Idle::End(LoopEnd::Cancelled)),
        }
        if surplus {
            return Ok(Idle::End(LoopEnd::Surplus));
        }
        Ok(match next {
            Next::Finished => Idle::End(LoopEnd::Finished),
            Next::Stuck if self.start_afresh().await? => Idle::Continue,
            Next::Stuck => Idle::End(LoopEnd::Stuck),
            Next::Wait | Next::Claim(_) | Next::ReadGroups(_) => Idle::Wait,
        })
    }

    /// Reacts to an event, and sets its watch again. Returns how the loop ends, if it ends.
    async fn react(
        &mut self,
        event: Event,
        running: &mut Running,
        watches: &mut Watches,
    ) -> Result<Option<LoopEnd>, RunError> {
        match event {
            Event::Done(_) | Event::Claims => {}
            Event::Finish => self.breaks.signal(),
            Event::Description => {
                // The watch is set before the description is read, so that no change is missed.
                watches.description = self.next_description().await?;
                self.take_over(self.runner.ledger.description().await?.as_deref());
                watches.places = self.next_places().await?;
            }
            Event::Places => watches.places = self.next_places().await?,
            Event::Order => {
                (watches.order, watches.orders) = self.next_order().await?;
                return Ok(self.obey(watches.order, running).await);
            }
            Event::Stop => {
                running.shutdown().await;
                return Ok(Some(LoopEnd::Stopped));
            }
            Event::Lost(error) => return Err(error.into()),
        }
        Ok(None)
    }

    /// Obeys an order that has changed. Returns how the loop ends, if the order stops the jobs in hand.
    async fn obey(&mut self, order: Order, running: &mut Running) -> Option<LoopEnd> {
        if !order.lets_begin() {
            self.breaks.signal();
        }
        if order.stops() {
            running.shutdown().await;
            return Some(if order == Order::Cancel { LoopEnd::Cancelled } else { LoopEnd::GivenUp });
        }
        if order == Order::Pause {
            tracing::info!("the task is to pause, and first to finish {} in hand", counted(running.len(), "job"));
        }
        None
    }

    /// Claims jobs until the worker has enough or none can be claimed. Returns what comes next, and a watch that was set before the
    /// records were last read.
    async fn take(&self, running: &mut Running) -> Result<(Next, Option<Change>), RunError> {
        let (mut watch, mut sure) = (None, false);
        while running.len() < self.runner.context.concurrency.jobs() {
            // The cache is held until the chosen job is claimed or read, because jobs in hand change the cache.
            let mut cache = self.runner.cache.lock().await;
            match cache.what_next() {
                Next::Claim(job) => {
                    if let Some(claimed) = self.runner.claim(&mut cache, job).await? {
                        let runner = self.runner.clone();
                        running.spawn(async move { runner.perform(claimed).await }.in_current_span());
                    }
                }
                Next::ReadGroups(groups) => self.runner.ledger.read_groups(&mut cache, &groups).await?,
                Next::Finished => return Ok((Next::Finished, None)),
                // Another worker may have tried again what failed.
                Next::Stuck if !sure => {
                    sure = true;
                    self.runner.ledger.refresh(&mut cache, &self.runner.context.plans).await?;
                }
                other if watch.is_some() => return Ok((other, watch)),
                // The cache may be old: read the claims again, and watch them from then on.
                _ => watch = Some(self.runner.ledger.read_claims(&mut cache).await?),
            }
        }
        Ok((Next::Wait, None))
    }

    /// Reads every record that may have changed.
    pub(crate) async fn refresh(&self) -> Result<(), LedgerError> {
        let mut cache = self.runner.cache.lock().await;
        self.runner.ledger.refresh(&mut cache, &self.runner.context.plans).await
    }

    /// Returns a watch of the description.
    async fn next_description(&self) -> Result<BoxFuture<'static, ()>, LedgerError> {
        let (_, change) = self.runner.ledger.watch_description().await?;
        Ok(fired(Some(change)).boxed())
    }

    /// Takes this worker's share of the bandwidth limit of the task, where there is one. Returns a watch of the places that it depends
    /// on.
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

    /// Returns the order, and a watch of it.
    async fn next_order(&self) -> Result<(Order, BoxFuture<'static, ()>), LedgerError> {
        let (order, change) = self.runner.ledger.watch_order().await?;
        Ok((order, fired(Some(change)).boxed()))
    }

    /// Returns whether this worker has a place beyond `max_workers`.
    async fn is_surplus(&self) -> Result<bool, LedgerError> {
        let limit = self.runner.context.task().max_workers;
        if limit == u32::MAX {
            return Ok(false);
        }
        let places = membership::places(&self.runner.ledger).await?;
        Ok(membership::is_surplus(&places, &self.runner.context.worker, limit))
    }

    /// Returns the jobs that failed and are tried again. `all`: every one, as at the beginning of a run. Otherwise those that another
    /// try could help, as often as the rounds allow.
    async fn failed(&self, all: bool) -> Vec<Job> {
        let retry = &self.runner.context.worker_options.retry;
        let again = |transient: bool, finished: u32| all || retry.allows_fresh_start(transient, finished);
        let cache = self.runner.cache.lock().await;
        let mut failed = Vec::new();
        for (table, records) in cache.by_table.iter().enumerate() {
            for (piece, record) in records.pieces.iter().enumerate() {
                if matches!(record.state, PieceState::Failed { transient, .. } if again(transient, record.rounds)) {
                    failed.push(Job::Copy(PieceRef { table, index: piece }));
                }
            }
            for (batch, record) in records.batches.iter().enumerate() {
                if matches!(record.state, BatchState::Failed { transient, .. } if again(transient, record.rounds)) {
                    failed.push(Job::Publish(BatchRef { table, index: batch }));
                }
            }
        }
        failed
    }

    /// Revives failed jobs after a pause. Returns whether there is something to do again.
    async fn start_afresh(&self) -> Result<bool, LedgerError> {
        let failed = self.failed(false).await;
        if failed.is_empty() {
            return Ok(false);
        }
        let context = &self.runner.context;
        let pause = context.randomness.jitter(context.worker_options.retry.pause_before_fresh_start());
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

    /// Records failed jobs as not begun. `new_run`: their rounds are counted from the beginning.
    async fn revive(&self, failed: Vec<Job>, new_run: bool) -> Result<(), LedgerError> {
        let mut cache = self.runner.cache.lock().await;
        let (none, worker) = (ClaimChange::None, &self.runner.context.worker);
        for job in failed {
            match job {
                Job::Copy(piece) => {
                    let record = cache.by_table[piece.table].pieces[piece.index].clone();
                    // Another worker may have been faster.
                    if matches!(record.state, PieceState::Failed { .. }) {
                        let next = record.fresh_start(new_run);
                        self.runner.ledger.change_piece(&mut cache, piece, &record, next, none, worker).await?;
                    }
                }
                Job::Publish(batch) => {
                    let record = cache.by_table[batch.table].batches[batch.index].clone();
                    if matches!(record.state, BatchState::Failed { .. }) {
                        let next = record.fresh_start(new_run);
                        self.runner.ledger.change_batch(&mut cache, batch, &record, next, none, worker).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies a changed description: settings and `max_workers`. Elements that the plan depends on cannot change any more.
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

    /// Writes `/status` from the records.
    pub(crate) async fn write_status(&mut self) -> Result<(), LedgerError> {
        self.runner.ledger.write_status(&self.runner.context.plans, &mut self.processed).await
    }
}

/// What the loop waits for besides its jobs: a change of the description, of the places or of the order.
struct Watches {
    description: BoxFuture<'static, ()>,
    places: BoxFuture<'static, ()>,
    /// The order that was read last.
    order: Order,
    orders: BoxFuture<'static, ()>,
}

/// Says when `/status` is written next.
struct StatusTimer {
    /// When it was last written.
    written: Instant,
    /// Whether a batch was published since then.
    is_due: bool,
    /// The least time between two writes.
    pause: Duration,
}

impl StatusTimer {
    /// Notes that a write has ended that began at this time.
    fn restart(&mut self, began: Instant) {
        // With thousands of tables a write takes longer. At most a tenth of the time goes into writes.
        self.pause = STATUS_PAUSE.max(began.elapsed() * 10);
        (self.written, self.is_due) = (Instant::now(), false);
    }
}

/// What a worker without a job does.
enum Idle {
    /// It leaves the loop.
    End(LoopEnd),
    /// It takes jobs again at once.
    Continue,
    /// It waits for an event.
    Wait,
}

/// What the loop reacts to.
enum Event {
    Done(Result<Result<Job, LedgerError>, JoinError>),
    Claims,
    Description,
    Places,
    Order,
    Finish,
    Stop,
    Lost(CoordinatorError),
}

/// Waits for a change. Without a watch it waits for ever.
async fn fired(change: Option<Change>) {
    match change {
        Some(change) => {
            // A watch that fails means that the session is over. That is another event.
            if change.fired().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
