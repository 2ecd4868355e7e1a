//! The status of a table job.

use serde::Serialize;

use super::super::state::{Amounts, TableModel};
use super::partition::PartitionStatus;

/// A table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// The name of the table job in the task.
    pub(crate) name: String,
    /// The source table.
    pub(crate) source: String,
    /// The target table.
    pub(crate) target: String,
    /// The sums over its partitions.
    pub(crate) amounts: Amounts,
    /// The partitions of the table job, in the order in which they are copied.
    pub partitions: Vec<PartitionStatus>,
    /// The number of further partitions that have not changed since an earlier pass (`run --incremental`). They are left alone.
    pub(crate) unchanged: usize,
    /// Remarks of planning and publishing.
    pub remarks: Vec<String>,
}

impl TableStatus {
    /// Returns the status of a table job from its state.
    pub(in crate::report) fn of(model: &TableModel<'_>) -> Self {
        let plan = model.plan;
        Self {
            name: plan.name.clone(),
            source: plan.source.to_string(),
            target: plan.target.to_string(),
            amounts: model.amounts.clone(),
            partitions: model.partitions().map(|(batch, partition)| PartitionStatus::of(batch, partition)).collect(),
            unchanged: plan.unchanged,
            remarks: model.remarks.clone(),
        }
    }
}
