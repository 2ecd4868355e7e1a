//! A task file that was changed before any row was copied is simply taken: the task is made anew.

use crate::protocol::TaskRecord;
use crate::task::{Task, differences};

use crate::ledger::membership;
use crate::ledger::{Ledger, LedgerError};

/// Whether a task may be made anew: nobody was told to copy anything of it, in this pass or in an earlier one, and no person has paused or
/// cancelled it.
pub(crate) async fn is_new(ledger: &Ledger, record: &TaskRecord) -> Result<bool, LedgerError> {
    let may_go = record.pass == 0 && !record.finished && !record.forgotten && ledger.order().await?.lets_begin();
    Ok(may_go && !ledger.is_begun().await?)
}

/// Removes the record of a task whose file was changed in what the plan depends on, if nothing of it was begun. Nothing is on servers then
/// but target tables, which stay. `false`: it would, but somebody works on the task.
pub(crate) async fn renew(
    ledger: &Ledger,
    record: &TaskRecord,
    task: &Task,
    worker: &str,
) -> Result<bool, LedgerError> {
    let changes = differences(&record.inputs, &task.plan_inputs());
    if changes.is_empty() || !is_new(ledger, record).await? {
        return Ok(true);
    }
    let place = membership::beginner_place(worker);
    if !membership::take_all(ledger, &place, worker).await? {
        return Ok(false);
    }
    // Others may have begun it, or made it anew, before we had all places.
    let now = ledger.task().await?.filter(|now| now.id == record.id);
    let is_still_new = match &now {
        Some(now) => is_new(ledger, now).await?,
        None => false,
    };
    if !is_still_new {
        ledger.give_up(&place).await?;
        return Ok(true);
    }
    tracing::info!(
        "task {}: no row of it was copied, and its file was changed: {}. It is made anew; target tables that it has made stay",
        record.id.0,
        changes.join("; ")
    );
    ledger.forget(&place).await?;
    Ok(true)
}
