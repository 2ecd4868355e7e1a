//! The questions before a copy, each as a statement and the shape of its answer.

use async_trait::async_trait;
use clickhouse::Row;
use serde::Deserialize;

use super::super::codes::SYNTAX_ERROR;
use super::super::{ClusterMember, Disk, Error, Inspector, Mutation, Settings};
use super::joined_questions::Found;
use super::{HttpServerClient, SHORT, TextPair};
use crate::model::{Node, TableName};
use crate::sql::{self, Privilege, Selection, SlotKey};

#[derive(Row, Deserialize)]
struct DiskRow {
    name: String,
    free: u64,
    total: u64,
}

#[derive(Row, Deserialize)]
struct MutationRow {
    table: String,
    id: String,
    command: String,
    failure: String,
}

/// A view; its subject comes first.
#[derive(Row, Deserialize)]
struct ViewRow {
    subject: String,
    database: String,
    name: String,
}

#[derive(Row, Deserialize)]
struct BytesRow {
    table: String,
    bytes: u64,
}

#[derive(Row, Deserialize)]
struct ClusterRow {
    cluster: String,
    shard: u64,
    weight: u64,
    _replica: u64,
    host: String,
    address: String,
    port: u64,
    is_local: u8,
    internal_replication: u8,
}

impl HttpServerClient {
    async fn names(&self, node: &Node, doing: &str, sql: &str) -> Result<Vec<TableName>, Error> {
        let rows: Vec<TextPair> = self.definitions(node, doing, sql).await?;
        Ok(rows.into_iter().map(|row| TableName::new(row.name, row.value)).collect())
    }
}

impl HttpServerClient {
    async fn disks_of(&self, node: &Node, policy: &str) -> Result<Option<Vec<Disk>>, Error> {
        let (disks, policies) =
            tokio::try_join!(self.columns_of(node, "disks"), self.columns_of(node, "storage_policies"))?;
        if disks.is_empty() || policies.is_empty() {
            return Ok(None);
        }
        let rows: Vec<DiskRow> = self.rows(node, "cannot ask for the disks", &sql::disks(policy), SHORT).await?;
        let disk = |row: DiskRow| Disk { name: row.name, free: row.free, total: row.total };
        Ok(Some(rows.into_iter().map(disk).collect()))
    }

    async fn rights_on(&self, node: &Node, database: &str, rights: &[Privilege]) -> Result<Vec<Option<bool>>, Error> {
        let doing = "cannot ask what the account may do";
        let mut answers = Vec::new();
        for right in rights {
            match self.rows::<u8>(node, doing, &sql::check_grant(*right, database), SHORT).await {
                Ok(rows) => answers.push(rows.first().map(|answer| *answer != 0)),
                Err(error) if error.code() == Some(SYNTAX_ERROR) => break,
                Err(error) => return Err(error),
            }
        }
        if answers.len() == rights.len() {
            return Ok(answers);
        }
        match self.rows::<String>(node, doing, sql::SHOW_GRANTS, SHORT).await {
            Ok(lines) => Ok(rights.iter().map(|right| sql::gives(&lines, *right, database)).collect()),
            Err(error) if error.code() == Some(SYNTAX_ERROR) => Ok(vec![None; rights.len()]),
            Err(error) => Err(error),
        }
    }
}

async fn stored_bytes_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<u64>, Error> {
    let rows: Vec<BytesRow> = client.rows(&node, "", &sql::stored_bytes(&database, &names), SHORT).await?;
    Ok(rows.into_iter().map(|row| (row.table, row.bytes)).collect())
}

async fn mutations_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<Vec<Mutation>>, Error> {
    let columns = client.columns_of(&node, "mutations").await?;
    if columns.is_empty() {
        return Ok(Found::new());
    }
    let has = |column: &str| columns.iter().any(|name| name == column);
    let statement = sql::mutations(&database, &names, has("latest_fail_reason"), has("is_killed"));
    let rows: Vec<MutationRow> = client.rows(&node, "", &statement, SHORT).await?;
    let mut found: Found<Vec<Mutation>> = Found::new();
    for row in rows {
        let failure = row.failure.lines().next().unwrap_or_default().to_owned();
        found.entry(row.table).or_default().push(Mutation { id: row.id, command: row.command, failure });
    }
    Ok(found)
}

async fn views_of(
    client: HttpServerClient,
    node: Node,
    database: String,
    names: Vec<String>,
) -> Result<Found<Vec<TableName>>, Error> {
    let columns = client.columns_of(&node, "tables").await?;
    let known = ["dependencies_database", "dependencies_table"].iter().all(|name| columns.iter().any(|c| c == name));
    let statement = if known { sql::views_known_to(&database, &names) } else { sql::VIEWS.to_owned() };
    let rows: Vec<ViewRow> = client.definitions(&node, "", &statement).await?;
    let mut found: Found<Vec<TableName>> = Found::new();
    for row in rows {
        let view = TableName::new(&row.database, &row.name);
        match known {
            true => found.entry(row.subject).or_default().push(view),
            false => {
                let named =
                    names.iter().filter(|name| sql::names_table(&row.subject, &TableName::new(&database, *name)));
                named.for_each(|name| found.entry(name.clone()).or_default().push(view.clone()));
            }
        }
    }
    Ok(found)
}

#[async_trait]
impl Inspector for HttpServerClient {
    async fn clock(&self, node: &Node) -> Result<i64, Error> {
        let rows: Vec<i64> = self.rows(node, "cannot ask for the time", sql::CLOCK, SHORT).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    async fn disks(&self, node: &Node, policy: &str) -> Result<Option<Vec<Disk>>, Error> {
        let (client, asked) = (self.clone(), node.clone());
        let ask = |policies: Vec<String>| async move {
            let mut found = Found::new();
            for policy in policies {
                let disks = client.disks_of(&asked, &policy).await?;
                found.insert(policy, disks);
            }
            Ok(found)
        };
        Ok(self.catalog.disks.ask(node, "disks", policy, ask).await?.flatten())
    }

    async fn stored_bytes(&self, node: &Node, name: &TableName) -> Result<u64, Error> {
        let doing = format!("cannot read the parts of {name}");
        let bytes = &self.catalog.stored_bytes;
        Ok(self.of_table(bytes, node, "stored bytes", name, &doing, stored_bytes_of).await?.unwrap_or_default())
    }

    async fn mutations(&self, node: &Node, name: &TableName) -> Result<Vec<Mutation>, Error> {
        let doing = format!("cannot list the mutations of {name}");
        let mutations = &self.catalog.mutations;
        Ok(self.of_table(mutations, node, "mutations", name, &doing, mutations_of).await?.unwrap_or_default())
    }

    async fn views_over(&self, node: &Node, name: &TableName) -> Result<Vec<TableName>, Error> {
        let doing = format!("cannot look for views over {name}");
        let views = &self.catalog.views;
        Ok(self.of_table(views, node, "views", name, &doing, views_of).await?.unwrap_or_default())
    }

    async fn tables_of_engine(&self, node: &Node, engine: &str) -> Result<Vec<TableName>, Error> {
        self.names(node, &format!("cannot look for {engine} tables"), &sql::tables_of_engine(engine)).await
    }

    async fn may(&self, node: &Node, database: &str, rights: &[Privilege]) -> Result<Vec<Option<bool>>, Error> {
        let (client, asked, wanted) = (self.clone(), node.clone(), rights.to_vec());
        let ask = |databases: Vec<String>| async move {
            let mut found = Found::new();
            for database in databases {
                let answers = client.rights_on(&asked, &database, &wanted).await?;
                found.insert(database, answers);
            }
            Ok(found)
        };
        let found = self.catalog.rights.ask(node, &format!("rights {rights:?}"), database, ask).await?;
        Ok(found.unwrap_or_else(|| vec![None; rights.len()]))
    }

    async fn sampled_slots(
        &self,
        node: &Node,
        rows: &Selection,
        key: &SlotKey,
        most: u64,
        settings: &Settings,
    ) -> Result<Vec<(u64, u64)>, Error> {
        let doing = format!("cannot sample the sharding key of {}", rows.relation.table);
        self.rows_with(node, &doing, &sql::sampled_slots(rows, key, most), SHORT, settings).await
    }

    async fn clusters(&self, node: &Node) -> Result<Vec<ClusterMember>, Error> {
        let columns = self.columns_of(node, "clusters").await?;
        let statement = sql::clusters(columns.iter().any(|name| name == "internal_replication"));
        let rows: Vec<ClusterRow> = self.rows(node, "cannot ask for the clusters", &statement, SHORT).await?;
        let member = |row: ClusterRow| ClusterMember {
            cluster: row.cluster,
            shard: row.shard,
            weight: u32::try_from(row.weight).unwrap_or(u32::MAX),
            host: row.host,
            address: row.address,
            port: u16::try_from(row.port).unwrap_or_default(),
            is_local: row.is_local != 0,
            internal_replication: (row.internal_replication < 2).then_some(row.internal_replication == 1),
        };
        Ok(rows.into_iter().map(member).collect())
    }
}
