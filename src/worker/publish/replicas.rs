//! Waits until the other replicas of a target shard have the published rows. A replica that did not answer during planning may
//! lack the target table, or may have lost it since. The table is created there again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::super::errors::{AttemptError, Mismatch};
use super::super::table_rules::may_lose_rows;
use super::{Gathered, Publication};
use crate::client::Error;
use crate::client::codes::{UNKNOWN_DATABASE, UNKNOWN_TABLE};
use crate::model::{Node, PartitionId};

/// How often to check that the node with the rows answers, while other replicas fetch them.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The number of failed checks in a row after which the node counts as lost.
const MAX_FAILED_CHECKS: u32 = 3;

impl Publication<'_> {
    /// Waits until the other live replicas have the rows of this one. Returns remarks about replicas that do not answer.
    pub(super) async fn check_replicas(
        &self,
        part: &Gathered,
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Vec<String>, AttemptError> {
        if !part.target.engine.is_replicated() {
            return Ok(Vec::new());
        }
        let task = self.context.task();
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

    /// Waits until a replica has the rows, and compares its counts. Returns a remark if it does not answer.
    async fn check_replica(
        &self,
        node: &Node,
        part: &Gathered,
        ids: &[PartitionId],
        counts: &BTreeMap<PartitionId, u64>,
    ) -> Result<Option<String>, AttemptError> {
        let client = &self.context.pool.client;
        let table = &part.target.name;
        if let Err(error) = client.answers(node).await {
            return Ok(Some(format!(
                "replica {node} of {table} did not answer ({}): it fetches its rows when it is back",
                error.kind
            )));
        }
        match self.sync(node, part).await {
            Err(AttemptError::Server(error)) if is_missing(&error) => {
                self.still_ours().await?;
                if let Err(error) = self.create_again(node, part).await {
                    return Ok(Some(format!(
                        "replica {node} has no table {table}, and it cannot be made there: {error}. The replica is left out: make the \
                         table there, and it fetches its rows"
                    )));
                }
                self.sync(node, part).await?;
            }
            synced => synced?,
        }
        let theirs = client.rows_by_partition(node, table, Some(ids)).await?;
        let shrinks = may_lose_rows(&self.context.task().tables[self.batch.table], &part.target);
        match counts.iter().find(|(id, rows)| theirs.get(id).copied().unwrap_or(0) != **rows) {
            Some((id, rows)) if !shrinks => Err(Mismatch::ReplicaDiffers {
                replica: node.address(),
                found: theirs.get(id).copied().unwrap_or(0),
                partition: id.clone(),
                table: table.clone(),
                node: part.node.address(),
                expected: *rows,
            }
            .into()),
            _ => Ok(None),
        }
    }

    /// Waits until a replica has fetched all rows that are in its queue.
    async fn sync(&self, node: &Node, part: &Gathered) -> Result<(), AttemptError> {
        let table = &part.target.name;
        tokio::select! {
            biased;
            synced = self.context.pool.client.sync_replica(node, table) => Ok(synced?),
            // No other replica may have the rows. Without this check the replica would wait for ever.
            lost = self.until_lost(&part.node) => {
                let (error, replica, table) = (Box::new(lost), node.address(), table.clone());
                Err(Mismatch::LostBeforeReplication { error, replica, table }.into())
            }
        }
    }

    /// Creates the target table on a replica that lacks it, with the definition of the replica that got the rows. The error is a
    /// sentence for a message.
    async fn create_again(&self, node: &Node, part: &Gathered) -> Result<(), String> {
        let (client, table) = (&self.context.pool.client, &part.target.name);
        let text = |error: Error| error.to_string();
        let like = &part.target;
        let settings = self.context.target_settings(node).await.map_err(text)?;
        let database = client.database_engine(node, &table.database).await.map_err(text)?;
        if database.is_none() {
            client.create_database(node, &table.database, &settings).await.map_err(text)?;
        }
        let engine = like.engine.in_database(database.as_deref());
        if engine.has_open_identity() {
            return Err("its path in ZooKeeper has {uuid}, which would be another one".into());
        }
        client.create_table(node, table, &like.create(table, &engine), &settings).await.map_err(text)?;
        tracing::warn!(node = node.address(), "{node}: created table {table}, which this replica did not have");
        Ok(())
    }

    /// Waits until a node has failed [`MAX_FAILED_CHECKS`] checks in a row. Returns the last error.
    async fn until_lost(&self, node: &Node) -> Error {
        let mut silent = 0;
        loop {
            match self.context.pool.client.answers(node).await {
                Ok(_) => silent = 0,
                Err(error) if silent + 1 == MAX_FAILED_CHECKS => return error,
                Err(_) => silent += 1,
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

/// Returns whether an error says that the table or its database does not exist.
fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Some(UNKNOWN_TABLE | UNKNOWN_DATABASE))
}
