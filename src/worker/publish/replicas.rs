//! Waiting until the other replicas of a target shard have what was published.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::Error;
use crate::model::{Node, PartitionId};

use super::super::site::AttemptError;
use super::{Gathered, Publication};

/// How often the node that has the rows is looked at while others fetch them, and how many looks in a row may fail.
const LOOK: Duration = Duration::from_secs(2);
const BAD_LOOKS: u32 = 3;

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
        tokio::select! {
            biased;
            synced = warehouse.sync_replica(node, table) => synced?,
            // Nobody else may have what it would fetch: without this it waits for ever.
            lost = self.until_lost(&part.node) => return Err(AttemptError::Mismatch(format!(
                "{lost}: the rows were put in place there, and replica {node} of {table} does not have them yet"
            ))),
        }
        let theirs = warehouse.rows_by_partition(node, table, Some(ids)).await?;
        let shrinks = self.site.merges_rows(self.batch.table, &part.target) || part.target.has_ttl();
        match counts.iter().find(|(id, rows)| theirs.get(id).copied().unwrap_or(0) != **rows) {
            Some((id, rows)) if !shrinks => Err(AttemptError::Mismatch(format!(
                "replica {node} holds {} rows of partition {id} of {table}, and {} holds {rows}: do both have the same \
                 zookeeper_path in system.replicas?",
                theirs.get(id).copied().unwrap_or(0),
                part.node
            ))),
            _ => Ok(None),
        }
    }

    /// Returns when a node has not answered a few times in a row, with what came instead.
    async fn until_lost(&self, node: &Node) -> Error {
        let mut silent = 0;
        loop {
            match self.site.fleet.warehouse.server(node).await {
                Ok(_) => silent = 0,
                Err(error) if silent + 1 == BAD_LOOKS => return error,
                Err(_) => silent += 1,
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
