//! The opening of a task: it is read, compared with the recorded one, and created if it is new. Nothing is created when anything is
//! wrong with it.

use std::sync::Arc;

use super::ending::{Ending, Summary};
use super::launch::Launch;
use super::renew::renew;
use crate::ledger::{Cache, Ledger};
use crate::nodes::pool::NodePool;
use crate::planning::errors::{Problem, RunError};
use crate::planning::survey::{Survey, refuse_lossy_conversions, survey};
use crate::planning::task_file::{parse, refuse_another, refuse_differences};
use crate::protocol::account::Findings;
use crate::protocol::{TaskId, TaskRecord};
use crate::runtime::fault_point::fault_point;
use crate::task::{IfTargetNotEmpty, TableJob, Task};

/// A task that this worker may work on.
pub(super) struct Accepted {
    pub task: Arc<Task>,
    pub record: TaskRecord,
    /// The surveys of the servers, with the pool that made them. `None` when other workers have planned the task.
    pub surveyed: Option<(Box<NodePool>, Vec<Survey>)>,
}

/// The result of opening a task.
pub(super) enum OpenedTask {
    Finished(Summary),
    Accepted(Accepted),
}

/// Refuses `--incremental` for table jobs that keep rows of others in a partition. A pass replaces the rows of the pass before, so
/// a partition must hold no other rows.
fn refuse_incremental(launch: &Launch, task: &Task) -> Result<(), RunError> {
    if launch.incremental.is_none() {
        return Ok(());
    }
    let keeps_rows =
        |job: &&TableJob| matches!(job.if_target_not_empty, IfTargetNotEmpty::Append | IfTargetNotEmpty::Skip);
    let problem = |job: &TableJob| {
        let policy = job.if_target_not_empty.as_str();
        let cause = format!(
            "{policy} does not go with --incremental, which replaces what it has copied before: give fail or replace"
        );
        Problem::task(cause).in_table(&job.name).at_element("if_target_not_empty")
    };
    let problems: Vec<Problem> = task.tables.iter().filter(keeps_rows).map(problem).collect();
    if problems.is_empty() { Ok(()) } else { Err(RunError::Problems(problems)) }
}

/// Reads the task, compares it with the recorded one, and creates it if it is new. Creates nothing when anything is wrong with
/// it.
pub(super) async fn open_task(launch: &Launch, ledger: &Ledger, pool: NodePool) -> Result<OpenedTask, RunError> {
    let own = launch.description.as_ref().map(|(text, file)| parse(text, file, launch.secrets.as_ref())).transpose()?;
    renew_for_file(launch, ledger, own.as_ref()).await?;
    let stored = ledger.description().await?;
    if let Some(record) = ledger.task().await? {
        refuse_record(launch, &record)?;
        return resume(launch, ledger, own, stored, record).await;
    }
    let (text, task) = description_of_new(launch, &ledger.path("description"), own, stored)?;
    create(launch, ledger, pool, &text, task).await
}

/// Begins a recorded task anew when its file has changed and no row was copied yet. Fails when workers prevent that.
async fn renew_for_file(launch: &Launch, ledger: &Ledger, own: Option<&Task>) -> Result<(), RunError> {
    if let (Some(old), Some(task)) = (ledger.task().await?, own)
        && old.format == TaskRecord::FORMAT
        && !renew(ledger, &old, task, &launch.worker).await?
    {
        return Err(RunError::servers(format!(
            "the task at {} is another one, and somebody works on it: stop those workers, and the changed file is taken, since no row was \
             copied",
            launch.task_path
        )));
    }
    Ok(())
}

/// Refuses a recorded task of another version of this program, and one that `cleanup` is removing.
fn refuse_record(launch: &Launch, record: &TaskRecord) -> Result<(), RunError> {
    if record.format != TaskRecord::FORMAT {
        return Err(RunError::task(format!(
            "the task at {} was created by another version of this program (format {})",
            launch.task_path, record.format
        )));
    }
    if record.forgotten {
        return Err(RunError::servers(format!(
            "the task at {} is being forgotten: cleanup --remove --forget ends that",
            launch.task_path
        )));
    }
    Ok(())
}

/// Returns the description of a new task as text and as a task: the one in the file, or else the one stored at `place`.
fn description_of_new(
    launch: &Launch,
    place: &str,
    own: Option<Task>,
    stored: Option<String>,
) -> Result<(String, Task), RunError> {
    match (&launch.description, own, stored) {
        (Some((text, _)), Some(task), None) => Ok((text.clone(), task)),
        (Some((text, _)), Some(task), Some(_)) if launch.upload_force => Ok((text.clone(), task)),
        (_, own, Some(stored)) => {
            let task = parse(&stored, place, launch.secrets.as_ref())?;
            refuse_differences(place, &task.plan_inputs(), own.as_ref())?;
            Ok((stored, task))
        }
        (_, _, None) => {
            Err(RunError::task(format!("there is no task at {}: give its file with --task-file", launch.task_path)))
        }
    }
}

/// Creates a task in the coordinator after a survey of its servers.
async fn create(
    launch: &Launch,
    ledger: &Ledger,
    pool: NodePool,
    text: &str,
    task: Task,
) -> Result<OpenedTask, RunError> {
    refuse_incremental(launch, &task)?;
    let mut surveys = survey(&pool, &task).await.map_err(RunError::Problems)?;
    let lost = refuse_lossy_conversions(&pool, &task, &mut surveys).await;
    if !lost.is_empty() {
        return Err(RunError::Problems(lost));
    }
    ledger.create_task(text, &new_record(launch, &task)).await?;
    if launch.upload_force {
        ledger.upload(text).await?;
    }
    fault_point("task-created").await;
    // Another worker may have been faster, perhaps with another task.
    let Some(record) = ledger.task().await? else {
        return Err(RunError::servers(format!("the task at {} was deleted", launch.task_path)));
    };
    refuse_differences(&launch.task_path, &record.inputs, Some(&task))?;
    tracing::info!("task {} at {}: accepted", record.id.0, launch.task_path);
    Ok(OpenedTask::Accepted(Accepted { task: Arc::new(task), record, surveyed: Some((Box::new(pool), surveys)) }))
}

/// Returns the record of a task that no worker has begun.
fn new_record(launch: &Launch, task: &Task) -> TaskRecord {
    TaskRecord {
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
    }
}

/// Goes on with a recorded task, which the file must match.
async fn resume(
    launch: &Launch,
    ledger: &Ledger,
    own: Option<Task>,
    stored: Option<String>,
    record: TaskRecord,
) -> Result<OpenedTask, RunError> {
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
        _ => return Err(RunError::servers(format!("{place} is gone from the coordinator"))),
    };
    refuse_incremental(launch, &task)?;
    if record.finished {
        let plans = ledger.plans(task.tables.len()).await?;
        let mut cache = Cache::default();
        ledger.refresh(&mut cache, &plans).await?;
        let (plans, by_table) = (Arc::new(plans), cache.by_table);
        let ending = Ending::after(Ending::WasFinished, &record.account);
        let (left, task) = (Vec::new(), Arc::new(task));
        return Ok(OpenedTask::Finished(Summary { ending, record, plans, by_table, left, task, ended_it: false }));
    }
    tracing::info!("task {} at {}: joining", record.id.0, launch.task_path);
    Ok(OpenedTask::Accepted(Accepted { task: Arc::new(task), record, surveyed: None }))
}
