//! What is there before anything is made: the tables on both sides, and whether the task fits them. Creates nothing.

use std::sync::Arc;

use futures::future::join_all;

use crate::model::{Cluster, Node};
use crate::plan::{Reading, Sharding, match_columns, parse_partition};
use crate::sql::{
    self, Engine, Expression, KeyElement, Relation, Selection, SlotWidth, TableDefinition, key_elements, quote,
};
use crate::task::{IfTargetNotEmpty, TableJob, Task};

use super::fleet::Fleet;

/// Why a task cannot start. The difference is the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The task says something that cannot be.
    Task(String),
    /// The servers are not as the task needs them.
    World(String),
}

/// A table on a shard's replicas that answer.
pub(super) type Holders = Vec<Vec<Arc<Node>>>;

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
    /// Whether one replica of each target shard is written to.
    pub replicated: Vec<bool>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

impl Survey {
    /// The source as the target's columns see it.
    pub fn relation(&self) -> Relation {
        self.reading.relation(&self.source.name)
    }

    /// Whether the number of rows may shrink in the target by design.
    pub fn merges_rows(&self) -> bool {
        self.target.engine.merges_rows()
    }
}

/// So many rows are converted to see whether it can be done.
const SAMPLE_ROWS: u64 = 1000;

/// Looks at every table job, and gives every fault at once.
pub async fn survey(fleet: &Fleet, task: &Task) -> Result<Vec<Survey>, Vec<Fault>> {
    let surveys = join_all(
        task.tables.iter().enumerate().map(|(at, job)| async move { Surveyor { fleet, task, job, at }.look().await }),
    )
    .await;
    let mut found = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    for survey in surveys {
        match survey {
            Ok(survey) => found.push(survey),
            Err(more) => faults.extend(more.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>()),
        }
    }
    faults.extend(shared_targets(task));
    if faults.is_empty() {
        warn_of_unknown_settings(fleet, task).await;
        Ok(found)
    } else {
        Err(faults)
    }
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

/// A setting that no server knows is sent to none: a person may have mistyped it.
async fn warn_of_unknown_settings(fleet: &Fleet, task: &Task) {
    let mut unknown: Vec<String> =
        task.settings.for_pull().into_keys().chain(task.settings.for_push().into_keys()).collect();
    for (_, node) in task.clusters.iter().flat_map(Cluster::nodes) {
        if let Some(facts) = fleet.known_facts(node) {
            unknown.retain(|name| !facts.settings.contains_key(name));
        }
    }
    unknown.dedup();
    for name in unknown {
        tracing::warn!("settings: no server of the task knows {name}: it is not sent");
    }
}

/// Looks at one table job.
pub(super) struct Surveyor<'a> {
    pub(super) fleet: &'a Fleet,
    task: &'a Task,
    job: &'a TableJob,
    at: usize,
}

impl Surveyor<'_> {
    async fn look(&self) -> Result<Survey, Vec<Fault>> {
        let mut remarks = Vec::new();
        let (source_side, target_side) =
            tokio::join!(self.holders(self.task.source(self.job)), self.holders(self.task.target(self.job)));
        let (sources, targets) = both(source_side, target_side)?;
        let ((source, sources), engine) = both(self.source(sources, &mut remarks).await, self.engine())?;
        let engine = match engine {
            Some(engine) => engine,
            None => source.engine.clone(),
        };
        let existing = self.existing_target(&targets).await?;
        let target_exists = existing.definition.is_some();
        let target = match existing.definition {
            Some(definition) => definition,
            None => self.future_target(&source, engine)?,
        };
        self.check_target(&target, existing.node.as_deref())?;
        let matched = match_columns(&source, &target, self.job.copy_alias_and_materialized).map_err(|problems| {
            let at = existing.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
            problems.into_iter().map(|problem| self.world(&format!("{at}{problem}"))).collect::<Vec<_>>()
        })?;
        let (columns, reading) = (matched.columns, Reading { condition: self.condition()?, ..matched.reading });
        let relation = reading.relation(&source.name);
        // One node of the source answers for the expressions: all shards were seen to have the same columns.
        let Some(node) = sources.iter().flatten().next() else { return Err(vec![self.world("no source node")]) };
        self.check_where(node, &source).await?;
        if reading.columns.is_some() {
            let at = existing.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
            self.check_conversion(node, &relation, &reading, &source, &target, &at).await?;
        }
        let (key, sharding) = both(
            self.keys(node, &relation, &target).await,
            self.sharding(node, &relation, &source, &columns, &mut remarks).await,
        )?;
        let enabled = self.enabled(&key)?;
        let replicated = self.replicated(&target, &mut remarks);
        if !target_exists {
            self.check_paths(&target, &existing.missing).await?;
        }
        let push = self.can_push(&sources, &targets).await;
        let space = self.may_write(&targets).await;
        both(push, space)?;
        Ok(Survey {
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
            replicated,
            remarks,
        })
    }

    /// The nodes of each shard that answer; a fault where none does.
    async fn holders(&self, cluster: &Cluster) -> Result<Holders, Vec<Fault>> {
        let mut live = Vec::new();
        let mut faults = Vec::new();
        let mustered = join_all(cluster.shards.iter().map(|shard| self.fleet.muster(shard))).await;
        for (shard, (nodes, errors)) in mustered.into_iter().enumerate() {
            if nodes.is_empty() {
                let why = errors.first().map(ToString::to_string).unwrap_or_default();
                faults.push(Fault::World(format!(
                    "cluster {}: no replica of shard {} answers: {why}",
                    cluster.name,
                    shard + 1
                )));
            }
            for error in errors {
                tracing::warn!("{error}; the copy goes on without this replica");
            }
            live.push(nodes.into_iter().map(|(_, node)| node).collect());
        }
        if faults.is_empty() { Ok(live) } else { Err(faults) }
    }

    async fn source(&self, live: Holders, remarks: &mut Vec<String>) -> Result<(TableDefinition, Holders), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut first: Option<(TableDefinition, Arc<Node>)> = None;
        let mut holders = Vec::new();
        for (shard, nodes) in live.iter().enumerate() {
            let found = join_all(nodes.iter().map(|node| self.fleet.warehouse.table(node, &self.job.source))).await;
            let mut having = Vec::new();
            for (node, answer) in nodes.iter().zip(found) {
                match answer {
                    Ok(Some(definition)) => {
                        let (like, of) = first.get_or_insert_with(|| (definition.clone(), node.clone()));
                        if let Some(difference) = difference(like, &definition) {
                            faults.push(
                                self.world(&format!(
                                    "{} differs between {of} and {node}: {difference}",
                                    self.job.source
                                )),
                            );
                        }
                        having.push(node.clone());
                    }
                    Ok(None) => {}
                    Err(error) if error.is_unreachable() => remarks.push(error.to_string()),
                    Err(error) => faults.push(self.world(&error.to_string())),
                }
            }
            if having.is_empty() && faults.is_empty() {
                let asked: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                faults.push(self.world(&format!(
                    "there is no source table {} on shard {} ({})",
                    self.job.source,
                    shard + 1,
                    asked.join(", ")
                )));
            }
            holders.push(having);
        }
        match first {
            Some((definition, _)) if faults.is_empty() => {
                if definition.engine.name == "Distributed" {
                    return Err(vec![self.task(
                        "table_pull",
                        &format!("{} is a Distributed table: name the table that it stands for", self.job.source),
                    )]);
                }
                Ok((definition, holders))
            }
            _ => Err(faults),
        }
    }

    fn engine(&self) -> Result<Option<Engine>, Vec<Fault>> {
        let Some(text) = &self.job.engine else { return Ok(None) };
        match Engine::parse(text) {
            Ok(engine) => Ok(Some(engine)),
            Err(error) => Err(vec![self.task("engine", &error.to_string())]),
        }
    }

    async fn existing_target(&self, targets: &Holders) -> Result<Existing, Vec<Fault>> {
        let nodes: Vec<&Arc<Node>> = targets.iter().flatten().collect();
        let answers = join_all(nodes.iter().map(|node| self.fleet.warehouse.table(node, &self.job.target))).await;
        let mut existing = Existing { definition: None, node: None, missing: Vec::new() };
        let mut first: Option<&Arc<Node>> = None;
        let mut faults = Vec::new();
        for (node, answer) in nodes.into_iter().zip(answers) {
            match answer {
                Ok(None) => existing.missing.push(node.clone()),
                Ok(Some(definition)) => {
                    match (&existing.definition, first) {
                        (Some(like), Some(of)) => {
                            if let Some(difference) =
                                difference(like, &definition).or_else(|| keys_differ(like, &definition))
                            {
                                faults.push(self.world(&format!(
                                    "{} differs between {of} and {node}: {difference}",
                                    self.job.target
                                )));
                            }
                        }
                        _ => {
                            existing.definition = Some(definition);
                            existing.node = Some(node.clone());
                            first = Some(node);
                        }
                    }
                }
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        if faults.is_empty() { Ok(existing) } else { Err(faults) }
    }

    /// The table that is to be made: the source's declarations with the task's engine.
    fn future_target(&self, source: &TableDefinition, engine: Engine) -> Result<TableDefinition, Vec<Fault>> {
        if source.declarations.is_empty() {
            return Err(vec![self.world(&format!(
                "{} has no declared columns: make the target table {} first",
                source.name, self.job.target
            ))]);
        }
        if self.job.engine.is_none() && !engine.is_merge_tree() {
            return Err(vec![self.task(
                "engine",
                &format!("the source's engine is {}: name one of the MergeTree family for the target", engine.name),
            )]);
        }
        Ok(TableDefinition { name: self.job.target.clone(), engine, ..source.clone() })
    }

    fn check_target(&self, target: &TableDefinition, node: Option<&Node>) -> Result<(), Vec<Fault>> {
        let (name, engine) = (&target.name, &target.engine.name);
        let only = "partitions can be put into tables of the MergeTree family only";
        match node {
            _ if target.engine.is_merge_tree() => {}
            Some(node) => {
                return Err(vec![self.world(&format!("{node}: {name} is a table of engine {engine}: {only}"))]);
            }
            None => {
                return Err(vec![self.task("engine", &format!("{name} would be a table of engine {engine}: {only}"))]);
            }
        }
        let has_order = target.engine.clause(sql::Clause::OrderBy).is_some()
            || target.engine.clause(sql::Clause::PrimaryKey).is_some();
        if node.is_none() && !has_order && !target.engine.is_old_syntax() {
            return Err(vec![self.task("engine", &format!("{} has no ORDER BY", target.engine.name))]);
        }
        Ok(())
    }

    /// Types that differ are converted by the server; whether it can is seen on the first rows.
    async fn check_conversion(
        &self,
        node: &Node,
        relation: &Relation,
        reading: &Reading,
        source: &TableDefinition,
        target: &TableDefinition,
        at: &str,
    ) -> Result<(), Vec<Fault>> {
        let rows = Selection::all(relation.clone());
        let Err(first) = self.fleet.warehouse.evaluate(node, &rows, &reading.values, SAMPLE_ROWS).await else {
            return Ok(());
        };
        let mut faults = Vec::new();
        for column in &target.columns {
            let value = [quote::ident(&column.name)];
            if let Err(error) = self.fleet.warehouse.evaluate(node, &rows, &value, SAMPLE_ROWS).await {
                let there = source.column(&column.name).map_or("value", |there| there.type_name.as_str());
                faults.push(self.world(&format!(
                    "column {} of the target {}{at} is {}, and the source's {there} cannot be converted: {error}",
                    column.name, target.name, column.type_name
                )));
            }
        }
        if faults.is_empty() { Err(vec![self.world(&first.to_string())]) } else { Err(faults) }
    }

    fn condition(&self) -> Result<Option<String>, Vec<Fault>> {
        let Some(text) = &self.job.where_condition else { return Ok(None) };
        match Expression::parse(text) {
            Ok(expression) => Ok(Some(expression.as_str().to_owned())),
            Err(error) => Err(vec![self.task("where_condition", &error.to_string())]),
        }
    }

    async fn check_where(&self, node: &Node, source: &TableDefinition) -> Result<(), Vec<Fault>> {
        let Some(condition) = &self.job.where_condition else { return Ok(()) };
        let expression =
            Expression::parse(condition).map_err(|error| vec![self.task("where_condition", &error.to_string())])?;
        let rows =
            Selection::all(Relation { condition: Some(expression.clone()), ..Relation::plain(source.name.clone()) });
        self.types(node, Some(&rows), &["1".to_owned()], "where_condition").await?;
        let types = self
            .types(
                node,
                Some(&Selection::all(Relation::plain(source.name.clone()))),
                &[format!("({expression})")],
                "where_condition",
            )
            .await?;
        match types.first().map(String::as_str) {
            Some("UInt8" | "Bool" | "Nullable(UInt8)" | "Nullable(Bool)" | "Nullable(Nothing)") => Ok(()),
            other => Err(vec![
                self.task("where_condition", &format!("it is not a condition but of type {}", other.unwrap_or("?"))),
            ]),
        }
    }

    /// The target's partition key with its types; also checks every other expression of its engine.
    async fn keys(
        &self,
        node: &Node,
        relation: &Relation,
        target: &TableDefinition,
    ) -> Result<Vec<KeyElement>, Vec<Fault>> {
        let rows = Selection::all(relation.clone());
        let mut faults = Vec::new();
        // `tuple()` is no expression that 18.16 would evaluate.
        for (place, text) in target.engine.expressions().into_iter().filter(|(_, text)| !key_elements(text).is_empty())
        {
            let checked = match Expression::parse(&text) {
                Ok(expression) => self
                    .types(node, Some(&rows), &[format!("({expression})")], &format!("engine: {place}"))
                    .await
                    .map(drop),
                Err(error) => Err(vec![self.task("engine", &format!("{place}: {error}"))]),
            };
            faults.extend(checked.err().into_iter().flatten());
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let elements = target.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        if elements.is_empty() {
            return Ok(Vec::new());
        }
        let types = self.types(node, Some(&rows), &elements, "engine: PARTITION BY").await?;
        let key: Vec<KeyElement> = elements
            .into_iter()
            .zip(types)
            .map(|(expression, type_name)| KeyElement { expression, type_name })
            .collect();
        if let Some(nullable) = key.iter().find(|element| element.type_name.contains("Nullable(")) {
            return Err(vec![self.task(
                "engine",
                &format!("PARTITION BY {} may be NULL, which is not supported", nullable.expression),
            )]);
        }
        Ok(key)
    }

    async fn sharding(
        &self,
        node: &Node,
        relation: &Relation,
        source: &TableDefinition,
        columns: &[String],
        remarks: &mut Vec<String>,
    ) -> Result<Option<Sharding>, Vec<Fault>> {
        let target = self.task.target(self.job);
        let Some(text) = &self.job.sharding_key else { return Ok(None) };
        let key = Expression::parse(text).map_err(|error| vec![self.task("sharding_key", &error.to_string())])?;
        let rows = Selection::all(relation.clone());
        let types = self.types(node, Some(&rows), &[format!("({key})")], "sharding_key").await?;
        let type_name = types.into_iter().next().unwrap_or_default();
        let total = target.total_weight();
        let slots: Vec<_> = (0..target.shards.len()).map(|shard| target.slots(shard)).collect();
        let constant = self.fleet.warehouse.types(node, None, &[format!("({key})")]).await.is_ok();
        let Some(width) = SlotWidth::of(&type_name, constant) else {
            return Err(vec![
                self.task("sharding_key", &format!("it is of type {type_name}, but ClickHouse takes integers only")),
            ]);
        };
        if slots.iter().filter(|slots| !slots.is_empty()).count() < 2 {
            // Only one shard gets rows; no row needs to be looked at for that.
            return Ok((slots.len() > 1).then(|| Sharding { key: "0".into(), width: SlotWidth(8), total, slots }));
        }
        if key.is_function_of_the_row() {
            return Ok(Some(Sharding { key: key.as_str().to_owned(), width, total, slots }));
        }
        // Each target shard filters the source by itself: a key that is different each time would lose and double rows.
        // A hash of the whole row spreads as evenly, and every reader sees the same one.
        let carried = source.columns.iter().filter(|column| columns.contains(&column.name));
        let hash = sql::row_hash(carried);
        remarks.push(format!(
            "sharding_key {key} is not a function of the row: rows are spread evenly by a hash of all their columns instead"
        ));
        self.types(node, Some(&rows), std::slice::from_ref(&hash), "sharding_key").await?;
        Ok(Some(Sharding { key: hash, width: SlotWidth(64), total, slots }))
    }

    fn enabled(&self, key: &[KeyElement]) -> Result<Option<Vec<Vec<String>>>, Vec<Fault>> {
        let Some(names) = &self.job.enabled_partitions else { return Ok(None) };
        let mut enabled: Vec<Vec<String>> = Vec::new();
        let mut faults = Vec::new();
        for name in names {
            match parse_partition(name, key) {
                Ok(texts) if enabled.contains(&texts) => {}
                Ok(texts) => enabled.push(texts),
                Err(error) => faults.push(self.task("enabled_partitions", &format!("partition {name}: {error}"))),
            }
        }
        if faults.is_empty() { Ok(Some(enabled)) } else { Err(faults) }
    }

    /// Whether one replica of each target shard is written to and the others fetch from it.
    fn replicated(&self, target: &TableDefinition, remarks: &mut Vec<String>) -> Vec<bool> {
        let cluster = self.task.target(self.job);
        let engine = target.engine.is_replicated();
        let mut replicated = Vec::new();
        for (at, shard) in cluster.shards.iter().enumerate() {
            if shard.replicas.len() > 1 && shard.internal_replication != engine {
                remarks.push(format!(
                    "shard {} of cluster {} says internal_replication {}, but {} is {}: {}",
                    at + 1,
                    cluster.name,
                    shard.internal_replication,
                    target.name,
                    target.engine.name,
                    if engine {
                        "one replica is written to, the others fetch from it"
                    } else {
                        "only one replica gets rows"
                    }
                ));
            }
            replicated.push(shard.internal_replication || engine);
        }
        replicated
    }

    /// Types of expressions that the task wrote. What the server says against them is a fault of the task.
    async fn types(
        &self,
        node: &Node,
        over: Option<&Selection>,
        expressions: &[String],
        element: &str,
    ) -> Result<Vec<String>, Vec<Fault>> {
        self.fleet.warehouse.types(node, over, expressions).await.map_err(|error| {
            vec![match &error.kind {
                crate::cluster::Kind::Server { code, message } if !error.is_denied() => {
                    self.task(element, &format!("{node} refuses it: code {code}: {message}"))
                }
                _ => self.world(&error.to_string()),
            }]
        })
    }

    pub(super) fn task(&self, element: &str, problem: &str) -> Fault {
        Fault::Task(format!("tables/{}/{element}: {problem}", self.job.name))
    }

    pub(super) fn world(&self, problem: &str) -> Fault {
        Fault::World(format!("table {}: {problem}", self.job.name))
    }
}

struct Existing {
    definition: Option<TableDefinition>,
    node: Option<Arc<Node>>,
    missing: Vec<Arc<Node>>,
}

/// Both results, or the faults of both.
fn both<A, B>(a: Result<A, Vec<Fault>>, b: Result<B, Vec<Fault>>) -> Result<(A, B), Vec<Fault>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(a.into_iter().chain(b).collect()),
        (Err(faults), _) | (_, Err(faults)) => Err(faults),
    }
}

/// How the columns of two tables differ, if they do.
fn difference(a: &TableDefinition, b: &TableDefinition) -> Option<String> {
    for column in &a.columns {
        match b.column(&column.name) {
            None => return Some(format!("column {} is missing there", column.name)),
            Some(other) if other.type_name != column.type_name => {
                return Some(format!("column {} is {} and {}", column.name, column.type_name, other.type_name));
            }
            Some(other) if other.default_kind != column.default_kind => {
                return Some(format!("column {} is computed in different ways", column.name));
            }
            Some(_) => {}
        }
    }
    b.columns
        .iter()
        .find(|column| a.column(&column.name).is_none())
        .map(|column| format!("column {} is only there", column.name))
}

fn keys_differ(a: &TableDefinition, b: &TableDefinition) -> Option<String> {
    let (x, y) = (a.engine.staging().to_string(), b.engine.staging().to_string());
    (x != y).then(|| format!("{} and {}", a.engine, b.engine))
}
