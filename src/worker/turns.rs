//! Table jobs that fill one table: what one of them adds to a partition is counted before the next one begins to, since each counts
//! what the partition held before its first row.

use std::collections::{HashMap, HashSet};

use crate::model::{Cluster, PartitionValue};
use crate::plan::TablePlan;
use crate::protocol::BatchRef;
use crate::task::{IfTargetNotEmpty, TableJob, Task};

use super::survey::Fault;

/// For each batch of a table job the batches of earlier jobs that fill a partition of it, and are published first. Empty where
/// no earlier job fills its table.
pub fn batches_before(task: &Task, plans: &[TablePlan], table: usize) -> Vec<Vec<BatchRef>> {
    let earlier: Vec<usize> = (0..table).filter(|other| fill_one_table(task, *other, table)).collect();
    if earlier.is_empty() {
        return Vec::new();
    }
    let mut batches_of: HashMap<&PartitionValue, Vec<BatchRef>> = HashMap::new();
    for table in earlier {
        for batch in 0..plans[table].batches.len() {
            for partition in plans[table].partitions_of(batch) {
                batches_of.entry(&partition.value).or_default().push(BatchRef { table, batch });
            }
        }
    }
    let before = |batch| {
        let partitions = plans[table].partitions_of(batch).iter();
        let found: HashSet<BatchRef> =
            partitions.filter_map(|partition| batches_of.get(&partition.value)).flatten().copied().collect();
        let mut found: Vec<BatchRef> = found.into_iter().collect();
        found.sort_unstable_by_key(|of| (of.table, of.batch));
        found
    };
    (0..plans[table].batches.len()).map(before).collect()
}

/// What is against jobs that fill one partition: only with `append` can the later one add to what the earlier one has put there.
pub fn refuse_shared_partitions(task: &Task, plans: &[TablePlan]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (table, job) in task.tables.iter().enumerate() {
        if job.if_target_not_empty == IfTargetNotEmpty::Append {
            continue;
        }
        let before = batches_before(task, plans, table);
        let Some((batch, other)) = before.iter().enumerate().find_map(|(at, of)| Some((at, *of.first()?))) else {
            continue;
        };
        let partitions = plans[table].partitions_of(batch).iter();
        let shared = partitions
            .map(|one| one.name.as_str())
            .find(|name| plans[other.table].partitions_of(other.batch).iter().any(|partition| partition.name == *name));
        faults.push(Fault::Task(format!(
            "tables/{} and tables/{} both fill partition {} of {}, and the second would find the rows of the first there: give \
             tables/{} <if_target_not_empty>append</if_target_not_empty> if both are to be there",
            task.tables[other.table].name,
            job.name,
            shared.unwrap_or("?"),
            job.target,
            job.name
        )));
    }
    faults
}

fn fill_one_table(task: &Task, one: usize, other: usize) -> bool {
    let (one, other): (&TableJob, &TableJob) = (&task.tables[one], &task.tables[other]);
    one.target == other.target && share_a_node(task.target(one), task.target(other))
}

fn share_a_node(one: &Cluster, other: &Cluster) -> bool {
    let addresses: HashSet<String> = one.nodes().map(|(_, node)| node.address()).collect();
    one.name == other.name || other.nodes().any(|(_, node)| addresses.contains(&node.address()))
}
