//! What a run would find, asked beforehand: the survey and the plan that a run makes, and what goes wrong later than that.
//! Creates nothing; what it means is said elsewhere ([`crate::report`]).
//!
//! What a question did not get an answer to is a fact as well: no answer is never "nothing there".

mod nodes;
mod spread;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::{Inspector, ServerClient};
use crate::coordinator::Coordinator;
use crate::protocol::{TaskId, TaskRecord};
use crate::task::{SecretSource, Task};

use crate::ledger::Ledger;
use crate::nodes::pool::NodePool;
use crate::planning::errors::Fault;
use crate::planning::errors::RunError;
use crate::planning::survey::{SettingsNotes, notes_on_settings, refuse_lossy_conversions, survey_all};
use crate::planning::task_file::refuse_differences;
use crate::runtime::bounded::all_tables;
use crate::worker::remake::is_new;

pub use nodes::{About, Left, NodeFacts};
pub use tables::{Expiry, PlanFacts, SourceFacts, TableFacts, TargetFacts};

/// What a check is started with.
pub struct Request {
    /// The coordinator and the task's path in it; without, a task file must be given.
    pub coordinator: Option<(Arc<dyn Coordinator>, String)>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The same servers, for what only a check asks.
    pub inspector: Arc<dyn Inspector>,
    /// Where secrets of the task come from.
    pub secrets: Arc<dyn SecretSource>,
    /// The XML of the task file, if one was given, and the file's name.
    pub description: Option<(String, String)>,
    /// This machine's name.
    pub host: String,
}

/// Everything that was found.
#[derive(Default)]
pub struct Observed {
    /// What is odd in the task file, and harmless.
    pub warnings: Vec<String>,
    /// What is wrong with the task, and what a run would refuse.
    pub faults: Vec<Fault>,
    /// Of the task's settings.
    pub settings: SettingsNotes,
    /// Every node of the clusters that are used, once for each account.
    pub nodes: Vec<NodeFacts>,
    /// The table jobs that a run would take.
    pub tables: Vec<TableFacts>,
    /// The names of all table jobs.
    pub jobs: Vec<String>,
    /// The coordinator, where there is one.
    pub keeper: Option<KeeperFacts>,
}

/// The coordinator.
pub struct KeeperFacts {
    /// Where it is.
    pub place: String,
    /// Whether everybody who reaches it may change the task.
    pub open_to_all: bool,
    /// What it says instead of the task, if it does.
    pub error: Option<String>,
    /// The task's record, where it was run before.
    pub record: Option<TaskRecord>,
    /// The task's path.
    pub task_path: String,
    /// Bytes of the description that is, or would be, stored.
    pub description: usize,
    /// Tasks beside this one, with their paths.
    pub neighbours: BTreeMap<TaskId, String>,
}

/// Looks at everything.
///
/// # Errors
/// When there is no task to look at: no file, and none in the coordinator. What is wrong with a task is in the facts.
pub async fn observe(request: &Request) -> Result<Observed, RunError> {
    let mut observed = Observed::default();
    let mut ledger = None;
    let mut stored = None;
    if let Some((coordinator, task_path)) = &request.coordinator {
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
    let looked = look(request, ledger.as_ref(), stored, &mut observed).await;
    if let Some(ledger) = ledger {
        ledger.session().close().await;
    }
    looked.map(|()| observed)
}

/// The stored description.
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

async fn look(
    request: &Request,
    ledger: Option<&Ledger>,
    stored: Option<String>,
    observed: &mut Observed,
) -> Result<(), RunError> {
    let mut record = observed.keeper.as_ref().and_then(|keeper| keeper.record.clone());
    let place = ledger.map(|ledger| ledger.path("description")).unwrap_or_default();
    let Some((text, file)) = request.description.clone().or(stored.map(|text| (text, place))) else {
        let keeper = observed.keeper.as_ref();
        let line = match keeper.map(|keeper| (&keeper.error, &keeper.task_path)) {
            Some((Some(error), _)) => return Err(RunError::World(vec![error.clone()])),
            Some((None, path)) => format!("there is no task at {path}: give its file with --task-file"),
            None => "give the task's file with --task-file".to_owned(),
        };
        return Err(RunError::Task(vec![line]));
    };
    if let Some(keeper) = &mut observed.keeper {
        keeper.description = text.len();
    }
    let task = match Task::parse(&text, request.secrets.as_ref()) {
        Ok(parsed) => {
            observed.warnings = parsed.warnings.iter().map(|warning| format!("{file}: {warning}")).collect();
            parsed.task
        }
        Err(faults) => {
            let lines = faults.in_file(file).to_string();
            observed.faults = lines.lines().map(|line| Fault::Task(line.to_owned())).collect();
            return Ok(());
        }
    };
    observed.jobs = task.tables.iter().map(|job| job.name.clone()).collect();
    if let (Some(known), Some(keeper), Some(ledger)) = (&record, &observed.keeper, ledger)
        && let Err(error) = refuse_differences(&keeper.task_path, &known.inputs, Some(&task))
    {
        if is_new(ledger, known).await? {
            // `run` makes it anew.
            record = None;
        } else {
            observed.faults.push(Fault::Task(error.to_string()));
        }
    }
    let pool = NodePool::new(request.client.clone(), request.host.clone());
    let own = record.as_ref().map(|record| &record.id);
    observed.nodes = nodes::look(&pool, request.inspector.as_ref(), &task, own).await;
    let (mut surveys, faults) = survey_all(&pool, &task).await;
    observed.faults.extend(faults);
    observed.faults.extend(refuse_lossy_conversions(&pool, &task, &mut surveys).await);
    observed.settings = notes_on_settings(&pool, &task);
    let stored_plans = ledger.filter(|_| record.as_ref().is_some_and(|record| record.planned));
    let (pool, task) = (&pool, &task);
    observed.tables = all_tables(surveys.into_iter().map(|survey| async move {
        tables::Looker { pool, inspector: request.inspector.as_ref(), task, survey: &survey }.look(stored_plans).await
    }))
    .await;
    Ok(())
}
