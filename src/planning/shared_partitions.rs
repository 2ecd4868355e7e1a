//! Table jobs that fill the same partition of one table. They publish it one after another, in the order of the task, since each job
//! records how many rows the partition held before its own first row.

use std::collections::{HashMap, HashSet};

use super::errors::Problem;
use crate::model::{Cluster, PartitionValue};
use crate::plan::TablePlan;
use crate::protocol::BatchRef;
use crate::task::{IfTargetNotEmpty, Task};

/// Returns, for each batch of a table job, the batches of earlier jobs that fill one of its partitions and must be published first.
/// Returns an empty list where no earlier job fills the same table.
pub(crate) fn batches_before(task: &Task, plans: &[TablePlan], table: usize) -> Vec<Vec<BatchRef>> {
    let earlier = earlier_jobs(task, table);
    if earlier.is_empty() {
        return Vec::new();
    }
    let mut batches_of: HashMap<&PartitionValue, Vec<BatchRef>> = HashMap::new();
    for table in earlier {
        for batch in 0..plans[table].batches.len() {
            for partition in plans[table].partitions_of(batch) {
                batches_of.entry(&partition.value).or_default().push(BatchRef { table, index: batch });
            }
        }
    }
    let before = |batch| {
        let partitions = plans[table].partitions_of(batch).iter();
        let found: HashSet<BatchRef> =
            partitions.filter_map(|partition| batches_of.get(&partition.value)).flatten().copied().collect();
        let mut found: Vec<BatchRef> = found.into_iter().collect();
        found.sort_unstable_by_key(|batch_ref| (batch_ref.table, batch_ref.index));
        found
    };
    (0..plans[table].batches.len()).map(before).collect()
}

/// Returns a fault for each job that fills a partition of an earlier job without `append`: it cannot add to the rows of the earlier job.
pub(crate) fn refuse_shared_partitions(task: &Task, plans: &[TablePlan]) -> Vec<Problem> {
    let mut faults = Vec::new();
    for (table, job) in task.tables.iter().enumerate() {
        if job.if_target_not_empty == IfTargetNotEmpty::Append {
            continue;
        }
        let shared = earlier_jobs(task, table).into_iter().find_map(|other| {
            let filled: HashSet<&PartitionValue> = plans[other].partitions.iter().map(|one| &one.value).collect();
            let partition = plans[table].partitions.iter().find(|one| filled.contains(&one.value))?;
            Some((&task.tables[other].name, &partition.name))
        });
        let Some((other, partition)) = shared else { continue };
        let problem = Problem::task(format!(
            "tables/{other} and tables/{0} both fill partition {partition} of {1}, and the second would find the rows of the first there: \
             give tables/{0} <if_target_not_empty>append</if_target_not_empty> if both are to be there",
            job.name, job.target
        ));
        faults.push(problem.affecting([other.as_str(), &job.name]));
    }
    faults
}

/// Returns the jobs before this one that fill the same table on the same node.
fn earlier_jobs(task: &Task, table: usize) -> Vec<usize> {
    let fills = |other: &usize| {
        let (one, other) = (&task.tables[*other], &task.tables[table]);
        one.target == other.target && share_a_node(task.target(one), task.target(other))
    };
    (0..table).filter(fills).collect()
}

/// Returns whether two clusters have a common node.
fn share_a_node(one: &Cluster, other: &Cluster) -> bool {
    let addresses: HashSet<String> = one.nodes().map(|(_, node)| node.address()).collect();
    other.nodes().any(|(_, node)| addresses.contains(&node.address()))
}
