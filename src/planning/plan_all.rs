//! The plans of all table jobs of a task.

use super::errors::RunError;
use super::planner::{self, PreviousPasses};
use super::shared_partitions::refuse_shared_partitions;
use super::survey::Survey;
use crate::nodes::pool::NodePool;
use crate::plan::TablePlan;
use crate::runtime::bounded::all_tables;
use crate::task::Task;

/// Checks that there is one plan for each table job of the task, with the same numbers of shards. The error is a sentence.
pub(crate) fn fit<'a>(plans: impl ExactSizeIterator<Item = &'a TablePlan>, task: &Task) -> Result<(), String> {
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

/// Plans every table job. Returns the faults of all jobs together. `previous` has the partitions that earlier passes have copied, for
/// each job; it is empty in the first pass.
pub(crate) async fn plan_all(
    pool: &NodePool,
    task: &Task,
    surveys: &[Survey],
    safe_mode: bool,
    previous: &[Option<PreviousPasses>],
) -> Result<Vec<TablePlan>, RunError> {
    let plans = all_tables(surveys.iter().map(|survey| {
        let policy = task.tables[survey.job].if_target_not_empty.in_mode(safe_mode);
        planner::plan(pool, task, survey, policy, previous.get(survey.job).and_then(Option::as_ref))
    }));
    let (mut planned, mut faults) = (Vec::new(), Vec::new());
    for plan in plans.await {
        match plan {
            Ok(plan) => planned.push(plan),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        faults = refuse_shared_partitions(task, &planned);
    }
    if faults.is_empty() { Ok(planned) } else { Err(RunError::Problems(faults)) }
}
