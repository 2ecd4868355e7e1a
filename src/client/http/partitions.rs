//! Statements on partitions.

use super::super::{Error, Placing, Settings};
use super::HttpServerClient;
use super::bound::{Bound, own_id};
use crate::model::{Node, PartitionId, TableName};
use crate::sql;

impl HttpServerClient {
    /// Puts partitions of one table into another.
    pub(super) async fn place_partitions(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot publish partitions of {from} in {into}");
        let statement = match placing {
            Placing::Attach => sql::attach_partitions(into, from, ids),
            Placing::Replace => sql::replace_partitions(into, from, ids),
        };
        self.execute(node, &doing, &statement, settings, Bound::Parts(&own_id())).await
    }

    /// Fetches partitions of a table of another server as files, and attaches them.
    pub(super) async fn fetch_partitions(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        query_id: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot fetch parts at {path} in ZooKeeper into {into}");
        let fetch = sql::fetch_partitions(into, path, ids);
        self.execute(node, &doing, &fetch, settings, Bound::Parts(query_id)).await?;
        self.execute(node, &doing, &sql::attach_fetched(into, ids), settings, Bound::Parts(query_id)).await
    }

    /// Drops partitions of a table.
    pub(super) async fn remove_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot drop partitions of {name}");
        self.execute(node, &doing, &sql::drop_partitions(name, ids), settings, Bound::Parts(&own_id())).await
    }
}
