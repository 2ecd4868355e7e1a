//! The end of a task: the worker settles the account (I7) and removes all tables and statements of the task from servers (I6).

use super::account::settle;
use super::clear::clear;
use super::jobs::JobRunner;
use crate::ledger::Outcome;
use crate::ledger::membership::any;
use crate::planning::errors::RunError;
use crate::protocol::account::Findings;
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// The name of the claim on finishing a task.
const CLAIM: &str = "finishing";

/// The result of [`finish`].
#[derive(Debug, Default)]
pub(crate) struct Finish {
    /// The tables that are left on servers, and why, as lines for a person.
    pub(crate) left: Vec<String>,
    /// Whether this worker recorded the end of the task.
    pub(crate) ended_it: bool,
    /// The findings of the account.
    pub(crate) account: Findings,
}

/// Settles the account of the task, removes its tables and statements from all servers, and records that it is finished. Returns
/// `None` when the run is interrupted first.
///
/// Several workers may call this at once. Each one does the work, one after the other, since the one before may have died half way.
pub(crate) async fn finish(runner: &JobRunner, interrupt: &Interrupt) -> Result<Option<Finish>, RunError> {
    loop {
        let claims = runner.ledger.watch_claims().await?;
        if runner.ledger.claim(CLAIM, &runner.context.worker).await? == Outcome::Done {
            break;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(None),
            lost = runner.ledger.session().lost() => return Err(lost.into()),
            () = any(vec![claims]) => {}
        }
    }
    let by_table = runner.cache.lock().await.by_table.clone();
    // Only the holder of the claim writes the record. Findings that another worker has recorded stay.
    let account = match runner.ledger.task().await?.filter(|record| record.finished) {
        Some(record) => record.account,
        None => {
            fault_point("account").await;
            tokio::select! {
                biased;
                () = interrupt.finish() => {
                    runner.ledger.release(CLAIM).await?;
                    return Ok(None);
                }
                lost = runner.ledger.session().lost() => return Err(lost.into()),
                account = settle(&runner.context, &by_table) => account,
            }
        }
    };
    fault_point("cleaning-up").await;
    let left = tokio::select! {
        biased;
        lost = runner.ledger.session().lost() => return Err(lost.into()),
        left = clear(runner, interrupt) => left,
    };
    let mut ended_it = false;
    if left.is_empty() {
        ended_it = runner.ledger.task().await?.is_some_and(|record| !record.finished);
        let found = account.clone();
        runner.ledger.set_task(|record| (record.finished, record.account) = (true, found.clone())).await?;
    }
    runner.ledger.release(CLAIM).await?;
    Ok(Some(Finish { left, ended_it, account }))
}
