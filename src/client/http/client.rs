//! The questions and statements of [`ServerClient`]. Short ones are sent here, longer ones have files of their own by theme.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::super::{
    Digest, Error, PartList, PartSizes, Placing, ReplicaState, Running, ServerClient, ServerContext, ServerFacts,
    Settings, Tally, Transfer,
};
use super::bound::{Bound, own_id};
use super::{HttpServerClient, QUICK, SHORT, SYNC};
use crate::model::{Node, PartitionId, PartitionValue, TableName};
use crate::sql::{self, Behind, Column, KeyElement, PolicyKind, Selection, TableDefinition};

#[async_trait]
impl ServerClient for HttpServerClient {
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error> {
        self.facts(node).await
    }

    async fn answers(&self, node: &Node) -> Result<(), Error> {
        match self.is_fresh(node) {
            true => self.answers_now(node).await,
            false => self.facts(node).await.map(drop),
        }
    }

    async fn context(&self, node: &Node) -> Result<ServerContext, Error> {
        self.ask_context(node).await
    }

    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        let doing = "cannot ask which settings tables can have";
        let names: Vec<String> = self.rows(node, doing, sql::MERGE_TREE_SETTINGS, SHORT).await?;
        Ok(names.into_iter().collect())
    }

    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        self.engine_of_database(node, database).await
    }

    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        self.definition(node, name).await
    }

    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let doing = format!("cannot list the tables of {database}");
        self.definitions(node, &doing, &sql::tables_with_prefix(database, prefix)).await
    }

    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        self.state_of_replica(node, name).await
    }

    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error> {
        self.reach_from(from, to).await
    }

    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error> {
        self.children_in_zookeeper(node, path).await
    }

    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error> {
        self.marks_of_zookeeper(node).await
    }

    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error> {
        let doing = format!("cannot read which columns the parts of {name} have");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::parts_lacking(name, columns), SHORT).await?;
        Ok(rows.into_iter().sum())
    }

    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        self.sizes_of_parts(node, name).await
    }

    async fn parts_behind(&self, node: &Node, behind: &Behind, settings: &Settings) -> Result<Vec<PartSizes>, Error> {
        self.sizes_of_parts_behind(node, behind, settings).await
    }

    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        self.list_of_parts(node, name).await
    }

    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error> {
        let doing = format!("cannot read the displaced parts of {name}");
        let rows: Vec<u64> = self.rows(node, &doing, &sql::displaced_parts(name, ids), SHORT).await?;
        Ok(rows.into_iter().sum())
    }

    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error> {
        self.count_by_key(node, rows, key, settings).await
    }

    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        self.count_by_partition(node, name, only, &Settings::new()).await
    }

    async fn count_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        settings: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        self.count_in_partitions(node, name, only, settings).await
    }

    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values(node, name, &sql::values_by_partition(name, key), key).await
    }

    async fn value_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values(node, name, &sql::value_by_partition(name, key), key).await
    }

    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error> {
        self.checksum_of_table(node, name, id, columns).await
    }

    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error> {
        self.count_of_sample(node, name, sample, id, columns).await
    }

    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error> {
        self.digest_by_key(node, rows, key, hash, settings).await
    }

    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error> {
        self.keys_of_sample(node, rows, columns, every, settings).await
    }

    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error> {
        self.types_of(node, over, expressions).await
    }

    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error> {
        self.evaluate_first(node, over, expressions, rows, settings).await
    }

    async fn policies(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Vec<String>, Error> {
        self.hiding_policies(node, name, kind).await
    }

    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error> {
        self.statements_running(node, prefix).await
    }

    async fn is_at_work(&self, node: &Node, prefix: &str) -> Result<bool, Error> {
        let counts: Vec<u64> = self.rows(node, "cannot list running statements", &sql::at_work(prefix), QUICK).await?;
        Ok(counts.into_iter().sum::<u64>() > 0)
    }

    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error> {
        let none = Settings::new();
        self.execute(node, "cannot end a statement", &sql::kill(prefix), &none, Bound::Within(QUICK)).await
    }

    async fn create_database(&self, node: &Node, database: &str, settings: &Settings) -> Result<(), Error> {
        let doing = format!("cannot create database {database}");
        self.execute(node, &doing, &sql::create_database(database), settings, Bound::Within(SHORT)).await
    }

    async fn create_table(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        self.execute(node, &format!("cannot create table {name}"), statement, settings, Bound::Within(SHORT)).await
    }

    async fn drop_table(&self, node: &Node, name: &TableName, settings: &Settings) -> Result<(), Error> {
        let doing = format!("cannot drop table {name}");
        self.execute(node, &doing, &sql::drop_table(name), settings, Bound::Within(SHORT)).await
    }

    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        let doing = format!("cannot rename table {}", pairs[0].0);
        self.execute(node, &doing, &sql::rename(pairs), &Settings::new(), Bound::Within(SHORT)).await
    }

    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let doing = format!("cannot stop merges of {name}");
        self.execute(node, &doing, &sql::stop_merges(name), &Settings::new(), Bound::Within(SHORT)).await
    }

    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error> {
        let doing = format!("cannot wait for the replica of {name}");
        self.execute(node, &doing, &sql::sync_replica(name), &Settings::new(), Bound::Within(SYNC)).await
    }

    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        self.place_partitions(node, placing, into, from, ids, settings).await
    }

    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        query_id: &str,
        settings: &Settings,
    ) -> Result<(), Error> {
        self.fetch_partitions(node, into, path, ids, query_id, settings).await
    }

    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error> {
        self.remove_partitions(node, name, ids, settings).await
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
        self.execute(node, &doing, &sql::insert_partition(into, from, columns, id), settings, Bound::Parts(&own_id()))
            .await
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error> {
        self.move_rows(transfer).await
    }
}
