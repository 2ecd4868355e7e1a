//! Whether a task may be worked on: read, compared with what is recorded, created if it is new. Nothing is created when anything is
//! wrong with it.

use std::sync::Arc;

use crate::protocol::account::Findings;
use crate::protocol::{TaskId, TaskRecord};
use crate::task::{IfTargetNotEmpty, TableJob, Task};

use super::ending::{Ending, Summary};
use super::launch::Launch;
use super::remake::renew;
use crate::ledger::{Cache, Ledger};
use crate::nodes::pool::NodePool;
use crate::planning::errors::RunError;
use crate::planning::survey::{Survey, refuse_lossy_conversions, survey};
use crate::planning::task_file::{parse, refuse_another, refuse_differences};
use crate::runtime::fault_point::fault_point;

/// A task that may be worked on.
pub(super) struct Accepted {
    pub task: Arc<Task>,
    pub record: TaskRecord,
    /// What was found on the servers, and the fleet that asked them; `None` when others have planned the task.
    pub surveyed: Option<(Box<NodePool>, Vec<Survey>)>,
}

/// What came of looking at a task.
pub(super) enum Begun {
    Finished(Summary),
    Accepted(Accepted),
}

/// Rows of a pass give way to those of the next one: they must be told from rows of others, as they are in partitions that
/// held none before, or none any more.
fn refuse_incremental(launch: &Launch, task: &Task) -> Result<(), RunError> {
    if launch.incremental.is_none() {
        return Ok(());
    }
    let against = |job: &TableJob| match job.if_target_not_empty {
        IfTargetNotEmpty::Append => Some(("append", job.name.clone())),
        IfTargetNotEmpty::Skip => Some(("skip", job.name.clone())),
        IfTargetNotEmpty::Fail | IfTargetNotEmpty::Replace => None,
    };
    let lines: Vec<String> = task
        .tables
        .iter()
        .filter_map(against)
        .map(|(policy, name)| {
            format!(
                "tables/{name}/if_target_not_empty: {policy} does not go with --incremental, which replaces what it has copied before: \
                 give fail or replace"
            )
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(RunError::Task(lines)) }
}

/// Reads the task, compares it with what is recorded, and creates it if it is new. Nothing is created when anything is
/// wrong with it.
pub(super) async fn begin(launch: &Launch, ledger: &Ledger, pool: NodePool) -> Result<Begun, RunError> {
    let own = launch.description.as_ref().map(|(text, file)| parse(text, file, launch.secrets.as_ref())).transpose()?;
    if let (Some(old), Some(task)) = (ledger.task().await?, &own)
        && old.format == TaskRecord::FORMAT
        && !renew(ledger, &old, task, &launch.worker).await?
    {
        return Err(RunError::World(vec![format!(
            "the task at {} is another one, and somebody works on it: stop those workers, and the changed file is taken, since no row was \
             copied",
            launch.task_path
        )]));
    }
    let stored = ledger.description().await?;
    let record = ledger.task().await?;
    let place = ledger.path("description");
    if let Some(record) = record {
        if record.format != TaskRecord::FORMAT {
            return Err(RunError::Task(vec![format!(
                "the task at {} was created by another version of this program (format {})",
                launch.task_path, record.format
            )]));
        }
        if record.forgotten {
            return Err(RunError::World(vec![format!(
                "the task at {} is being forgotten: cleanup --remove --forget ends that",
                launch.task_path
            )]));
        }
        return resume(launch, ledger, own, stored, record).await;
    }
    let (text, task) = match (&launch.description, own, stored) {
        (Some((text, _)), Some(task), None) => (text.clone(), task),
        (Some((text, _)), Some(task), Some(_)) if launch.upload_force => (text.clone(), task),
        (_, own, Some(stored)) => {
            let task = parse(&stored, &place, launch.secrets.as_ref())?;
            refuse_differences(&place, &task.plan_inputs(), own.as_ref())?;
            (stored, task)
        }
        (_, _, None) => {
            return Err(RunError::Task(vec![format!(
                "there is no task at {}: give its file with --task-file",
                launch.task_path
            )]));
        }
    };
    refuse_incremental(launch, &task)?;
    let mut surveys = survey(&pool, &task).await.map_err(RunError::from_faults)?;
    let lost = refuse_lossy_conversions(&pool, &task, &mut surveys).await;
    if !lost.is_empty() {
        return Err(RunError::from_faults(lost));
    }
    let record = TaskRecord {
        format: TaskRecord::FORMAT,
        id: TaskId(launch.randomness.unique(12)),
        inputs: task.plan_inputs(),
        planned: false,
        prepared: false,
        finished: false,
        pass: 0,
        drops_vanished: false,
        forgotten: false,
        account: Findings::default(),
    };
    ledger.create_task(&text, &record).await?;
    if launch.upload_force {
        ledger.upload(&text).await?;
    }
    fault_point("task-created").await;
    // Another worker may have been faster, perhaps with another task.
    let Some(record) = ledger.task().await? else {
        return Err(RunError::World(vec![format!("the task at {} was deleted", launch.task_path)]));
    };
    refuse_differences(&launch.task_path, &record.inputs, Some(&task))?;
    tracing::info!("task {} at {}: accepted", record.id.0, launch.task_path);
    Ok(Begun::Accepted(Accepted { task: Arc::new(task), record, surveyed: Some((Box::new(pool), surveys)) }))
}

async fn resume(
    launch: &Launch,
    ledger: &Ledger,
    own: Option<Task>,
    stored: Option<String>,
    record: TaskRecord,
) -> Result<Begun, RunError> {
    refuse_another(&launch.task_path, &record.inputs, own.as_ref())?;
    let place = ledger.path("description");
    let task = match (own, stored, &launch.description) {
        (Some(task), stored, Some((text, _))) if launch.upload_force => {
            if stored.as_ref() != Some(text) {
                ledger.upload(text).await?;
            }
            task
        }
        (own, Some(stored), given) => {
            let task = parse(&stored, &place, launch.secrets.as_ref())?;
            refuse_differences(&launch.task_path, &record.inputs, Some(&task))?;
            if own.is_some() && given.as_ref().is_some_and(|(text, _)| *text != stored) {
                tracing::warn!(
                    "the task file differs from the task stored at {place} in what may be changed (settings, transfer, limits, max_workers); \
                     the stored one is used: --task-upload-force replaces it"
                );
            }
            task
        }
        _ => return Err(RunError::World(vec![format!("{place} is gone from the coordinator")])),
    };
    refuse_incremental(launch, &task)?;
    if record.finished {
        let plans = ledger.plans(task.tables.len()).await?;
        let mut cache = Cache::default();
        ledger.refresh(&mut cache, &plans).await?;
        let (plans, by_table) = (Arc::new(plans), cache.by_table);
        let ending = Ending::after(Ending::WasFinished, &record.account);
        let (left, task) = (Vec::new(), Arc::new(task));
        return Ok(Begun::Finished(Summary { ending, record, plans, by_table, left, task, ended_it: false }));
    }
    tracing::info!("task {} at {}: joining", record.id.0, launch.task_path);
    Ok(Begun::Accepted(Accepted { task: Arc::new(task), record, surveyed: None }))
}
