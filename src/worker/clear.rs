//! Cleanup at the end of a task: the worker ends its statements and drops its tables on all nodes. It waits up to a minute for a
//! server that does not answer. It names each table that it cannot drop, with the statement that drops it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::jobs::JobRunner;
use super::table_rules::may_clone;
use crate::client::{Error, Remedy};
use crate::model::{Node, TableName};
use crate::protocol::MadeTable;
use crate::runtime::signals::Interrupt;
use crate::sql::drop_table;

/// The pauses between attempts in seconds, a minute in all.
const PAUSES: [u64; 7] = [1, 2, 4, 8, 15, 15, 15];
/// The most statements that a message shows for a node.
const MAX_SHOWN_STATEMENTS: usize = 5;

/// A database of a node where the task may have created tables.
struct NodeDatabase {
    node: Node,
    database: String,
    /// Whether the node is a source node, where only cloning creates tables.
    source: bool,
}

/// The tables that could not be dropped in a database of a node.
struct Leftovers {
    /// The tables. Empty where the node did not list them.
    tables: Vec<TableName>,
    /// The error of the server, or the missing answer.
    why: Error,
    /// Whether waiting may help. It does not for a node that the task gave up while it copied rows.
    may_pass: bool,
}

/// Ends all statements and drops all tables of the task on all nodes. Returns a line for each node and database where tables stay.
///
/// Cancellation: tables that were not dropped stay until the same command runs again. An interrupted run does not wait.
pub(super) async fn clear(runner: &JobRunner, interrupt: &Interrupt) -> Vec<String> {
    end_statements(runner).await;
    let mut places = places(runner);
    let mut pauses = PAUSES.into_iter();
    loop {
        let results = join_all(places.iter().map(|place| clear_place(runner, place))).await;
        let left: Vec<(NodeDatabase, Leftovers)> =
            places.into_iter().zip(results).filter_map(|(place, left)| Some((place, left?))).collect();
        let helps = left.iter().any(|(_, left)| left.may_pass);
        let Some(pause) = pauses.next().filter(|_| helps && !interrupt.is_finishing()) else {
            return left.iter().map(|(place, left)| line(runner, place, left)).collect();
        };
        if let Some((_, first)) = left.first() {
            tracing::warn!(
                node = first.why.node,
                "tables of the task are left on {}: {}; trying again in {} s",
                nodes(&left),
                first.why,
                pause
            );
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => {}
            () = tokio::time::sleep(Duration::from_secs(pause)) => {}
        }
        places = left.into_iter().map(|(place, _)| place).collect();
    }
}

/// Ends the statements of the task. A push runs on the source, a pull on the target, a relay on both.
async fn end_statements(runner: &JobRunner) {
    let task = runner.context.task();
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for job in &task.tables {
        for (_, node) in task.source(job).nodes().chain(task.target(job).nodes()) {
            nodes.insert(node.url(), node.clone());
        }
    }
    let queries = runner.context.id.queries();
    join_all(nodes.values().map(|node| runner.context.pool.client.kill(node, &queries))).await;
}

/// Returns the databases in which the task may have created tables.
fn places(runner: &JobRunner) -> Vec<NodeDatabase> {
    let task = runner.context.task();
    let mut places: BTreeMap<(String, String), NodeDatabase> = BTreeMap::new();
    for (job, plan) in task.tables.iter().zip(runner.context.plans.iter()) {
        let sources = task.source(job).nodes().filter(|_| may_clone(plan, job));
        let sources = sources.map(|(_, node)| (node, &plan.source.database, true));
        let targets = task.target(job).nodes().map(|(_, node)| (node, &plan.target.database, false));
        for (node, database, source) in sources.chain(targets) {
            let place = NodeDatabase { node: node.clone(), database: database.clone(), source };
            places.insert((node.url(), database.clone()), place);
        }
    }
    places.into_values().collect()
}

/// Drops the tables of the task in a database of a node. Returns the tables that stay.
async fn clear_place(runner: &JobRunner, place: &NodeDatabase) -> Option<Leftovers> {
    let NodeDatabase { node, database, source } = place;
    let client = &runner.context.pool.client;
    let names = match client.server(node).await {
        Ok(_) => client.tables_with_prefix(node, database, &runner.context.id.tables()).await,
        Err(error) => Err(error),
    };
    let names = match names {
        Ok(names) => names,
        // A node that never held a table of this task may be gone for good.
        Err(_) if !used(runner, node, *source).await => return None,
        Err(why) => {
            let may_pass = why.remedy() == Remedy::Retry && !is_given_up(runner, node).await;
            return Some(Leftovers { tables: Vec::new(), why, may_pass });
        }
    };
    let settings = runner.context.target_settings(node).await.unwrap_or_default();
    let (mut tables, mut reported, mut may_pass) = (Vec::new(), None, false);
    // A table whose name only begins like ours, such as one that a person renamed, is not ours.
    for name in names.into_iter().filter(|name| MadeTable::parse(name).is_some()) {
        let table = TableName::new(database, name);
        if let Err(error) = client.drop_table(node, &table, &settings).await {
            // An error that waiting cannot remove is the one to report.
            may_pass |= error.remedy() == Remedy::Retry;
            reported = reported.filter(|first: &Error| first.remedy() != Remedy::Retry).or(Some(error));
            tables.push(table);
        }
    }
    reported.map(|why| Leftovers { tables, why, may_pass })
}

/// Returns whether the task replaced this node for some batch because it was lost.
async fn is_given_up(runner: &JobRunner, node: &Node) -> bool {
    let address = node.address();
    let cache = runner.cache.lock().await;
    cache.by_table.iter().flat_map(|records| &records.batches).any(|batch| batch.former.contains(&address))
}

/// Returns whether the task may have created tables on a node.
async fn used(runner: &JobRunner, node: &Node, source: bool) -> bool {
    let address = node.address();
    let cache = runner.cache.lock().await;
    if source && cache.by_table.iter().flat_map(|records| &records.pieces).any(|piece| piece.lent.contains(&address)) {
        return true;
    }
    let mut batches = cache.by_table.iter().flat_map(|records| &records.batches);
    batches.any(|batch| batch.nodes.iter().flatten().chain(&batch.former).any(|used| used == &address))
}

/// Returns the names of the nodes, for a message.
fn nodes(left: &[(NodeDatabase, Leftovers)]) -> String {
    let mut nodes: Vec<String> = left.iter().map(|(place, _)| place.node.to_string()).collect();
    nodes.dedup();
    nodes.join(", ")
}

/// Returns the message about leftovers: the cause, then the tables that stay, and the statements that drop them.
fn line(runner: &JobRunner, place: &NodeDatabase, left: &Leftovers) -> String {
    let NodeDatabase { node, database, .. } = place;
    if left.tables.is_empty() {
        return format!("{}: tables {database}.{}* may be left there", left.why, runner.context.id.tables());
    }
    let statements = left.tables.iter().take(MAX_SHOWN_STATEMENTS).map(|table| format!("{};", drop_table(table)));
    let statements: Vec<String> = statements.collect();
    let more = match left.tables.len().saturating_sub(MAX_SHOWN_STATEMENTS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}. Left on {node}, to be removed by: {}{more}", left.why, statements.join(" "))
}
