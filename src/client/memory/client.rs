//! The questions and statements of [`ServerClient`], each as one step in the world of the double.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::super::{
    Digest, Error, PartList, PartSizes, Placing, ReplicaState, Running, ServerClient, ServerContext, ServerFacts,
    Settings, Tally, Transfer, codes,
};
use super::refused::refused;
use super::world::deduplicates;
use super::{MemoryServerClient, checksums, counts, partitions, statement, tables};
use crate::model::{Node, PartitionId, PartitionValue, TableName, Way};
use crate::sql::{Behind, Column, KeyElement, Selection, TableDefinition};

#[async_trait]
impl ServerClient for MemoryServerClient {
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.question(node, "cannot connect".into(), |world, node| {
            let settings = world.server(node)?.settings.clone();
            Ok(ServerFacts { version: "18.16.1".into(), settings, ..ServerFacts::default() })
        })
        .await
    }

    async fn context(&self, node: &Node) -> Result<ServerContext, Error> {
        self.question(node, "cannot ask the server what it is".into(), |world, node| {
            let (macros, zones) = (world.server(node)?.macros.clone(), vec!["UTC".to_owned()]);
            Ok(ServerContext { macros, zones, ..ServerContext::default() })
        })
        .await
    }

    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot ask which settings tables can have".to_owned();
        self.question(node, doing, |_, _| Ok(BTreeSet::from(["index_granularity".to_owned()]))).await
    }

    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        let doing = format!("cannot look for database {database}");
        let engine = |known: bool| known.then(|| "Ordinary".to_owned());
        self.question(node, doing, |world, node| Ok(engine(world.server(node)?.databases.contains_key(database)))).await
    }

    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        let doing = format!("cannot read the definition of {name}");
        self.question(node, doing, |world, node| tables::definition(world, node, name)).await
    }

    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let doing = format!("cannot list the tables of {database}");
        self.question(node, doing, |world, node| tables::names_with_prefix(world, node, database, prefix)).await
    }

    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        let doing = format!("cannot read the state of the replica of {name}");
        self.question(node, doing, |world, node| tables::replica_state(world, node, name)).await
    }

    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error> {
        let doing = format!("cannot speak to {to} from there");
        let to = to.address();
        self.question(from, doing, |world, from| {
            world
                .may_write(from)
                .map_err(|_| refused(codes::READONLY, "Table functions are forbidden in readonly mode"))?;
            world.speaks(from, &to)
        })
        .await
    }

    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        let doing = format!("cannot look at {path} in the server's ZooKeeper");
        self.question(node, doing, |world, _| Ok(tables::zookeeper_children(world, path))).await
    }

    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot look at the root of the server's ZooKeeper".to_owned();
        self.question(node, doing, |_, _| Ok(BTreeSet::from(["the only one".to_owned()]))).await
    }

    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error> {
        let doing = format!("cannot read which columns the parts of {name} have");
        self.question(node, doing, |world, node| Ok(partitions::parts_lacking(world, node, name, columns))).await
    }

    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {name}");
        self.question(node, doing, |world, node| partitions::sizes(world, node, name)).await
    }

    async fn parts_behind(&self, node: &Node, behind: &Behind, _: &Settings) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {}", behind.table);
        // The double has no Distributed tables.
        self.question(node, doing, |_, _| Ok(Vec::new())).await
    }

    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        let doing = format!("cannot read the parts of {name}");
        self.question(node, doing, |world, node| Ok(partitions::list(world, node, name))).await
    }

    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error> {
        let doing = format!("cannot read the displaced parts of {name}");
        self.question(node, doing, |world, node| Ok(partitions::displaced(world, node, name, ids))).await
    }

    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        _: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        let doing = format!("cannot count the rows of {}", rows.relation.table);
        self.question(node, doing, |world, node| counts::tally(world, node, rows, key)).await
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        if only.is_some_and(<[PartitionId]>::is_empty) {
            return Ok(BTreeMap::new());
        }
        let doing = format!("cannot count the rows of {name}");
        self.question(node, doing, |world, node| counts::rows_by_partition(world, node, name, only)).await
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        let doing = format!("cannot count the rows of {name}");
        self.question(node, doing, |world, node| counts::values_by_partition(world, node, name, key)).await
    }

    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        let doing = format!("cannot compute the checksum of {name}");
        self.question(node, doing, |world, node| checksums::of_table(world, node, name, id, columns)).await
    }

    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error> {
        let doing = format!("cannot look for rows of {sample} in {name}");
        self.question(node, doing, |world, node| checksums::sampled_rows(world, node, name, sample, id, columns)).await
    }

    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        _: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        let doing = format!("cannot compute the checksum of rows of {}", rows.relation.table);
        self.question(node, doing, |world, node| checksums::digest(world, node, rows, key, hash)).await
    }

    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        _: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        let doing = format!("cannot sample the keys of {}", rows.relation.table);
        self.question(node, doing, |world, node| counts::sample_keys(world, node, rows, columns, every)).await
    }

    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        let doing = format!("cannot evaluate {}", expressions.join(", "));
        self.question(node, doing, |world, node| counts::types(world, node, over, expressions)).await
    }

    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        _: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot convert rows of {}", over.relation.table);
        self.question(node, doing, |world, node| counts::evaluate(world, node, over, expressions, rows)).await
    }

    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        let doing = "cannot list running statements".to_owned();
        self.question(node, doing, |world, node| Ok(statement::running(world.server(node)?, prefix))).await
    }

    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error> {
        let prefix = prefix.to_owned();
        self.perform(node, "kill", prefix.clone(), "cannot end a statement".into(), move |world, node| {
            statement::kill(world, node, &prefix);
            Ok(())
        })
        .await
    }

    async fn create_database(&self, node: &Node, database: &str, _: &Settings) -> Result<(), Error> {
        let (doing, database) = (format!("cannot create database {database}"), database.to_owned());
        self.perform(node, "create_database", database.clone(), doing, |world, node| {
            if let Some(server) = world.servers.get_mut(node) {
                server.databases.entry(database).or_default();
            }
            Ok(())
        })
        .await
    }

    async fn create_table(&self, node: &Node, name: &TableName, statement: &str, _: &Settings) -> Result<(), Error> {
        let doing = format!("cannot create table {name}");
        let (name, statement) = (name.clone(), statement.to_owned());
        self.perform(node, "create_table", name.to_string(), doing, move |world, node| {
            world.create(node, &name, &statement)
        })
        .await
    }

    async fn drop_table(&self, node: &Node, name: &TableName, _: &Settings) -> Result<(), Error> {
        let (doing, name) = (format!("cannot drop table {name}"), name.clone());
        self.perform(node, "drop_table", name.to_string(), doing, move |world, node| world.drop(node, &name)).await
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        let Some((first, _)) = pairs.first() else { return Ok(()) };
        let (doing, of, pairs) = (format!("cannot rename table {first}"), first.to_string(), pairs.to_vec());
        self.perform(node, "rename", of, doing, move |world, node| world.rename(node, &pairs)).await
    }

    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let (doing, name) = (format!("cannot stop merges of {name}"), name.clone());
        self.perform(node, "stop_merges", name.to_string(), doing, move |world, node| {
            world.table_mut(node, &name)?.merges_stopped = true;
            Ok(())
        })
        .await
    }

    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let (doing, name) = (format!("cannot wait for the replica of {name}"), name.clone());
        self.perform(node, "sync_replica", name.to_string(), doing, move |world, node| world.sync(node, &name)).await
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
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot publish partitions of {from} in {into}");
        let (into, from, ids) = (into.clone(), from.clone(), ids.to_vec());
        self.perform(node, "place", into.to_string(), doing, move |world, node| {
            world.place(node, &into, &from, &ids, placing == Placing::Replace)
        })
        .await
    }

    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        _: &str,
        _: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot fetch parts at {path} in ZooKeeper into {into}");
        let (into, path, ids) = (into.clone(), path.to_owned(), ids.to_vec());
        self.perform(node, "fetch", into.to_string(), doing, move |world, node| world.fetch(node, &into, &path, &ids))
            .await
    }

    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        _: &Settings,
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let (doing, name, ids) = (format!("cannot drop partitions of {name}"), name.clone(), ids.to_vec());
        self.perform(node, "drop_partitions", name.to_string(), doing, move |world, node| {
            world.drop_partitions(node, &name, &ids)
        })
        .await
    }

    async fn insert_partition(
        &self,
        node: &Node,
        into: &TableName,
        from: &TableName,
        columns: &[String],
        id: &PartitionId,
        settings: &Settings,
    ) -> Result<(), Error> {
        let doing = format!("cannot insert partition {id} of {from} into {into}");
        let (into, from, columns, id) = (into.clone(), from.clone(), columns.to_vec(), id.clone());
        let deduplicate = deduplicates(settings);
        self.perform(node, "insert_partition", into.to_string(), doing, move |world, node| {
            let rows = partitions::rows_for(world, node, &into, &from, &columns, &id)?;
            world.insert(node, &into, rows, deduplicate)
        })
        .await
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        match transfer.way {
            Way::Clone => Err(transfer.parts_do_not()),
            _ => self.send(transfer.clone()).await,
        }
    }
}
