//! The creation of the target tables.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;

use super::errors::RunError;
use super::replica_paths;
use super::survey::Survey;
use crate::model::{Node, TableName};
use crate::nodes::pool::NodePool;
use crate::nodes::settings::wanted_for_target;
use crate::runtime::bounded::few_at_a_time;
use crate::sql::{Clause, Syntax};
use crate::task::Task;

/// Creates all target tables, several at once. Creates the first table of each database before the others. Jobs that fill the same table
/// come one after another.
pub(crate) async fn create_all_targets(pool: &NodePool, task: &Task, surveys: &[Survey]) -> Result<(), RunError> {
    let mut databases = BTreeSet::new();
    let (first, others): (Vec<&Survey>, Vec<&Survey>) =
        surveys.iter().partition(|survey| databases.insert(survey.target.name.database.as_str()));
    for survey in first {
        create_targets(pool, task, survey).await?;
    }
    let mut by_table: BTreeMap<&TableName, Vec<&Survey>> = BTreeMap::new();
    for survey in others {
        by_table.entry(&survey.target.name).or_default().push(survey);
    }
    let made = few_at_a_time(by_table.into_values().map(|surveys| async move {
        for survey in surveys {
            create_targets(pool, task, survey).await?;
        }
        Ok(())
    }));
    made.await.into_iter().collect()
}

/// Creates the target's database and table on every live node that lacks them.
async fn create_targets(pool: &NodePool, task: &Task, survey: &Survey) -> Result<(), RunError> {
    try_join_all(survey.to_create.iter().map(|node| create_target(pool, task, survey, node))).await?;
    replica_paths::check(pool, survey).await
}

/// The statement that creates the target table on a node.
pub(crate) struct Definition {
    pub(crate) statement: String,
    /// Whether the database must be created first.
    pub(crate) database_is_missing: bool,
    /// The elements of the definition that the node's version does not know.
    pub(crate) left_out: Vec<String>,
}

/// Returns the statement that creates the target table on a node.
pub(crate) async fn definition(
    pool: &NodePool,
    task: &Task,
    survey: &Survey,
    node: &Node,
) -> Result<Definition, RunError> {
    let target = &survey.target;
    let facts = pool.facts(node).await?;
    let database = pool.client.database_engine(node, &target.name.database).await?;
    let (mut fitting, mut left_out) = target.within(Syntax::of(facts.release()));
    // An <engine> of the task is used unchanged. The server reports its errors.
    if task.tables[survey.job].engine.is_none() && fitting.engine.clause(Clause::Settings).is_some() {
        let known = pool.merge_tree_settings(node).await?;
        let (engine, unknown) = fitting.engine.with_settings_among(&known);
        fitting.engine = engine;
        left_out.extend(unknown.into_iter().map(|name| format!("the setting {name}")));
    }
    let engine = fitting.engine.in_database(database.as_deref());
    let statement = fitting.create(&target.name, &engine);
    Ok(Definition { statement, database_is_missing: database.is_none(), left_out })
}

/// Creates the target's database and table on a node.
async fn create_target(pool: &NodePool, task: &Task, survey: &Survey, node: &Node) -> Result<(), RunError> {
    let (name, facts) = (&survey.target.name, pool.facts(node).await?);
    let settings = pool.settings(node, &wanted_for_target(task)).await?;
    let definition = definition(pool, task, survey, node).await?;
    if definition.database_is_missing {
        pool.client.create_database(node, &name.database, &settings).await?;
    }
    pool.client.create_table(node, name, &definition.statement, &settings).await?;
    tracing::info!(node = node.address(), "{node}: created table {name}");
    if !definition.left_out.is_empty() {
        tracing::warn!(
            "{node}: ClickHouse {} does not know everything that the definition of {name} has; left out: {}",
            facts.version,
            definition.left_out.join(", ")
        );
    }
    Ok(())
}
