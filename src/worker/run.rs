//! One run of a worker, from the task file to the end of the task.

use crate::planning::errors::RunError;
use crate::worker::ending::Ending;
use crate::worker::ending::Summary;
use crate::worker::launch::Launch;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Mutex;
use tracing::Instrument;

use crate::coordinator::Error as KeeperError;
use crate::plan::PiecePlan;
use crate::protocol::{self, Preferences, TaskRecord};

use super::context::WorkerContext;
use super::finish::{self, Finish};
use super::jobs::JobRunner;
use super::main_loop::{LoopEnd, MainLoop};
use super::next_pass::next_pass;
use super::open_task::{Accepted, Begun, begin};
use super::prepare::prepare;
use super::view::View;
use crate::ledger::membership;
use crate::ledger::membership::Seat;
use crate::ledger::{Cache, Ledger, Processed};
use crate::nodes::pool::NodePool;
use crate::planning::shared_partitions::batches_before;
use crate::runtime::signals::Interrupt;
use crate::task::edited::changed_task;

/// Runs a worker. `started` is called once the task is accepted and this worker waits for its place or for work.
///
/// # Errors
/// See [`RunError`]; nothing was created when the task itself or the servers were not as they must be.
pub async fn run(
    launch: Launch,
    interrupt: &Interrupt,
    started: impl AsyncFnOnce() -> Result<(), RunError>,
) -> Result<Summary, RunError> {
    run_seen(launch, interrupt, &View::default(), started).await
}

/// The same, while somebody looks on.
///
/// # Errors
/// As [`run`]'s.
pub async fn run_seen(
    launch: Launch,
    interrupt: &Interrupt,
    view: &View,
    started: impl AsyncFnOnce() -> Result<(), RunError>,
) -> Result<Summary, RunError> {
    let worker = launch.worker.clone();
    let session = launch.coordinator.session().await?;
    let pool = || NodePool::new(launch.client.clone(), launch.host.clone());
    let mut ledger = Ledger::new(session, &launch.task_path);
    // The pass that this run is to see the end of.
    let mut goal = None;
    let mut accepted = loop {
        let begun = match begin(&launch, &ledger, pool()).await {
            Ok(Begun::Finished(summary)) => next_pass(&launch, &ledger, summary, &mut goal, interrupt).await,
            other => other,
        };
        match begun {
            Ok(Begun::Finished(summary)) => {
                ledger.session().close().await;
                return Ok(summary);
            }
            Ok(Begun::Accepted(accepted)) => break accepted,
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
    // What others have begun may have been planned before the last change.
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
            Ok(Some(summary)) => Ok(Some(Begun::Finished(summary))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match ended {
            Ok(None) => {
                // What was in hand was claimed by this session.
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
            Ok(Some(Begun::Accepted(again))) => accepted = again,
            Ok(Some(Begun::Finished(summary))) => {
                // The ephemeral nodes go at once, not after a time-out.
                ledger.session().close().await;
                return Ok(summary);
            }
        }
    }
}

/// A new session, however long that takes.
async fn reconnect(launch: &Launch, interrupt: &Interrupt) -> Result<Arc<dyn crate::coordinator::Session>, RunError> {
    let mut pause = Duration::from_millis(200);
    loop {
        match launch.coordinator.session().await {
            Ok(session) => return Ok(session),
            Err(error @ KeeperError::Unreachable { .. }) => {
                tracing::warn!("{error}; trying again in {:.1} s", pause.as_secs_f64());
                tokio::select! {
                    biased;
                    () = interrupt.finish() => return Err(error.into()),
                    () = tokio::time::sleep(launch.randomness.jitter(pause)) => {}
                }
                pause = (pause * 2).min(Duration::from_secs(30));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

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
    /// Settings and `max_workers` may have changed while this worker waited for a place, and the task may have been begun anew.
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

    /// Works until the run ends. `None`: another session is to go on.
    async fn with_session(&self, accepted: &mut Accepted) -> Result<Option<Summary>, RunError> {
        loop {
            let secrets = self.launch.secrets.as_ref();
            let limit = membership::Limit { task: &accepted.task, inputs: &accepted.record.inputs, secrets };
            match membership::take_place(self.ledger, self.worker, &limit, self.interrupt).await? {
                Seat::Taken => {}
                Seat::Interrupted => return Ok(Some(ended(Ending::Interrupted, accepted))),
                Seat::Cancelled => return Ok(Some(ended(Ending::Cancelled, accepted))),
            }
            self.read_again(accepted).await?;
            let alone = membership::places(self.ledger).await?.len() <= 1;
            let (worker_options, agreed) = (&self.launch.worker_options, self.launch.agreed.as_ref());
            let (pool, surveys) = match accepted.surveyed.take() {
                Some((pool, surveys)) => (*pool, Some(surveys)),
                None => ((self.pool)(), None),
            };
            let prepared = prepare(
                &pool,
                self.ledger,
                &accepted.task,
                surveys,
                (worker_options, agreed),
                self.worker,
                self.interrupt,
            )
            .await?;
            let Some(plans) = prepared else { return Ok(Some(ended(Ending::Interrupted, accepted))) };
            let (task, id) = (accepted.task.clone(), accepted.record.id.clone());
            let context = Arc::new(WorkerContext::new(
                pool,
                task,
                id,
                plans,
                worker_options.clone(),
                self.worker.to_owned(),
                self.launch.randomness.clone(),
            ));
            let mut cache = Cache::default();
            self.ledger.refresh(&mut cache, &context.plans).await?;
            let likings: Vec<Preferences> =
                (0..context.plans.len()).map(|table| preferences(&context, table)).collect();
            cache.look_out(&likings, self.worker);
            let (ledger, cache) = (self.ledger.clone(), Arc::new(Mutex::new(cache)));
            let (breaks, interrupt) = Interrupt::by_hand();
            let runner =
                JobRunner { context: context.clone(), ledger, cache, interrupt, tally: self.view.tally().clone() };
            let mut shift = MainLoop {
                runner: runner.clone(),
                secrets,
                inputs: &accepted.record.inputs,
                interrupt: self.interrupt,
                breaks,
                retry_failed: self.retry_failed && alone,
                processed: Processed::default(),
            };
            shift.write_status().await?;
            let shown = self.view.show(&runner, &accepted.record);
            let end = shift.work().await?;
            drop(shown);
            shift.refresh().await?;
            shift.write_status().await?;
            accepted.task = context.task();
            let ending = match end {
                LoopEnd::Surplus | LoopEnd::Paused => {
                    membership::leave_seat(self.ledger, self.worker).await;
                    continue;
                }
                LoopEnd::Finished => Ending::Finished,
                LoopEnd::Stuck => Ending::Partial,
                LoopEnd::Interrupted => Ending::Interrupted,
                LoopEnd::Stopped => {
                    stop_statements(&runner).await;
                    Ending::Interrupted
                }
                LoopEnd::GivenUp => {
                    stop_statements(&runner).await;
                    tracing::info!("the task is to pause: what was in hand is given up");
                    return Ok(None);
                }
                LoopEnd::Cancelled => {
                    stop_statements(&runner).await;
                    Ending::Cancelled
                }
            };
            let (ending, Finish { left, ended_it, account }) = match ending {
                Ending::Finished => match finish::finish(&runner, self.interrupt).await? {
                    Some(finish) => {
                        let even = if finish.left.is_empty() { Ending::Finished } else { Ending::Uncleaned };
                        (Ending::after(even, &finish.account), finish)
                    }
                    None => (Ending::Interrupted, Finish::default()),
                },
                other => (other, Finish::default()),
            };
            membership::leave_seat(self.ledger, self.worker).await;
            let by_table = runner.cache.lock().await.by_table.clone();
            let finished = ending.is_end() && left.is_empty();
            let record = TaskRecord { planned: true, prepared: true, finished, account, ..accepted.record.clone() };
            let (plans, task) = (context.plans.clone(), accepted.task.clone());
            return Ok(Some(Summary { ending, record, plans, by_table, left, task, ended_it }));
        }
    }
}

/// Ends the statements of this worker's pieces: nobody waits for them any more.
async fn stop_statements(runner: &JobRunner) {
    let by_table = runner.cache.lock().await.by_table.clone();
    for (table, records) in by_table.iter().enumerate() {
        for (piece, record) in records.pieces.iter().enumerate() {
            let protocol::PieceState::Running { worker } = &record.state else { continue };
            if *worker == runner.context.worker {
                let piece = protocol::PieceRef { table, piece };
                let batch = runner.context.plans[table].pieces[piece.piece].batch;
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

/// What a worker likes of a table job: what is large, and within a batch what is on its own host.
fn preferences(context: &WorkerContext, table: usize) -> Preferences {
    let plan = &context.plans[table];
    let near: Vec<bool> = {
        let task = context.task();
        let shards = &task.source(&task.tables[table]).shards;
        shards.iter().map(|shard| shard.replicas.iter().any(|node| context.pool.is_near(node))).collect()
    };
    let is_near = |piece: &PiecePlan| piece.sources.iter().any(|share| near[share.shard]);
    let bytes = |batch: usize| plan.partitions_of(batch).iter().map(|partition| partition.bytes).sum();
    Preferences {
        bytes: (0..plan.batches.len()).map(bytes).collect(),
        pieces: plan.pieces.iter().map(|piece| (is_near(piece), piece.rows())).collect(),
        after: batches_before(&context.task(), &context.plans, table),
    }
}

fn ended(ending: Ending, accepted: &Accepted) -> Summary {
    let (record, task) = (accepted.record.clone(), accepted.task.clone());
    let (plans, by_table, left) = (Arc::default(), Vec::new(), Vec::new());
    Summary { ending, record, plans, by_table, left, task, ended_it: false }
}
