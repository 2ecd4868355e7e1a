//! Preparation before the first row moves: one worker plans every table job and creates the target tables; the others wait for it.

use std::sync::Arc;

use crate::ledger::membership::any;
use crate::ledger::{Ledger, Outcome};
use crate::model::{Node, counted};
use crate::nodes::pool::NodePool;
use crate::plan::{Document, RemarkSubject, TablePlan};
use crate::planning::document::document;
use crate::planning::errors::{Problem, RunError};
use crate::planning::plan_all::{fit, plan_all};
use crate::planning::planner::PreviousPasses;
use crate::planning::survey::{Survey, refuse_lossy_conversions, survey};
use crate::planning::target_tables::create_all_targets;
use crate::protocol::{BatchRecord, TaskRecord};
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;
use crate::task::Task;

/// The name of the claim on planning a task.
const CLAIM: &str = "planning";

/// What a worker is bound to when it plans a task.
#[derive(Clone, Copy)]
pub(crate) struct PlanTerms<'a> {
    /// Whether rows that the target held before must stay, whatever the task says.
    pub(crate) safe_mode: bool,
    /// The plan of `--plan`, which the run must follow.
    pub(crate) agreed: Option<&'a Document>,
}

/// Plans and prepares the task, or waits until another worker has. Returns `None` when the run is interrupted first.
pub(crate) async fn prepare(
    pool: &NodePool,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    terms: PlanTerms<'_>,
    worker: &str,
    interrupt: &Interrupt,
) -> Result<Option<Vec<TablePlan>>, RunError> {
    let mut surveys = surveys;
    let mut is_announced = false;
    loop {
        let claims = ledger.watch_claims().await?;
        let (record, change) = ledger.watch_task().await?;
        let record = record.ok_or_else(|| RunError::servers("the task was deleted from the coordinator"))?;
        if record.planned && record.prepared {
            let plans = ledger.plans(task.tables.len()).await?;
            if terms.agreed.is_some_and(|agreed| !agreed.tables.iter().map(|table| &table.plan).eq(&plans)) {
                let line = "the task was planned before, and not as --plan says: leave it out to go on with the plan that is there";
                return Err(RunError::servers(line));
            }
            fit(plans.iter(), task).map_err(RunError::servers)?;
            return Ok(Some(plans));
        }
        if ledger.claim(CLAIM, worker).await? == Outcome::Done {
            // The last holder of the claim may have planned since the record was read. A second plan would delete the first one with
            // all its records.
            let done = match ledger.task().await? {
                Some(record) if !(record.planned && record.prepared) => {
                    plan_and_create(pool, ledger, task, surveys.take(), terms, &record).await
                }
                _ => Ok(()),
            };
            ledger.release(CLAIM).await?;
            done?;
            continue;
        }
        if !is_announced {
            tracing::info!("another worker is planning the task: waiting for it");
            is_announced = true;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(None),
            lost = ledger.session().lost() => return Err(lost.into()),
            () = any(vec![claims, change]) => {}
        }
    }
}

/// Plans all table jobs if no plan is stored, and creates the target tables. The caller must hold the claim.
async fn plan_and_create(
    pool: &NodePool,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    terms: PlanTerms<'_>,
    record: &TaskRecord,
) -> Result<(), RunError> {
    let surveys = match surveys {
        Some(surveys) => surveys,
        None => {
            let mut surveys = survey(pool, task).await.map_err(RunError::Problems)?;
            // A later pass counts these rows only among the partitions that it copies, which are known after planning.
            let is_first = !record.planned && record.pass == 0;
            let lost = if is_first { refuse_lossy_conversions(pool, task, &mut surveys).await } else { Vec::new() };
            if !lost.is_empty() {
                return Err(RunError::Problems(lost));
            }
            surveys
        }
    };
    if !record.planned {
        let mut previous = Vec::new();
        for table in 0..task.tables.len() {
            let earlier = ledger.earlier(record, table).await?;
            previous.push(earlier.map(|earlier| PreviousPasses { earlier, drops_vanished: record.drops_vanished }));
        }
        let mut plans = plan_all(pool, task, &surveys, terms.safe_mode, &previous).await?;
        if let Some(agreed) = terms.agreed {
            let now = document(pool, task, &surveys, plans).await?;
            let changes = agreed.changes(&now);
            if !changes.is_empty() {
                let head =
                    "the plan of --plan does not hold any more: plan again, and look at what has changed".to_owned();
                return Err(RunError::Problems(std::iter::once(head).chain(changes).map(Problem::servers).collect()));
            }
            plans = agreed.tables.iter().map(|table| table.plan.clone()).collect();
        }
        plans.iter().for_each(describe);
        // The surveys are in the order of the task's tables.
        let batches = surveys.iter().zip(&plans).map(|(survey, plan)| (plan, fresh_batches(plan, survey)));
        ledger.store_plans(&batches.collect::<Vec<_>>()).await?;
        ledger.set_task(|record| record.planned = true).await?;
        fault_point("plan-stored").await;
    }
    create_all_targets(pool, task, &surveys).await?;
    fault_point("tables-created").await;
    ledger.set_task(|record| record.prepared = true).await?;
    Ok(())
}

/// Logs the size of a plan and its remarks.
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
    // The worker that transfers the rows logs the transfer.
    for remark in plan.remarks.iter().filter(|remark| remark.about != RemarkSubject::Transfer) {
        tracing::warn!(table = plan.name, "table {}: {remark}", plan.name);
    }
}

/// Returns the records of a plan's batches, with the target nodes of each.
fn fresh_batches(plan: &TablePlan, survey: &Survey) -> Vec<BatchRecord> {
    let address = |nodes: &Vec<Arc<Node>>| nodes.iter().map(|node| node.address()).collect();
    let live: Vec<Vec<String>> = survey.targets.iter().map(address).collect();
    (0..plan.batches.len()).map(|batch| BatchRecord::new(plan.nodes_for(batch, &live))).collect()
}
