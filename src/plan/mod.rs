//! Partitions and sizes → batches and pieces. The plan is a value: it is stored, printed and executed.

mod account;
mod batches;
mod check;
#[cfg(test)]
mod check_tests;
mod columns;
mod document;
mod earlier;
mod literal;
mod marks;
mod remark;
mod slices;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::model::{PartitionId, PartitionValue, TableName};
use crate::sql::{Expression, KeyElement, PartitionFilter, Relation, Selection, Slice, SlotFilter, SlotKey, SlotWidth};

pub use account::{Account, ShardAccount};
pub(crate) use batches::{BatchSizing, Found, MOST_PARTITIONS, ShardSize, assemble, batches, cuts, usual_batch_bytes};
pub(crate) use columns::{Matched, computed_columns, match_columns};
pub use document::{Creation, Document, Planned, Travel};
pub(crate) use earlier::{Again, Due, OnTarget};
pub use earlier::{CopiedPartition, Earlier};
pub(crate) use literal::parse_partition;
pub use marks::{Mark, ShardMark};
pub use remark::Remark;
pub(crate) use remark::RemarkSubject;
pub(crate) use slices::ranges;

/// The plan of one table job: the rows to copy, and the pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// The table job's name in the task.
    pub name: String,
    /// The source table.
    pub source: TableName,
    /// The target table.
    pub target: TableName,
    /// How the source is read.
    pub reading: Reading,
    /// The transferred columns: all that the target stores. Staging tables have them in this order.
    pub columns: Vec<String>,
    /// The target's partition key; empty if it is not partitioned.
    pub key: Vec<KeyElement>,
    /// The sharding key and slots; `None` if only one shard gets rows.
    pub sharding: Option<Sharding>,
    /// For each target shard, whether one replica is written to and the others fetch from it.
    pub replicated: Vec<bool>,
    /// Whether the target table's own engine replicates.
    pub engine_replicates: bool,
    /// The partitions, in the order of copying.
    pub partitions: Vec<PartitionPlan>,
    /// The batches, each a range of partitions and a range of pieces.
    pub batches: Vec<BatchPlan>,
    /// The pieces.
    pub pieces: Vec<PiecePlan>,
    /// Remarks for the user.
    pub remarks: Vec<Remark>,
    /// Whether its pieces are cloned if the task leaves the transfer open. None of them is a slice then.
    #[serde(default)]
    pub clones: bool,
    /// Number of partitions that an earlier pass copied and that are left alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unchanged: usize,
    /// The counts of the source before copying (I7); `None` in plans of versions that did not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// How the source is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// See [`Relation::columns`].
    pub columns: Option<Vec<(String, String)>>,
    /// See [`Relation::raw`].
    pub raw: Vec<String>,
    /// The expressions over the relation that return the transferred columns.
    pub values: Vec<String>,
    /// The task's `where_condition`.
    pub condition: Option<String>,
    /// Stored columns of the target that are not transferred. The target computes them when rows are staged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// The sharding key and the slots of the target shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharding {
    /// The sharding expression.
    pub key: String,
    /// How its value is converted to a number.
    pub width: SlotWidth,
    /// The number of slots.
    pub total: u64,
    /// The slots of each target shard.
    pub slots: Vec<Range<u64>>,
}

impl Sharding {
    /// Returns the target shard that owns a slot, given as text.
    pub(crate) fn owner_of(&self, slot: &PartitionValue) -> Option<usize> {
        let slot: u64 = slot.0.first()?.parse().ok()?;
        self.slots.iter().position(|slots| slots.contains(&slot))
    }

    /// Returns the expression that computes a row's slot.
    pub(crate) fn slot_key(&self) -> SlotKey {
        SlotKey {
            // The stored text was checked when it was planned.
            key: Expression::parse(&self.key).unwrap_or_else(|_| Expression::never()),
            width: self.width,
            total: self.total,
        }
    }
}

/// A partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPlan {
    /// The partition's value.
    #[serde(rename = "v")]
    pub value: PartitionValue,
    /// The name of the partition as a person writes it.
    #[serde(rename = "n")]
    pub name: String,
    /// The id of the partition, if it can be computed from the value.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<PartitionId>,
    /// Rows at the source at planning time.
    #[serde(rename = "r")]
    pub rows: u64,
    /// Estimated uncompressed bytes.
    #[serde(rename = "b")]
    pub bytes: u64,
    /// The parts of the partition at the source at planning time, if they are known.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Whether an earlier pass of the task has filled it. The target's rows in it are ours then, and are replaced.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub renews: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A batch: partitions that are published together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// Range in [`TablePlan::partitions`].
    pub partitions: Range<usize>,
    /// Range in [`TablePlan::pieces`].
    pub pieces: Range<usize>,
}

/// A piece: the unit that a worker claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PiecePlan {
    /// Index of its batch.
    #[serde(rename = "b")]
    pub batch: usize,
    /// The source shards of its rows: one, or all that hold rows of a batch that is small enough for one piece.
    #[serde(rename = "s")]
    pub sources: Vec<SourceShare>,
    /// The slice of the batch on its shard; `None` means all its rows.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Slice>,
}

/// A piece's rows on a source shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceShare {
    /// Index of the source shard.
    #[serde(rename = "n")]
    pub shard: usize,
    /// Rows at planning time; estimated for a slice.
    #[serde(rename = "r")]
    pub rows: u64,
}

impl PiecePlan {
    /// Returns the first of its source shards.
    pub(crate) fn first_shard(&self) -> usize {
        self.sources.first().map_or(0, |share| share.shard)
    }

    /// Returns the rows at planning time; estimated for a slice.
    pub(crate) fn rows(&self) -> u64 {
        self.sources.iter().map(|share| share.rows).sum()
    }
}

impl Reading {
    /// Returns whether a transferred column has the same value each time its row is read. `DEFAULT now()` of a column
    /// that only the target has, for example, does not.
    pub(crate) fn is_steady(&self, column: usize) -> bool {
        let Some(value) = self.values.get(column) else { return false };
        let seen = self.columns.iter().flatten().find(|(name, _)| crate::sql::quote::ident(name) == *value);
        let expression = seen.map_or(value, |(_, expression)| expression);
        Expression::parse(expression).is_ok_and(|expression| expression.is_function_of_the_row())
    }

    /// Returns why the rows cannot be cloned as parts, if a reason exists. Parts hold all rows, with each value
    /// unchanged.
    pub(crate) fn against_parts(&self, columns: &[String]) -> Option<String> {
        if self.condition.is_some() {
            return Some("where_condition chooses among the rows".into());
        }
        let as_they_are = columns.iter().map(|name| crate::sql::quote::ident(name)).eq(self.values.iter().cloned());
        (self.columns.is_some() || !as_they_are).then(|| "columns are converted or computed".into())
    }

    /// Returns the relation over a table.
    pub(crate) fn relation(&self, table: &TableName) -> Relation {
        Relation {
            table: table.clone(),
            columns: self.columns.clone(),
            raw: self.raw.clone(),
            // The stored text was checked when it was planned. If a text is no longer an expression, the server
            // refuses it; it is never silently dropped.
            condition: self
                .condition
                .as_deref()
                .map(|text| Expression::parse(text).unwrap_or_else(|_| Expression::never())),
        }
    }
}

impl TablePlan {
    /// Returns a plan of these partitions only.
    #[cfg(test)]
    pub(crate) fn empty(reading: Reading, partitions: Vec<PartitionPlan>) -> Self {
        Self {
            name: "t".into(),
            source: TableName::new("d", "t"),
            target: TableName::new("d", "u"),
            reading,
            columns: Vec::new(),
            key: Vec::new(),
            sharding: None,
            replicated: Vec::new(),
            engine_replicates: false,
            partitions,
            batches: Vec::new(),
            pieces: Vec::new(),
            remarks: Vec::new(),
            clones: false,
            unchanged: 0,
            account: None,
        }
    }

    /// Returns the plan with the partitions that earlier passes copied and this one leaves alone, one batch for each.
    /// A comparison uses it to cover everything that the task has copied. These batches have no pieces.
    pub(crate) fn with_earlier(mut self, earlier: &Earlier) -> Self {
        let kept: Vec<PartitionPlan> = earlier.beside(&self).map(|copied| copied.partition.clone()).collect();
        for partition in kept {
            let (at, none) = (self.partitions.len(), self.pieces.len());
            self.partitions.push(partition);
            self.batches.push(BatchPlan { partitions: at..at + 1, pieces: none..none });
        }
        self
    }

    /// Returns the partitions of a batch.
    pub fn partitions_of(&self, batch: usize) -> &[PartitionPlan] {
        &self.partitions[self.batches[batch].partitions.clone()]
    }

    /// Returns why the way that rows are read prevents cloning them as parts, if a reason exists.
    pub(crate) fn against_parts(&self) -> Option<String> {
        self.reading.against_parts(&self.columns)
    }

    /// Returns the estimated uncompressed bytes of a piece.
    pub(crate) fn bytes_of(&self, piece: usize) -> u64 {
        let piece = &self.pieces[piece];
        let sum = |number: fn(&PartitionPlan) -> u64| self.partitions_of(piece.batch).iter().map(number).sum::<u64>();
        let (rows, bytes) = (sum(|partition| partition.rows), sum(|partition| partition.bytes));
        (u128::from(bytes) * u128::from(piece.rows()) / u128::from(rows.max(1))) as u64
    }

    /// Returns the rows of a piece, for all target shards.
    pub(crate) fn rows_of(&self, piece: usize) -> Selection {
        let plan = &self.pieces[piece];
        let values = self.partitions_of(plan.batch).iter().map(|partition| partition.value.clone()).collect();
        Selection {
            relation: self.reading.relation(&self.source),
            partitions: Some(PartitionFilter { elements: self.key.clone(), values }),
            slice: plan.slice.clone(),
            slots: None,
        }
    }

    /// Returns the rows of a piece that belong to one target shard.
    pub(crate) fn rows_for(&self, piece: usize, shard: usize) -> Selection {
        let slots = self
            .sharding
            .as_ref()
            .map(|sharding| SlotFilter { key: sharding.slot_key(), slots: sharding.slots[shard].clone() });
        Selection { slots, ..self.rows_of(piece) }
    }

    /// Returns the nodes to write to, chosen from the live nodes of each target shard: one in turn if they replicate
    /// to each other, the first if only one may have the rows, all if each is written to. The list is empty for a
    /// shard that gets no rows.
    pub(crate) fn nodes_for(&self, batch: usize, live: &[Vec<String>]) -> Vec<Vec<String>> {
        let wanted: Vec<usize> = self.target_shards().collect();
        let of_shard = |(shard, live): (usize, &Vec<String>)| match live.as_slice() {
            _ if !wanted.contains(&shard) => Vec::new(),
            [] => Vec::new(),
            live if self.replicated[shard] && self.engine_replicates => vec![live[batch % live.len()].clone()],
            live if self.replicated[shard] => vec![live[0].clone()],
            live => live.to_vec(),
        };
        live.iter().enumerate().map(of_shard).collect()
    }

    /// Returns the target shards that get rows.
    pub(crate) fn target_shards(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.replicated.len();
        (0..all).filter(move |shard| match &self.sharding {
            Some(sharding) => !sharding.slots[*shard].is_empty(),
            None => true,
        })
    }

    /// Returns a partition's index in its batch, by its value.
    pub(crate) fn position_in(&self, batch: usize, value: &PartitionValue) -> Option<usize> {
        self.partitions_of(batch).iter().position(|partition| &partition.value == value)
    }
}
