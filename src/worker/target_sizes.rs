//! How much lies on the target's shards when a run has ended. Changes nothing; who does not answer is named.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;

use crate::client::{Error, PartSizes, ServerClient};
use crate::model::{PartitionId, Shard};
use crate::plan::TablePlan;
use crate::task::Task;

/// So long each replica is asked: a report is worth a little time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a shard of the target holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulk {
    /// Index of the table job.
    pub table: usize,
    /// Index of the shard.
    pub shard: usize,
    /// The node that said so.
    pub node: String,
    /// Rows of the active parts.
    pub rows: u64,
    /// Uncompressed bytes of the active parts.
    pub bytes: u64,
    /// Whether that is all of the table: where partitions cannot be told from others by their ids.
    pub whole: bool,
}

/// What the shards hold of the planned partitions, whoever put it there, by `system.parts` of one replica that answers; and a line
/// for each shard of which none does.
pub async fn measure(client: &dyn ServerClient, task: &Task, plans: &[TablePlan]) -> (Vec<Bulk>, Vec<String>) {
    let looks = task.tables.iter().zip(plans).enumerate().flat_map(|(table, (job, plan))| {
        let shards = &task.target(job).shards;
        plan.target_shards().filter_map(move |shard| Some((table, plan, shard, shards.get(shard)?)))
    });
    let looks = looks.map(|(table, plan, shard, of)| async move {
        let ids: Option<HashSet<&PartitionId>> =
            plan.partitions.iter().map(|partition| partition.id.as_ref()).collect();
        let (node, parts) = parts(client, of, plan).await?;
        let counted = || parts.iter().filter(|part| ids.as_ref().is_none_or(|ids| ids.contains(&part.id)));
        Ok::<_, String>(Bulk {
            table,
            shard,
            node,
            rows: counted().map(|part| part.rows).sum(),
            bytes: counted().map(|part| part.bytes).sum(),
            whole: ids.is_none(),
        })
    });
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for look in join_all(looks).await {
        match look {
            Ok(bulk) => found.push(bulk),
            Err(why) => silent.push(format!("how much a shard holds is not known: {why}")),
        }
    }
    (found, silent)
}

async fn parts(client: &dyn ServerClient, shard: &Shard, plan: &TablePlan) -> Result<(String, Vec<PartSizes>), String> {
    let mut first = None;
    for node in &shard.replicas {
        let why = match tokio::time::timeout(PATIENCE, client.parts(node, &plan.target)).await {
            Ok(Ok(parts)) => return Ok((node.address(), parts)),
            Ok(Err(error)) => Error::to_string(&error),
            Err(_) => format!("{}: no answer within {} s", node.address(), PATIENCE.as_secs()),
        };
        first = first.or(Some(why));
    }
    Err(first.unwrap_or_else(|| "the shard has no replica".into()))
}
