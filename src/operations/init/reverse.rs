//! The reverse copy: makes the task that copies the rows of a task back.

use super::{Servers, Side};
use crate::model::{Cluster, TableName};
use crate::planning::errors::{Problem, ProblemKind, RunError};
use crate::sql::{TableDefinition, key_elements};
use crate::task::{
    ClusterSketch, ClusterTable, Sketch, SketchElement, TableJob, TableSketch, TaskFile, Verify, kept_elements,
};

/// The parameters of a reverse copy.
pub(crate) struct WayBack<'a> {
    /// The task.
    pub(crate) file: &'a TaskFile,
    /// The servers to copy to, if not the source of the task.
    pub(crate) to: Option<Side>,
    /// The database to copy into, if it has another name.
    pub(crate) database: Option<String>,
    /// The sharding key, where no Distributed table has one.
    pub(crate) sharding_key: Option<String>,
}

/// The name of the new cluster in the task file.
const RESTORED: &str = "restored";

/// Makes the task file of a reverse copy.
///
/// # Errors
/// When servers do not answer, a copy to several shards has no sharding key, or a table would be copied onto itself.
pub(crate) async fn reverse(servers: &Servers, way: &WayBack<'_>) -> Result<Sketch, RunError> {
    let replicated = way.file.task.tables.iter().any(|job| {
        way.file.task.source(job).shards.iter().any(|shard| shard.internal_replication)
            || job.engine.as_deref().is_some_and(|engine| engine.contains("Replicated"))
    });
    let elsewhere = match &way.to {
        Some(side) => {
            let mut name = RESTORED.to_owned();
            while way.file.task.clusters.iter().any(|cluster| cluster.name == name) {
                name.push('_');
            }
            Some(servers.cluster(&name, side, replicated, None).await?)
        }
        None => None,
    };
    let mut tables = Vec::new();
    let mut problems = Vec::new();
    for job in &way.file.task.tables {
        let back = Back { servers, way, job, elsewhere: elsewhere.as_ref() };
        match back.sketch().await {
            Ok(table) => tables.push(table),
            Err(RunError::Problems(more)) if more.iter().all(|problem| problem.kind == ProblemKind::Task) => {
                problems.extend(more);
            }
            Err(other) => return Err(other),
        }
    }
    if !problems.is_empty() {
        return Err(RunError::Problems(problems));
    }
    let comment = vec![
        "The way back of a task, written by reverse: what was the target is copied from, what was the source is copied to."
            .to_owned(),
        "It is a task of its own: give it a task path of its own.".to_owned(),
    ];
    let kept = kept_elements(&way.file.text);
    Ok(Sketch { comment, kept, clusters: elsewhere.into_iter().collect(), tables })
}

struct Back<'a> {
    servers: &'a Servers,
    way: &'a WayBack<'a>,
    job: &'a TableJob,
    elsewhere: Option<&'a ClusterSketch>,
}

impl Back<'_> {
    async fn sketch(&self) -> Result<TableSketch, RunError> {
        let Self { way, job, .. } = self;
        let (origin, copy) = (way.file.task.source(job), way.file.task.target(job));
        let into = TableName::new(way.database.as_ref().unwrap_or(&job.source.database), &job.source.table);
        let cluster = self.cluster(origin);
        let Some(copied) = self.servers.definition(copy, &job.target).await? else {
            let cause = format!("there is no table {} in cluster {}: nothing to copy back", job.target, copy.name);
            return Err(Problem::task(cause).in_table(&job.name).into());
        };
        // The original source table may be lost. A reverse copy restores it.
        let original = self.servers.definition(origin, &job.source).await.unwrap_or_else(|error| {
            tracing::warn!("{error}; what {} was like is not known", job.source);
            None
        });
        let mut elements = vec![self.servers.engine(original.as_ref().unwrap_or(&copied), &cluster, &into).await?];
        elements.extend(self.sharding_key(&cluster, &into).await?);
        elements.push(SketchElement::new(
            "where_condition",
            job.where_condition.clone(),
            job.where_condition.iter().map(|_| "Of what was copied, and nothing else.".to_owned()).collect(),
        ));
        elements.push(self.partitions(original.as_ref(), &copied));
        elements.push(SketchElement::new(
            "if_target_not_empty",
            Some("fail".to_owned()),
            vec![
                "Partitions that hold rows are not touched, and the task is refused before anything is copied. replace puts the \
                 restored rows in their place; skip leaves such partitions alone; append adds to them."
                    .to_owned(),
            ],
        ));
        elements.push(SketchElement::new(
            "number_of_splits",
            (job.number_of_splits > 1).then(|| job.number_of_splits.to_string()),
            vec![],
        ));
        elements.push(SketchElement::new("batch_bytes", job.batch_bytes.map(|bytes| bytes.to_string()), vec![]));
        elements.push(SketchElement::new(
            "verify",
            (job.verify != Verify::default()).then(|| job.verify.as_str().to_owned()),
            vec![],
        ));
        let rate = job.max_bytes_per_second.map(|rate| rate.to_string());
        elements.push(SketchElement::new("max_bytes_per_second", rate, vec![]));
        Ok(TableSketch {
            name: job.name.clone(),
            source: ClusterTable { cluster: copy.name.clone(), table: job.target.clone() },
            target: ClusterTable { cluster: cluster.name.clone(), table: into },
            elements,
        })
    }

    /// The servers to copy to.
    fn cluster(&self, origin: &Cluster) -> ClusterSketch {
        let own = || ClusterSketch {
            name: origin.name.clone(),
            comment: Vec::new(),
            shards: origin.shards.clone(),
            password_env: None,
        };
        self.elsewhere.cloned().unwrap_or_else(own)
    }

    async fn sharding_key(&self, cluster: &ClusterSketch, into: &TableName) -> Result<Option<SketchElement>, RunError> {
        let Self { way, job, .. } = self;
        let shards = cluster.shards.iter().filter(|shard| shard.weight > 0).count();
        if shards < 2 {
            return Ok(None);
        }
        if let Some(key) = &way.sharding_key {
            let comments = vec!["As the command line of reverse says.".to_owned()];
            return Ok(Some(SketchElement::new("sharding_key", Some(key.clone()), comments)));
        }
        let origin = way.file.task.source(job).shards.iter();
        for over in [into, &job.source] {
            if let Some((key, table, node)) =
                self.servers.distributed_key(cluster.shards.iter().chain(origin.clone()), over).await
            {
                let comments = vec![format!("The sharding key of {table} on {node}, a Distributed table over {over}.")];
                return Ok(Some(SketchElement::new("sharding_key", Some(key), comments)));
            }
        }
        let cause = format!(
            "the way back goes to {shards} shards of cluster {}, and no Distributed table over {} was found that would tell by which \
             key its rows were placed: --sharding-key says it",
            cluster.name, job.source
        );
        Err(Problem::task(cause).in_table(&job.name).into())
    }

    /// Returns the `<enabled_partitions>` of the task where both tables have the same partition key. Otherwise its names are not
    /// partitions in the reverse copy, and it returns a comment.
    fn partitions(&self, original: Option<&TableDefinition>, copied: &TableDefinition) -> SketchElement {
        let Some(named) = &self.job.enabled_partitions else {
            return SketchElement::new("enabled_partitions", None, Vec::new());
        };
        let key =
            |table: &TableDefinition| table.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        if original.is_none_or(|original| key(original) == key(copied)) {
            return SketchElement::new("enabled_partitions", Some(named.join(" ")), Vec::new());
        }
        let comment = format!(
            "ATTENTION: the task copied the partitions {} of {}. Those names mean nothing on the way back, since {} has another \
             partition key: everything is copied back, unless <enabled_partitions> or <where_condition> says else.",
            named.join(" "),
            self.job.target,
            self.job.source
        );
        tracing::warn!("tables/{}: {comment}", self.job.name);
        SketchElement::new("enabled_partitions", None, vec![comment])
    }
}
