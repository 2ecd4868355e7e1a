//! The contents of a generated task file and their reasons, as one JSON object.

use std::path::Path;

use serde::Serialize;

use crate::model::{Cluster, Node, Shard, TableName};
use crate::task::{Sketch, TaskFile};

/// The proposal of `init` or `reverse`, as JSON. Fields that have no value are `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProposalReport {
    /// The file that was written.
    pub(crate) written: Option<String>,
    /// The task file's text, if it was written to no file. It may hold passwords that the task's text contains.
    pub(crate) xml: Option<String>,
    /// The remarks at the top of the file.
    pub(crate) remarks: Vec<String>,
    /// The clusters of the copy, and all other clusters of the file.
    pub(crate) clusters: Vec<ClusterReport>,
    /// The table jobs.
    pub(crate) tables: Vec<TableReport>,
}

/// A cluster of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ClusterReport {
    /// The element's name.
    pub(crate) name: String,
    /// The shards of the cluster.
    pub(crate) shards: Vec<ShardReport>,
    /// The remarks about the cluster.
    pub(crate) remarks: Vec<String>,
}

/// A shard of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShardReport {
    /// The weight of the shard.
    pub(crate) weight: u32,
    /// The replicas of the shard, as `host:port`.
    pub(crate) replicas: Vec<String>,
}

/// A table job of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TableReport {
    /// The element's name.
    pub(crate) name: String,
    /// The cluster and the table to copy from.
    pub(crate) source: PlaceReport,
    /// The cluster and the table to copy to.
    pub(crate) target: PlaceReport,
    /// The target's engine, if the file has one.
    pub(crate) engine: Option<String>,
    /// The sharding key of the target.
    pub(crate) sharding_key: Option<String>,
    /// The remarks about its elements, in the order of the file.
    pub(crate) remarks: Vec<String>,
}

/// The place of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PlaceReport {
    /// The cluster's name in the file.
    pub(crate) cluster: String,
    /// The database.
    pub(crate) database: String,
    /// The table.
    pub(crate) table: String,
}

impl ProposalReport {
    /// Makes the report from a sketch, the task file that was made of it, and the file that was written.
    pub fn of(sketch: &Sketch, file: &TaskFile, written: Option<&Path>) -> Self {
        let TaskFile { text, task, .. } = file;
        let clusters = task.clusters.iter().map(|cluster| {
            let made = sketch.clusters.iter().find(|made| made.name == cluster.name);
            ClusterReport {
                name: cluster.name.clone(),
                shards: shards(cluster),
                remarks: made.map(|made| made.comment.clone()).unwrap_or_default(),
            }
        });
        // Both lists have the jobs in the order of the file.
        let tables = task.tables.iter().zip(&sketch.tables).map(|(job, made)| {
            let place = |cluster: &Cluster, table: &TableName| PlaceReport {
                cluster: cluster.name.clone(),
                database: table.database.clone(),
                table: table.table.clone(),
            };
            TableReport {
                name: job.name.clone(),
                source: place(task.source(job), &job.source),
                target: place(task.target(job), &job.target),
                engine: job.engine.clone(),
                sharding_key: job.sharding_key.clone(),
                remarks: made.elements.iter().flat_map(|element| element.comment.clone()).collect(),
            }
        });
        Self {
            written: written.map(|path| path.display().to_string()),
            xml: written.is_none().then(|| text.clone()),
            remarks: sketch.comment.clone(),
            clusters: clusters.collect(),
            tables: tables.collect(),
        }
    }
}

fn shards(cluster: &Cluster) -> Vec<ShardReport> {
    let shard = |shard: &Shard| ShardReport {
        weight: shard.weight,
        replicas: shard.replicas.iter().map(Node::to_string).collect(),
    };
    cluster.shards.iter().map(shard).collect()
}
