//! The tables on both sides: the nodes that have them, and the check that they fit each other.

use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::differences::table_difference;
use super::{Holders, Surveyor};
use crate::client::Error;
use crate::model::{Cluster, Node};
use crate::nodes::settings::wanted_for_source;
use crate::plan::{Reading, Remark, computed_columns};
use crate::sql::{self, Column, DefaultKind, Engine, Relation, Selection, TableDefinition, quote};

/// The number of rows that are converted to test a conversion.
const SAMPLE_ROWS: u64 = 1000;

impl Surveyor<'_> {
    /// Returns the nodes of each shard that answer, or a fault where none does.
    pub(super) async fn holders(&self, cluster: &Cluster) -> Result<Holders, Vec<Problem>> {
        let mut live = Vec::new();
        let mut faults = Vec::new();
        let answers = join_all(cluster.shards.iter().map(|shard| self.pool.live_replicas(shard))).await;
        for (shard, (nodes, errors)) in answers.into_iter().enumerate() {
            if nodes.is_empty() {
                let why = errors.first().map(ToString::to_string).unwrap_or_default();
                let cause = format!("cluster {}: no replica of shard {} answers: {why}", cluster.name, shard + 1);
                faults.push(Problem::servers(cause).affecting([self.job.name.as_str()]));
            }
            for error in errors {
                // Report it once for all table jobs.
                let line = format!("{error}; the copy goes on without this replica");
                if self.pool.routes.is_news(&line) {
                    tracing::warn!(node = error.node, "{line}");
                }
            }
            live.push(nodes.into_iter().map(|(_, node)| node).collect());
        }
        if faults.is_empty() { Ok(live) } else { Err(faults) }
    }

    /// Finds the source table on every replica. Returns its definition on the first one, and other definitions that differ in ways that
    /// do not affect its rows.
    pub(super) async fn source(&self, live: Holders, remarks: &mut Vec<Remark>) -> Result<SourceTable, Vec<Problem>> {
        let mut faults = Vec::new();
        let mut first: Option<(TableDefinition, Arc<Node>)> = None;
        let mut variants: Vec<Variant> = Vec::new();
        let mut holders = Vec::new();
        for (shard, nodes) in live.iter().enumerate() {
            let found = join_all(nodes.iter().map(|node| self.pool.client.table(node, &self.job.source))).await;
            let mut having = Vec::new();
            for (node, answer) in nodes.iter().zip(found) {
                match answer {
                    Ok(Some(definition)) => {
                        let (like, of) = first.get_or_insert_with(|| (definition.clone(), node.clone()));
                        let differs = difference(like, &definition);
                        if let Some(differs) = differs.or_else(|| table_difference(like, &definition, false)) {
                            faults.push(self.differs(&format!("{of} and {node}: {differs}")));
                        }
                        if *like != definition {
                            variants.push(Variant { definition, node: node.clone() });
                        }
                        having.push(node.clone());
                    }
                    Ok(None) => {}
                    Err(error) if error.is_unreachable() => {
                        remarks.push(Remark::on_node(&error.node, error.without_node()));
                    }
                    Err(error) => faults.push(self.server_error(&error)),
                }
            }
            if having.is_empty() && faults.is_empty() {
                let asked: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                faults.push(self.servers(&format!(
                    "there is no source table {} on shard {} ({})",
                    self.job.source,
                    shard + 1,
                    asked.join(", ")
                )));
            }
            holders.push(having);
        }
        match first {
            Some((definition, node)) if faults.is_empty() => Ok(SourceTable { definition, node, variants, holders }),
            _ => Err(faults),
        }
    }

    fn differs(&self, how: &str) -> Problem {
        self.servers(&format!("{} differs between {how}. Make the tables alike", self.job.source))
    }

    /// Checks that the table to create would be the same for every definition of the source table.
    pub(super) fn check_variants(&self, source: &SourceTable) -> Result<(), Vec<Problem>> {
        let SourceTable { definition, node: first, .. } = source;
        let differing = source
            .variants
            .iter()
            .find_map(|other| Some((table_difference(definition, &other.definition, true)?, &other.node)));
        differing.map_or(Ok(()), |(how, node)| {
            let line = format!("{} differs between {first} and {node}: {how}", self.job.source);
            Err(vec![self.servers(&format!("{line}. Write <engine>, or make the target table first"))])
        })
    }

    pub(super) async fn existing_target(&self, targets: &Holders) -> Result<Existing, Vec<Problem>> {
        let nodes: Vec<&Arc<Node>> = targets.iter().flatten().collect();
        let answers = join_all(nodes.iter().map(|node| self.pool.client.table(node, &self.job.target))).await;
        let mut existing = Existing { definition: None, node: None, missing: Vec::new() };
        let mut first: Option<&Arc<Node>> = None;
        let mut faults = Vec::new();
        for (node, answer) in nodes.into_iter().zip(answers) {
            match answer {
                Ok(None) => existing.missing.push(node.clone()),
                Ok(Some(definition)) => match (&existing.definition, first) {
                    (Some(like), Some(first)) => {
                        if let Some(difference) =
                            difference(like, &definition).or_else(|| keys_differ(like, &definition))
                        {
                            faults.push(self.servers(&format!(
                                "{} differs between {first} and {node}: {difference}",
                                self.job.target
                            )));
                        }
                    }
                    _ => {
                        existing.definition = Some(definition);
                        existing.node = Some(node.clone());
                        first = Some(node);
                    }
                },
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        if faults.is_empty() { Ok(existing) } else { Err(faults) }
    }

    /// Returns the table to create: the source's columns with the task's engine.
    pub(super) fn future_target(
        &self,
        source: &TableDefinition,
        engine: Engine,
    ) -> Result<TableDefinition, Vec<Problem>> {
        if source.declarations.is_empty() && !source.is_no_table() {
            return Err(vec![self.servers(&format!(
                "{} has no declared columns: make the target table {} first",
                source.name, self.job.target
            ))]);
        }
        if self.job.engine.is_none() && !engine.is_merge_tree() {
            return Err(vec![self.task(
                "engine",
                &format!("the source's engine is {}: name one of the MergeTree family for the target", engine.name),
            )]);
        }
        let declarations = if source.is_no_table() { source.plain_declarations() } else { source.declarations.clone() };
        Ok(TableDefinition { name: self.job.target.clone(), engine, declarations, view: None, ..source.clone() })
    }

    pub(super) fn check_target(&self, target: &TableDefinition, node: Option<&Node>) -> Result<(), Vec<Problem>> {
        let (name, engine) = (&target.name, &target.engine.name);
        let only = "partitions can be put into tables of the MergeTree family only";
        match node {
            _ if target.engine.is_merge_tree() => {}
            Some(node) => {
                let problem = self.servers(&format!("{name} is a table of engine {engine}: {only}"));
                return Err(vec![problem.on_node(node)]);
            }
            None => {
                return Err(vec![self.task("engine", &format!("{name} would be a table of engine {engine}: {only}"))]);
            }
        }
        let has_order = target.engine.clause(sql::Clause::OrderBy).is_some()
            || target.engine.clause(sql::Clause::PrimaryKey).is_some();
        if node.is_none() && !has_order && !target.engine.is_old_syntax() {
            return Err(vec![self.task("engine", &format!("{} has no ORDER BY", target.engine.name))]);
        }
        Ok(())
    }

    /// Checks on the first rows that the server can convert columns whose types differ.
    pub(super) async fn check_conversion(
        &self,
        node: &Node,
        reading: &Reading,
        source: &TableDefinition,
        target: &TableDefinition,
        on: Option<&Node>,
    ) -> Result<(), Vec<Problem>> {
        let at = on.map(|node| format!(" on {node}")).unwrap_or_default();
        let all = reading.relation(&source.name);
        let Err(first) = self.try_on_rows(node, all, reading.values.clone()).await? else { return Ok(()) };
        let mut faults = Vec::new();
        for (name, expression) in reading.columns.iter().flatten() {
            // Test each column alone, since the expression of another column may cause the error.
            let alone = Reading { columns: Some(vec![(name.clone(), expression.clone())]), ..reading.clone() };
            let value = vec![quote::ident(name)];
            if let Err(error) = self.try_on_rows(node, alone.relation(&source.name), value).await? {
                let source_type = source.column(name).map_or("value", |column| column.type_name.as_str());
                let type_name = target.column(name).map_or("?", |column| column.type_name.as_str());
                faults.push(self.servers(&format!(
                    "column {name} of the target {}{at} is {type_name}, and the source's {source_type} cannot be converted: {error}",
                    target.name
                )));
            }
        }
        if faults.is_empty() { Err(vec![self.server_error(&first)]) } else { Err(faults) }
    }

    /// Returns the columns that only the target can compute: their expressions use columns that the source does not have, or a dictionary,
    /// which may have other contents at the source.
    pub(super) async fn left_to_target(
        &self,
        sources: &Holders,
        source: &TableDefinition,
        target: &TableDefinition,
    ) -> Result<Vec<String>, Vec<Problem>> {
        let carry_computed = self.job.copy_alias_and_materialized;
        let mut left = Vec::new();
        for column in computed_columns(source, target, carry_computed, &self.deciding(target)) {
            if sql::names_dictionary(&column.default_expression) || self.cannot_compute(sources, source, column).await?
            {
                left.push(column.name.clone());
            }
        }
        Ok(left)
    }

    /// Returns whether a source shard cannot compute a column of the target.
    async fn cannot_compute(
        &self,
        sources: &Holders,
        source: &TableDefinition,
        column: &Column,
    ) -> Result<bool, Vec<Problem>> {
        let value = column.computed();
        for node in sources.iter().filter_map(|nodes| nodes.first()) {
            let relation = Relation::plain(source.name.clone());
            match self.try_on_rows(node, relation, vec![value.clone()]).await? {
                // A node that does not answer tells nothing.
                Err(error) if !error.is_unreachable() => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Computes values of the first rows with the settings of the copy, some of which decide which conversions are possible.
    async fn try_on_rows(
        &self,
        node: &Node,
        relation: Relation,
        values: Vec<String>,
    ) -> Result<Result<(), Error>, Vec<Problem>> {
        let settings = self.pool.settings(node, &wanted_for_source(self.task)).await;
        let settings = settings.map_err(|error| vec![self.server_error(&error)])?;
        let rows = Selection::all(relation);
        Ok(self.pool.client.evaluate(node, &rows, &values, SAMPLE_ROWS, &settings).await.map(drop))
    }

    /// Returns for each target shard whether one replica is written and the others fetch from it.
    pub(super) fn replicated(&self, target: &TableDefinition, remarks: &mut Vec<Remark>) -> Vec<bool> {
        let cluster = self.task.target(self.job);
        let engine = target.engine.is_replicated();
        let mut replicated = Vec::new();
        for (at, shard) in cluster.shards.iter().enumerate() {
            if shard.replicas.len() > 1 && shard.internal_replication != engine {
                remarks.push(Remark::new(format!(
                    "shard {} of cluster {} says internal_replication {}, but {} is {}: {}",
                    at + 1,
                    cluster.name,
                    shard.internal_replication,
                    target.name,
                    target.engine.name,
                    if engine {
                        "one replica is written to, the others fetch from it"
                    } else {
                        "only one replica gets rows"
                    }
                )));
            }
            replicated.push(shard.internal_replication || engine);
        }
        replicated
    }
}

/// The source table on all its nodes.
pub(super) struct SourceTable {
    /// The definition on the first node.
    pub(super) definition: TableDefinition,
    /// The first node.
    pub(super) node: Arc<Node>,
    /// Differing definitions on other nodes.
    pub(super) variants: Vec<Variant>,
    /// The nodes of each shard that have the table.
    pub(super) holders: Holders,
}

/// A definition of the source table that differs from the one on the first node.
pub(super) struct Variant {
    pub(super) definition: TableDefinition,
    pub(super) node: Arc<Node>,
}

/// The existing target table.
pub(super) struct Existing {
    /// The definition on the first node.
    pub(super) definition: Option<TableDefinition>,
    /// The first node.
    pub(super) node: Option<Arc<Node>>,
    /// The nodes that lack the table.
    pub(super) missing: Vec<Arc<Node>>,
}

/// Returns how the columns of two tables differ, if they do.
fn difference(a: &TableDefinition, b: &TableDefinition) -> Option<String> {
    for column in &a.columns {
        match b.column(&column.name) {
            None => return Some(format!("column {} is missing there", column.name)),
            Some(other) if other.type_name != column.type_name => {
                return Some(format!("column {} is {} and {}", column.name, column.type_name, other.type_name));
            }
            Some(other) if other.default_kind != column.default_kind || is_computed_differently(column, other) => {
                return Some(format!("column {} is computed in different ways", column.name));
            }
            Some(_) => {}
        }
    }
    b.columns
        .iter()
        .find(|column| a.column(&column.name).is_none())
        .map(|column| format!("column {} is only there", column.name))
}

/// Returns whether a column that is not stored has another expression.
fn is_computed_differently(a: &Column, b: &Column) -> bool {
    let (one, other) = (a.default_expression.as_str(), b.default_expression.as_str());
    a.default_kind == DefaultKind::Alias && !sql::same_key(Some(one), Some(other))
}

fn keys_differ(a: &TableDefinition, b: &TableDefinition) -> Option<String> {
    let (x, y) = (a.engine.staging().to_string(), b.engine.staging().to_string());
    (x != y).then(|| format!("{} and {}", a.engine, b.engine))
}
