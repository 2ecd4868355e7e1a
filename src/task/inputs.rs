//! The inputs of a plan, as text by path. They are stored with the plan, and compared when the task is read again.

use std::collections::BTreeMap;

use super::{HiddenRows, TableJob, Task, Verify};
use crate::model::Cluster;

impl Task {
    /// Returns all inputs of the plan, by the path of the element without the root: the clusters that tables use
    /// (hosts, native ports, weights, `internal_replication`) and every table with its defaults. Secrets, users,
    /// settings, HTTP ports, `transfer`, limits and `max_workers` are not included; they may change while the task
    /// runs.
    pub fn plan_inputs(&self) -> BTreeMap<String, String> {
        let mut inputs = BTreeMap::new();
        for job in &self.tables {
            for cluster in [self.source(job), self.target(job)] {
                insert_cluster(&mut inputs, cluster);
            }
            self.insert_table(&mut inputs, job);
        }
        inputs
    }

    fn insert_table(&self, inputs: &mut BTreeMap<String, String>, job: &TableJob) {
        let mut put = |element: &str, value: Option<String>| {
            if let Some(value) = value {
                inputs.insert(format!("tables/{}/{element}", job.name), value);
            }
        };
        put("cluster_pull", Some(self.source(job).name.clone()));
        put("database_pull", Some(job.source.database.clone()));
        put("table_pull", Some(job.source.table.clone()));
        put("cluster_push", Some(self.target(job).name.clone()));
        put("database_push", Some(job.target.database.clone()));
        put("table_push", Some(job.target.table.clone()));
        put("engine", job.engine.clone());
        put("sharding_key", job.sharding_key.clone());
        put("where_condition", job.where_condition.clone());
        put("enabled_partitions", job.enabled_partitions.as_ref().map(|literals| literals.join(" ")));
        put("number_of_splits", Some(job.number_of_splits.to_string()));
        put("batch_bytes", job.batch_bytes.map(|bytes| bytes.to_string()));
        put("if_target_not_empty", Some(job.if_target_not_empty.as_str().to_owned()));
        put(
            "allow_to_copy_alias_and_materialized_columns",
            Some(u8::from(job.copy_alias_and_materialized).to_string()),
        );
        // Nothing for the default, so that tasks stored before the choice existed stay equal.
        put("merges_rows", job.merges_rows.map(|merges| u8::from(merges).to_string()));
        put("hidden_rows", (job.hidden_rows != HiddenRows::default()).then(|| job.hidden_rows.as_str().to_owned()));
        put("verify", (job.verify != Verify::default()).then(|| job.verify.as_str().to_owned()));
    }
}

fn insert_cluster(inputs: &mut BTreeMap<String, String>, cluster: &Cluster) {
    for (i, shard) in cluster.shards.iter().enumerate() {
        let path = format!("remote_servers/{}/shard[{}]", cluster.name, i + 1);
        inputs.insert(format!("{path}/weight"), shard.weight.to_string());
        inputs.insert(format!("{path}/internal_replication"), u8::from(shard.internal_replication).to_string());
        for (j, node) in shard.replicas.iter().enumerate() {
            inputs.insert(format!("{path}/replica[{}]/host", j + 1), node.host.clone());
            inputs.insert(format!("{path}/replica[{}]/port", j + 1), node.port.to_string());
        }
    }
}

/// Returns the differences between two [`Task::plan_inputs`], a sentence for each path; empty if they are equal.
pub fn differences(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, before) in old {
        match new.get(path) {
            Some(after) if after == before => {}
            Some(after) => found.push(format!("{path} changed from {before:?} to {after:?}")),
            None => found.push(format!("{path} was removed (it was {before:?})")),
        }
    }
    let added = new.iter().filter(|(path, _)| !old.contains_key(*path));
    found.extend(added.map(|(path, after)| format!("{path} was added ({after:?})")));
    found.sort();
    found
}
