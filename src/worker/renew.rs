//! A task whose file was changed before any row was copied: the worker deletes its record and creates the task again.

use crate::ledger::{Ledger, LedgerError, membership};
use crate::protocol::TaskRecord;
use crate::task::{Task, differences};

/// Returns whether a task may be created again: no worker has begun to copy it, in this pass or an earlier one, and nobody has paused
/// or cancelled it.
pub(crate) async fn is_new(ledger: &Ledger, record: &TaskRecord) -> Result<bool, LedgerError> {
    let may_go = record.pass == 0 && !record.finished && !record.forgotten && ledger.order().await?.lets_begin();
    Ok(may_go && !ledger.is_begun().await?)
}

/// Removes the record of a task that no worker has begun, if its file was changed in elements that the plan depends on. Servers have
/// only its target tables then, which stay. Returns `false` when another worker works on the task, so that the record cannot be removed.
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
    // Other workers may have begun or replaced the task before this one had all places.
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
