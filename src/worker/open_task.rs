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
use crate::planning::task_file::{log_warnings, parse, refuse_another, refuse_differences};
use crate::protocol::account::Findings;
use crate::protocol::{TaskId, TaskRecord};
use crate::runtime::fault_point::fault_point;
use crate::task::{IfTargetNotEmpty, TableJob, Task, TaskFile, TaskText};

/// A task that this worker may work on.
pub(super) struct Accepted {
    pub(crate) task: Arc<Task>,
    pub(crate) record: TaskRecord,
    /// The surveys of this worker. `None` when other workers have planned the task.
    pub(crate) surveyed: Option<Surveyed>,
}

/// The surveys of the servers, one for each table job, and the pool that made them.
pub(super) struct Surveyed {
    pub(crate) pool: Box<NodePool>,
    pub(crate) surveys: Vec<Survey>,
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
    launch.description.iter().for_each(log_warnings);
    renew_for_file(launch, ledger).await?;
    let stored = ledger.description().await?.map(|text| TaskText::new(text, ledger.path("description")));
    if let Some(record) = ledger.task().await? {
        refuse_record(launch, &record)?;
        return resume(launch, ledger, stored, record).await;
    }
    let file = description_of_new(launch, stored)?;
    create(launch, ledger, pool, file).await
}

/// Begins a recorded task anew when its file has changed and no row was copied yet. Fails when workers prevent that.
async fn renew_for_file(launch: &Launch, ledger: &Ledger) -> Result<(), RunError> {
    if let (Some(old), Some(file)) = (ledger.task().await?, &launch.description)
        && old.format == TaskRecord::FORMAT
        && !renew(ledger, &old, &file.task, &launch.worker).await?
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

/// Returns the description of a new task: the file, or else the stored one.
fn description_of_new(launch: &Launch, stored: Option<TaskText>) -> Result<TaskFile, RunError> {
    match (&launch.description, stored) {
        (Some(own), None) => Ok(own.clone()),
        (Some(own), Some(_)) if launch.upload_force => Ok(own.clone()),
        (own, Some(stored)) => {
            let stored = parse(stored, launch.secrets.as_ref())?;
            refuse_differences(&stored.name, &stored.task.plan_inputs(), task_of(own.as_ref()))?;
            Ok(stored)
        }
        (None, None) => {
            Err(RunError::task(format!("there is no task at {}: give its file with --task-file", launch.task_path)))
        }
    }
}

/// Returns the task of a file, if there is one.
fn task_of(file: Option<&TaskFile>) -> Option<&Task> {
    file.map(|file| file.task.as_ref())
}

/// Creates a task in the coordinator after a survey of its servers.
async fn create(launch: &Launch, ledger: &Ledger, pool: NodePool, file: TaskFile) -> Result<OpenedTask, RunError> {
    let TaskFile { text, task, .. } = file;
    refuse_incremental(launch, &task)?;
    let mut surveys = survey(&pool, &task).await.map_err(RunError::Problems)?;
    let lost = refuse_lossy_conversions(&pool, &task, &mut surveys).await;
    if !lost.is_empty() {
        return Err(RunError::Problems(lost));
    }
    ledger.create_task(&text, &new_record(launch, &task)).await?;
    if launch.upload_force {
        ledger.upload(&text).await?;
    }
    fault_point("task-created").await;
    // Another worker may have been faster, perhaps with another task.
    let Some(record) = ledger.task().await? else {
        return Err(RunError::servers(format!("the task at {} was deleted", launch.task_path)));
    };
    refuse_differences(&launch.task_path, &record.inputs, Some(&task))?;
    tracing::info!("task {} at {}: accepted", record.id.0, launch.task_path);
    Ok(OpenedTask::Accepted(Accepted { task, record, surveyed: Some(Surveyed { pool: Box::new(pool), surveys }) }))
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
    stored: Option<TaskText>,
    record: TaskRecord,
) -> Result<OpenedTask, RunError> {
    let own = launch.description.as_ref();
    refuse_another(&launch.task_path, &record.inputs, task_of(own))?;
    let task = match (own, stored) {
        (Some(own), stored) if launch.upload_force => {
            if stored.is_none_or(|stored| stored.text != own.text) {
                ledger.upload(&own.text).await?;
            }
            own.task.clone()
        }
        (own, Some(stored)) => {
            let stored = parse(stored, launch.secrets.as_ref())?;
            refuse_differences(&launch.task_path, &record.inputs, Some(&stored.task))?;
            if own.is_some_and(|own| own.text != stored.text) {
                tracing::warn!(
                    "the task file differs from the task stored at {} in what may be changed (settings, transfer, limits, max_workers); \
                     the stored one is used: --task-upload-force replaces it",
                    stored.name
                );
            }
            stored.task
        }
        (_, None) => {
            return Err(RunError::servers(format!("{} is gone from the coordinator", ledger.path("description"))));
        }
    };
    refuse_incremental(launch, &task)?;
    if record.finished {
        let plans = ledger.plans(task.tables.len()).await?;
        let mut cache = Cache::default();
        ledger.refresh(&mut cache, &plans).await?;
        let (plans, by_table) = (Arc::new(plans), cache.by_table);
        let ending = Ending::after(Ending::WasFinished, &record.account);
        let left = Vec::new();
        return Ok(OpenedTask::Finished(Summary { ending, record, plans, by_table, left, task, ended_it: false }));
    }
    tracing::info!("task {} at {}: joining", record.id.0, launch.task_path);
    Ok(OpenedTask::Accepted(Accepted { task, record, surveyed: None }))
}
