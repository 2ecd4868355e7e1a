//! One run of a worker, from the task file to the end of the task.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::Mutex;
use tracing::Instrument;

use super::context::WorkerContext;
use super::finish::{self, Finish};
use super::jobs::JobRunner;
use super::main_loop::{LoopEnd, MainLoop};
use super::next_pass::next_pass;
use super::open_task::{Accepted, OpenedTask, Surveyed, open_task};
use super::prepare::{PlanTerms, prepare};
use super::retry_policy::{FIRST_RECONNECT_PAUSE, next_reconnect_pause};
use super::view::View;
use crate::coordinator::Error as CoordinatorError;
use crate::ledger::membership::{self, WorkerPlace};
use crate::ledger::{Cache, Ledger, Processed};
use crate::nodes::pool::NodePool;
use crate::plan::PiecePlan;
use crate::planning::errors::RunError;
use crate::planning::shared_partitions::batches_before;
use crate::protocol::{self, PiecePreference, Preferences, TaskRecord};
use crate::runtime::signals::{Interrupt, InterruptSender};
use crate::task::edited::changed_task;
use crate::worker::ending::{Ending, Summary};
use crate::worker::launch::Launch;

/// Runs a worker. Calls `started` once the task is accepted and this worker waits for its place or for work.
///
/// # Errors
/// See [`RunError`]. Nothing was created when the task or the servers are not as they must be.
pub async fn run(
    launch: Launch,
    interrupt: &Interrupt,
    started: impl AsyncFnOnce() -> Result<(), RunError>,
) -> Result<Summary, RunError> {
    run_seen(launch, interrupt, &View::default(), started).await
}

/// Runs a worker whose progress `view` shows.
///
/// # Errors
/// As [`run`]'s.
pub(crate) async fn run_seen(
    launch: Launch,
    interrupt: &Interrupt,
    view: &View,
    started: impl AsyncFnOnce() -> Result<(), RunError>,
) -> Result<Summary, RunError> {
    let worker = launch.worker.clone();
    let session = launch.coordinator.session().await?;
    let pool = || NodePool::new(launch.client.clone(), launch.host.clone());
    let mut ledger = Ledger::new(session, &launch.task_path);
    // The pass with which this run ends.
    let mut goal = None;
    let mut accepted = loop {
        let begun = match open_task(&launch, &ledger, pool()).await {
            Ok(OpenedTask::Finished(summary)) => next_pass(&launch, &ledger, summary, &mut goal, interrupt).await,
            other => other,
        };
        match begun {
            Ok(OpenedTask::Finished(summary)) => {
                ledger.session().close().await;
                return Ok(summary);
            }
            Ok(OpenedTask::Accepted(accepted)) => break accepted,
            Err(error) if error.is_session_lost() && !interrupt.is_finishing() => {
                tracing::warn!("{error}; connecting again");
                ledger = Ledger::new(reconnect(&launch, interrupt).await?, &launch.task_path);
            }
            Err(error) => {
                ledger.session().close().await;
                return Err(error);
            }
        }
    };
    started().await?;
    // Other workers may have planned the pass that they have begun before the last change of the source.
    let joined = u32::from(accepted.surveyed.is_none());
    let goal = *goal.get_or_insert(accepted.record.pass + joined);
    let mut first = true;
    loop {
        let (ledger_now, pool) = (&ledger, &pool);
        let run =
            Run { launch: &launch, ledger: ledger_now, worker: &worker, interrupt, pool, view, retry_failed: first };
        let span = tracing::error_span!("task", task = accepted.record.id.0, worker);
        let ended = match run.with_session(&mut accepted).instrument(span).await {
            Ok(Some(summary)) if summary.ending.is_end() && summary.left.is_empty() => {
                next_pass(&launch, &ledger, summary, &mut Some(goal), interrupt).await.map(Some)
            }
            Ok(Some(summary)) => Ok(Some(OpenedTask::Finished(summary))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match ended {
            Ok(None) => {
                // Jobs that were not done hold claims of this session.
                ledger.session().close().await;
                ledger = Ledger::new(reconnect(&launch, interrupt).await?, &launch.task_path);
                first = false;
            }
            Err(error) if error.is_session_lost() && !interrupt.is_finishing() => {
                tracing::warn!("{error}: all work in hand is given up; connecting again");
                ledger = Ledger::new(reconnect(&launch, interrupt).await?, &launch.task_path);
                first = false;
            }
            Err(error) => {
                ledger.session().close().await;
                return Err(error);
            }
            Ok(Some(OpenedTask::Accepted(again))) => accepted = again,
            Ok(Some(OpenedTask::Finished(summary))) => {
                // This removes the ephemeral nodes at once, and not after a time-out.
                ledger.session().close().await;
                return Ok(summary);
            }
        }
    }
}

/// Returns a new session, however long that takes.
async fn reconnect(launch: &Launch, interrupt: &Interrupt) -> Result<Arc<dyn crate::coordinator::Session>, RunError> {
    let mut pause = FIRST_RECONNECT_PAUSE;
    loop {
        match launch.coordinator.session().await {
            Ok(session) => return Ok(session),
            Err(error @ CoordinatorError::Unreachable { .. }) => {
                tracing::warn!("{error}; trying again in {:.1} s", pause.as_secs_f64());
                tokio::select! {
                    biased;
                    () = interrupt.finish() => return Err(error.into()),
                    () = tokio::time::sleep(launch.randomness.jitter(pause)) => {}
                }
                pause = next_reconnect_pause(pause);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A run of a worker in one session.
struct Run<'a, F> {
    launch: &'a Launch,
    ledger: &'a Ledger,
    worker: &'a str,
    interrupt: &'a Interrupt,
    pool: &'a F,
    view: &'a View,
    retry_failed: bool,
}

impl<F: Fn() -> NodePool> Run<'_, F> {
    /// Reads the task and its record again. Settings and `max_workers` may have changed while this worker waited for a place, and
    /// another pass may have begun.
    async fn read_again(&self, accepted: &mut Accepted) -> Result<(), RunError> {
        if let Some(record) = self.ledger.task().await? {
            accepted.record = record;
        }
        let Some(text) = self.ledger.description().await? else { return Ok(()) };
        if let Some(task) = changed_task(&text, self.launch.secrets.as_ref(), &accepted.record.inputs) {
            accepted.task = Arc::new(task);
        }
        Ok(())
    }

    /// Works until the run ends. Returns `None` when the run goes on in another session.
    async fn with_session(&self, accepted: &mut Accepted) -> Result<Option<Summary>, RunError> {
        loop {
            if let Some(ending) = self.wait_for_place(accepted).await? {
                return Ok(Some(ended(ending, accepted)));
            }
            self.read_again(accepted).await?;
            let alone = membership::places(self.ledger).await?.len() <= 1;
            let Some(context) = self.prepare_context(accepted).await? else {
                return Ok(Some(ended(Ending::Interrupted, accepted)));
            };
            let (breaks, interrupt) = Interrupt::manual();
            let runner = self.job_runner(context, interrupt).await?;
            let end = self.work(&runner, breaks, accepted, alone).await?;
            accepted.task = runner.context.task();
            match self.after_loop(end, &runner).await {
                AfterLoop::TakePlace => {}
                AfterLoop::Reconnect => return Ok(None),
                AfterLoop::End(ending) => return self.summary(ending, &runner, accepted).await.map(Some),
            }
        }
    }

    /// Waits for a place among the workers of the task. Returns how the run ends when it gets none.
    async fn wait_for_place(&self, accepted: &Accepted) -> Result<Option<Ending>, RunError> {
        let secrets = self.launch.secrets.as_ref();
        let limit = membership::Limit { task: &accepted.task, inputs: &accepted.record.inputs, secrets };
        Ok(match membership::take_place(self.ledger, self.worker, &limit, self.interrupt).await? {
            WorkerPlace::Taken => None,
            WorkerPlace::Interrupted => Some(Ending::Interrupted),
            WorkerPlace::Cancelled => Some(Ending::Cancelled),
        })
    }

    /// Prepares the task for copying. Returns what jobs need to know, or `None` when the run is interrupted.
    async fn prepare_context(&self, accepted: &mut Accepted) -> Result<Option<Arc<WorkerContext>>, RunError> {
        let worker_options = &self.launch.worker_options;
        let terms = PlanTerms { safe_mode: worker_options.safe_mode, agreed: self.launch.agreed.as_ref() };
        let (pool, surveys) = match accepted.surveyed.take() {
            Some(Surveyed { pool, surveys }) => (*pool, Some(surveys)),
            None => ((self.pool)(), None),
        };
        let prepared = prepare(&pool, self.ledger, &accepted.task, surveys, terms, self.worker, self.interrupt).await?;
        let Some(plans) = prepared else { return Ok(None) };
        Ok(Some(Arc::new(WorkerContext::new(
            pool,
            accepted.task.clone(),
            accepted.record.id.clone(),
            plans,
            worker_options.clone(),
            self.worker.to_owned(),
            self.launch.randomness.clone(),
        ))))
    }

    /// Makes the runner of jobs, with a cache of all records. `interrupt` ends what only waits.
    async fn job_runner(&self, context: Arc<WorkerContext>, interrupt: Interrupt) -> Result<JobRunner, RunError> {
        let mut cache = Cache::default();
        self.ledger.refresh(&mut cache, &context.plans).await?;
        let likings: Vec<Preferences> = (0..context.plans.len()).map(|table| preferences(&context, table)).collect();
        cache.build_scheduler(&likings, self.worker);
        let (ledger, cache) = (self.ledger.clone(), Arc::new(Mutex::new(cache)));
        Ok(JobRunner { context, ledger, cache, interrupt, counters: self.view.counters().clone() })
    }

    /// Runs the main loop, and writes the status before and after it. `alone`: no other worker has a place.
    async fn work(
        &self,
        runner: &JobRunner,
        breaks: InterruptSender,
        accepted: &Accepted,
        alone: bool,
    ) -> Result<LoopEnd, RunError> {
        let mut main_loop = MainLoop {
            runner: runner.clone(),
            secrets: self.launch.secrets.as_ref(),
            inputs: &accepted.record.inputs,
            interrupt: self.interrupt,
            breaks,
            retry_failed: self.retry_failed && alone,
            processed: Processed::default(),
        };
        main_loop.write_status().await?;
        let shown = self.view.show(runner, &accepted.record);
        let end = main_loop.work().await?;
        drop(shown);
        main_loop.refresh().await?;
        main_loop.write_status().await?;
        Ok(end)
    }

    /// Gives up the place or the statements of the worker where the end of its loop requires that. Returns what comes next.
    async fn after_loop(&self, end: LoopEnd, runner: &JobRunner) -> AfterLoop {
        match end {
            LoopEnd::Surplus | LoopEnd::Paused => {
                membership::leave_place(self.ledger, self.worker).await;
                AfterLoop::TakePlace
            }
            LoopEnd::Finished => AfterLoop::End(Ending::Finished),
            LoopEnd::Stuck => AfterLoop::End(Ending::Partial),
            LoopEnd::Interrupted => AfterLoop::End(Ending::Interrupted),
            LoopEnd::Stopped => {
                stop_statements(runner).await;
                AfterLoop::End(Ending::Interrupted)
            }
            LoopEnd::GivenUp => {
                stop_statements(runner).await;
                tracing::info!("the task is to pause: what was in hand is given up");
                AfterLoop::Reconnect
            }
            LoopEnd::Cancelled => {
                stop_statements(runner).await;
                AfterLoop::End(Ending::Cancelled)
            }
        }
    }

    /// Finishes the task when all of it is copied, gives up the place, and returns the summary of the run.
    async fn summary(&self, ending: Ending, runner: &JobRunner, accepted: &Accepted) -> Result<Summary, RunError> {
        let (ending, finish) = match ending {
            Ending::Finished => self.finish(runner).await?,
            other => (other, Finish::default()),
        };
        let Finish { left, ended_it, account } = finish;
        membership::leave_place(self.ledger, self.worker).await;
        let by_table = runner.cache.lock().await.by_table.clone();
        let finished = ending.is_end() && left.is_empty();
        let record = TaskRecord { planned: true, prepared: true, finished, account, ..accepted.record.clone() };
        let (plans, task) = (runner.context.plans.clone(), accepted.task.clone());
        Ok(Summary { ending, record, plans, by_table, left, task, ended_it })
    }

    /// Balances the account of the task and removes its tables. Returns how the run ends.
    async fn finish(&self, runner: &JobRunner) -> Result<(Ending, Finish), RunError> {
        let Some(finish) = finish::finish(runner, self.interrupt).await? else {
            return Ok((Ending::Interrupted, Finish::default()));
        };
        let even = if finish.left.is_empty() { Ending::Finished } else { Ending::Uncleaned };
        Ok((Ending::after(even, &finish.account), finish))
    }
}

/// What comes after the main loop.
enum AfterLoop {
    /// Wait for a place again.
    TakePlace,
    /// Go on in another session.
    Reconnect,
    /// The run ends.
    End(Ending),
}

/// Ends the statements of the pieces that this worker copies. No job waits for them any more.
async fn stop_statements(runner: &JobRunner) {
    let by_table = runner.cache.lock().await.by_table.clone();
    for (table, records) in by_table.iter().enumerate() {
        for (piece, record) in records.pieces.iter().enumerate() {
            let protocol::PieceState::Running { worker } = &record.state else { continue };
            if *worker == runner.context.worker {
                let piece = protocol::PieceRef { table, index: piece };
                let batch = runner.context.plans[table].pieces[piece.index].batch;
                let nodes = runner.context.statement_nodes(piece, &records.batches[batch].nodes);
                let prefix = runner.context.id.attempt_queries(piece, record.attempt);
                let killed = join_all(nodes.iter().map(|node| runner.context.pool.client.kill(node, &prefix))).await;
                for error in killed.into_iter().filter_map(Result::err) {
                    tracing::warn!(node = error.node, "{error}");
                }
            }
        }
    }
}

/// Returns the order in which a worker prefers the work of a table job: large batches, and within a batch the pieces on its own
/// host.
fn preferences(context: &WorkerContext, table: usize) -> Preferences {
    let plan = &context.plans[table];
    let near: Vec<bool> = {
        let task = context.task();
        let shards = &task.source(&task.tables[table]).shards;
        shards.iter().map(|shard| shard.replicas.iter().any(|node| context.pool.is_near(node))).collect()
    };
    let is_near = |piece: &PiecePlan| piece.sources.iter().any(|share| near[share.shard]);
    let preference = |piece: &PiecePlan| PiecePreference { near: is_near(piece), rows: piece.rows() };
    let bytes = |batch: usize| plan.partitions_of(batch).iter().map(|partition| partition.bytes).sum();
    Preferences {
        bytes: (0..plan.batches.len()).map(bytes).collect(),
        pieces: plan.pieces.iter().map(preference).collect(),
        after: batches_before(&context.task(), &context.plans, table),
    }
}

/// Returns the summary of a run that ended before its main loop.
fn ended(ending: Ending, accepted: &Accepted) -> Summary {
    let (record, task) = (accepted.record.clone(), accepted.task.clone());
    let (plans, by_table, left) = (Arc::default(), Vec::new(), Vec::new());
    Summary { ending, record, plans, by_table, left, task, ended_it: false }
}
