//! The verb `verify`: compares the rows of source and target at any time after a copy, by partition of the target. Where a partition
//! differs, it finds the keys that differ. Reads only.
//!
//! Rows that a server does not return are reported as not compared, never as equal. Each server runs one statement at a time, over
//! the partitions of one batch, so that no statement reads a whole large table.

mod judge;
mod narrow;
mod sides;

use std::collections::BTreeSet;
use std::sync::Arc;

use sides::Sides;

use super::location::TaskLocation;
use crate::client::ServerClient;
use crate::ledger::Ledger;
use crate::model::{PartitionValue, TableName};
use crate::nodes::checksums::Measure;
use crate::nodes::pool::NodePool;
use crate::plan::{PartitionPlan, TablePlan};
use crate::planning::errors::RunError;
use crate::planning::planner;
use crate::planning::survey::survey;
use crate::planning::task_file::{parse, refuse_differences};
use crate::protocol::TaskRecord;
use crate::task::{IfTargetNotEmpty, SecretSource, TablePartitions, Task, TaskText};

pub(crate) use judge::Allowance;
pub use judge::{PartitionVerdict, Sample};
pub use narrow::{KeyDifference, KeyRange, Narrowed};

/// The method of comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Compares the number of rows.
    Count,
    /// Compares the number of rows and their contents.
    Checksum,
}

/// The parameters of a comparison.
pub(crate) struct Request {
    /// The place of the task. Without it, the user must give a task file.
    pub(crate) location: Option<TaskLocation>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The source of the task's secrets.
    pub secrets: Arc<dyn SecretSource>,
    /// The text of the task file, if the user gave one.
    pub description: Option<TaskText>,
    /// This machine's name.
    pub host: String,
    /// The method of comparison.
    pub(crate) by: By,
    /// The partitions to compare. `None` means all that the task copies.
    pub(crate) sample: Option<Sample>,
    /// Limits the partitions to these names, by table job.
    pub(crate) only: Option<Vec<TablePartitions>>,
    /// The most differing keys to report for a partition.
    pub(crate) keys: usize,
}

/// The remark on a partition that the source no longer has.
const VANISHED: &str =
    "the source does not have it any more, and what was copied stays (run --incremental --drop-vanished drops it)";

/// The result of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The remarks for the report.
    pub remarks: Vec<String>,
    /// The results of all table jobs.
    pub tables: Vec<TableComparison>,
}

/// The result of comparing one table job.
#[derive(Debug)]
pub struct TableComparison {
    /// The job's name.
    pub name: String,
    /// The source table.
    pub source: TableName,
    /// The target table.
    pub target: TableName,
    /// The remarks for the report.
    pub remarks: Vec<String>,
    /// The names of the elements of a key.
    pub key: Vec<String>,
    /// The number of partitions outside the sample.
    pub left_out: usize,
    /// The partitions that were compared, in the order of the plan.
    pub partitions: Vec<PartitionComparison>,
    /// Why the other partitions could not be compared.
    pub error: Option<String>,
    /// The names of the partitions that could not be compared.
    pub missed: Vec<String>,
}

/// The result of comparing one partition.
#[derive(Debug)]
pub struct PartitionComparison {
    /// The name of the partition, as a person writes it.
    pub name: String,
    /// The rows on all source shards.
    pub source: Measure,
    /// The rows on all target shards.
    pub target: Measure,
    /// The verdict.
    pub verdict: PartitionVerdict,
    /// Sentences about rows on a wrong target shard, and about replicas that differ.
    pub misplaced: Vec<String>,
    /// The keys that differ.
    pub narrowed: Option<Result<Narrowed, String>>,
}

/// Compares source and target of a task.
///
/// # Errors
/// When there is no task, or the task cannot be planned. Later errors of servers are in the result.
pub(crate) async fn compare(request: &Request) -> Result<Comparison, RunError> {
    let ledger = match &request.location {
        Some(location) => Some(Ledger::new(location.coordinator.session().await?, &location.task_path)),
        None => None,
    };
    let compared = compare_task(request, ledger.as_ref()).await;
    if let Some(ledger) = ledger {
        ledger.session().close().await;
    }
    compared
}

async fn compare_task(request: &Request, ledger: Option<&Ledger>) -> Result<Comparison, RunError> {
    let (record, stored) = match ledger {
        Some(ledger) => (ledger.task().await?, ledger.description().await?),
        None => (None, None),
    };
    let place = ledger.map(|ledger| ledger.path("description")).unwrap_or_default();
    let stored = stored.map(|text| TaskText::new(text, place));
    let Some(given) = request.description.clone().or(stored) else {
        let place = request.location.as_ref().map(|location| format!("there is no task at {}: ", location.task_path));
        return Err(RunError::task(format!("{}give the task's file with --task-file", place.unwrap_or_default())));
    };
    let task = parse(given, request.secrets.as_ref())?.task;
    let pool = NodePool::new(request.client.clone(), request.host.clone());
    let mut remarks = Vec::new();
    if let (Some(record), Some(TaskLocation { task_path: path, .. })) = (&record, &request.location) {
        if record.format != TaskRecord::FORMAT {
            return Err(RunError::task(format!(
                "the task at {path} was created by another version of this program (format {})",
                record.format
            )));
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

/// Makes plans as if the target were empty.
async fn plans_of_now(pool: &NodePool, task: &Task) -> Result<Vec<TablePlan>, RunError> {
    let surveys = survey(pool, task).await.map_err(RunError::Problems)?;
    let mut plans = Vec::new();
    for survey in &surveys {
        let plan = planner::plan(pool, task, survey, IfTargetNotEmpty::Replace, None).await;
        plans.push(plan.map_err(RunError::from)?);
    }
    Ok(plans)
}

/// The comparison of one table job.
struct Comparer<'a> {
    request: &'a Request,
    pool: &'a NodePool,
    task: &'a Task,
    job: usize,
    /// The plan, with the partitions of earlier passes.
    plan: &'a TablePlan,
    /// The number of partitions of the last pass in the plan.
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

    /// Returns for each partition whether to compare it.
    fn wanted(&self) -> Vec<bool> {
        let mut wanted = self.sampled();
        if let Some(only) = &self.request.only {
            let names = only.iter().filter(|only| only.table == self.plan.name).flat_map(|only| &only.partitions);
            let names: BTreeSet<&String> = names.collect();
            for (wanted, partition) in wanted.iter_mut().zip(&self.plan.partitions) {
                *wanted &= names.contains(&partition.name);
            }
        }
        wanted
    }

    /// Returns for each partition whether it is in the sample.
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

    /// Compares the partitions, one batch after the other. The results before an error stay.
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
            for (partition, measured) in chosen.into_iter().zip(measured) {
                let mut verdict = match (measured.source.rows, measured.target.rows) {
                    (0, 1..) if kept.contains(&partition.value) => PartitionVerdict::Expected(VANISHED.into()),
                    _ => allowance.judge(measured.source, measured.target),
                };
                let narrowed = match verdict {
                    PartitionVerdict::Different => {
                        let narrowed =
                            sides.narrow(partition, measured.source.rows.max(measured.target.rows), self.request.keys);
                        Some(narrowed.await.map_err(|error| error.to_string()))
                    }
                    _ => None,
                };
                if !measured.misplaced.is_empty() {
                    verdict = PartitionVerdict::Different;
                }
                found.partitions.push(PartitionComparison {
                    name: partition.name.clone(),
                    source: measured.source,
                    target: measured.target,
                    verdict,
                    misplaced: measured.misplaced,
                    narrowed,
                });
            }
        }
        Ok(())
    }

    /// Returns why the sides may differ: rows of others in the target, and rows that a server removes itself.
    fn allowance(&self, sides: &Sides<'_>) -> Allowance {
        let job = &self.task.tables[self.job];
        let shares = |(index, other): (usize, &crate::task::TableJob)| {
            index != self.job && other.target_cluster == job.target_cluster && other.target == job.target
        };
        let more = match job.if_target_not_empty {
            IfTargetNotEmpty::Append => Some("rows were added to those that the target held (append)".to_owned()),
            // Partitions that a run has skipped are not in its plan.
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
