//! Before the first row moves: one worker plans every table job and makes the target tables; the others wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;

use crate::model::{Node, TableName, counted};
use crate::plan::{Document, TablePlan};
use crate::protocol::{BatchRecord, TaskRecord};
use crate::sql::{Clause, Syntax};
use crate::task::Task;

use super::RunError;
use super::bounded::{all_tables, few_at_a_time};
use super::crew::any;
use super::fault_point::fault_point;
use super::fleet::Fleet;
use super::foresee::document;
use super::interrupt::Interrupt;
use super::ledger::{Ledger, Outcome};
use super::planner;
use super::replica_paths;
use super::since::Since;
use super::site::{Conduct, effective};
use super::survey::{Survey, refuse_lossy_conversions, survey};
use super::turns::refuse_shared_partitions;
use super::wishes::target_wishes;

const CLAIM: &str = "planning";

/// Plans and prepares, or waits until another worker has. `None` when the run is to end first. Of
/// the terms, the second is a plan that the run is held to.
pub async fn prepare(
    fleet: &Fleet,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    terms: (&Conduct, Option<&Document>),
    worker: &str,
    interrupt: &Interrupt,
) -> Result<Option<Vec<TablePlan>>, RunError> {
    let mut surveys = surveys;
    let mut told = false;
    loop {
        let claims = ledger.watch_claims().await?;
        let (record, change) = ledger.watch_task().await?;
        let record = record.ok_or_else(|| RunError::World(vec!["the task was deleted from the coordinator".into()]))?;
        if record.planned && record.prepared {
            let plans = ledger.plans(task.tables.len()).await?;
            if terms.1.is_some_and(|agreed| !agreed.tables.iter().map(|table| &table.plan).eq(&plans)) {
                let line = "the task was planned before, and not as --plan says: leave it out to go on with the plan that is there";
                return Err(RunError::World(vec![line.into()]));
            }
            fit(plans.iter(), task).map_err(|why| RunError::World(vec![why]))?;
            return Ok(Some(plans));
        }
        if ledger.claim(CLAIM, worker).await? == Outcome::Done {
            // The one who had the claim may have planned since the look: a second plan would wipe out the first, with all
            // that is recorded of it.
            let done = match ledger.task().await? {
                Some(record) if !(record.planned && record.prepared) => {
                    plan_and_create(fleet, ledger, task, surveys.take(), terms, &record).await
                }
                _ => Ok(()),
            };
            ledger.release(CLAIM).await?;
            done?;
            continue;
        }
        if !told {
            tracing::info!("another worker is planning the task: waiting for it");
            told = true;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(None),
            lost = ledger.session().lost() => return Err(lost.into()),
            () = any(vec![claims, change]) => {}
        }
    }
}

/// Checks that plans are for the task's table jobs: one for each, with as many shards as it has. An error is a sentence.
pub fn fit<'a>(plans: impl ExactSizeIterator<Item = &'a TablePlan>, task: &Task) -> Result<(), String> {
    let (planned, jobs) = (plans.len(), task.tables.len());
    if planned != jobs {
        return Err(format!("it has {planned} tables, and the task has {jobs}"));
    }
    for (plan, job) in plans.zip(&task.tables) {
        let (sources, targets) = (task.source(job).shards.len(), task.target(job).shards.len());
        plan.check_shards(sources, targets).map_err(|error| format!("table {}: {error}", job.name))?;
    }
    Ok(())
}

async fn plan_and_create(
    fleet: &Fleet,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    (conduct, agreed): (&Conduct, Option<&Document>),
    record: &TaskRecord,
) -> Result<(), RunError> {
    let surveys = match surveys {
        Some(surveys) => surveys,
        None => {
            let mut surveys = survey(fleet, task).await.map_err(RunError::from_faults)?;
            // A later pass counts in what it copies, when that is known.
            let is_first = !record.planned && record.pass == 0;
            let lost = if is_first { refuse_lossy_conversions(fleet, task, &mut surveys).await } else { Vec::new() };
            if !lost.is_empty() {
                return Err(RunError::from_faults(lost));
            }
            surveys
        }
    };
    if !record.planned {
        let mut since = Vec::new();
        for table in 0..task.tables.len() {
            let earlier = ledger.earlier(record, table).await?;
            since.push(earlier.map(|earlier| Since { earlier, drops_vanished: record.drops_vanished }));
        }
        let mut good = plan_all(fleet, task, &surveys, conduct.safe_mode, &since).await?;
        if let Some(agreed) = agreed {
            let now = document(fleet, task, &surveys, good).await?;
            let changes = agreed.changes(&now);
            if !changes.is_empty() {
                let head =
                    "the plan of --plan does not hold any more: plan again, and look at what has changed".to_owned();
                return Err(RunError::World(std::iter::once(head).chain(changes).collect()));
            }
            good = agreed.tables.iter().map(|table| table.plan.clone()).collect();
        }
        good.iter().for_each(describe);
        // The surveys are in the order of the task's tables.
        let batches = surveys.iter().zip(&good).map(|(survey, plan)| (plan, fresh_batches(plan, survey)));
        ledger.store_plans(&batches.collect::<Vec<_>>()).await?;
        ledger.set_task(|record| record.planned = true).await?;
        fault_point("plan-stored").await;
    }
    create_all_targets(fleet, task, &surveys).await?;
    fault_point("tables-created").await;
    ledger.set_task(|record| record.prepared = true).await?;
    Ok(())
}

/// The plan of every table job; all that is against them is told at once. `since`: for each what earlier passes have copied,
/// nothing in the first one.
pub(super) async fn plan_all(
    fleet: &Fleet,
    task: &Task,
    surveys: &[Survey],
    safe_mode: bool,
    since: &[Option<Since>],
) -> Result<Vec<TablePlan>, RunError> {
    let plans = all_tables(surveys.iter().map(|survey| {
        let policy = effective(task.tables[survey.job].if_target_not_empty, safe_mode);
        planner::plan(fleet, task, survey, policy, since.get(survey.job).and_then(Option::as_ref))
    }));
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for plan in plans.await {
        match plan {
            Ok(plan) => good.push(plan),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        faults = refuse_shared_partitions(task, &good);
    }
    if faults.is_empty() { Ok(good) } else { Err(RunError::from_faults(faults)) }
}

fn describe(plan: &TablePlan) {
    let rows: u64 = plan.partitions.iter().map(|partition| partition.rows).sum();
    let bytes: u64 = plan.partitions.iter().map(|partition| partition.bytes).sum();
    tracing::info!(
        "table {}: {} with {rows} rows (about {} MiB uncompressed) in {} and {}",
        plan.name,
        counted(plan.partitions.len(), "partition"),
        bytes >> 20,
        counted(plan.batches.len(), "batch"),
        counted(plan.pieces.len(), "piece")
    );
    // The way of the rows is told by the worker that takes it.
    for remark in plan.remarks.iter().filter(|remark| !remark.starts_with("transfer: ")) {
        tracing::warn!(table = plan.name, "table {}: {remark}", plan.name);
    }
}

/// The records of a plan's batches, with the nodes that each is to be written to.
fn fresh_batches(plan: &TablePlan, survey: &Survey) -> Vec<BatchRecord> {
    let address = |nodes: &Vec<Arc<Node>>| nodes.iter().map(|node| node.address()).collect();
    let live: Vec<Vec<String>> = survey.targets.iter().map(address).collect();
    (0..plan.batches.len()).map(|batch| BatchRecord::new(plan.nodes_for(batch, &live))).collect()
}

/// Makes all target tables, several at a time: the first of each database before the others, and one after another where they fill the
/// same table.
async fn create_all_targets(fleet: &Fleet, task: &Task, surveys: &[Survey]) -> Result<(), RunError> {
    let mut databases = BTreeSet::new();
    let (first, rest): (Vec<&Survey>, Vec<&Survey>) =
        surveys.iter().partition(|survey| databases.insert(survey.target.name.database.as_str()));
    for survey in first {
        create_targets(fleet, task, survey).await?;
    }
    let mut by_table: BTreeMap<&TableName, Vec<&Survey>> = BTreeMap::new();
    for survey in rest {
        by_table.entry(&survey.target.name).or_default().push(survey);
    }
    let made = few_at_a_time(by_table.into_values().map(|surveys| async move {
        for survey in surveys {
            create_targets(fleet, task, survey).await?;
        }
        Ok(())
    }));
    made.await.into_iter().collect()
}

/// Makes the target's database and table on every live node that lacks them.
async fn create_targets(fleet: &Fleet, task: &Task, survey: &Survey) -> Result<(), RunError> {
    try_join_all(survey.to_create.iter().map(|node| create_target(fleet, task, survey, node))).await?;
    replica_paths::check(fleet, survey).await
}

/// How the target table is made on a node.
pub(super) struct Definition {
    pub statement: String,
    /// Whether its database must be made first.
    pub database_is_missing: bool,
    /// What the node's version does not know of the definition.
    pub left_out: Vec<String>,
}

/// The target table as it would be made on a node.
pub(super) async fn definition(
    fleet: &Fleet,
    task: &Task,
    survey: &Survey,
    node: &Node,
) -> Result<Definition, RunError> {
    let target = &survey.target;
    let facts = fleet.facts(node).await?;
    let database = fleet.warehouse.database_engine(node, &target.name.database).await?;
    let (mut fitting, mut left_out) = target.within(Syntax::of(facts.release()));
    // What the task's own <engine> says is taken as it stands: the server says what is wrong with it.
    if task.tables[survey.job].engine.is_none() && fitting.engine.clause(Clause::Settings).is_some() {
        let known = fleet.merge_tree_settings(node).await?;
        let (engine, unknown) = fitting.engine.with_settings_among(&known);
        fitting.engine = engine;
        left_out.extend(unknown.into_iter().map(|name| format!("the setting {name}")));
    }
    let engine = fitting.engine.in_database(database.as_deref());
    let statement = fitting.create(&target.name, &engine);
    Ok(Definition { statement, database_is_missing: database.is_none(), left_out })
}

async fn create_target(fleet: &Fleet, task: &Task, survey: &Survey, node: &Node) -> Result<(), RunError> {
    let (name, facts) = (&survey.target.name, fleet.facts(node).await?);
    let settings = fleet.settings(node, &target_wishes(task)).await?;
    let definition = definition(fleet, task, survey, node).await?;
    if definition.database_is_missing {
        fleet.warehouse.create_database(node, &name.database, &settings).await?;
    }
    fleet.warehouse.create_table(node, name, &definition.statement, &settings).await?;
    tracing::info!(node = node.address(), "{node}: created table {name}");
    if !definition.left_out.is_empty() {
        tracing::warn!(
            "{node}: ClickHouse {} does not know everything that the definition of {name} has; left out: {}",
            facts.version,
            definition.left_out.join(", ")
        );
    }
    Ok(())
}
