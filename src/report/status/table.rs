//! The status of a table job.

use serde::Serialize;

use super::amounts::Amounts;
use super::partition::{BatchRecords, PartitionStatus};
use crate::plan::TablePlan;
use crate::protocol::TableRecords;

/// A table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// The name of the table job in the task.
    pub name: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// The sums over its partitions.
    pub amounts: Amounts,
    /// The partitions of the table job, in the order in which they are copied.
    pub partitions: Vec<PartitionStatus>,
    /// The number of further partitions that have not changed since an earlier pass (`run --incremental`). They are left alone.
    pub unchanged: usize,
    /// Remarks of planning and publishing.
    pub remarks: Vec<String>,
}

impl TableStatus {
    /// Returns the status of a table job from its plan and its records.
    pub(super) fn of(plan: &TablePlan, records: &TableRecords) -> Self {
        let (mut partitions, mut amounts) = (Vec::new(), Amounts::default());
        let mut remarks = plan.remarks.clone();
        for batch in 0..records.batches.len() {
            let batch = BatchRecords::new(plan, records, batch);
            amounts.retries += batch.retries();
            remarks.extend(batch.published().into_iter().flat_map(|published| published.remarks.iter().cloned()));
            for partition in batch.partitions() {
                amounts.add_partition(&partition);
                partitions.push(partition);
            }
        }
        let (name, source, target) = (plan.name.clone(), plan.source.to_string(), plan.target.to_string());
        Self { name, source, target, amounts, partitions, unchanged: plan.unchanged, remarks }
    }
}
