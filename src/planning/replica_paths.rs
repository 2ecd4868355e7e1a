//! The check that the replicas of a target shard are replicas of each other, after the target table exists on all of them. The survey
//! checks the paths of existing tables and the paths in the task. The default path of a server, which a database of engine Replicated
//! uses, is visible only after the table was created.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::errors::RunError;
use super::survey::Survey;
use crate::nodes::pool::NodePool;

/// Refuses a target where two replicas of one shard have different paths in ZooKeeper. They would be independent tables that do not
/// exchange rows. Checks only where a table was created.
pub(crate) async fn check(pool: &NodePool, survey: &Survey) -> Result<(), RunError> {
    if survey.to_create.is_empty() || !survey.target.engine.is_replicated() {
        return Ok(());
    }
    let table = &survey.target.name;
    for (shard, nodes) in survey.targets.iter().enumerate().filter(|(_, nodes)| nodes.len() > 1) {
        let states = try_join_all(nodes.iter().map(|node| pool.client.replica_state(node, table))).await?;
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (node, state) in nodes.iter().zip(states) {
            let Some(state) = state else { continue };
            paths.entry(state.path).or_default().push(node.to_string());
        }
        if paths.len() > 1 {
            let listed: Vec<String> =
                paths.iter().map(|(path, nodes)| format!("{path} ({})", nodes.join(", "))).collect();
            return Err(RunError::servers(format!(
                "{table} was made on the replicas of target shard {}, and they are no replicas of each other: their paths in ZooKeeper are {}. Do \
                 the servers have the same macros, such as {{shard}}? Drop the empty tables, and write the path in <engine> or mend the \
                 macros",
                shard + 1,
                listed.join(" and ")
            )));
        }
    }
    Ok(())
}
