//! The plan of a task as a document, for people and for `run --plan`.

use std::collections::{BTreeMap, BTreeSet};

use super::errors::RunError;
use super::survey::Survey;
use super::target_tables::definition;
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::nodes::routes::way_of;
use crate::plan::{Creation, Document, Planned, TablePlan, Travel};
use crate::runtime::bounded::all_tables;
use crate::task::Task;

/// Returns the document of new plans, with the statements that create the target tables and the routes of the rows.
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

/// Returns the statements that create the databases and target tables of a table job.
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
    // A database comes before its table.
    all.sort_by_key(|creation| !creation.statement.starts_with("CREATE DATABASE"));
    Ok(all)
}

/// Returns the routes from the first replica of each source shard to the first replica of each target shard. The routes between other
/// replicas are chosen when they are used.
async fn travel(pool: &NodePool, task: &Task, survey: &Survey, plan: &TablePlan) -> Vec<Travel> {
    let job = &task.tables[survey.job];
    let filtered = plan.pieces.is_empty() || plan.rows_of(0).filters_at_the_table();
    let columns = ColumnRoutes::of_table(&survey.target, &survey.columns).leaving(&survey.reading.left);
    let mut travel = Vec::new();
    for from in survey.sources.iter().filter_map(|replicas| replicas.first()) {
        for shard in plan.target_shards() {
            let Some(to) = survey.targets.get(shard).and_then(|replicas| replicas.first()) else { continue };
            let (way, since) = match way_of(pool, job, from, to, filtered, &columns).await {
                _ if plan.clones => ("clone".to_owned(), None),
                Ok(route) => (route.way.to_string(), route.reason),
                Err(error) => ("?".to_owned(), Some(error.to_string())),
            };
            travel.push(Travel { from: from.address(), to: to.address(), way, since });
        }
    }
    travel
}
