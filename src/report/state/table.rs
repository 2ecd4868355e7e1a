//! The state of a table job.

use super::amounts::Amounts;
use super::batch::{BatchModel, PartitionModel};
use super::holders::Holders;
use super::piece::PieceModel;
use super::spent::Spent;
use crate::plan::TablePlan;
use crate::protocol::{BatchRef, TableRecords};

/// A table job.
pub(crate) struct TableModel<'a> {
    /// The plan.
    pub(crate) plan: &'a TablePlan,
    /// The batches, in the order in which they are copied.
    pub(crate) batches: Vec<BatchModel<'a>>,
    /// The sums over its partitions.
    pub(crate) amounts: Amounts,
    /// The time that all workers spent on each activity.
    pub(crate) spent: Spent,
    /// Remarks of planning and publishing.
    pub(crate) remarks: Vec<String>,
}

impl<'a> TableModel<'a> {
    /// Derives the state of a table job from its plan and its records. `table` is its index.
    pub(crate) fn of(table: usize, plan: &'a TablePlan, records: &'a TableRecords, holders: &Holders<'a>) -> Self {
        let batches = (0..records.batches.len()).map(|index| BatchRef { table, index });
        let batches: Vec<BatchModel<'a>> = batches.map(|batch| BatchModel::of(batch, plan, records, holders)).collect();
        let (mut amounts, mut spent) = (Amounts::default(), Spent::default());
        let mut remarks: Vec<String> = plan.remarks.iter().map(ToString::to_string).collect();
        for batch in &batches {
            amounts.add_batch(batch);
            spent.add(batch.spent);
            remarks.extend(batch.remarks.iter().cloned());
        }
        Self { plan, batches, amounts, spent, remarks }
    }

    /// Returns the partitions, each with its batch.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&BatchModel<'a>, &PartitionModel<'a>)> {
        self.batches.iter().flat_map(|batch| batch.partitions.iter().map(move |partition| (batch, partition)))
    }

    /// Returns the pieces.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &PieceModel<'a>> {
        self.batches.iter().flat_map(|batch| &batch.pieces)
    }
}
