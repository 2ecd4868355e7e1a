//! Whether source and target hold the same rows, asked at any later time: by partition of the target, then, where they
//! differ, down to the keys. Reads only.
//!
//! What did not answer is not compared, and that is told: it is never equal. One statement a server is in hand at a time, over
//! the partitions of one batch, so that none of them reads a whole large table.

mod judge;
mod narrow;
mod sides;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::model::{PartitionValue, TableName};
use crate::plan::{PartitionPlan, TablePlan};
use crate::protocol::TaskRecord;
use crate::task::{IfTargetNotEmpty, SecretSource, Task};

use crate::ledger::Ledger;
use crate::nodes::pool::NodePool;
use crate::planning::errors::RunError;
use crate::planning::planner;
use crate::planning::survey::survey;
use crate::planning::task_file::{parse, refuse_differences};
use sides::Sides;

use crate::nodes::checksums::Measure;
pub use judge::{Allowance, Sample, Verdict};
pub use narrow::{KeyDifference, Narrowed};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// How many rows there are.
    Count,
    /// That, and what is in them.
    Checksum,
}

/// What a comparison is started with.
pub struct Request {
    /// The coordinator and the task's path in it; without, a task file must be given.
    pub coordinator: Option<(Arc<dyn Coordinator>, String)>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// Where secrets of the task come from.
    pub secrets: Arc<dyn SecretSource>,
    /// The XML of the task file, if one was given, and the file's name.
    pub description: Option<(String, String)>,
    /// This machine's name.
    pub host: String,
    /// What is compared.
    pub by: By,
    /// Which partitions; without, all that the task copies.
    pub sample: Option<Sample>,
    /// Of them only these, by table job.
    pub only: Option<Vec<(String, Vec<String>)>>,
    /// So many differing keys of a partition are told, at the most.
    pub keys: usize,
}

/// What is said of a partition that the source does not have any more.
const VANISHED: &str =
    "the source does not have it any more, and what was copied stays (run --incremental --drop-vanished drops it)";

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// What a person should know.
    pub remarks: Vec<String>,
    /// One for each table job.
    pub tables: Vec<TableComparison>,
}

/// What was found of one table job.
#[derive(Debug)]
pub struct TableComparison {
    /// The job's name.
    pub name: String,
    /// The source table.
    pub source: TableName,
    /// The target table.
    pub target: TableName,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// What the keys are made of.
    pub key: Vec<String>,
    /// So many partitions are not in the sample.
    pub left_out: usize,
    /// The partitions that were compared, in the order of the plan.
    pub partitions: Vec<PartitionComparison>,
    /// Why the others could not be.
    pub error: Option<String>,
    /// The names of those.
    pub missed: Vec<String>,
}

/// What was found of one partition.
#[derive(Debug)]
pub struct PartitionComparison {
    /// How a person writes it.
    pub name: String,
    /// On all source shards.
    pub source: Measure,
    /// On all target shards.
    pub target: Measure,
    /// What it comes to.
    pub verdict: Verdict,
    /// Rows on target shards that are not theirs, and replicas that do not agree: a sentence each.
    pub misplaced: Vec<String>,
    /// Where it differs.
    pub narrowed: Option<Result<Narrowed, String>>,
}

/// Compares the sides of a task.
///
/// # Errors
/// When there is nothing to compare: no task, or a task that cannot be planned. What does not answer later is in the result.
pub async fn compare(request: &Request) -> Result<Comparison, RunError> {
    let ledger = match &request.coordinator {
        Some((coordinator, path)) => Some(Ledger::new(coordinator.session().await?, path)),
        None => None,
    };
    let compared = look(request, ledger.as_ref()).await;
    if let Some(ledger) = ledger {
        ledger.session().close().await;
    }
    compared
}

async fn look(request: &Request, ledger: Option<&Ledger>) -> Result<Comparison, RunError> {
    let (record, stored) = match ledger {
        Some(ledger) => (ledger.task().await?, ledger.description().await?),
        None => (None, None),
    };
    let place = ledger.map(|ledger| ledger.path("description")).unwrap_or_default();
    let Some((text, file)) = request.description.clone().or(stored.map(|text| (text, place))) else {
        let at = request.coordinator.as_ref().map(|(_, path)| format!("there is no task at {path}: "));
        return Err(RunError::Task(vec![format!("{}give the task's file with --task-file", at.unwrap_or_default())]));
    };
    let task = parse(&text, &file, request.secrets.as_ref())?;
    let pool = NodePool::new(request.client.clone(), request.host.clone());
    let mut remarks = Vec::new();
    if let (Some(record), Some((_, path))) = (&record, &request.coordinator) {
        if record.format != TaskRecord::FORMAT {
            return Err(RunError::Task(vec![format!(
                "the task at {path} was created by another version of this program (format {})",
                record.format
            )]));
        }
        refuse_differences(path, &record.inputs, Some(&task))?;
        if !record.finished {
            remarks.push("the task is not finished: what it has not published yet differs".to_owned());
        }
    }
    let planned = record.as_ref().is_some_and(|record| record.planned);
    let plans = match (ledger, &record) {
        (Some(ledger), Some(record)) if record.planned => {
            let mut plans = Vec::new();
            for job in 0..task.tables.len() {
                let plan = ledger.plan(job).await?;
                let last_pass = plan.partitions.len();
                let plan = match ledger.earlier(record, job).await? {
                    Some(earlier) => plan.with_earlier(&earlier),
                    None => plan,
                };
                plans.push((plan, last_pass));
            }
            plans
        }
        _ => {
            remarks.push("there is no plan of an earlier run: all that the task would copy now is compared".to_owned());
            plans_of_now(&pool, &task).await?.into_iter().map(|plan| (plan, usize::MAX)).collect()
        }
    };
    let mut tables = Vec::new();
    for (job, (plan, last_pass)) in plans.iter().enumerate() {
        let last_pass = plan.partitions.len().min(*last_pass);
        let comparer = Comparer { request, pool: &pool, task: &task, job, plan, last_pass, planned };
        tables.push(comparer.compare().await);
    }
    Ok(Comparison { remarks, tables })
}

/// What would be copied if the target were empty.
async fn plans_of_now(pool: &NodePool, task: &Task) -> Result<Vec<TablePlan>, RunError> {
    let surveys = survey(pool, task).await.map_err(RunError::from_faults)?;
    let mut plans = Vec::new();
    for survey in &surveys {
        let plan = planner::plan(pool, task, survey, IfTargetNotEmpty::Replace, None).await;
        plans.push(plan.map_err(|fault| RunError::from_faults(vec![fault]))?);
    }
    Ok(plans)
}

struct Comparer<'a> {
    request: &'a Request,
    pool: &'a NodePool,
    task: &'a Task,
    job: usize,
    /// With what earlier passes have copied.
    plan: &'a TablePlan,
    /// So many of its partitions are the last pass's.
    last_pass: usize,
    /// Whether a run has made the plan.
    planned: bool,
}

impl Comparer<'_> {
    async fn compare(&self) -> TableComparison {
        let plan = self.plan;
        let wanted = self.wanted();
        let mut found = TableComparison {
            name: plan.name.clone(),
            source: plan.source.clone(),
            target: plan.target.clone(),
            remarks: Vec::new(),
            key: Vec::new(),
            left_out: plan.partitions.len() - wanted.iter().filter(|wanted| **wanted).count(),
            partitions: Vec::new(),
            error: None,
            missed: Vec::new(),
        };
        if let Err(error) = self.compare_partitions(&wanted, &mut found).await {
            found.error = Some(error);
            let done = found.partitions.len();
            let all = plan.partitions.iter().zip(&wanted).filter(|(_, wanted)| **wanted);
            found.missed = all.skip(done).map(|(partition, _)| partition.name.clone()).collect();
        }
        found
    }

    /// Which partitions are looked at.
    fn wanted(&self) -> Vec<bool> {
        let mut wanted = self.sampled();
        if let Some(only) = &self.request.only {
            let names = only.iter().filter(|(table, _)| *table == self.plan.name).flat_map(|(_, names)| names);
            let names: BTreeSet<&String> = names.collect();
            for (wanted, partition) in wanted.iter_mut().zip(&self.plan.partitions) {
                *wanted &= names.contains(&partition.name);
            }
        }
        wanted
    }

    fn sampled(&self) -> Vec<bool> {
        let Some(sample) = self.request.sample else { return vec![true; self.plan.partitions.len()] };
        let mut order: Vec<usize> = (0..self.plan.partitions.len()).collect();
        order.sort_by_key(|at| &self.plan.partitions[*at].name);
        let mut wanted = vec![false; order.len()];
        for (index, at) in order.into_iter().enumerate() {
            wanted[at] = sample.holds(index);
        }
        wanted
    }

    /// One batch after the other; what was compared before an error stays.
    async fn compare_partitions(&self, wanted: &[bool], found: &mut TableComparison) -> Result<(), String> {
        if !wanted.contains(&true) {
            return Ok(());
        }
        let (pool, by) = (self.pool, self.request.by);
        let sides =
            Sides::open(pool, self.task, &self.task.tables[self.job], self.plan, by, &mut found.remarks).await?;
        let allowance = self.allowance(&sides);
        found.key = sides.key_names();
        let kept: BTreeSet<&PartitionValue> =
            self.plan.partitions[self.last_pass..].iter().map(|partition| &partition.value).collect();
        for batch in &self.plan.batches {
            let chosen: Vec<&PartitionPlan> =
                batch.partitions.clone().filter(|at| wanted[*at]).map(|at| &self.plan.partitions[at]).collect();
            if chosen.is_empty() {
                continue;
            }
            let measured = sides.measure(&chosen).await.map_err(|error| error.to_string())?;
            for (partition, of) in chosen.into_iter().zip(measured) {
                let mut verdict = match (of.source.rows, of.target.rows) {
                    (0, 1..) if kept.contains(&partition.value) => Verdict::Expected(VANISHED.into()),
                    _ => allowance.judge(of.source, of.target),
                };
                let narrowed = match verdict {
                    Verdict::Different => {
                        let narrowed = sides.narrow(partition, of.source.rows.max(of.target.rows), self.request.keys);
                        Some(narrowed.await.map_err(|error| error.to_string()))
                    }
                    _ => None,
                };
                if !of.misplaced.is_empty() {
                    verdict = Verdict::Different;
                }
                found.partitions.push(PartitionComparison {
                    name: partition.name.clone(),
                    source: of.source,
                    target: of.target,
                    verdict,
                    misplaced: of.misplaced,
                    narrowed,
                });
            }
        }
        Ok(())
    }

    /// Rows of others in the target, and rows that a server removes by itself.
    fn allowance(&self, sides: &Sides<'_>) -> Allowance {
        let job = &self.task.tables[self.job];
        let shares = |(at, other): (usize, &crate::task::TableJob)| {
            at != self.job && other.target_cluster == job.target_cluster && other.target == job.target
        };
        let more = match job.if_target_not_empty {
            IfTargetNotEmpty::Append => Some("rows were added to those that the target held (append)".to_owned()),
            // What a run has skipped is not in its plan.
            IfTargetNotEmpty::Skip if !self.planned => {
                Some("the target may have held rows that were not copied (skip)".to_owned())
            }
            _ if self.task.tables.iter().enumerate().any(shares) => {
                Some("another table job fills the same table".to_owned())
            }
            _ => sides.source_loses.as_ref().map(|why| format!("the source {why}")),
        };
        Allowance { more, fewer: sides.target_loses.as_ref().map(|why| format!("the target {why}")) }
    }
}
