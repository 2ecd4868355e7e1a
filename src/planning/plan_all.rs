//! The plans of all table jobs of a task.

use crate::plan::TablePlan;
use crate::task::Task;

use super::errors::RunError;
use super::planner;
use super::planner::PreviousPasses;
use super::shared_partitions::refuse_shared_partitions;
use super::survey::Survey;
use crate::nodes::pool::NodePool;
use crate::runtime::bounded::all_tables;

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

/// The plan of every table job; all that is against them is told at once. `since`: for each what earlier passes have copied,
/// nothing in the first one.
pub(crate) async fn plan_all(
    pool: &NodePool,
    task: &Task,
    surveys: &[Survey],
    safe_mode: bool,
    since: &[Option<PreviousPasses>],
) -> Result<Vec<TablePlan>, RunError> {
    let plans = all_tables(surveys.iter().map(|survey| {
        let policy = task.tables[survey.job].if_target_not_empty.in_mode(safe_mode);
        planner::plan(pool, task, survey, policy, since.get(survey.job).and_then(Option::as_ref))
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
