//! The verb `check`: finds the problems of a run beforehand. It makes the same survey and plan as a run, and asks for conditions that
//! would stop the run later. Creates nothing. [`crate::report`] judges the facts.
//!
//! A question without an answer is a fact too: it never counts as "nothing found".

mod nodes;
mod spread;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::location::TaskLocation;
use crate::client::{Inspector, ServerClient};
use crate::ledger::Ledger;
use crate::nodes::pool::NodePool;
use crate::planning::errors::{Problem, RunError};
use crate::planning::survey::{SettingsNotes, notes_on_settings, refuse_lossy_conversions, survey_all};
use crate::planning::task_file::refuse_differences;
use crate::protocol::{TaskId, TaskRecord};
use crate::runtime::bounded::all_tables;
use crate::task::{SecretSource, TaskText};
use crate::worker::renew::is_new;

#[cfg(test)]
pub(crate) use nodes::{About, ShardName};
pub(crate) use nodes::{Left, NodeFacts};
pub(crate) use tables::{Expiry, PlanFacts, PolicyDisks, TableFacts, TargetFacts};
#[cfg(test)]
pub(crate) use tables::{GivenRight, SourceFacts};

/// The parameters of a check.
pub(crate) struct Request {
    /// The place of the task. Without it, the user must give a task file.
    pub(crate) location: Option<TaskLocation>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The same servers, for the questions that only a check asks.
    pub(crate) inspector: Arc<dyn Inspector>,
    /// The source of the task's secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// The text of the task file, if the user gave one.
    pub description: Option<TaskText>,
    /// This machine's name.
    pub host: String,
}

/// The facts that a check found.
#[derive(Default)]
pub(crate) struct Observed {
    /// Harmless oddities of the task file.
    pub(crate) warnings: Vec<String>,
    /// The faults of the task, and the conditions that a run would refuse.
    pub(crate) faults: Vec<Problem>,
    /// The remarks on the task's settings.
    pub(crate) settings: SettingsNotes,
    /// All nodes of the used clusters, once for each account.
    pub(crate) nodes: Vec<NodeFacts>,
    /// The table jobs that a run would take.
    pub(crate) tables: Vec<TableFacts>,
    /// The names of all table jobs.
    pub(crate) jobs: Vec<String>,
    /// The facts about the coordinator, if there is one.
    pub(crate) keeper: Option<KeeperFacts>,
}

/// The facts about the coordinator.
pub(crate) struct KeeperFacts {
    /// The address of the coordinator.
    pub(crate) place: String,
    /// Whether everybody who can connect may change the task.
    pub(crate) open_to_all: bool,
    /// The error of the coordinator, if it did not return the task.
    pub(crate) error: Option<String>,
    /// The record of the task, if it was run before.
    pub(crate) record: Option<TaskRecord>,
    /// The path of the task.
    pub(crate) task_path: String,
    /// The bytes of the description that is or would be stored.
    pub(crate) description: usize,
    /// The tasks next to this one, with their paths.
    pub(crate) neighbours: BTreeMap<TaskId, String>,
}

/// Collects all facts.
///
/// # Errors
/// When there is no task: no file, and none in the coordinator. Faults of a task are in the facts.
pub(crate) async fn observe(request: &Request) -> Result<Observed, RunError> {
    let mut observed = Observed::default();
    let mut ledger = None;
    let mut stored = None;
    if let Some(TaskLocation { coordinator, task_path }) = &request.location {
        let mut facts = KeeperFacts {
            place: coordinator.place(),
            open_to_all: coordinator.is_open_to_all(),
            error: None,
            record: None,
            task_path: task_path.clone(),
            description: 0,
            neighbours: BTreeMap::new(),
        };
        match coordinator.session().await {
            Ok(session) => {
                let at = Ledger::new(session, task_path);
                stored = read(&at, &mut facts).await;
                ledger = Some(at);
            }
            Err(error) => facts.error = Some(error.to_string()),
        }
        observed.keeper = Some(facts);
    }
    let collected = collect(request, ledger.as_ref(), stored, &mut observed).await;
    if let Some(ledger) = ledger {
        ledger.session().close().await;
    }
    collected.map(|()| observed)
}

/// Reads the stored description, and the facts about the coordinator.
async fn read(ledger: &Ledger, facts: &mut KeeperFacts) -> Option<String> {
    facts.neighbours = ledger.neighbours().await;
    match tokio::try_join!(ledger.task(), ledger.description()) {
        Ok((record, description)) => {
            facts.record = record;
            description
        }
        Err(error) => {
            facts.error = Some(error.to_string());
            None
        }
    }
}

/// Collects the facts about the task, its nodes and its tables.
async fn collect(
    request: &Request,
    ledger: Option<&Ledger>,
    stored: Option<String>,
    observed: &mut Observed,
) -> Result<(), RunError> {
    let mut record = observed.keeper.as_ref().and_then(|keeper| keeper.record.clone());
    let place = ledger.map(|ledger| ledger.path("description")).unwrap_or_default();
    let stored = stored.map(|text| TaskText::new(text, place));
    let Some(given) = request.description.clone().or(stored) else {
        let keeper = observed.keeper.as_ref();
        let line = match keeper.map(|keeper| (&keeper.error, &keeper.task_path)) {
            Some((Some(error), _)) => return Err(RunError::servers(error.clone())),
            Some((None, path)) => format!("there is no task at {path}: give its file with --task-file"),
            None => "give the task's file with --task-file".to_owned(),
        };
        return Err(RunError::task(line));
    };
    if let Some(keeper) = &mut observed.keeper {
        keeper.description = given.text.len();
    }
    let task = match given.parse(request.secrets.as_ref()) {
        Ok(file) => {
            observed.warnings = file.warning_lines().collect();
            file.task
        }
        Err(faults) => {
            observed.faults = Problem::of_faults(&faults);
            return Ok(());
        }
    };
    observed.jobs = task.tables.iter().map(|job| job.name.clone()).collect();
    if let (Some(known), Some(keeper), Some(ledger)) = (&record, &observed.keeper, ledger)
        && let Err(error) = refuse_differences(&keeper.task_path, &known.inputs, Some(&task))
    {
        if is_new(ledger, known).await? {
            // `run` creates the task again.
            record = None;
        } else {
            observed.faults.push(Problem::task(error.to_string()));
        }
    }
    let pool = NodePool::new(request.client.clone(), request.host.clone());
    let own = record.as_ref().map(|record| &record.id);
    observed.nodes = nodes::collect(&pool, request.inspector.as_ref(), &task, own).await;
    let (mut surveys, faults) = survey_all(&pool, &task).await;
    observed.faults.extend(faults);
    observed.faults.extend(refuse_lossy_conversions(&pool, &task, &mut surveys).await);
    observed.settings = notes_on_settings(&pool, &task);
    let stored_plans = ledger.filter(|_| record.as_ref().is_some_and(|record| record.planned));
    let (pool, task) = (&pool, &task);
    observed.tables = all_tables(surveys.into_iter().map(|survey| async move {
        tables::TableCheck { pool, inspector: request.inspector.as_ref(), task, survey: &survey }
            .collect(stored_plans)
            .await
    }))
    .await;
    Ok(())
}
