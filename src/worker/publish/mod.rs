//! One attempt at publishing a batch: take the staging tables, gather, look, put in place, count (docs/design.md, §3).

mod gather;
mod place;
mod placed;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::model::{Node, PartitionId, PartitionValue, TableName};
use crate::protocol::{BatchRecord, BatchRef, Copied, PartitionResult, PieceRef};
use crate::sql::TableDefinition;

use super::context::WorkerContext;
use crate::ledger::Ledger;

/// So many partitions go into one ALTER (100 took 0.2 s on 18.16).
const PER_ALTER: usize = 100;
/// How long to wait until displaced parts are gone; 18.16 takes about ten seconds.
const DISPLACED_LIMIT: Duration = Duration::from_secs(900);
/// How long a replica may take to fetch what others had, before an `append` cannot go on there.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// Rows that partitions held before the first row of ours was added, by the address of the node.
pub type Before = BTreeMap<String, BTreeMap<PartitionId, u64>>;

/// An attempt at publishing a batch.
pub struct Publication<'a> {
    /// What it works with.
    pub context: &'a WorkerContext,
    /// Where it is recorded.
    pub ledger: &'a Ledger,
    /// The batch.
    pub batch: BatchRef,
    /// Its number.
    pub number: u32,
    /// The batch's record.
    pub record: BatchRecord,
    /// Its pieces, each with the attempt that was recorded.
    pub pieces: Vec<(PieceRef, u32, Copied)>,
}

/// What waits on one target node.
pub struct Gathered {
    pub(super) shard: usize,
    pub(super) node: Arc<Node>,
    pub(super) target: Arc<TableDefinition>,
    /// The table that holds all of the batch's rows for this node.
    pub(super) from: TableName,
    /// Every table of the batch there, to be dropped at the end.
    tables: Vec<TableName>,
    /// Rows by partition, counted.
    staged: BTreeMap<PartitionId, u64>,
    /// What value each partition has.
    pub(super) values: BTreeMap<PartitionId, PartitionValue>,
}

impl Gathered {
    /// The address of its node.
    pub fn address(&self) -> String {
        self.node.address()
    }
}

impl Publication<'_> {
    fn selected(&self) -> Vec<u64> {
        let mut selected = vec![0; self.context.plans[self.batch.table].batches[self.batch.batch].partitions.len()];
        for (_, _, copied) in &self.pieces {
            for (sum, rows) in selected.iter_mut().zip(&copied.selected) {
                *sum += rows;
            }
        }
        selected
    }

    fn results(
        &self,
        gathered: &[Gathered],
        counted: &[&BTreeMap<PartitionId, u64>],
        before: &Before,
        checksums: Option<Vec<u64>>,
    ) -> Vec<PartitionResult> {
        let plan = &self.context.plans[self.batch.table];
        let checksum = |at: usize| checksums.as_ref().and_then(|sums| sums.get(at)).copied();
        let result = |(at, selected)| PartitionResult { selected, target: 0, checksum: checksum(at) };
        let mut results: Vec<PartitionResult> = self.selected().into_iter().enumerate().map(result).collect();
        let mut seen = BTreeSet::new();
        for (part, counts) in gathered.iter().zip(counted).filter(|(part, _)| seen.insert(part.shard)) {
            for (id, value) in &part.values {
                if let Some(at) = plan.position_in(self.batch.batch, value) {
                    let others = before.get(&part.node.address()).and_then(|rows| rows.get(id)).copied().unwrap_or(0);
                    results[at].target += counts.get(id).copied().unwrap_or(0).saturating_sub(others);
                }
            }
        }
        results
    }

    /// Drops what the batch leaves on the targets, after it was recorded as done. What cannot be dropped now is dropped
    /// when the task ends.
    pub async fn clear(&self, gathered: &[Gathered]) {
        let drops = gathered.iter().map(|part| async {
            let settings = self.context.target_settings(&part.node).await.unwrap_or_default();
            for table in &part.tables {
                if let Err(error) = self.context.pool.client.drop_table(&part.node, table, &settings).await {
                    tracing::warn!(node = error.node, "{error}; it stays until the task ends");
                }
            }
        });
        join_all(drops).await;
    }
}
