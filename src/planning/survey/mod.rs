//! The survey of both sides before planning: inspects the tables, and checks that the task fits them. Creates nothing.

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

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::errors::Problem;
use crate::client::Error;
use crate::model::{Cluster, Node, PartitionValue, Way};
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::pool::NodePool;
use crate::plan::{Matched, Reading, Remark, Sharding, match_columns};
use crate::runtime::bounded::all_tables;
use crate::sql::{Engine, KeyElement, PartitionFilter, Relation, Selection, TableDefinition};
use crate::task::{IfTargetNotEmpty, TableJob, Task, Verify};

pub(crate) use conversions::{lossy_conversions, refuse_lossy_conversions};

/// The replicas that answer and have a table, by shard.
pub(crate) type Holders = Vec<Vec<Arc<Node>>>;

/// The survey of one table job.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    /// Index of the job in the task.
    pub(crate) job: usize,
    /// The source table, as defined on the first replica.
    pub(crate) source: TableDefinition,
    /// The replicas of each source shard that answer and have the table.
    pub(crate) sources: Holders,
    /// The existing target table, or the one to create.
    pub(crate) target: TableDefinition,
    /// Whether the target table exists on some node.
    pub(crate) target_exists: bool,
    /// The replicas of each target shard that answer.
    pub(crate) targets: Holders,
    /// The target replicas that lack the table.
    pub(crate) to_create: Vec<Arc<Node>>,
    /// The columns and the condition with which the source is read.
    pub(crate) reading: Reading,
    /// The columns that are transferred.
    pub(crate) columns: Vec<String>,
    /// The target's partition key.
    pub(crate) key: Vec<KeyElement>,
    /// The sharding key of the target with its slots.
    pub(crate) sharding: Option<Sharding>,
    /// The partitions that the task names, as the texts of their elements.
    pub(crate) enabled: Option<Vec<Vec<String>>>,
    /// Whether the number of rows may shrink in the target by design.
    pub(crate) merges_rows: bool,
    /// Whether rows of the source are hidden from the account, and the task skips them.
    pub(crate) skips_hidden_rows: bool,
    /// Whether one replica of each target shard is written to.
    pub(crate) replicated: Vec<bool>,
    /// The remarks for the report.
    pub(crate) remarks: Vec<Remark>,
    /// Why parts cannot be cloned, if the tables or servers show a reason.
    pub(crate) against_clone: Option<String>,
    /// The definitions of the source table on other replicas that differ in ways that do not affect its rows.
    pub(crate) variants: Vec<TableDefinition>,
}

impl Survey {
    /// Returns the source in the form that the target's columns need.
    pub(crate) fn relation(&self) -> Relation {
        self.reading.relation(&self.source.name)
    }
}

/// Surveys every table job. Returns all faults together.
pub(crate) async fn survey(pool: &NodePool, task: &Task) -> Result<Vec<Survey>, Vec<Problem>> {
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

/// Surveys every table job. Returns the surveys of the jobs without faults, and all faults.
pub(crate) async fn survey_all(pool: &NodePool, task: &Task) -> (Vec<Survey>, Vec<Problem>) {
    let identity = identity_of(task);
    let identity = identity.as_str();
    let surveys = all_tables(
        task.tables
            .iter()
            .enumerate()
            .map(|(at, job)| async move { Surveyor { pool, task, job, at, identity }.survey().await }),
    );
    let (surveys, (same, remarks)) = tokio::join!(surveys, identity::identify(pool, task));
    let mut found: Vec<Survey> = Vec::new();
    let mut faults: Vec<Problem> = Vec::new();
    for survey in surveys {
        match survey {
            Ok(survey) => found.push(survey),
            Err(found) => Problem::merge(&mut faults, found),
        }
    }
    faults.extend(shared_targets(task));
    faults.extend(settings::wrong_settings(pool, task));
    faults.extend(same);
    if let Some(first) = found.first_mut() {
        first.remarks.extend(remarks.into_iter().map(Remark::new));
    }
    (found, faults)
}

/// Returns a fault for each job that would remove the rows of an earlier job for the same table.
fn shared_targets(task: &Task) -> Vec<Problem> {
    let mut faults = Vec::new();
    for (at, job) in task.tables.iter().enumerate() {
        let replaces = |job: &TableJob| job.if_target_not_empty == IfTargetNotEmpty::Replace;
        let same = |other: &&TableJob| other.target_cluster == job.target_cluster && other.target == job.target;
        if let Some(other) = task.tables[..at].iter().find(same)
            && (replaces(job) || replaces(other))
        {
            let problem = Problem::task(format!(
                "tables/{} and tables/{} fill the same table {}: with if_target_not_empty replace, one would remove the rows of \
                 the other",
                other.name, job.name, job.target
            ));
            faults.push(problem.affecting([other.name.as_str(), &job.name]));
        }
    }
    faults
}

/// The remarks on the task's settings, as lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsNotes {
    /// Settings that no server knows. They are not sent; the name may be mistyped.
    pub(crate) unknown: Vec<String>,
    /// Settings that a server knows by another name. They are sent under that name.
    pub(crate) renamed: Vec<String>,
}

/// Returns the remarks on the task's settings, for the servers whose facts are known.
pub(crate) fn notes_on_settings(pool: &NodePool, task: &Task) -> SettingsNotes {
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

/// The survey of one table job in progress.
pub(crate) struct Surveyor<'a> {
    pub(crate) pool: &'a NodePool,
    task: &'a Task,
    job: &'a TableJob,
    at: usize,
    /// See [`identity_of`].
    identity: &'a str,
}

impl Surveyor<'_> {
    /// Surveys the table job.
    async fn survey(&self) -> Result<Survey, Vec<Problem>> {
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
        let matched = self.matched(&source, &target, &left, existing.node.as_deref());
        // Report these faults together with faults of columns, so that the user need not run again to see them.
        let paths = self.check_paths(&target, &targets, &existing.missing, &source, &sources).await;
        let (matched, _) = both(matched, both(paths, self.may_write(&targets).await))?;
        let matched = self.check_zones(&zones, &source, &target, matched, &mut remarks)?;
        let (columns, reading) = (matched.columns, Reading { condition: self.condition()?, ..matched.reading });
        let names = self.names(&source, &target, &sources, &targets).await?;
        let relation = reading.relation(&source.name);
        // One source node checks the expressions, since all shards have the same columns.
        let Some(node) = sources.iter().flatten().next() else { return Err(vec![self.servers("no source node")]) };
        self.check_where(node, &source, &sources, &mut remarks).await?;
        if reading.columns.is_some() {
            self.check_conversion(node, &reading, &source, &target, existing.node.as_deref()).await?;
        }
        if self.job.verify == Verify::Checksum {
            self.check_hashes(node, &relation, &reading, &columns, &target, &mut remarks).await?;
        }
        let (key, sharding) = both(
            self.keys(node, &relation, &target, &names, &left).await,
            self.sharding(node, &relation, &source, &columns, &names, &mut remarks).await,
        )?;
        self.check_floats(&key, &target, &existing.missing).await?;
        self.check_versions(&sources, &relation, &key, sharding.as_ref()).await?;
        let enabled = self.enabled(&key)?;
        self.check_constraints(&source, &target, wanted_rows(&relation, &key, enabled.as_ref()), &sources).await?;
        let hidden = self.hidden_rows(&source, &sources, &target, &targets, &existing.missing).await?;
        remarks.extend(hidden.skipped.iter().chain(&hidden.unknown).map(Remark::new));
        let replicated = self.replicated(&target, &mut remarks);
        let filtered = self.filters_at_the_source(&relation, &key, sharding.as_ref());
        let column_routes = ColumnRoutes::of_table(&target, &columns).leaving(&left);
        self.can_transfer(&sources, &targets, filtered, &column_routes, &mut remarks).await?;
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
            skips_hidden_rows: !hidden.skipped.is_empty(),
            replicated,
            remarks,
            against_clone: None,
            variants: found.variants.into_iter().map(|variant| variant.definition).collect(),
        })
        .await
    }

    /// Returns the expressions that decide where rows go and with which partition they are published.
    fn deciding(&self, target: &TableDefinition) -> Vec<String> {
        target.engine.partition_key().into_iter().chain(self.job.sharding_key.clone()).collect()
    }

    /// Matches the columns of both sides. The target computes the columns in `left`.
    fn matched(
        &self,
        source: &TableDefinition,
        target: &TableDefinition,
        left: &[String],
        node: Option<&Node>,
    ) -> Result<Matched, Vec<Problem>> {
        match_columns(source, target, self.job.copy_alias_and_materialized, left)
            .map_err(|problems| self.of_columns(node, problems))
    }

    /// Returns the faults of columns that do not fit the table on a node.
    fn of_columns<P: std::fmt::Display>(&self, node: Option<&Node>, problems: Vec<P>) -> Vec<Problem> {
        let of_column = |problem: P| {
            let problem = self.servers(&problem.to_string());
            node.into_iter().fold(problem, Problem::on_node)
        };
        problems.into_iter().map(of_column).collect()
    }

    /// Sets the reason against cloning. It is a fault where the task demands `clone`.
    async fn judged_for_clone(&self, mut survey: Survey) -> Result<Survey, Vec<Problem>> {
        survey.against_clone = self.against_clone(&survey).await;
        match &survey.against_clone {
            Some(why) if self.job.transfer == Some(Way::Clone) => Err(vec![self.servers(&no_clone(why))]),
            _ => Ok(survey),
        }
    }

    /// Returns the existing target table, or the one to create.
    fn target(
        &self,
        existing: &tables::Existing,
        found: &tables::SourceTable,
        engine: Option<Engine>,
    ) -> Result<TableDefinition, Vec<Problem>> {
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

    /// Returns whether the source can filter the rows of a pull, as far as this is known before rows are divided into pieces.
    fn filters_at_the_source(&self, relation: &Relation, key: &[KeyElement], sharding: Option<&Sharding>) -> bool {
        let expressions = key.iter().map(|element| &element.expression).chain(sharding.map(|sharding| &sharding.key));
        expressions.into_iter().all(|expression| relation.gives_as_it_is(expression))
    }

    pub(crate) fn task(&self, element: &str, problem: &str) -> Problem {
        Problem::task(problem).in_table(&self.job.name).at_element(element)
    }

    pub(crate) fn servers(&self, cause: &str) -> Problem {
        Problem::servers(cause).in_table(&self.job.name)
    }

    pub(crate) fn server_error(&self, error: &Error) -> Problem {
        Problem::of_server(error).in_table(&self.job.name)
    }
}

/// Returns the selection of the partitions that the task names, or of all rows.
fn wanted_rows(relation: &Relation, key: &[KeyElement], enabled: Option<&Vec<Vec<String>>>) -> Selection {
    let values = |texts: &Vec<Vec<String>>| texts.iter().cloned().map(PartitionValue).collect();
    let partitions = enabled.map(|texts| PartitionFilter { elements: key.to_vec(), values: values(texts) });
    Selection { partitions, ..Selection::all(relation.clone()) }
}

/// Returns the message that a table cannot be cloned.
pub(crate) fn no_clone(why: &str) -> String {
    format!("clone does not work: {why}. Without <transfer> the worker looks for another way")
}

/// Returns a hash of all elements of a task that the plan depends on.
fn identity_of(task: &Task) -> String {
    let mut hash = Sha256::new();
    for (path, value) in task.plan_inputs() {
        hash.update(format!("\n{path}={value}").as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the identity of a table that the task creates, for a path with `{uuid}`. It is the same each time the task is read, and
/// different for each table job and task. `task` is the result of [`identity_of`].
fn new_identity(task: &str, job: &TableJob) -> String {
    let hash = Sha256::new_with_prefix(task.as_bytes()).chain_update(job.name.as_bytes());
    let digits: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]).join("-")
}

/// Returns both results, or the faults of both.
fn both<A, B>(a: Result<A, Vec<Problem>>, b: Result<B, Vec<Problem>>) -> Result<(A, B), Vec<Problem>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.into_iter().chain(b).collect()),
        (Err(faults), _) | (_, Err(faults)) => Err(faults),
    }
}
