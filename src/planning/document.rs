//! The plan of a task as a document: for people, and to hold a later run to it.

use crate::nodes::routes::way_of;
use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Creation, Document, Planned, TablePlan, Travel};
use crate::task::Task;

use super::errors::RunError;
use super::survey::Survey;
use super::target_tables::definition;
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::runtime::bounded::all_tables;

/// The document of plans that were made just now.
pub(crate) async fn document(
    pool: &NodePool,
    task: &Task,
    surveys: &[Survey],
    plans: Vec<TablePlan>,
) -> Result<Document, RunError> {
    let mut tables = Vec::new();
    let planned = surveys.iter().zip(plans).map(|(survey, plan)| async move {
        let create = creations(pool, task, survey).await?;
        let travel = travel(pool, task, survey, &plan).await;
        Ok::<_, RunError>(Planned { plan, create, travel })
    });
    for planned in all_tables(planned).await {
        tables.push(planned?);
    }
    Ok(Document { schema: Document::SCHEMA, inputs: task.plan_inputs(), tables })
}

async fn creations(pool: &NodePool, task: &Task, survey: &Survey) -> Result<Vec<Creation>, RunError> {
    let mut made: BTreeMap<(String, Vec<String>), BTreeSet<String>> = BTreeMap::new();
    for node in &survey.to_create {
        let definition = definition(pool, task, survey, node).await?;
        if definition.database_is_missing {
            let statement = crate::sql::create_database(&survey.target.name.database);
            made.entry((statement, Vec::new())).or_default().insert(node.address());
        }
        made.entry((definition.statement, definition.left_out)).or_default().insert(node.address());
    }
    let creation = |((statement, left_out), nodes)| Creation { statement, nodes, left_out };
    let mut all: Vec<Creation> = made.into_iter().map(creation).collect();
    // A database before its table.
    all.sort_by_key(|creation| !creation.statement.starts_with("CREATE DATABASE"));
    Ok(all)
}

/// The first replica of each source shard to the first of each target shard: others are found out about when they are used.
async fn travel(pool: &NodePool, task: &Task, survey: &Survey, plan: &TablePlan) -> Vec<Travel> {
    let job = &task.tables[survey.job];
    let filtered = plan.pieces.is_empty() || plan.rows_of(0).filters_at_the_table();
    let columns = ColumnRoutes::of_table(&survey.target, &survey.columns).leaving(&survey.reading.left);
    let mut travel = Vec::new();
    for from in survey.sources.iter().filter_map(|replicas| replicas.first()) {
        for shard in plan.target_shards() {
            let Some(to) = survey.targets.get(shard).and_then(|replicas| replicas.first()) else { continue };
            let (way, since) = match way_of(pool, job, (from, to), filtered, &columns).await {
                _ if plan.clones => ("clone".to_owned(), None),
                Ok(choice) => (choice.way.to_string(), choice.since),
                Err(error) => ("?".to_owned(), Some(error.to_string())),
            };
            travel.push(Travel { from: from.address(), to: to.address(), way, since });
        }
    }
    travel
}
