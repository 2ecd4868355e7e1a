//! The questions before a copy. The double's servers have one disk, no views and no mutations; a test provides their
//! clusters and disks.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::super::{ClusterMember, Disk, Error, Inspector, Mutation, Settings};
use super::MemoryServerClient;
use crate::model::{Node, TableName};
use crate::sql::{Privilege, Selection, SlotKey};

#[async_trait]
impl Inspector for MemoryServerClient {
    async fn clock(&self, node: &Node) -> Result<i64, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.question(node, "cannot ask for the time".into(), |world, node| Ok(now + world.server(node)?.clock_ahead))
            .await
    }

    async fn disks(&self, node: &Node, policy: &str) -> Result<Option<Vec<Disk>>, Error> {
        self.question(node, "cannot ask for the disks".into(), |world, node| {
            let disks = world.server(node)?.disks.clone();
            Ok(disks.map(|disks| if policy == "default" { disks } else { Vec::new() }))
        })
        .await
    }

    async fn stored_bytes(&self, node: &Node, name: &TableName) -> Result<u64, Error> {
        self.question(node, format!("cannot read the parts of {name}"), |world, node| {
            let Ok(table) = world.table(node, name) else { return Ok(0) };
            let rows = world.rows(table);
            Ok(rows.iter().flatten().map(|text| text.len() as u64).sum())
        })
        .await
    }

    async fn mutations(&self, node: &Node, name: &TableName) -> Result<Vec<Mutation>, Error> {
        self.question(node, format!("cannot list the mutations of {name}"), |_, _| Ok(Vec::new())).await
    }

    async fn views_over(&self, node: &Node, name: &TableName) -> Result<Vec<TableName>, Error> {
        self.question(node, format!("cannot look for views over {name}"), |_, _| Ok(Vec::new())).await
    }

    async fn tables_of_engine(&self, node: &Node, engine: &str) -> Result<Vec<TableName>, Error> {
        self.question(node, format!("cannot look for {engine} tables"), |world, node| {
            let databases = &world.server(node)?.databases;
            let tables = databases
                .iter()
                .flat_map(|(database, tables)| tables.iter().map(move |(name, table)| (database, name, table)));
            let wanted = tables.filter(|(.., table)| table.definition.engine.name == engine);
            Ok(wanted.map(|(database, name, _)| TableName::new(database, name)).collect())
        })
        .await
    }

    async fn sampled_slots(
        &self,
        node: &Node,
        rows: &Selection,
        _: &SlotKey,
        _: u64,
        _: &Settings,
    ) -> Result<Vec<(u64, u64)>, Error> {
        self.question(node, format!("cannot sample {}", rows.relation.table), |_, _| Ok(Vec::new())).await
    }

    async fn may(&self, node: &Node, _: &str, rights: &[Privilege]) -> Result<Vec<Option<bool>>, Error> {
        // Like 18.16, which has no grants.
        self.question(node, "cannot ask what the account may do".into(), |_, _| Ok(vec![None; rights.len()])).await
    }

    async fn clusters(&self, node: &Node) -> Result<Vec<ClusterMember>, Error> {
        self.question(node, "cannot ask for the clusters".into(), |world, node| {
            Ok(world.server(node)?.clusters.clone())
        })
        .await
    }
}
