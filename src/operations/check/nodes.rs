//! The facts about servers: their answers, versions, clocks, and the leftovers of earlier tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;

use crate::client::{Error, Inspector};
use crate::model::Node;
use crate::nodes::pool::NodePool;
use crate::planning::planner::guards_drops;
use crate::protocol::{MadeStatement, MadeTable, TaskId};
use crate::task::Task;

/// The facts about a node of the task.
pub(crate) struct NodeFacts {
    /// The node.
    pub(crate) node: Arc<Node>,
    /// The shard of this node in the first cluster that has it.
    pub(crate) shard: ShardName,
    /// The answer of the node.
    pub(crate) about: Result<About, Error>,
}

/// A shard of a cluster.
#[derive(PartialEq, Eq)]
pub(crate) struct ShardName {
    /// The name of the cluster.
    pub(crate) cluster: String,
    /// The number of the shard there, from 1.
    pub(crate) number: usize,
}

/// The facts that a node reports about itself.
pub(crate) struct About {
    /// The version of the server.
    pub(crate) version: String,
    /// The time zone of our sessions, and the one of the server if it differs.
    pub(crate) zones: Vec<String>,
    /// The least number of seconds that its clock is ahead of ours. A negative number means that it is behind.
    pub(crate) ahead: Result<i64, Error>,
    /// Whether statements cannot lift the server's limits on the size of dropped tables and partitions.
    pub(crate) guards_drops: bool,
    /// The leftovers of tasks on the node.
    pub(crate) left: Result<Vec<Left>, Error>,
}

/// The leftovers of one task on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// The task.
    pub(crate) task: TaskId,
    /// Whether it is the task of this check.
    pub(crate) own: bool,
    /// The number of tables.
    pub(crate) tables: usize,
    /// The number of running statements.
    pub(crate) statements: usize,
}

/// Asks each node of the used clusters.
pub(super) async fn collect(
    pool: &NodePool,
    inspector: &dyn Inspector,
    task: &Task,
    own: Option<&TaskId>,
) -> Vec<NodeFacts> {
    let mut nodes: Vec<(Arc<Node>, ShardName)> = Vec::new();
    let mut databases: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for job in &task.tables {
        for cluster in [task.source(job), task.target(job)] {
            for (shard, node) in cluster.nodes() {
                if !nodes.iter().any(|(known, _)| known.url() == node.url() && known.user == node.user) {
                    let shard = ShardName { cluster: cluster.name.clone(), number: shard + 1 };
                    nodes.push((Arc::new(node.clone()), shard));
                }
            }
        }
        for (_, node) in task.target(job).nodes() {
            databases.entry(node.url()).or_default().insert(&job.target.database);
        }
    }
    let none = BTreeSet::new();
    let answers = nodes.into_iter().map(|(node, shard)| {
        let databases = databases.get(&node.url()).unwrap_or(&none);
        async move {
            let about = about(pool, inspector, &node, databases, own).await;
            NodeFacts { node, shard, about }
        }
    });
    join_all(answers).await
}

/// Reads the facts that a node reports about itself.
async fn about(
    pool: &NodePool,
    inspector: &dyn Inspector,
    node: &Node,
    databases: &BTreeSet<&str>,
    own: Option<&TaskId>,
) -> Result<About, Error> {
    let facts = pool.facts(node).await?;
    let before = seconds();
    let clock = inspector.clock(node).await;
    let after = seconds();
    let ahead = clock.map(|theirs| distance(theirs, before, after));
    let left = left(pool, node, databases, own).await;
    let zones = pool.context(node).await?.zones.clone();
    Ok(About { version: facts.version.clone(), zones, ahead, guards_drops: guards_drops(&facts), left })
}

/// Returns the seconds since 1970 by this machine's clock.
fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Returns the least difference between a clock and ours, in seconds. The time of the question itself does not count.
fn distance(theirs: i64, before: i64, after: i64) -> i64 {
    if theirs < before { theirs - before } else { (theirs - after).max(0) }
}

/// Counts the leftovers of each task on a node.
async fn left(
    pool: &NodePool,
    node: &Node,
    databases: &BTreeSet<&str>,
    own: Option<&TaskId>,
) -> Result<Vec<Left>, Error> {
    let mut found: BTreeMap<TaskId, (usize, usize)> = BTreeMap::new();
    for statement in pool.client.running(node, TaskId::ALL_QUERIES).await? {
        if let Some(made) = MadeStatement::parse(&statement.query_id) {
            found.entry(made.task).or_default().1 += 1;
        }
    }
    for database in databases {
        for name in pool.client.tables_with_prefix(node, database, TaskId::ALL_TABLES).await? {
            if let Some(made) = MadeTable::parse(&name) {
                found.entry(made.task).or_default().0 += 1;
            }
        }
    }
    let left = |(task, (tables, statements))| Left { own: own == Some(&task), task, tables, statements };
    Ok(found.into_iter().map(left).collect())
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_duration_of_a_question_is_not_counted_as_a_clock_difference() {
        for (theirs, far) in [(100, 0), (103, 0), (95, -5), (110, 7)] {
            assert_eq!(distance(theirs, 100, 103), far, "{theirs}");
        }
    }
}
