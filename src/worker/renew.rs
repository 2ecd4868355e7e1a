//! A task file that was changed before any row was copied is simply taken: the task is made anew.

use crate::protocol::TaskRecord;
use crate::task::{Task, differences};

use super::crew;
use super::ledger::{Ledger, LedgerError};

/// What becomes of a task whose file was changed in what the plan depends on.
pub(super) enum Renewal {
    /// The file is not changed in that.
    Same,
    /// No row was copied, and the old task is gone.
    Gone,
    /// No row was copied, and somebody works on it.
    AtWork,
    /// Rows were copied.
    Begun,
}

/// Whether a task may be made anew: nobody was told to copy anything of it, in this pass or in an earlier one.
pub(super) async fn is_new(ledger: &Ledger, record: &TaskRecord) -> Result<bool, LedgerError> {
    Ok(record.pass == 0 && !record.finished && !record.forgotten && !ledger.is_begun().await?)
}

/// Removes the record of a task whose file was changed, if nothing of it was begun and nobody works on it. Nothing is on servers then but
/// target tables, which stay.
pub(super) async fn renew(
    ledger: &Ledger,
    record: &TaskRecord,
    task: &Task,
    worker: &str,
) -> Result<Renewal, LedgerError> {
    let changes = differences(&record.inputs, &task.plan_inputs());
    if changes.is_empty() {
        return Ok(Renewal::Same);
    }
    if !is_new(ledger, record).await? {
        return Ok(Renewal::Begun);
    }
    let place = crew::beginner_place(worker);
    if !crew::take_all(ledger, &place, worker).await? {
        return Ok(Renewal::AtWork);
    }
    // What was done before we had all places.
    let now = ledger.task().await?;
    let still_new = match &now {
        Some(now) => now.id == record.id && is_new(ledger, now).await?,
        None => false,
    };
    if !still_new {
        ledger.give_up(&place).await?;
        return Ok(Renewal::Begun);
    }
    tracing::info!(
        "task {}: no row of it was copied, and its file was changed: {}. It is made anew; target tables that it has made stay",
        record.id.0,
        changes.join("; ")
    );
    ledger.forget(&place).await?;
    Ok(Renewal::Gone)
}
