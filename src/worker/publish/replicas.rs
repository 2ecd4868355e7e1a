//! Waiting until the other replicas of a target shard have what was published.

use std::collections::BTreeMap;

use futures::future::join_all;

use crate::model::{Node, PartitionId};

use super::super::site::AttemptError;
use super::{Gathered, Publication};

impl Publication<'_> {
    /// Waits until the other live replicas have what this one has.
    pub(super) async fn check_replicas(
        &self,
        part: &Gathered,
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Vec<String>, AttemptError> {
        if !part.target.engine.is_replicated() {
            return Ok(Vec::new());
        }
        let task = self.site.task();
        let shard = &task.target(&task.tables[self.batch.table]).shards[part.shard];
        let own = part.node.address();
        let ids: Vec<PartitionId> = counts.keys().cloned().collect();
        let others = shard.replicas.iter().filter(|node| node.address() != own);
        let checks = join_all(others.map(|node| self.check_replica(node, part, &ids, counts))).await;
        let mut remarks = Vec::new();
        for check in checks {
            remarks.extend(check?);
        }
        Ok(remarks)
    }

    async fn check_replica(
        &self,
        node: &Node,
        part: &Gathered,
        ids: &[PartitionId],
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Option<String>, AttemptError> {
        let warehouse = &self.site.fleet.warehouse;
        let table = &part.target.name;
        if let Err(error) = warehouse.server(node).await {
            return Ok(Some(format!(
                "replica {node} of {table} did not answer ({}): it fetches its rows when it is back",
                error.kind
            )));
        }
        warehouse.sync_replica(node, table).await?;
        let theirs = warehouse.rows_by_partition(node, table, Some(ids)).await?;
        let shrinks = part.target.engine.merges_rows() || part.target.has_ttl();
        match counts.iter().find(|(id, rows)| theirs.get(id).copied().unwrap_or(0) != **rows) {
            Some((id, rows)) if !shrinks => Err(AttemptError::Mismatch(format!(
                "replica {node} holds {} rows of partition {id} of {table}, and {} holds {rows}",
                theirs.get(id).copied().unwrap_or(0),
                part.node
            ))),
            _ => Ok(None),
        }
    }
}
