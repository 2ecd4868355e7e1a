//! Whether the replicas of a target shard are replicas of each other, once the target table is there on all of them. The survey sees
//! where tables are, and where the task says that they are to be; the default path of a server, which a database of engine Replicated
//! uses, shows only afterwards.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::errors::RunError;
use super::survey::Survey;
use crate::nodes::pool::NodePool;

/// Refuses a target of which two replicas of one shard have different paths in ZooKeeper: each would be a table of its own, and the
/// rows of one would never come to the other. Looks only where a table was made.
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
            return Err(RunError::World(vec![format!(
                "{table} was made on the replicas of target shard {}, and they are no replicas of each other: their paths in ZooKeeper are {}. Do \
                 the servers have the same macros, such as {{shard}}? Drop the empty tables, and write the path in <engine> or mend the \
                 macros",
                shard + 1,
                listed.join(" and ")
            )]));
        }
    }
    Ok(())
}
