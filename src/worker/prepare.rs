//! Before the first row moves: one worker plans every table job and makes the target tables; the others wait for it.

use crate::planning::plan_all::fit;
use crate::planning::plan_all::plan_all;
use crate::planning::target_tables::create_all_targets;
use std::sync::Arc;

use crate::model::{Node, counted};
use crate::plan::{Document, TablePlan};
use crate::protocol::{BatchRecord, TaskRecord};
use crate::task::Task;

use super::context::WorkerOptions;
use crate::ledger::membership::any;
use crate::ledger::{Ledger, Outcome};
use crate::nodes::pool::NodePool;
use crate::planning::document::document;
use crate::planning::errors::RunError;
use crate::planning::planner::PreviousPasses;
use crate::planning::survey::{Survey, refuse_lossy_conversions, survey};
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

const CLAIM: &str = "planning";

/// Plans and prepares, or waits until another worker has. `None` when the run is to end first. Of
/// the terms, the second is a plan that the run is held to.
pub async fn prepare(
    pool: &NodePool,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    terms: (&WorkerOptions, Option<&Document>),
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
                    plan_and_create(pool, ledger, task, surveys.take(), terms, &record).await
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

async fn plan_and_create(
    pool: &NodePool,
    ledger: &Ledger,
    task: &Task,
    surveys: Option<Vec<Survey>>,
    (worker_options, agreed): (&WorkerOptions, Option<&Document>),
    record: &TaskRecord,
) -> Result<(), RunError> {
    let surveys = match surveys {
        Some(surveys) => surveys,
        None => {
            let mut surveys = survey(pool, task).await.map_err(RunError::from_faults)?;
            // A later pass counts in what it copies, when that is known.
            let is_first = !record.planned && record.pass == 0;
            let lost = if is_first { refuse_lossy_conversions(pool, task, &mut surveys).await } else { Vec::new() };
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
            since.push(earlier.map(|earlier| PreviousPasses { earlier, drops_vanished: record.drops_vanished }));
        }
        let mut good = plan_all(pool, task, &surveys, worker_options.safe_mode, &since).await?;
        if let Some(agreed) = agreed {
            let now = document(pool, task, &surveys, good).await?;
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
    create_all_targets(pool, task, &surveys).await?;
    fault_point("tables-created").await;
    ledger.set_task(|record| record.prepared = true).await?;
    Ok(())
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
