//! A client that merges a target table as soon as partitions are put into it: a TTL removes its rows before the worker counts.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{
    Digest, Error, PartList, PartSizes, Placing, Probe, ReplicaState, Running, ServerClient, ServerContext,
    ServerFacts, Settings, Tally, Transfer,
};
use clickhouse_copier::model::{Node, PartitionId, PartitionValue, TableName, Tls};
use clickhouse_copier::sql::{Behind, Column, KeyElement, Selection, TableDefinition};

/// The production client, which also merges the tables of one database.
pub struct MergingClient {
    client: HttpServerClient,
    database: String,
}

impl MergingClient {
    pub fn of_database(database: &str) -> Self {
        Self { client: HttpServerClient::new(&Tls::default()).unwrap(), database: database.to_owned() }
    }
}

/// Nothing is measured before a copy.
impl Probe for MergingClient {}

macro_rules! all_but_place {
    ($($name:ident($($argument:ident: $type:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl ServerClient for MergingClient {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$out, Error> {
                self.client.$name($($argument),*).await
            })*

            async fn place(
                &self,
                node: &Node,
                placing: Placing,
                into: &TableName,
                from: &TableName,
                ids: &[PartitionId],
                settings: &Settings,
            ) -> Result<(), Error> {
                self.client.place(node, placing, into, from, ids, settings).await?;
                if into.database == self.database && !into.table.starts_with("copier_") {
                    let merge = format!("OPTIMIZE TABLE {into} FINAL");
                    self.client.create_table(node, into, &merge, settings).await?;
                }
                Ok(())
            }
        }
    };
}

all_but_place! {
    server(node: &Node) -> ServerFacts;
    answers(node: &Node) -> ();
    context(node: &Node) -> ServerContext;
    merge_tree_settings(node: &Node) -> BTreeSet<String>;
    database_engine(node: &Node, database: &str) -> Option<String>;
    table(node: &Node, name: &TableName) -> Option<TableDefinition>;
    tables_with_prefix(node: &Node, database: &str, prefix: &str) -> Vec<String>;
    replica_state(node: &Node, name: &TableName) -> Option<ReplicaState>;
    reaches(from: &Node, to: &Node) -> ();
    zookeeper_children(node: &Node, path: &str) -> Option<Vec<String>>;
    zookeeper_marks(node: &Node) -> BTreeSet<String>;
    parts_lacking(node: &Node, name: &TableName, columns: &[Column]) -> u64;
    fetch(node: &Node, into: &TableName, path: &str, ids: &[PartitionId], query_id: &str, settings: &Settings) -> ();
    parts(node: &Node, name: &TableName) -> Vec<PartSizes>;
    parts_behind(node: &Node, behind: &Behind, settings: &Settings) -> Vec<PartSizes>;
    part_list(node: &Node, name: &TableName) -> PartList;
    displaced_parts(node: &Node, name: &TableName, ids: &[PartitionId]) -> u64;
    tally(node: &Node, rows: &Selection, key: &[KeyElement], settings: &Settings) -> Vec<Tally>;
    rows_by_partition(node: &Node, name: &TableName, only: Option<&[PartitionId]>) -> BTreeMap<PartitionId, u64>;
    values_by_partition(node: &Node, name: &TableName, key: &[KeyElement]) -> Vec<(PartitionId, PartitionValue, u64)>;
    checksum(node: &Node, name: &TableName, id: Option<&PartitionId>, columns: &[Column]) -> (u64, u64);
    sampled_rows(node: &Node, name: &TableName, sample: &TableName, id: &PartitionId, columns: &[Column]) -> u64;
    digest(node: &Node, rows: &Selection, key: &[KeyElement], hash: &str, settings: &Settings) -> Vec<Digest>;
    sample_keys(node: &Node, rows: &Selection, columns: &[KeyElement], every: u64, settings: &Settings) -> Vec<Vec<String>>;
    types(node: &Node, over: Option<&Selection>, expressions: &[String]) -> Vec<String>;
    evaluate(node: &Node, over: &Selection, expressions: &[String], rows: u64, settings: &Settings) -> ();
    running(node: &Node, prefix: &str) -> Vec<Running>;
    kill(node: &Node, prefix: &str) -> ();
    create_database(node: &Node, database: &str, settings: &Settings) -> ();
    create_table(node: &Node, name: &TableName, statement: &str, settings: &Settings) -> ();
    drop_table(node: &Node, name: &TableName, settings: &Settings) -> ();
    rename(node: &Node, pairs: &[(TableName, TableName)]) -> ();
    stop_merges(node: &Node, name: &TableName) -> ();
    sync_replica(node: &Node, name: &TableName) -> ();
    drop_partitions(node: &Node, name: &TableName, ids: &[PartitionId], settings: &Settings) -> ();
    transfer(transfer: &Transfer) -> ();
    insert_partition(node: &Node, into: &TableName, from: &TableName, columns: &[String], id: &PartitionId, settings: &Settings) -> ();
}
