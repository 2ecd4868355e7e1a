//! Creates the target tables.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;

use crate::model::{Node, TableName};
use crate::sql::{Clause, Syntax};
use crate::task::Task;

use super::errors::RunError;
use super::replica_paths;
use super::survey::Survey;
use crate::nodes::pool::Fleet;
use crate::nodes::settings::target_wishes;
use crate::runtime::bounded::few_at_a_time;

/// Makes all target tables, several at a time: the first of each database before the others, and one after another where they fill the
/// same table.
pub(crate) async fn create_all_targets(fleet: &Fleet, task: &Task, surveys: &[Survey]) -> Result<(), RunError> {
    let mut databases = BTreeSet::new();
    let (first, rest): (Vec<&Survey>, Vec<&Survey>) =
        surveys.iter().partition(|survey| databases.insert(survey.target.name.database.as_str()));
    for survey in first {
        create_targets(fleet, task, survey).await?;
    }
    let mut by_table: BTreeMap<&TableName, Vec<&Survey>> = BTreeMap::new();
    for survey in rest {
        by_table.entry(&survey.target.name).or_default().push(survey);
    }
    let made = few_at_a_time(by_table.into_values().map(|surveys| async move {
        for survey in surveys {
            create_targets(fleet, task, survey).await?;
        }
        Ok(())
    }));
    made.await.into_iter().collect()
}

/// Makes the target's database and table on every live node that lacks them.
async fn create_targets(fleet: &Fleet, task: &Task, survey: &Survey) -> Result<(), RunError> {
    try_join_all(survey.to_create.iter().map(|node| create_target(fleet, task, survey, node))).await?;
    replica_paths::check(fleet, survey).await
}

/// How the target table is made on a node.
pub(crate) struct Definition {
    pub statement: String,
    /// Whether its database must be made first.
    pub database_is_missing: bool,
    /// What the node's version does not know of the definition.
    pub left_out: Vec<String>,
}

/// The target table as it would be made on a node.
pub(crate) async fn definition(
    fleet: &Fleet,
    task: &Task,
    survey: &Survey,
    node: &Node,
) -> Result<Definition, RunError> {
    let target = &survey.target;
    let facts = fleet.facts(node).await?;
    let database = fleet.warehouse.database_engine(node, &target.name.database).await?;
    let (mut fitting, mut left_out) = target.within(Syntax::of(facts.release()));
    // What the task's own <engine> says is taken as it stands: the server says what is wrong with it.
    if task.tables[survey.job].engine.is_none() && fitting.engine.clause(Clause::Settings).is_some() {
        let known = fleet.merge_tree_settings(node).await?;
        let (engine, unknown) = fitting.engine.with_settings_among(&known);
        fitting.engine = engine;
        left_out.extend(unknown.into_iter().map(|name| format!("the setting {name}")));
    }
    let engine = fitting.engine.in_database(database.as_deref());
    let statement = fitting.create(&target.name, &engine);
    Ok(Definition { statement, database_is_missing: database.is_none(), left_out })
}

async fn create_target(fleet: &Fleet, task: &Task, survey: &Survey, node: &Node) -> Result<(), RunError> {
    let (name, facts) = (&survey.target.name, fleet.facts(node).await?);
    let settings = fleet.settings(node, &target_wishes(task)).await?;
    let definition = definition(fleet, task, survey, node).await?;
    if definition.database_is_missing {
        fleet.warehouse.create_database(node, &name.database, &settings).await?;
    }
    fleet.warehouse.create_table(node, name, &definition.statement, &settings).await?;
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
