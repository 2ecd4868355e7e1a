//! One attempt at publishing a batch: rename the staging tables, gather their rows, read the target partitions, put the rows in
//! place, count (docs/design.md, §3).

mod contents;
mod gather;
mod place;
mod placed;
mod replicas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::context::WorkerContext;
use crate::ledger::Ledger;
use crate::model::{AttemptNo, Node, PartitionId, PartitionValue, PublicationNo, TableName};
use crate::protocol::{BatchRecord, BatchRef, Copied, PartitionResult, PieceRef};
use crate::sql::TableDefinition;

/// The most partitions in one ALTER (100 took 0.2 s on 18.16).
const PARTITIONS_PER_ALTER: usize = 100;
/// How long to wait until displaced parts are gone. 18.16 takes about ten seconds.
const DISPLACED_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a replica may take to fetch rows from other replicas before an `append` fails there.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// The numbers of rows that partitions held before the first row of this task was added, by address of the node.
pub(crate) type Before = BTreeMap<String, BTreeMap<PartitionId, u64>>;

/// An attempt at publishing a batch.
pub(crate) struct Publication<'a> {
    /// The context of the worker.
    pub(crate) context: &'a WorkerContext,
    /// The records of the task.
    pub(crate) ledger: &'a Ledger,
    /// The batch.
    pub(crate) batch: BatchRef,
    /// The number of the attempt.
    pub(crate) number: PublicationNo,
    /// The record of the batch.
    pub(crate) record: BatchRecord,
    /// The pieces of the batch, each with its recorded attempt.
    pub(crate) pieces: Vec<CopiedPiece>,
}

/// A piece of a batch, as it was recorded when it was copied.
pub(crate) struct CopiedPiece {
    /// The piece.
    pub(crate) piece: PieceRef,
    /// The attempt that copied it.
    pub(crate) attempt: AttemptNo,
    /// The result of the attempt.
    pub(crate) copied: Copied,
}

/// The gathered rows of a batch on one target node.
pub(crate) struct Gathered {
    shard: usize,
    node: Arc<Node>,
    target: Arc<TableDefinition>,
    /// The table that holds all of the batch's rows for this node.
    from: TableName,
    /// All tables of the batch on this node, to drop at the end.
    tables: Vec<TableName>,
    /// The number of rows of each partition, counted.
    staged: BTreeMap<PartitionId, u64>,
    /// The value of each partition.
    values: BTreeMap<PartitionId, PartitionValue>,
}

impl Gathered {
    /// Returns the address of the node.
    pub(crate) fn address(&self) -> String {
        self.node.address()
    }
}

impl Publication<'_> {
    /// Returns how many rows were selected of each partition of the batch.
    fn selected(&self) -> Vec<u64> {
        let mut selected = vec![0; self.context.plans[self.batch.table].batches[self.batch.index].partitions.len()];
        for CopiedPiece { copied, .. } in &self.pieces {
            for (sum, rows) in selected.iter_mut().zip(&copied.selected) {
                *sum += rows;
            }
        }
        selected
    }

    /// Returns the result of each partition: its selected rows, its rows on the target, and its checksum.
    fn results(
        &self,
        gathered: &[Gathered],
        counted: &[&BTreeMap<PartitionId, u64>],
        before: &Before,
        checksums: Option<Vec<u64>>,
    ) -> Vec<PartitionResult> {
        let plan = &self.context.plans[self.batch.table];
        let checksum = |index: usize| checksums.as_ref().and_then(|sums| sums.get(index)).copied();
        let result = |(index, selected)| PartitionResult { selected, target: 0, checksum: checksum(index) };
        let mut results: Vec<PartitionResult> = self.selected().into_iter().enumerate().map(result).collect();
        let mut seen = BTreeSet::new();
        for (part, counts) in gathered.iter().zip(counted).filter(|(part, _)| seen.insert(part.shard)) {
            for (id, value) in &part.values {
                if let Some(at) = plan.position_in(self.batch.index, value) {
                    let others = before.get(&part.node.address()).and_then(|rows| rows.get(id)).copied().unwrap_or(0);
                    results[at].target += counts.get(id).copied().unwrap_or(0).saturating_sub(others);
                }
            }
        }
        results
    }

    /// Drops the tables of the batch on the target nodes, after the batch was recorded as done. Tables that cannot be dropped now are
    /// dropped when the task ends.
    pub(crate) async fn clear(&self, gathered: &[Gathered]) {
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
