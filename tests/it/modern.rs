//! The door to ClickHouse on a modern node (26.9): the suite that runs on 18.16, and definitions with what 18.16 has not.
//!
//! The node has no native port, so rows travel through the test, in Native format over HTTP. Left out of the suite, since
//! they are about that port or about replication, which the node has not: `a_push_tells_what_is_missing`,
//! `a_node_reaches_another`, `a_replicated_table_takes_the_same_part_once`. And `replace_from_nothing_empties`, since 26.6
//! and later refuse that.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use clickhouse::{Client, Compression};
use clickhouse_copier::cluster::http::HttpWarehouse;
use clickhouse_copier::cluster::{
    Error, Kind, PartSizes, Placing, Push, ReplicaState, Running, ServerFacts, Settings, Tally, Warehouse,
};
use clickhouse_copier::model::{Node, PartitionId, PartitionValue, Secret, TableName};
use clickhouse_copier::sql::{self, Column, KeyElement, Selection, TableDefinition};
use clickhouse_copier::warehouse_conformance;
use lab::{ClickHouse, Lab};

/// The production warehouse, but for a push.
struct Relayed(HttpWarehouse);

macro_rules! all_but_push {
    ($($name:ident($($argument:ident: $type:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Warehouse for Relayed {
            $(async fn $name(&self, $($argument: $type),*) -> Result<$out, Error> {
                self.0.$name($($argument),*).await
            })*

            async fn push(&self, push: &Push) -> Result<(), Error> {
                let columns = self.0.table(&push.to, &push.into).await?.map(|table| table.columns).unwrap_or_default();
                relay(push, &columns).await.map_err(|error| Error {
                    node: push.from.to_string(),
                    doing: "cannot relay".into(),
                    kind: Kind::Answer(error.to_string()),
                })
            }
        }
    };
}

all_but_push! {
    server(node: &Node) -> ServerFacts;
    database_exists(node: &Node, database: &str) -> bool;
    table(node: &Node, name: &TableName) -> Option<TableDefinition>;
    tables_with_prefix(node: &Node, database: &str, prefix: &str) -> Vec<String>;
    replica_state(node: &Node, name: &TableName) -> Option<ReplicaState>;
    reaches(from: &Node, to: &Node) -> ();
    zookeeper_children(node: &Node, path: &str) -> Option<Vec<String>>;
    parts(node: &Node, name: &TableName) -> Vec<PartSizes>;
    displaced_parts(node: &Node, name: &TableName, ids: &[PartitionId]) -> u64;
    tally(node: &Node, rows: &Selection, key: &[KeyElement], settings: &Settings) -> Vec<Tally>;
    rows_by_partition(node: &Node, name: &TableName, only: Option<&[PartitionId]>) -> BTreeMap<PartitionId, u64>;
    values_by_partition(node: &Node, name: &TableName, key: &[KeyElement]) -> Vec<(PartitionId, PartitionValue, u64)>;
    checksum(node: &Node, name: &TableName, id: Option<&PartitionId>, columns: &[Column]) -> (u64, u64);
    sample_keys(node: &Node, rows: &Selection, columns: &[KeyElement], every: u64, settings: &Settings) -> Vec<Vec<String>>;
    types(node: &Node, over: Option<&Selection>, expressions: &[String]) -> Vec<String>;
    evaluate(node: &Node, over: &Selection, expressions: &[String], rows: u64) -> ();
    running(node: &Node, prefix: &str) -> Vec<Running>;
    kill(node: &Node, prefix: &str) -> ();
    create_database(node: &Node, database: &str, settings: &Settings) -> ();
    create_table(node: &Node, name: &TableName, statement: &str, settings: &Settings) -> ();
    drop_table(node: &Node, name: &TableName, settings: &Settings) -> ();
    rename(node: &Node, pairs: &[(TableName, TableName)]) -> ();
    stop_merges(node: &Node, name: &TableName) -> ();
    sync_replica(node: &Node, name: &TableName) -> ();
    place(node: &Node, placing: Placing, into: &TableName, from: &TableName, ids: &[PartitionId], settings: &Settings) -> ();
    drop_partitions(node: &Node, name: &TableName, ids: &[PartitionId], settings: &Settings) -> ();
    insert_partition(node: &Node, into: &TableName, from: &TableName, columns: &[String], id: &PartitionId, settings: &Settings) -> ();
}

/// Rows from one node to another, as they come. Native rows find their columns by name, so the values get the names of the
/// target's, in a query around the one that computes them: there they would hide the source's columns.
async fn relay(push: &Push, columns: &[Column]) -> Result<(), clickhouse::error::Error> {
    let client = |node: &Node| Client::default().with_url(node.url()).with_compression(Compression::None);
    let named = |(number, value): (usize, &String)| format!("{value} AS `relayed {number}`");
    let values: Vec<String> = push.values.iter().enumerate().map(named).collect();
    let renamed =
        |(number, column): (usize, &Column)| format!("`relayed {number}` AS {}", sql::quote::ident(&column.name));
    let outer: Vec<String> = columns.iter().enumerate().map(renamed).collect();
    let select = format!("SELECT {} FROM ({})", outer.join(", "), sql::first_rows(&push.rows, &values, 1 << 40));
    let mut rows =
        client(&push.from).query_raw(&select).with_setting("query_id", &push.query_id).fetch_bytes("Native")?;
    let into = format!("INSERT INTO {} FORMAT Native", sql::quote::table(&push.into));
    let mut insert = client(&push.to).insert_formatted_with(into);
    while let Some(bytes) = rows.next().await? {
        insert.send(bytes).await?;
    }
    insert.end().await
}

fn node_of(server: &ClickHouse) -> Arc<Node> {
    Arc::new(Node {
        host: server.host().to_owned(),
        port: 9000,
        http_port: 8123,
        user: "default".into(),
        password: Secret::default(),
        secure: false,
        default_database: None,
    })
}

async fn modern(test: &str) -> (Relayed, [Arc<Node>; 2], String) {
    let lab = Lab::shared_modern();
    (Relayed(HttpWarehouse::default()), [0, 1].map(|index| node_of(lab.modern(index))), format!("it_modern__{test}"))
}

warehouse_conformance!(modern:
    databases_and_tables_come_and_go,
    what_is_missing_or_there_already_is_told_by_its_code,
    a_definition_comes_back_as_it_was_written,
    rows_are_counted_alike_in_every_way,
    a_push_lands_the_chosen_rows_on_their_shard,
    slices_hold_every_row_once,
    attach_adds_and_replace_takes_the_place,
    expressions_have_types_or_codes,
    a_statement_that_has_ended_is_not_running,
);

/// The trap of old servers (facts file, T4), closed.
#[tokio::test]
async fn a_replace_from_nothing_is_refused() {
    let (warehouse, [node, _], database) = modern("refused").await;
    let server = Lab::shared_modern().modern(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for name in ["a", "empty"] {
        let engine = "ENGINE = MergeTree PARTITION BY intDiv(n, 10) ORDER BY n";
        server.query(&format!("CREATE TABLE {database}.{name} (n UInt32) {engine}")).unwrap();
    }
    server.query(&format!("INSERT INTO {database}.a SELECT number FROM numbers(20)")).unwrap();
    let [a, empty] = ["a", "empty"].map(|name| TableName::new(&database, name));
    let refused =
        warehouse.place(&node, Placing::Replace, &a, &empty, &[PartitionId("1".into())], &Settings::new()).await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Some(36), "{refused:?}");
    assert_eq!(server.value(&format!("SELECT count() FROM {database}.a")).unwrap(), "20");
}
