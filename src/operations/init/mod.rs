//! The verb `init`: writes a task file from the tables of servers, for a first copy ([`init`]) or for the reverse copy ([`reverse()`]).
//! Creates nothing on servers.

mod choose;
mod reverse;

use std::sync::Arc;

use futures::future::join_all;

use crate::client::{Error, Inspector, ServerClient};
use crate::model::{Cluster, Node, Shard, TableName};
use crate::planning::errors::{Problem, RunError};
use crate::sql::{Syntax, TableDefinition};
use crate::task::{ClusterSketch, ClusterTable, Sketch, SketchElement, TableSketch};

pub(crate) use reverse::{WayBack, reverse};

#[cfg(test)]
mod tests;

/// One side of a copy, as the user names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    /// One server of this side, with the account to use.
    pub(crate) node: Node,
    /// The environment variable with the account's password.
    pub(crate) password_env: Option<String>,
    /// The cluster of the server. Without it, the servers are asked.
    pub(crate) cluster: Option<String>,
}

/// The parameters of a first copy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FirstCopy {
    /// The source.
    pub(crate) from: Side,
    /// The target.
    pub(crate) to: Side,
    /// The tables to copy.
    pub(crate) tables: Vec<TableName>,
    /// The database on the target, if it has another name.
    pub(crate) database: Option<String>,
}

/// The two clients for the servers.
pub(crate) struct Servers {
    /// The client for the questions that a copy also asks.
    pub(crate) client: Arc<dyn ServerClient>,
    /// The client for all other questions.
    pub(crate) inspector: Arc<dyn Inspector>,
}

const SOURCE: &str = "source";
const TARGET: &str = "target";

/// Makes the task file for a first copy.
///
/// # Errors
/// When servers do not answer, a table does not exist, or the server does not know the cluster.
pub(crate) async fn init(servers: &Servers, copy: &FirstCopy) -> Result<Sketch, RunError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for table in &copy.tables {
        match servers.client.table(&copy.from.node, table).await? {
            Some(definition) if definition.engine.name == "Distributed" => missing.push(format!(
                "{table} is a Distributed table: name the table that it stands for (in {})",
                definition.engine
            )),
            Some(definition) => found.push(definition),
            None => missing.push(format!("{}: there is no table {table}", copy.from.node)),
        }
    }
    if !missing.is_empty() {
        return Err(RunError::Problems(missing.into_iter().map(Problem::servers).collect()));
    }
    let replicated = found.iter().any(|definition| definition.engine.is_replicated());
    let source = servers.cluster(SOURCE, &copy.from, replicated, Some(&copy.tables)).await?;
    let mut target = servers.cluster(TARGET, &copy.to, replicated, None).await?;
    let mut tables = Vec::new();
    for definition in &found {
        let into = match &copy.database {
            Some(database) => TableName::new(database, &definition.name.table),
            None => definition.name.clone(),
        };
        let mut elements = vec![servers.engine(definition, &target, &into).await?];
        let shards = target.shards.iter().filter(|shard| shard.weight > 0).count();
        if shards > 1 {
            elements.push(servers.sharding_key(definition, &target, &into, &source).await);
        }
        elements.push(SketchElement::new(
            "if_target_not_empty",
            None,
            vec![
                "Where the target holds rows of a partition already, nothing is copied. To say else: \
                 <if_target_not_empty>replace, append or skip</if_target_not_empty>"
                    .to_owned(),
            ],
        ));
        elements.push(SketchElement::new(
            "enabled_partitions",
            None,
            vec![
                "Only some rows: <where_condition>expression</where_condition>; only some partitions of the target: \
                 <enabled_partitions>201801 201802</enabled_partitions>"
                    .to_owned(),
            ],
        ));
        tables.push(TableSketch {
            name: definition.name.table.clone(),
            source: ClusterTable { cluster: SOURCE.to_owned(), table: definition.name.clone() },
            target: ClusterTable { cluster: TARGET.to_owned(), table: into },
            elements,
        });
    }
    // Replicas of plain tables fetch nothing from each other, so the copy writes to each of them.
    let made = tables.iter().flat_map(|table| &table.elements).filter(|element| element.name == "engine");
    let plain = made.filter_map(|element| element.text.as_ref()).any(|engine| !engine.starts_with("Replicated"));
    for shard in target.shards.iter_mut().filter(|shard| plain && shard.replicas.len() > 1) {
        shard.internal_replication = false;
    }
    let comment = vec![
        format!(
            "Written by init from what {} and {} say. Read it, change it, then check it:",
            copy.from.node, copy.to.node
        ),
        "clickhouse-copier check (with this file as task file) says what would go wrong, and creates nothing."
            .to_owned(),
    ];
    Ok(Sketch { comment, clusters: vec![source, target], tables, kept: Vec::new() })
}

impl Servers {
    /// Returns the cluster of a side, with the given name.
    async fn cluster(
        &self,
        name: &str,
        side: &Side,
        replicated: bool,
        holding: Option<&[TableName]>,
    ) -> Result<ClusterSketch, RunError> {
        let Side { node, password_env, cluster } = side;
        let members = self.inspector.clusters(node).await?;
        let sketch = |shards: Vec<Shard>, comment: String| ClusterSketch {
            name: name.to_owned(),
            comment: vec![comment],
            shards,
            password_env: password_env.clone(),
        };
        if let Some(wanted) = cluster {
            let members: Vec<_> = members.iter().filter(|member| member.cluster == *wanted).cloned().collect();
            if members.is_empty() {
                let mut known: Vec<String> =
                    self.inspector.clusters(node).await?.into_iter().map(|member| member.cluster).collect();
                known.dedup();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(RunError::task(format!("{node} knows no cluster {wanted}; it knows {known}")));
            }
            let shards = choose::shards(&members, node, replicated);
            return Ok(sketch(shards, format!("The cluster {wanted} of {node}.")));
        }
        let mut good = Vec::new();
        for (name, members) in choose::candidates(&members, &node.host) {
            let shards = choose::shards(&members, node, replicated);
            if self.has_all(&shards, holding.unwrap_or_default()).await {
                good.push((name, shards));
            }
        }
        if good.len() == 1 {
            return Ok(good
                .into_iter()
                .map(|(name, shards)| sketch(shards, format!("{node} is in one cluster that fits: {name}.")))
                .next()
                .unwrap_or_else(|| sketch(Vec::new(), String::new())));
        }
        let alone = Shard { weight: 1, internal_replication: replicated, replicas: vec![node.clone()] };
        let why = if good.is_empty() {
            match holding {
                Some(_) => {
                    format!("{node} alone: it knows no cluster that it is in and that has the tables on each shard.")
                }
                None => format!("{node} alone: it knows no cluster that it is in."),
            }
        } else {
            let names: Vec<String> = good.into_iter().map(|(name, _)| name).collect();
            format!("{node} alone: it is in several clusters ({}); an option of init says which.", names.join(", "))
        };
        Ok(sketch(vec![alone], why))
    }

    /// Returns whether some replica of each shard has all these tables.
    async fn has_all(&self, shards: &[Shard], tables: &[TableName]) -> bool {
        let of_shard = |shard: &Shard| {
            let nodes = shard.replicas.clone();
            async move {
                for node in &nodes {
                    let found = join_all(tables.iter().map(|table| self.client.table(node, table))).await;
                    if found.iter().all(|answer| matches!(answer, Ok(Some(_)))) {
                        return true;
                    }
                }
                tables.is_empty()
            }
        };
        join_all(shards.iter().map(of_shard)).await.into_iter().all(|has| has)
    }

    /// Returns the `<engine>` for a table on a cluster, like the engine of another table. Returns only a comment where the table exists
    /// already.
    async fn engine(
        &self,
        like: &TableDefinition,
        cluster: &ClusterSketch,
        into: &TableName,
    ) -> Result<SketchElement, Error> {
        let mut first: Option<Error> = None;
        for node in cluster.shards.iter().flat_map(|shard| &shard.replicas) {
            let facts = match self.client.server(node).await {
                Ok(facts) => facts,
                Err(error) => {
                    first = first.or(Some(error));
                    continue;
                }
            };
            if self.client.table(node, into).await?.is_some() {
                return Ok(SketchElement::new(
                    "engine",
                    None,
                    vec![format!("The table {into} is there already, so no engine is needed.")],
                ));
            }
            let known = self.client.context(node).await?.macros;
            let macros = ["shard", "replica"].iter().all(|name| known.contains_key(*name));
            let (engine, why) = choose::engine_like(&like.engine, macros);
            let wanted = TableDefinition { engine, ..like.clone() };
            let (fitting, left_out) = wanted.within(Syntax::of(facts.release()));
            let known = self.client.merge_tree_settings(node).await?;
            let (engine, unknown) = fitting.engine.with_settings_among(&known);
            let mut comments =
                vec![format!("The table {into} is made with this engine, that of the table it is copied from.")];
            comments.extend(why);
            let left_out: Vec<String> = left_out.into_iter().chain(unknown).collect();
            if !left_out.is_empty() {
                comments.push(format!(
                    "Left out, since ClickHouse {} does not know it: {}",
                    facts.version,
                    left_out.join(", ")
                ));
            }
            return Ok(SketchElement::new("engine", Some(engine.to_string()), comments));
        }
        match first {
            Some(error) => Err(error),
            None => Ok(SketchElement::new("engine", None, Vec::new())),
        }
    }

    /// Returns the `<sharding_key>` with its reason: the one of a Distributed table over the target or else over the source, otherwise a
    /// key that spreads rows evenly.
    async fn sharding_key(
        &self,
        definition: &TableDefinition,
        target: &ClusterSketch,
        into: &TableName,
        source: &ClusterSketch,
    ) -> SketchElement {
        for (cluster, over) in [(target, into), (source, &definition.name)] {
            if let Some((key, table, node)) = self.distributed_key(cluster.shards.iter(), over).await {
                let why = format!("The sharding key of {table} on {node}, a Distributed table over {over}.");
                return SketchElement::new("sharding_key", Some(key), vec![why]);
            }
        }
        let (key, why) = choose::spreading_key(definition);
        let comments = vec![
            format!("Proposed: {why}. No Distributed table over it was found."),
            "A Distributed table that is made over the target later must have the same key to find rows where they are."
                .to_owned(),
        ];
        SketchElement::new("sharding_key", Some(key), comments)
    }

    /// Returns the sharding key of a Distributed table over a table, with the name and node of the Distributed table. Asks one node after
    /// another until one has such a table.
    async fn distributed_key<'s>(
        &self,
        shards: impl Iterator<Item = &'s Shard>,
        over: &TableName,
    ) -> Option<(String, TableName, Node)> {
        for node in shards.flat_map(|shard| &shard.replicas) {
            let names = self.inspector.tables_of_engine(node, "Distributed").await.unwrap_or_default();
            for name in names {
                let Ok(Some(table)) = self.client.table(node, &name).await else { continue };
                if let Some(key) = choose::key_of(&table.engine, over) {
                    return Some((key, name, node.clone()));
                }
            }
        }
        None
    }

    /// Returns the definition of a table on the first node that has it.
    async fn definition(&self, cluster: &Cluster, name: &TableName) -> Result<Option<TableDefinition>, Error> {
        let mut first = None;
        for (_, node) in cluster.nodes() {
            match self.client.table(node, name).await {
                Ok(Some(definition)) => return Ok(Some(definition)),
                Ok(None) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(None), Err)
    }
}
