//! What the task and the plan say about a table job: the policy for rows of others, merges and clones. Pure.

use super::errors::{AttemptError, FinalError};
use crate::model::{Node, Way};
use crate::plan::TablePlan;
use crate::protocol::Policy;
use crate::sql::TableDefinition;
use crate::task::{IfTargetNotEmpty, TableJob};

/// Returns whether pieces of a table job may be cloned, or may have been cloned before the task was changed. Cloned pieces leave tables
/// on source nodes.
pub(super) fn may_clone(plan: &TablePlan, job: &TableJob) -> bool {
    plan.clones || job.transfer == Some(Way::Clone)
}

/// Returns the policy for rows that the target held before the task. With `safe_mode` these rows stay.
pub(super) fn policy(job: &TableJob, safe_mode: bool) -> Policy {
    match job.if_target_not_empty.in_mode(safe_mode) {
        IfTargetNotEmpty::Fail => Policy::Fail,
        IfTargetNotEmpty::Replace => Policy::Replace,
        IfTargetNotEmpty::Append => Policy::Append,
        IfTargetNotEmpty::Skip => Policy::Skip,
    }
}

/// Returns whether merges may remove rows of a target table by design. The task says so, or else the engine of the table.
pub(super) fn merges_rows(job: &TableJob, target: &TableDefinition) -> bool {
    job.merges_rows.unwrap_or_else(|| target.engine.merges_rows())
}

/// Returns whether a target table may lose rows by design, through merges or a TTL.
pub(super) fn may_lose_rows(job: &TableJob, target: &TableDefinition) -> bool {
    merges_rows(job, target) || target.has_ttl()
}

/// Returns the error for a target table that lacks planned columns.
pub(super) fn lacks_columns(plan: &TablePlan, node: &Node) -> AttemptError {
    FinalError::LacksColumns { node: node.address(), table: plan.target.clone(), columns: plan.columns.clone() }.into()
}
