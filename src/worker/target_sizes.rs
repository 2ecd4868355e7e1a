//! The sizes of the target's shards at the end of a run. Reads only. A shard that does not answer is named.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;

use crate::client::{Error, PartSizes, ServerClient};
use crate::model::{PartitionId, Shard};
use crate::plan::TablePlan;
use crate::task::Task;

/// How long to wait for the answer of a replica.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of a target table on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSize {
    /// Index of the table job.
    pub table: usize,
    /// Index of the shard.
    pub shard: usize,
    /// The node that answered.
    pub node: String,
    /// Rows of the active parts.
    pub rows: u64,
    /// Uncompressed bytes of the active parts.
    pub bytes: u64,
    /// Whether the size is of the whole table, because the ids of the planned partitions are not known.
    pub whole: bool,
}

/// Returns the sizes of the planned partitions on each target shard, whoever wrote their rows, and a line for each shard of which
/// no replica answers. Reads `system.parts` of one replica of each shard.
pub(crate) async fn measure(
    client: &dyn ServerClient,
    task: &Task,
    plans: &[TablePlan],
) -> (Vec<TargetSize>, Vec<String>) {
    let shards = task.tables.iter().zip(plans).enumerate().flat_map(|(table, (job, plan))| {
        let shards = &task.target(job).shards;
        plan.target_shards().filter_map(move |shard| Some((table, plan, shard, shards.get(shard)?)))
    });
    let measurements = shards.map(|(table, plan, index, shard)| async move {
        let ids: Option<HashSet<&PartitionId>> =
            plan.partitions.iter().map(|partition| partition.id.as_ref()).collect();
        let (node, parts) = parts(client, shard, plan).await?;
        let counted = || parts.iter().filter(|part| ids.as_ref().is_none_or(|ids| ids.contains(&part.id)));
        Ok::<_, String>(TargetSize {
            table,
            shard: index,
            node,
            rows: counted().map(|part| part.rows).sum(),
            bytes: counted().map(|part| part.bytes).sum(),
            whole: ids.is_none(),
        })
    });
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for measurement in join_all(measurements).await {
        match measurement {
            Ok(size) => found.push(size),
            Err(why) => silent.push(format!("how much a shard holds is not known: {why}")),
        }
    }
    (found, silent)
}

/// Returns the parts of the target table on the first replica of a shard that answers, with the address of that replica.
async fn parts(client: &dyn ServerClient, shard: &Shard, plan: &TablePlan) -> Result<(String, Vec<PartSizes>), String> {
    let mut first = None;
    for node in &shard.replicas {
        let why = match tokio::time::timeout(ANSWER_TIMEOUT, client.parts(node, &plan.target)).await {
            Ok(Ok(parts)) => return Ok((node.address(), parts)),
            Ok(Err(error)) => Error::to_string(&error),
            Err(_) => format!("{}: no answer within {} s", node.address(), ANSWER_TIMEOUT.as_secs()),
        };
        first = first.or(Some(why));
    }
    Err(first.unwrap_or_else(|| "the shard has no replica".into()))
}
