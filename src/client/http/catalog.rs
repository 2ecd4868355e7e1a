//! Reads a server's system tables about tables. One statement asks about many tables of a database at once (see
//! [`joined_questions`](super::joined_questions)).
//!
//! If such a statement fails on the server, it asks about each table alone: the error of one table does not affect
//! another.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use serde::Deserialize;

use super::super::codes::UNKNOWN_DATABASE;
use super::super::{Disk, Error, Kind, Mutation, PartList, PartName, PartSizes, ReplicaState, Settings};
use super::joined_questions::{Found, JoinedQuestions};
use super::text::Text;
use super::{HttpServerClient, SHORT};
use crate::model::{Node, PartitionId, TableName};
use crate::sql::{self, Behind, Column, DefaultKind, TableDefinition};

/// Questions about tables in progress.
#[derive(Clone, Default)]
pub(super) struct Catalog {
    databases: JoinedQuestions<String>,
    /// A definition that cannot be parsed is an error of its own.
    definitions: JoinedQuestions<Result<TableDefinition, String>>,
    parts: JoinedQuestions<Vec<PartSizes>>,
    part_lists: JoinedQuestions<PartList>,
    replicas: JoinedQuestions<ReplicaState>,
    pub(super) policies: JoinedQuestions<Vec<String>>,
    pub(super) disks: JoinedQuestions<Option<Vec<Disk>>>,
    pub(super) stored_bytes: JoinedQuestions<u64>,
    pub(super) mutations: JoinedQuestions<Vec<Mutation>>,
    pub(super) views: JoinedQuestions<Vec<TableName>>,
    pub(super) rights: JoinedQuestions<Vec<Option<bool>>>,
}

#[derive(Row, Deserialize)]
struct DatabaseRow {
    name: String,
    engine: String,
}

#[derive(Row, Deserialize)]
struct TableRow {
    table: String,
    engine: String,
    engine_full: String,
    create_query: String,
    sorting_key: String,
}

#[derive(Row, Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    type_name: String,
    default_kind: String,
    default_expression: String,
    comment: String,
}

#[derive(Row, Deserialize)]
struct PartsRow {
    table: String,
    id: String,
    name: Text,
    rows: u64,
    bytes: u64,
    deleted: u8,
}

impl PartsRow {
    fn sizes(self) -> PartSizes {
        let Self { id, name, rows, bytes, deleted, .. } = self;
        PartSizes { id: PartitionId(id), name: name.0, rows, bytes, exact: deleted == 0, patched: false }
    }
}

#[derive(Row, Deserialize)]
struct PartRow {
    table: String,
    id: String,
    name: String,
    rows: u64,
    hash: String,
}

#[derive(Row, Deserialize)]
struct MarkRow {
    table: String,
    mark: String,
}

#[derive(Row, Deserialize)]
struct ReplicaRow {
    table: String,
    path: String,
    name: String,
    readonly: u8,
    queue: u64,
}

fn default_kind(text: &str) -> DefaultKind {
    match text {
        "DEFAULT" => DefaultKind::Default,
        "MATERIALIZED" => DefaultKind::Materialized,
        "ALIAS" => DefaultKind::Alias,
        "EPHEMERAL" => DefaultKind::Ephemeral,
        _ => DefaultKind::None,
    }
}

impl HttpServerClient {
    /// Asks about a table together with others of its database; alone if that fails on the server.
    pub(super) async fn of_table<V, F>(
        &self,
        questions: &JoinedQuestions<V>,
        node: &Node,
        question: &str,
        name: &TableName,
        doing: &str,
        ask: impl Fn(HttpServerClient, Node, String, Vec<String>) -> F + Clone + Send + 'static,
    ) -> Result<Option<V>, Error>
    where
        V: Clone + Send + Sync + 'static,
        F: Future<Output = Result<Found<V>, Error>> + Send + 'static,
    {
        let sent = {
            let (client, node, database, ask) = (self.clone(), node.clone(), name.database.clone(), ask.clone());
            move |names| ask(client, node, database, names)
        };
        let question = format!("{question} of {}", name.database);
        let answer = match questions.ask(node, &question, &name.table, sent).await {
            Err(error) if error.code().is_some() => {
                let alone = ask(self.clone(), node.clone(), name.database.clone(), vec![name.table.clone()]).await;
                alone.map(|mut found| found.remove(&name.table))
            }
            answer => answer,
        };
        answer.map_err(|error| Error { doing: doing.to_owned(), ..error })
    }

    pub(super) async fn engine_of_database(&self, node: &Node, database: &str) -> Result<Option<String>, Error> {
        let doing = format!("cannot look for database {database}");
        let (client, asked) = (self.clone(), node.clone());
        let ask = |names: Vec<String>| async move {
            let rows = client.rows(&asked, "", &sql::database_engines(&names), SHORT).await?;
            Ok(rows.into_iter().map(|row: DatabaseRow| (row.name, row.engine)).collect())
        };
        let found = self.catalog.databases.ask(node, "databases", database, ask).await;
        found.map_err(|error| Error { doing, ..error })
    }

    /// Returns a table's definition. A table that is not listed may be hidden from the account, so a second question
    /// names it, which is an error then.
    pub(super) async fn definition(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        let doing = format!("cannot read the definition of {name}");
        let definitions = &self.catalog.definitions;
        let mut found = self.of_table(definitions, node, "definitions", name, &doing, definitions_of).await?;
        if found.is_none() && self.exists(node, name, &doing).await? {
            // The table was created meanwhile.
            found = self.of_table(definitions, node, "definitions", name, &doing, definitions_of).await?;
        }
        let understood = found.transpose();
        understood.map_err(|why| Error { node: node.to_string(), doing, kind: Kind::Answer(why) })
    }

    async fn exists(&self, node: &Node, name: &TableName, doing: &str) -> Result<bool, Error> {
        match self.rows::<u8>(node, doing, &sql::table_exists(name), SHORT).await {
            Err(error) if error.code() == Some(UNKNOWN_DATABASE) => Ok(false),
            exists => Ok(exists? == [1]),
        }
    }

    pub(super) async fn sizes_of_parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {name}");
        let found = self.of_table(&self.catalog.parts, node, "parts", name, &doing, parts_of).await?;
        Ok(found.unwrap_or_default())
    }

    pub(super) async fn sizes_of_parts_behind(
        &self,
        node: &Node,
        behind: &Behind,
        settings: &Settings,
    ) -> Result<Vec<PartSizes>, Error> {
        let doing = format!("cannot read the parts of {} in cluster {}", behind.table, behind.cluster);
        let deletes = self.tells_of_deletes(node).await?;
        let rows: Vec<PartsRow> =
            self.rows_with(node, &doing, &sql::parts_behind(behind, deletes), SHORT, settings).await?;
        Ok(without_patches(rows.into_iter().map(PartsRow::sizes).collect()))
    }

    /// Returns whether the server tells which parts have rows that a lightweight DELETE removed.
    async fn tells_of_deletes(&self, node: &Node) -> Result<bool, Error> {
        let columns = self.columns_of(node, "parts").await?;
        Ok(columns.iter().any(|column| column == "has_lightweight_delete"))
    }

    pub(super) async fn list_of_parts(&self, node: &Node, name: &TableName) -> Result<PartList, Error> {
        let doing = format!("cannot read the parts of {name}");
        let lists = &self.catalog.part_lists;
        Ok(self.of_table(lists, node, "part lists", name, &doing, part_lists_of).await?.unwrap_or_default())
    }

    pub(super) async fn state_of_replica(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error> {
        let doing = format!("cannot read the state of the replica of {name}");
        self.of_table(&self.catalog.replicas, node, "replicas", name, &doing, replicas_of).await
    }
}

async fn definitions_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<Result<TableDefinition, String>>, Error> {
    let tables: Vec<TableRow> = client.definitions(&node, "", &sql::describe_tables(&database, &names)).await?;
    if tables.is_empty() {
        return Ok(Found::new());
    }
    let rows: Vec<ColumnRow> = client.definitions(&node, "", &sql::describe_columns(&database, &names)).await?;
    let mut columns: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for row in rows {
        columns.entry(row.table).or_default().push(Column {
            name: row.name,
            type_name: row.type_name,
            default_kind: default_kind(&row.default_kind),
            default_expression: row.default_expression,
            comment: row.comment,
        });
    }
    let definition = |row: TableRow| {
        // 18.16 reports the engine of a materialized view's inner table as the view's own.
        let is_view = row.engine.ends_with("View");
        let engine = if row.engine_full.is_empty() || is_view { &row.engine } else { &row.engine_full };
        let columns = columns.remove(&row.table).unwrap_or_default();
        let name = TableName::new(&database, &row.table);
        let read = TableDefinition::read(name, engine, &row.create_query, columns, &row.sorting_key);
        (row.table, read.map_err(|error| error.to_string()))
    };
    Ok(tables.into_iter().map(definition).collect())
}

async fn parts_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<Vec<PartSizes>>, Error> {
    let deletes = client.tells_of_deletes(&node).await?;
    let rows: Vec<PartsRow> = client.rows(&node, "", &sql::parts(&database, &names, deletes), SHORT).await?;
    let mut found: Found<Vec<PartSizes>> = Found::new();
    for row in rows {
        found.entry(row.table.clone()).or_default().push(row.sizes());
    }
    found.values_mut().for_each(|parts| *parts = without_patches(std::mem::take(parts)));
    Ok(found)
}

/// Removes patch parts, which are no partitions, and marks the partitions that they change.
fn without_patches(parts: Vec<PartSizes>) -> Vec<PartSizes> {
    let patched: BTreeSet<PartitionId> = parts.iter().filter_map(|part| part.id.patched()).collect();
    let marked = |part: PartSizes| match patched.contains(&part.id) {
        true => PartSizes { exact: false, patched: true, ..part },
        false => part,
    };
    parts.into_iter().filter(|part| part.id.patched().is_none()).map(marked).collect()
}

async fn part_lists_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<PartList>, Error> {
    let columns = client.columns_of(&node, "parts").await?;
    let hashes = columns.iter().any(|column| column == "hash_of_uncompressed_files");
    let columns = client.columns_of(&node, "tables").await?;
    let uuids = columns.iter().any(|column| column == "uuid");
    let marks: Vec<MarkRow> = client.rows(&node, "", &sql::table_marks(&database, &names, uuids), SHORT).await?;
    let parts: Vec<PartRow> = client.rows(&node, "", &sql::part_lists(&database, &names, hashes), SHORT).await?;
    let list = |row: MarkRow| (row.table, PartList { table: row.mark, parts: Vec::new() });
    let mut found: Found<PartList> = marks.into_iter().map(list).collect();
    for row in parts {
        let part = PartName { id: PartitionId(row.id), name: row.name, rows: row.rows, hash: row.hash };
        found.entry(row.table).or_default().parts.push(part);
    }
    Ok(found)
}

async fn replicas_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<ReplicaState>, Error> {
    let rows: Vec<ReplicaRow> = client.rows(&node, "", &sql::replica_states(&database, &names), SHORT).await?;
    let state = |row: ReplicaRow| {
        let state = ReplicaState { path: row.path, name: row.name, readonly: row.readonly != 0, queue: row.queue };
        (row.table, state)
    };
    Ok(rows.into_iter().map(state).collect())
}
