//! The next pass of a finished task. It begins when no worker works on the last pass; all workers share it.

use super::ending::{Ending, Summary};
use super::launch::Launch;
use super::open_task::{Accepted, OpenedTask};
use crate::ledger::membership::{self, any};
use crate::ledger::{Cache, Ledger};
use crate::plan::Earlier;
use crate::planning::errors::RunError;
use crate::protocol::{BatchState, TaskId, TaskRecord};
use crate::runtime::signals::Interrupt;

/// Begins the next pass of a finished task if the run is incremental. The goal of a run is the pass after the one that it found;
/// when that pass is finished, the run is finished.
pub(super) async fn next_pass(
    launch: &Launch,
    ledger: &Ledger,
    summary: Summary,
    goal: &mut Option<u32>,
    interrupt: &Interrupt,
) -> Result<OpenedTask, RunError> {
    let Some(incremental) = launch.incremental else { return Ok(OpenedTask::Finished(summary)) };
    let goal = *goal.get_or_insert(summary.record.pass + 1);
    if summary.record.pass >= goal {
        return Ok(OpenedTask::Finished(summary));
    }
    let task = summary.task.clone();
    match begin(launch, ledger, task.tables.len(), goal, incremental.drop_vanished, interrupt).await? {
        Some(record) => Ok(OpenedTask::Accepted(Accepted { task, record, surveyed: None })),
        None => Ok(OpenedTask::Finished(Summary { ending: Ending::Interrupted, ..summary })),
    }
}

/// Begins the pass with this number, unless another worker has. Returns the task's record then, which is of that pass or of an
/// unfinished one. Returns `None` when the run is interrupted first.
///
/// Several workers may call this at once: the worker that holds all places begins the pass, the others wait for it. A worker that dies
/// meanwhile leaves the task as it was.
async fn begin(
    launch: &Launch,
    ledger: &Ledger,
    tables: usize,
    pass: u32,
    drops_vanished: bool,
    interrupt: &Interrupt,
) -> Result<Option<TaskRecord>, RunError> {
    let gone = || RunError::servers("the task was deleted from the coordinator");
    let place = membership::beginner_place(&launch.worker);
    loop {
        let (_, places) = membership::watch_places(ledger).await?;
        let claims = ledger.watch_claims().await?;
        let (record, changed) = ledger.watch_task().await?;
        let record = record.ok_or_else(gone)?;
        if record.pass >= pass || !record.finished {
            return Ok(Some(record));
        }
        if membership::take_all(ledger, &place, &launch.worker).await? {
            let begun = begin_alone(launch, ledger, tables, pass, drops_vanished).await;
            let given_up = ledger.give_up(&place).await;
            begun?;
            given_up?;
            continue;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(None),
            lost = ledger.session().lost() => return Err(lost.into()),
            () = any(vec![places, claims, changed]) => {}
        }
    }
}

/// Begins the pass. The caller must hold all places.
async fn begin_alone(
    launch: &Launch,
    ledger: &Ledger,
    tables: usize,
    pass: u32,
    drops_vanished: bool,
) -> Result<(), RunError> {
    let Some(record) = ledger.task().await?.filter(|record| record.finished && record.pass < pass) else {
        return Ok(());
    };
    let plans = ledger.plans(tables).await?;
    let mut cache = Cache::default();
    ledger.refresh(&mut cache, &plans).await?;
    let mut earlier = Vec::new();
    for (table, (plan, records)) in plans.iter().zip(&cache.by_table).enumerate() {
        let done = records.batches.iter().flat_map(|batch| match &batch.state {
            BatchState::Done(published) => published.partitions.clone(),
            // The task would not be finished.
            _ => Vec::new(),
        });
        let results: Vec<_> = done.collect();
        earlier.push(Earlier::after(ledger.earlier(&record, table).await?, plan, &results));
    }
    let next = record.next_pass(TaskId(launch.randomness.unique(12)), drops_vanished);
    ledger.begin_pass(&next, &earlier).await?;
    tracing::info!("task {}: pass {} begins, to copy what has changed since the last one", next.id.0, next.pass);
    Ok(())
}
