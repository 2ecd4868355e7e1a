//! The plan of a task and the sizes of its shards, as fields of a report.

use serde::Serialize;

use crate::plan::TablePlan;
use crate::worker::target_sizes::TargetSize;

/// The plan of a table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Planned {
    /// The table job.
    pub(crate) table: String,
    /// The columns that are copied.
    pub(crate) columns: Vec<String>,
    /// The task's `where_condition`.
    pub(crate) condition: Option<String>,
    /// The elements of the target's partition key.
    pub(crate) partition_key: Vec<String>,
    /// The sharding key, if several target shards get rows.
    pub(crate) sharding_key: Option<String>,
    /// Whether parts are fetched as files, if the task leaves that choice to the worker.
    pub(crate) clones: bool,
    /// The batches, in the order in which they are copied.
    pub(crate) batches: Vec<PlannedBatch>,
}

/// The partitions that are published together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlannedBatch {
    /// The partitions of the batch.
    pub(crate) partitions: Vec<String>,
    /// The number of pieces.
    pub(crate) pieces: usize,
    /// The rows at planning.
    pub(crate) rows: u64,
    /// The uncompressed bytes, estimated.
    pub(crate) bytes: u64,
}

/// The size of a table job on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShardBulk {
    /// The table job.
    pub(crate) table: String,
    /// The source as it was planned, or the target after the run.
    pub(crate) side: Side,
    /// The number of the shard, from 1.
    pub(crate) shard: usize,
    /// The replica that was asked; only on the target.
    pub(crate) node: Option<String>,
    /// Rows.
    pub(crate) rows: u64,
    /// Uncompressed bytes.
    pub(crate) bytes: u64,
    /// Whether the size includes other partitions of the target table, because they cannot be told apart.
    pub(crate) whole_table: bool,
}

/// One of the two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// The cluster that rows come from.
    Source,
    /// The cluster that rows go to.
    Target,
}

impl Planned {
    pub(super) fn of(plan: &TablePlan) -> Self {
        let batch = |(batch, planned): (usize, &crate::plan::BatchPlan)| {
            let partitions = plan.partitions_of(batch);
            PlannedBatch {
                partitions: partitions.iter().map(|partition| partition.name.clone()).collect(),
                pieces: planned.pieces.len(),
                rows: partitions.iter().map(|partition| partition.rows).sum(),
                bytes: partitions.iter().map(|partition| partition.bytes).sum(),
            }
        };
        Self {
            table: plan.name.clone(),
            columns: plan.columns.clone(),
            condition: plan.reading.condition.clone(),
            partition_key: plan.key.iter().map(|element| element.expression.clone()).collect(),
            sharding_key: plan.sharding.as_ref().map(|sharding| sharding.key.clone()),
            clones: plan.clones,
            batches: plan.batches.iter().enumerate().map(batch).collect(),
        }
    }
}

/// Returns the size of each table on source shards at planning, and on target shards now.
pub(super) fn shards(plans: &[TablePlan], bulk: &[TargetSize]) -> Vec<ShardBulk> {
    let mut shards = Vec::new();
    for (table, plan) in plans.iter().enumerate() {
        let mut source: Vec<(u64, u64)> = Vec::new();
        for (piece, planned) in plan.pieces.iter().enumerate() {
            let (rows, bytes) = (planned.rows().max(1), plan.bytes_of(piece));
            for share in &planned.sources {
                source.resize(source.len().max(share.shard + 1), (0, 0));
                source[share.shard].0 += share.rows;
                source[share.shard].1 += (u128::from(bytes) * u128::from(share.rows) / u128::from(rows)) as u64;
            }
        }
        let (name, side) = (plan.name.clone(), Side::Source);
        shards.extend(source.into_iter().enumerate().map(|(shard, (rows, bytes))| {
            let (table, shard) = (name.clone(), shard + 1);
            ShardBulk { table, side, shard, node: None, rows, bytes, whole_table: false }
        }));
        shards.extend(bulk.iter().filter(|bulk| bulk.table == table).map(|bulk| ShardBulk {
            table: name.clone(),
            side: Side::Target,
            shard: bulk.shard + 1,
            node: Some(bulk.node.clone()),
            rows: bulk.rows,
            bytes: bulk.bytes,
            whole_table: bulk.whole,
        }));
    }
    shards
}
