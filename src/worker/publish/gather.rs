//! The first half of a publication: takes the staging tables, and gathers their rows on each target node in one table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::super::errors::{AttemptError, FinalError, StagingGone};
use super::super::table_rules::lacks_columns;
use super::{CopiedPiece, Gathered, PARTITIONS_PER_ALTER, Publication};
use crate::client::Placing;
use crate::model::{AttemptNo, Node, PartitionId, PublicationNo, TableName};
use crate::protocol::BatchTable;
use crate::runtime::fault_point::fault_point;

impl Publication<'_> {
    /// Takes the staging tables for this attempt, gathers their rows on each target node in one table, and counts them there.
    ///
    /// Cancellation: the tables stay, and the next attempt takes them.
    pub(crate) async fn gather(&self) -> Result<Vec<Gathered>, AttemptError> {
        let nodes = self.context.target_nodes(self.batch.table, &self.record.nodes)?;
        let places: Vec<(usize, &Arc<Node>)> =
            nodes.iter().enumerate().flat_map(|(shard, nodes)| nodes.iter().map(move |node| (shard, node))).collect();
        join_all(self.former().iter().map(|node| self.clear_former(node))).await;
        let taken = try_join_all(places.iter().map(|(_, node)| self.take(node))).await?;
        fault_point("staging-renamed").await;
        let gathered =
            try_join_all(places.iter().zip(taken).map(|((shard, node), tables)| self.gather_on(*shard, node, tables)))
                .await?;
        self.check_partitions(&gathered)?;
        fault_point("gathered").await;
        Ok(gathered)
    }

    /// Returns the nodes that held staged rows of the batch in earlier generations, if the task still names them.
    fn former(&self) -> Vec<Arc<Node>> {
        let task = self.context.task();
        let nodes = task.target(&task.tables[self.batch.table]).nodes();
        let former = nodes.filter(|(_, node)| self.record.former.contains(&node.address()));
        former.map(|(_, node)| Arc::new(node.clone())).collect()
    }

    /// Drops the tables of the batch on a node that was given up, so that a publisher that froze before that has nothing to publish
    /// there. Where the node does not answer, that publisher still finds the record changed.
    async fn clear_former(&self, node: &Node) {
        let client = &self.context.pool.client;
        let target = &self.context.plans[self.batch.table].target;
        let prefix = self.context.id.batch_tables(self.batch);
        let cleared = async {
            let settings = self.context.target_settings(node).await?;
            for name in client.tables_with_prefix(node, &target.database, &prefix).await? {
                let older = name.strip_prefix(&prefix).and_then(BatchTable::parse);
                if older.is_some_and(|table| table.is_older(self.number, |piece| self.attempt_of(piece))) {
                    client.drop_table(node, &target.beside(name), &settings).await?;
                }
            }
            Ok::<_, crate::client::Error>(())
        };
        if let Err(error) = cleared.await {
            tracing::warn!(node = error.node, "{error}; what is left there of the batch stays until the task ends");
        }
    }

    /// Returns the recorded attempt of a piece.
    fn attempt_of(&self, piece: usize) -> Option<AttemptNo> {
        // The pieces are in the order of their numbers.
        let position = self.pieces.binary_search_by_key(&piece, |copied| copied.piece.index).ok()?;
        Some(self.pieces[position].attempt)
    }

    /// Renames the recorded staging tables to names of this attempt, so that an earlier publisher that thaws finds
    /// neither them nor its own assembly table.
    async fn take(&self, node: &Node) -> Result<Vec<TableName>, AttemptError> {
        let client = &self.context.pool.client;
        let target = &self.context.plans[self.batch.table].target;
        let prefix = self.context.id.batch_tables(self.batch);
        let settings = self.context.target_settings(node).await?;
        let mut newest: BTreeMap<usize, (Option<PublicationNo>, String)> = BTreeMap::new();
        for name in client.tables_with_prefix(node, &target.database, &prefix).await? {
            let recorded = |piece: usize| self.attempt_of(piece);
            let Some(table) = name.strip_prefix(&prefix).and_then(BatchTable::parse) else { continue };
            if table.is_newer(self.number, recorded) {
                return Err(FinalError::NewerAttempt { node: node.address(), table: name }.into());
            }
            if table.is_older(self.number, recorded) {
                client.drop_table(node, &target.beside(name), &settings).await?;
                continue;
            }
            match table {
                BatchTable::Staging { piece, publication, .. } => {
                    let entry = newest.entry(piece).or_insert((publication, name.clone()));
                    if publication > entry.0 {
                        *entry = (publication, name);
                    }
                }
                // An assembly table of this attempt whose CREATE was not answered, or a table that parts passed through before they
                // were counted and recorded.
                BatchTable::Assembly { .. } | BatchTable::Parts { .. } => {
                    client.drop_table(node, &target.beside(name), &settings).await?
                }
            }
        }
        let mut renames = Vec::new();
        let mut own = Vec::new();
        for CopiedPiece { piece, attempt, .. } in &self.pieces {
            let Some((_, name)) = newest.remove(&piece.index) else {
                let table = target.beside(self.context.id.staging(self.batch, *piece, *attempt));
                return Err(StagingGone::Table { node: node.address(), piece: piece.index, table }.into());
            };
            let wanted = target.beside(self.context.id.taken(self.batch, *piece, *attempt, self.number));
            if name != wanted.table {
                renames.push((target.beside(name), wanted.clone()));
            }
            own.push(wanted);
        }
        client.rename(node, &renames).await?;
        Ok(own)
    }

    /// Gathers the taken tables of a node in one table, and counts the rows of each partition.
    async fn gather_on(
        &self,
        shard: usize,
        node: &Arc<Node>,
        mut tables: Vec<TableName>,
    ) -> Result<Gathered, AttemptError> {
        let context = self.context;
        let client = &context.pool.client;
        let plan = &context.plans[self.batch.table];
        let target = context.target(self.batch.table, node).await?;
        let from = match tables.as_slice() {
            [one] => one.clone(),
            many => {
                let assembly = plan.target.beside(context.id.assembly(self.batch, self.number));
                let settings = context.target_settings(node).await?;
                let statement =
                    target.create_staging(&assembly, &plan.columns).ok_or_else(|| lacks_columns(plan, node))?;
                client.create_table(node, &assembly, &statement, &settings).await?;
                if target.engine.is_old_syntax() {
                    client.stop_merges(node, &assembly).await?;
                }
                for table in many {
                    let parts = client.parts(node, table).await?;
                    let ids: Vec<PartitionId> = parts.into_iter().map(|part| part.id).collect();
                    for chunk in ids.chunks(PARTITIONS_PER_ALTER) {
                        client.place(node, Placing::Attach, &assembly, table, chunk, &settings).await?;
                    }
                }
                tables.push(assembly.clone());
                assembly
            }
        };
        let mut staged: BTreeMap<PartitionId, u64> = BTreeMap::new();
        let mut values = BTreeMap::new();
        for (id, value, rows) in client.value_by_partition(node, &from, &plan.key).await? {
            *staged.entry(id.clone()).or_default() += rows;
            values.insert(id, value);
        }
        let expected: u64 = self.pieces.iter().map(|piece| piece.copied.staged[shard]).sum();
        let found: u64 = staged.values().sum();
        if expected != found {
            return Err(StagingGone::Rows { node: node.address(), expected, found }.into());
        }
        Ok(Gathered { shard, node: node.clone(), target, from, tables, staged, values })
    }

    /// Checks that the number of selected rows equals the number of staged rows for each partition, not only for their sum.
    fn check_partitions(&self, gathered: &[Gathered]) -> Result<(), AttemptError> {
        let plan = &self.context.plans[self.batch.table];
        let selected = self.selected();
        let mut staged = vec![0; selected.len()];
        let mut seen = BTreeSet::new();
        for part in gathered.iter().filter(|part| seen.insert(part.shard)) {
            for (id, rows) in &part.staged {
                let Some(at) = part.values.get(id).and_then(|value| plan.position_in(self.batch.index, value)) else {
                    let (node, partition, table) = (part.node.address(), id.clone(), plan.target.clone());
                    return Err(FinalError::UnselectedPartition { node, rows: *rows, partition, table }.into());
                };
                staged[at] += rows;
            }
        }
        for ((partition, selected), staged) in plan.partitions_of(self.batch.index).iter().zip(selected).zip(staged) {
            if selected != staged {
                let partition = partition.name.clone();
                return Err(FinalError::UnequalPartition { partition, selected, staged }.into());
            }
        }
        Ok(())
    }
}
