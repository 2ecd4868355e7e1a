//! The next pass of a finished task: it begins when nobody works on the last one, and is one for all workers that want it.

use crate::plan::Earlier;
use crate::protocol::{BatchState, TaskId, TaskRecord};

use super::ending::{Ending, Summary};
use super::launch::Launch;
use super::open_task::{Accepted, Begun};
use crate::ledger::membership;
use crate::ledger::membership::any;
use crate::ledger::{Cache, Ledger};
use crate::planning::errors::RunError;
use crate::runtime::signals::Interrupt;

/// A finished task is begun anew if the run is incremental, until the end of the pass that is its goal: of the one after
/// the pass that it has found.
pub(super) async fn next_pass(
    launch: &Launch,
    ledger: &Ledger,
    summary: Summary,
    goal: &mut Option<u32>,
    interrupt: &Interrupt,
) -> Result<Begun, RunError> {
    let Some(incremental) = launch.incremental else { return Ok(Begun::Finished(summary)) };
    let goal = *goal.get_or_insert(summary.record.pass + 1);
    if summary.record.pass >= goal {
        return Ok(Begun::Finished(summary));
    }
    let task = summary.task.clone();
    match begin(launch, ledger, task.tables.len(), goal, incremental.drop_vanished, interrupt).await? {
        Some(record) => Ok(Begun::Accepted(Accepted { task, record, surveyed: None })),
        None => Ok(Begun::Finished(Summary { ending: Ending::Interrupted, ..summary })),
    }
}

/// Begins the pass with a number, unless another worker has; gives the task's record then, which is of that pass or of one
/// that is not finished. `None` when the run is to end first.
///
/// Several workers may come here at once: the one that holds all places does it, the others wait for that. Who dies while
/// doing it leaves the task as it was.
async fn begin(
    launch: &Launch,
    ledger: &Ledger,
    tables: usize,
    pass: u32,
    drops_vanished: bool,
    interrupt: &Interrupt,
) -> Result<Option<TaskRecord>, RunError> {
    let gone = || RunError::World(vec!["the task was deleted from the coordinator".into()]);
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

/// For who holds all places.
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
