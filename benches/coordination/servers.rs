//! Servers that answer at once: what is measured is the coordination alone. They hold numbers of rows, and no row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use clickhouse_copier::client::memory::MemoryServerClient;
use clickhouse_copier::client::{
    Digest, Error, Kind, PartList, PartSizes, Placing, Probe, ReplicaState, Running, ServerClient, ServerContext,
    ServerFacts, Settings, Tally, Transfer,
};
use clickhouse_copier::model::{Node, PartitionId, PartitionValue, TableName};
use clickhouse_copier::sql::{Behind, Column, KeyElement, Selection, TableDefinition};

use crate::shape::Shape;

/// Rows by partition.
type Counts = BTreeMap<PartitionId, u64>;

/// The servers of a task.
pub struct Servers {
    shape: Shape,
    facts: ServerFacts,
    source: TableDefinition,
    target: TableDefinition,
    tables: Mutex<HashMap<String, BTreeMap<String, Counts>>>,
}

impl Servers {
    /// Source shards and one target node, with what they hold.
    pub async fn new(shape: Shape) -> Self {
        let model = MemoryServerClient::new();
        let node = Node::new("model");
        model.add_node(&node, &[]);
        let table = |database: &'static str| {
            let (model, node) = (&model, &node);
            async move {
                let name = TableName::new(database, "hits");
                let engine = "ENGINE = MergeTree PARTITION BY p ORDER BY n";
                let create = format!("CREATE TABLE {name} (`p` UInt32, `n` UInt64) {engine}");
                model.create_database(node, database, &Settings::new()).await.unwrap();
                model.create_table(node, &name, &create, &Settings::new()).await.unwrap();
                model.table(node, &name).await.unwrap().unwrap()
            }
        };
        let (source, target) = (table("a").await, table("b").await);
        let facts = model.server(&node).await.unwrap();
        Self { shape, facts, source, target, tables: Mutex::default() }
    }

    fn on(&self, node: &Node) -> Guard<'_> {
        Guard { tables: self.tables.lock().unwrap(), host: node.host.clone() }
    }

    /// The partitions that are selected, each with the rows of one piece.
    fn selected(&self, rows: &Selection) -> Vec<(PartitionValue, u64)> {
        let of_piece = if rows.slice.is_some() { 1 } else { self.shape.rows_of_partition() };
        rows.partitions.iter().flat_map(|filter| &filter.values).map(|value| (value.clone(), of_piece)).collect()
    }
}

struct Guard<'a> {
    tables: MutexGuard<'a, HashMap<String, BTreeMap<String, Counts>>>,
    host: String,
}

impl Guard<'_> {
    fn tables(&mut self) -> &mut BTreeMap<String, Counts> {
        self.tables.entry(std::mem::take(&mut self.host)).or_default()
    }

    fn counts(mut self, name: &TableName) -> Counts {
        self.tables().get(&name.table).cloned().unwrap_or_default()
    }
}

fn no_such_table(node: &Node, name: &TableName) -> Error {
    let kind = Kind::Server { code: 60, message: format!("Table {name} doesn't exist") };
    Error { node: node.address(), doing: format!("cannot use {name}"), kind }
}

fn id(value: &PartitionValue) -> PartitionId {
    PartitionId(value.0.concat())
}

/// They tell nothing, and nothing of it is waited for.
impl Probe for Servers {}

#[async_trait]
impl ServerClient for Servers {
    async fn server(&self, _: &Node) -> Result<ServerFacts, Error> {
        Ok(self.facts.clone())
    }

    async fn context(&self, _: &Node) -> Result<ServerContext, Error> {
        Ok(ServerContext { zones: vec!["UTC".into()], ..ServerContext::default() })
    }

    async fn database_engine(&self, _: &Node, _: &str) -> Result<Option<String>, Error> {
        Ok(Some("Ordinary".into()))
    }

    async fn table(&self, _: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        Ok(Some(if name.database == "a" { self.source.clone() } else { self.target.clone() }))
    }

    async fn tables_with_prefix(&self, node: &Node, _: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let mut on = self.on(node);
        let from = on.tables().range(prefix.to_owned()..).map(|(name, _)| name);
        Ok(from.take_while(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn replica_state(&self, _: &Node, _: &TableName) -> Result<Option<ReplicaState>, Error> {
        Ok(None)
    }

    async fn reaches(&self, _: &Node, _: &Node) -> Result<(), Error> {
        Ok(())
    }

    async fn zookeeper_children(&self, _: &Node, _: &str) -> Result<Option<Vec<String>>, Error> {
        Ok(None)
    }

    /// They have no ZooKeeper, so nothing is cloned.
    async fn zookeeper_marks(&self, _: &Node) -> Result<BTreeSet<String>, Error> {
        Ok(BTreeSet::new())
    }

    async fn parts_lacking(&self, _: &Node, _: &TableName, _: &[Column]) -> Result<u64, Error> {
        Ok(0)
    }

    async fn fetch(
        &self,
        _: &Node,
        _: &TableName,
        _: &str,
        _: &[PartitionId],
        _: &str,
        _: &Settings,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn parts(&self, _: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let partitions = if name.database == "a" { self.shape.partitions } else { 0 };
        let rows = self.shape.rows_of_partition();
        let part = |n: u64| PartSizes {
            id: PartitionId(n.to_string()),
            name: n.to_string(),
            rows,
            bytes: rows * 12,
            exact: true,
            patched: false,
        };
        Ok((0..partitions).map(part).collect())
    }

    async fn parts_behind(&self, _: &Node, _: &Behind, _: &Settings) -> Result<Vec<PartSizes>, Error> {
        Ok(Vec::new())
    }

    async fn part_list(&self, _: &Node, _: &TableName) -> Result<PartList, Error> {
        Ok(PartList::default())
    }

    async fn displaced_parts(&self, _: &Node, _: &TableName, _: &[PartitionId]) -> Result<u64, Error> {
        Ok(0)
    }

    async fn tally(&self, _: &Node, rows: &Selection, _: &[KeyElement], _: &Settings) -> Result<Vec<Tally>, Error> {
        let tally =
            |(value, rows): (PartitionValue, u64)| Tally { shown: value.0.clone(), id: Some(id(&value)), value, rows };
        Ok(self.selected(rows).into_iter().map(tally).collect())
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<Counts, Error> {
        let Some(only) = only else { return Ok(self.on(node).counts(name)) };
        let mut on = self.on(node);
        let Some(counts) = on.tables().get(&name.table) else { return Ok(Counts::new()) };
        Ok(only.iter().filter_map(|id| Some((id.clone(), *counts.get(id)?))).collect())
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        _: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let counts = self.on(node).counts(name);
        Ok(counts.into_iter().map(|(id, rows)| (id.clone(), PartitionValue(vec![id.0]), rows)).collect())
    }

    async fn checksum(
        &self,
        _: &Node,
        _: &TableName,
        _: Option<&PartitionId>,
        _: &[Column],
    ) -> Result<(u64, u64), Error> {
        Ok((0, 0))
    }

    async fn sampled_rows(
        &self,
        _: &Node,
        _: &TableName,
        _: &TableName,
        _: &PartitionId,
        _: &[Column],
    ) -> Result<u64, Error> {
        Ok(0)
    }

    async fn digest(
        &self,
        _: &Node,
        rows: &Selection,
        _: &[KeyElement],
        _: &str,
        _: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let digest = |(value, rows)| Digest { value, rows, sum: 0 };
        Ok(self.selected(rows).into_iter().map(digest).collect())
    }

    async fn sample_keys(
        &self,
        _: &Node,
        _: &Selection,
        _: &[KeyElement],
        _: u64,
        _: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        Ok((0..self.shape.rows_of_partition()).map(|key| vec![key.to_string()]).collect())
    }

    async fn types(&self, _: &Node, _: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        Ok(vec!["UInt32".into(); expressions.len()])
    }

    async fn merge_tree_settings(&self, _: &Node) -> Result<BTreeSet<String>, Error> {
        Ok(BTreeSet::new())
    }

    async fn evaluate(&self, _: &Node, _: &Selection, _: &[String], _: u64, _: &Settings) -> Result<(), Error> {
        Ok(())
    }

    async fn running(&self, _: &Node, _: &str) -> Result<Vec<Running>, Error> {
        Ok(Vec::new())
    }

    async fn kill(&self, _: &Node, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn create_database(&self, _: &Node, _: &str, _: &Settings) -> Result<(), Error> {
        Ok(())
    }

    async fn create_table(&self, node: &Node, name: &TableName, _: &str, _: &Settings) -> Result<(), Error> {
        self.on(node).tables().entry(name.table.clone()).or_default();
        Ok(())
    }

    async fn drop_table(&self, node: &Node, name: &TableName, _: &Settings) -> Result<(), Error> {
        self.on(node).tables().remove(&name.table);
        Ok(())
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        let mut on = self.on(node);
        let tables = on.tables();
        for (from, to) in pairs {
            let counts = tables.remove(&from.table).ok_or_else(|| no_such_table(node, from))?;
            tables.insert(to.table.clone(), counts);
        }
        Ok(())
    }

    async fn stop_merges(&self, _: &Node, _: &TableName) -> Result<(), Error> {
        Ok(())
    }

    async fn sync_replica(&self, _: &Node, _: &TableName) -> Result<(), Error> {
        Ok(())
    }

    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        _: &Settings,
    ) -> Result<(), Error> {
        let mut on = self.on(node);
        let tables = on.tables();
        let held = tables.get(&from.table).ok_or_else(|| no_such_table(node, from))?;
        let added: Vec<(PartitionId, u64)> =
            held.iter().filter(|(id, _)| ids.contains(id)).map(|(id, rows)| (id.clone(), *rows)).collect();
        let counts = tables.entry(into.table.clone()).or_default();
        for (id, rows) in added {
            let held = counts.entry(id).or_default();
            *held = if placing == Placing::Replace { rows } else { *held + rows };
        }
        Ok(())
    }

    async fn drop_partitions(&self, _: &Node, _: &TableName, _: &[PartitionId], _: &Settings) -> Result<(), Error> {
        Ok(())
    }

    async fn insert_partition(
        &self,
        _: &Node,
        _: &TableName,
        _: &TableName,
        _: &[String],
        _: &PartitionId,
        _: &Settings,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        for (_, to) in transfer.pairs() {
            let selected = self.selected(&transfer.rows_for(to));
            let mut on = self.on(&to.node);
            let counts = on.tables().entry(transfer.into.table.clone()).or_default();
            for (value, rows) in selected {
                *counts.entry(id(&value)).or_default() += rows;
            }
        }
        Ok(())
    }
}
