//! What is there before anything is made: the tables on both sides, and whether the task fits them. Creates nothing.

mod access;
mod beneath;
mod cloning;
mod constraints;
mod conversions;
mod differences;
mod hidden_rows;
mod identity;
mod keys;
mod names;
mod replicated_databases;
mod settings;
mod steady;
mod tables;
mod zones;

use super::errors::Fault;
use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::model::{Cluster, Node, PartitionValue, Way};
use crate::plan::{Matched, Reading, Sharding, match_columns};
use crate::sql::{Engine, KeyElement, PartitionFilter, Relation, Selection, TableDefinition};
use crate::task::{IfTargetNotEmpty, TableJob, Task, Verify};

use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::runtime::bounded::all_tables;

pub(crate) use conversions::lossy_conversions;
pub use conversions::refuse_lossy_conversions;

/// A table on a shard's replicas that answer.
pub(crate) type Holders = Vec<Vec<Arc<Node>>>;

/// What was found out about one table job.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Index of the job in the task.
    pub job: usize,
    /// The source table, as the first replica describes it.
    pub source: TableDefinition,
    /// The replicas of each source shard that answer and have the table.
    pub sources: Holders,
    /// The target table: as it is, or as it is to be.
    pub target: TableDefinition,
    /// Whether it is there on some node.
    pub target_exists: bool,
    /// The replicas of each target shard that answer.
    pub targets: Holders,
    /// Those of them that lack the table.
    pub to_create: Vec<Arc<Node>>,
    /// How the source is read.
    pub reading: Reading,
    /// The columns that are transferred.
    pub columns: Vec<String>,
    /// The target's partition key.
    pub key: Vec<KeyElement>,
    /// How rows find their shard.
    pub sharding: Option<Sharding>,
    /// The partitions that the task names, as the texts of their elements.
    pub enabled: Option<Vec<Vec<String>>>,
    /// Whether the number of rows may shrink in the target by design.
    pub merges_rows: bool,
    /// Whether rows of the source are hidden from the account, and the task skips them.
    pub skips_hidden_rows: bool,
    /// Whether one replica of each target shard is written to.
    pub replicated: Vec<bool>,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// What is against cloning parts, as far as it can be told before rows are looked at.
    pub against_clone: Option<String>,
    /// The source table as other replicas describe it, where they differ in what does not matter to its rows.
    pub variants: Vec<TableDefinition>,
}

impl Survey {
    /// The source as the target's columns see it.
    pub fn relation(&self) -> Relation {
        self.reading.relation(&self.source.name)
    }
}

/// Looks at every table job, and gives every fault at once.
pub async fn survey(pool: &NodePool, task: &Task) -> Result<Vec<Survey>, Vec<Fault>> {
    let (found, faults) = survey_all(pool, task).await;
    if !faults.is_empty() {
        return Err(faults);
    }
    let notes = notes_on_settings(pool, task);
    for line in notes.unknown {
        tracing::warn!("{line}");
    }
    for line in notes.renamed {
        tracing::info!("{line}");
    }
    Ok(found)
}

/// The same, with what was found out of the table jobs that nothing is wrong with.
pub async fn survey_all(pool: &NodePool, task: &Task) -> (Vec<Survey>, Vec<Fault>) {
    let identity = identity_of(task);
    let identity = identity.as_str();
    let surveys = all_tables(
        task.tables
            .iter()
            .enumerate()
            .map(|(at, job)| async move { Surveyor { pool, task, job, at, identity }.look().await }),
    );
    let (surveys, (same, remarks)) = tokio::join!(surveys, identity::identify(pool, task));
    let mut found: Vec<Survey> = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    for survey in surveys {
        match survey {
            Ok(survey) => found.push(survey),
            Err(more) => faults.extend(more.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>()),
        }
    }
    faults.extend(shared_targets(task));
    faults.extend(settings::wrong_settings(pool, task));
    faults.extend(same);
    if let Some(first) = found.first_mut() {
        first.remarks.extend(remarks);
    }
    (found, faults)
}

/// Of two jobs that fill one table, the second must not remove the rows of the first.
fn shared_targets(task: &Task) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, job) in task.tables.iter().enumerate() {
        let replaces = |job: &TableJob| job.if_target_not_empty == IfTargetNotEmpty::Replace;
        let same = |other: &&TableJob| other.target_cluster == job.target_cluster && other.target == job.target;
        if let Some(other) = task.tables[..at].iter().find(same)
            && (replaces(job) || replaces(other))
        {
            faults.push(Fault::Task(format!(
                "tables/{} and tables/{} fill the same table {}: with if_target_not_empty replace, one would remove the rows of \
                 the other",
                other.name, job.name, job.target
            )));
        }
    }
    faults
}

/// What a person should know of the task's settings, a line each.
#[derive(Debug, Clone, Default)]
pub struct SettingsNotes {
    /// A setting that no server knows is sent to none: a person may have mistyped it.
    pub unknown: Vec<String>,
    /// One that a server knows by another name is sent under that.
    pub renamed: Vec<String>,
}

/// Of the servers that were asked what they are.
pub fn notes_on_settings(pool: &NodePool, task: &Task) -> SettingsNotes {
    let names: BTreeSet<String> =
        task.settings.for_pull().into_keys().chain(task.settings.for_push().into_keys()).collect();
    let nodes = task.clusters.iter().flat_map(Cluster::nodes);
    let facts: Vec<_> = nodes.filter_map(|(_, node)| pool.known_facts(node)).collect();
    let mut notes = SettingsNotes::default();
    for name in names {
        let called: BTreeSet<&str> = facts.iter().filter_map(|facts| facts.setting_name(&name)).collect();
        if called.is_empty() {
            notes.unknown.push(format!("settings: no server of the task knows {name}: it is not sent"));
        }
        if let Some(other) = called.into_iter().find(|other| *other != name) {
            let mut versions: Vec<&str> = facts
                .iter()
                .filter(|facts| facts.setting_name(&name) == Some(other))
                .map(|facts| facts.version.as_str())
                .collect();
            versions.sort_unstable();
            versions.dedup();
            notes.renamed.push(format!("settings: {name} is called {other} on ClickHouse {}", versions.join(", ")));
        }
    }
    notes
}

/// Looks at one table job.
pub(crate) struct Surveyor<'a> {
    pub(crate) pool: &'a NodePool,
    task: &'a Task,
    job: &'a TableJob,
    at: usize,
    /// See [`identity_of`].
    identity: &'a str,
}

impl Surveyor<'_> {
    async fn look(&self) -> Result<Survey, Vec<Fault>> {
        let mut remarks = Vec::new();
        let (source_side, target_side) =
            tokio::join!(self.holders(self.task.source(self.job)), self.holders(self.task.target(self.job)));
        let (sources, targets) = both(source_side, target_side)?;
        let (found, engine) = both(self.source(sources, &mut remarks).await, self.engine())?;
        let (source, sources) = (found.definition.clone(), found.holders.clone());
        self.check_readable(&source, &sources, &mut remarks).await?;
        self.check_replicated_databases(&targets).await?;
        let existing = self.existing_target(&targets).await?;
        let target_exists = existing.definition.is_some();
        let target = self.target(&existing, &found, engine)?;
        self.check_names([&source, &target], &sources, &targets).await?;
        let zones = self.zones(&sources, &targets).await?;
        self.check_target(&target, existing.node.as_deref())?;
        let left = self.left_to_target(&sources, &source, &target).await?;
        let matched = self.matched((&source, &target), &left, existing.node.as_deref());
        // What is told beside columns that do not fit is not told one run later.
        let paths = self.check_paths(&target, &targets, &existing.missing, (&source, &sources)).await;
        let (matched, _) = both(matched, both(paths, self.may_write(&targets).await))?;
        let matched = self.check_zones(&zones, &source, &target, matched, &mut remarks)?;
        let (columns, reading) = (matched.columns, Reading { condition: self.condition()?, ..matched.reading });
        let names = self.names(&source, &target, &sources, &targets).await?;
        let relation = reading.relation(&source.name);
        // One node of the source answers for the expressions: all shards were seen to have the same columns.
        let Some(node) = sources.iter().flatten().next() else { return Err(vec![self.world("no source node")]) };
        self.check_where(node, &source, &sources, &mut remarks).await?;
        if reading.columns.is_some() {
            self.check_conversion(node, &reading, (&source, &target), existing.node.as_deref()).await?;
        }
        if self.job.verify == Verify::Checksum {
            self.check_hashes(node, &relation, &reading, &columns, &target, &mut remarks).await?;
        }
        let (key, sharding) = both(
            self.keys(node, &relation, &target, &names, &left).await,
            self.sharding(node, &relation, (&source, &columns), &names, &mut remarks).await,
        )?;
        self.check_floats(&key, &target, &existing.missing).await?;
        self.check_versions(&sources, &relation, &key, sharding.as_ref()).await?;
        let enabled = self.enabled(&key)?;
        self.check_constraints((&source, &target), wanted_rows(&relation, &key, enabled.as_ref()), &sources).await?;
        let skips_hidden_rows = self.hidden_rows((&source, &sources), (&target, &targets, &existing.missing)).await?;
        remarks.extend(skips_hidden_rows.iter().cloned());
        let replicated = self.replicated(&target, &mut remarks);
        let filtered = self.filters_at_the_source(&relation, &key, sharding.as_ref());
        let column_routes = ColumnRoutes::of_table(&target, &columns).leaving(&left);
        self.can_transfer(&sources, &targets, (filtered, &column_routes), &mut remarks).await?;
        let merges_rows = self.job.merges_rows.unwrap_or_else(|| target.engine.merges_rows());
        self.judged_for_clone(Survey {
            job: self.at,
            source,
            sources,
            target,
            target_exists,
            targets,
            to_create: existing.missing,
            reading,
            columns,
            key,
            sharding,
            enabled,
            merges_rows,
            skips_hidden_rows: !skips_hidden_rows.is_empty(),
            replicated,
            remarks,
            against_clone: None,
            variants: found.variants.into_iter().map(|(table, _)| table).collect(),
        })
        .await
    }

    /// Returns what decides about rows: where they go, and what they are published with.
    fn deciding(&self, target: &TableDefinition) -> Vec<String> {
        target.engine.partition_key().into_iter().chain(self.job.sharding_key.clone()).collect()
    }

    /// Matches the columns of both sides; those that are `left` are computed by the target.
    fn matched(
        &self,
        (source, target): (&TableDefinition, &TableDefinition),
        left: &[String],
        node: Option<&Node>,
    ) -> Result<Matched, Vec<Fault>> {
        match_columns(source, target, self.job.copy_alias_and_materialized, left)
            .map_err(|problems| self.of_columns(node, problems))
    }

    /// Faults of columns that do not fit those of the table on a node.
    fn of_columns<P: std::fmt::Display>(&self, node: Option<&Node>, problems: Vec<P>) -> Vec<Fault> {
        let at = node.map(|node| format!("{node}: ")).unwrap_or_default();
        problems.into_iter().map(|problem| self.world(&format!("{at}{problem}"))).collect()
    }

    /// Adds what is against a clone, which is a fault where the task wants one.
    async fn judged_for_clone(&self, mut survey: Survey) -> Result<Survey, Vec<Fault>> {
        survey.against_clone = self.against_clone(&survey).await;
        match &survey.against_clone {
            Some(why) if self.job.transfer == Some(Way::Clone) => Err(vec![self.world(&no_clone(why))]),
            _ => Ok(survey),
        }
    }

    /// Returns the target table: as it is, or as it is to be made.
    fn target(
        &self,
        existing: &tables::Existing,
        found: &tables::SourceTable,
        engine: Option<Engine>,
    ) -> Result<TableDefinition, Vec<Fault>> {
        if let Some(definition) = &existing.definition {
            return Ok(definition.clone());
        }
        let uuid = new_identity(self.identity, self.job);
        let engine = match engine {
            Some(engine) => engine.for_new_table(&self.job.target, &uuid, false),
            None => {
                self.check_variants(found)?;
                found.definition.engine.for_new_table(&self.job.target, &uuid, true)
            }
        };
        self.future_target(&found.definition, engine)
    }

    /// Whether the source could filter the rows of a pull, as far as it can be told before they are cut into pieces.
    fn filters_at_the_source(&self, relation: &Relation, key: &[KeyElement], sharding: Option<&Sharding>) -> bool {
        let expressions = key.iter().map(|element| &element.expression).chain(sharding.map(|sharding| &sharding.key));
        expressions.into_iter().all(|expression| relation.gives_as_it_is(expression))
    }

    pub(crate) fn task(&self, element: &str, problem: &str) -> Fault {
        Fault::Task(format!("tables/{}/{element}: {problem}", self.job.name))
    }

    pub(crate) fn world(&self, problem: &str) -> Fault {
        Fault::World(format!("table {}: {problem}", self.job.name))
    }
}

/// The rows of the partitions that the task names, or all.
fn wanted_rows(relation: &Relation, key: &[KeyElement], enabled: Option<&Vec<Vec<String>>>) -> Selection {
    let values = |texts: &Vec<Vec<String>>| texts.iter().cloned().map(PartitionValue).collect();
    let partitions = enabled.map(|texts| PartitionFilter { elements: key.to_vec(), values: values(texts) });
    Selection { partitions, ..Selection::all(relation.clone()) }
}

/// That a table whose parts are to be cloned cannot be.
pub(crate) fn no_clone(why: &str) -> String {
    format!("clone does not work: {why}. Without <transfer> the worker looks for another way")
}

/// A hash of all that the plan of a task depends on.
fn identity_of(task: &Task) -> String {
    let mut hash = Sha256::new();
    for (path, value) in task.plan_inputs() {
        hash.update(format!("\n{path}={value}").as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The identity of a table that the task makes, for a path with `{uuid}`: the same each time the task is read, and another
/// one for each table and each cluster. `task` is [`identity_of`] it.
fn new_identity(task: &str, job: &TableJob) -> String {
    let hash = Sha256::new_with_prefix(task.as_bytes()).chain_update(job.name.as_bytes());
    let digits: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]).join("-")
}

/// Both results, or the faults of both.
fn both<A, B>(a: Result<A, Vec<Fault>>, b: Result<B, Vec<Fault>>) -> Result<(A, B), Vec<Fault>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.into_iter().chain(b).collect()),
        (Err(faults), _) | (_, Err(faults)) => Err(faults),
    }
}
