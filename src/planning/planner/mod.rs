//! From a survey to the plan of a table job: what each source shard holds, what the target holds already, and where to
//! cut. Reads only.

mod account;
mod cloning;
mod discover;
mod drop_guard;
mod enabled;
mod incremental;
mod negative_zero;
mod slices;
mod target;

use crate::client::Tally;
use crate::model::PartitionValue;
use crate::plan::Earlier;
use crate::plan::ShardMark;
use std::collections::HashMap;

use futures::future::try_join_all;

use crate::plan::{self, BatchSizing, Found, TablePlan};
use crate::sql::Slice;
use crate::task::{IfTargetNotEmpty, TableJob, Task};

pub(crate) use drop_guard::guards_drops;

use super::errors::Fault;
use super::survey::{Survey, lossy_conversions};
use crate::nodes::pool::NodePool;

/// Batches that are cloned hold more: their rows cost little, and each piece the making of some tables.
const CLONED_BATCH: u64 = 512 << 20;

/// Plans one table job: all of it, or what has changed since an earlier pass.
///
/// # Errors
/// Servers that do not answer; a target partition that holds rows where the task does not say what to do with them.
pub async fn plan(
    pool: &NodePool,
    task: &Task,
    survey: &Survey,
    policy: IfTargetNotEmpty,
    since: Option<&PreviousPasses>,
) -> Result<TablePlan, Fault> {
    Planner { pool, task, job: &task.tables[survey.job], survey, policy }.plan(since).await
}

/// What a pass begins with, of one table job.
#[derive(Debug, Clone)]
pub struct PreviousPasses {
    /// What the passes before have copied.
    pub earlier: Earlier,
    /// Whether partitions that the source does not have any more are dropped on the target.
    pub drops_vanished: bool,
}

/// The partitions of a source shard with their bytes.
type Tallies = Vec<(Tally, u64)>;

/// What the parts of a source shard are, by partition.
type Marks = HashMap<PartitionValue, ShardMark>;

pub(crate) struct Planner<'a> {
    pub(crate) pool: &'a NodePool,
    task: &'a Task,
    pub(crate) job: &'a TableJob,
    pub(crate) survey: &'a Survey,
    pub(crate) policy: IfTargetNotEmpty,
}

impl Planner<'_> {
    async fn plan(&self, since: Option<&PreviousPasses>) -> Result<TablePlan, Fault> {
        let mut remarks = self.survey.remarks.clone();
        let (found, seen) = self.discover().await.map_err(|error| self.world(&error))?;
        self.balance(&found, &seen, &mut remarks).await?;
        let listed: u64 = found.iter().flat_map(|partition| &partition.shards).map(|(rows, _)| rows).sum();
        let mut found = self.enabled(found, since, &mut remarks)?;
        self.refuse_negative_zero(&found).await?;
        let mut unchanged = 0;
        if let Some(since) = since {
            (found, unchanged) = self.since(found, since, &mut remarks).await?;
            self.refuse_lossy(&found, &mut remarks).await?;
        }
        self.look_at_target(&mut found, &mut remarks).await?;
        let clones = self.clones(&mut found).await?;
        let usual = || plan::usual_batch_bytes(&found).max(if clones { CLONED_BATCH } else { 0 });
        let batch_bytes = self.job.batch_bytes.unwrap_or_else(usual);
        let wishes = BatchSizing { batch_bytes, splits: u64::from(self.job.number_of_splits) };
        let batches = plan::batches(&found, wishes);
        // Parts hold whole partitions.
        let cuts = if clones { Vec::new() } else { plan::cuts(&found, &batches, wishes) };
        let sliced = try_join_all(cuts.iter().map(|cut| async {
            let partition = &found[batches[cut.batch].start];
            self.slices(partition, cut.shard, cut.count).await.map(|slices| ((cut.batch, cut.shard), slices))
        }))
        .await
        .map_err(|error| self.world(&error))?;
        let mut sliced: HashMap<(usize, usize), Vec<Slice>> = sliced.into_iter().collect();
        let (partitions, batches, pieces) =
            plan::assemble(&found, &batches, wishes, |batch, shard| sliced.remove(&(batch, shard)).unwrap_or_default());
        let account = Some(self.account(seen, listed, &partitions));
        let mut plan = TablePlan {
            name: self.job.name.clone(),
            source: self.job.source.clone(),
            target: self.job.target.clone(),
            reading: self.survey.reading.clone(),
            columns: self.survey.columns.clone(),
            key: self.survey.key.clone(),
            sharding: self.survey.sharding.clone(),
            replicated: self.survey.replicated.clone(),
            engine_replicates: self.survey.target.engine.is_replicated(),
            partitions,
            batches,
            pieces,
            remarks,
            clones,
            unchanged,
            account,
        };
        let guard = self.drop_guard(&plan).await.map_err(|error| self.world(&error))?;
        plan.remarks.extend(guard);
        Ok(plan)
    }

    pub(crate) fn world(&self, problem: &impl ToString) -> Fault {
        Fault::World(format!("table {}: {}", self.job.name, problem.to_string()))
    }

    /// Counts the values that conversions would lose in what a later pass copies; the first pass was counted when the task was
    /// accepted.
    async fn refuse_lossy(&self, found: &[Found], remarks: &mut Vec<String>) -> Result<(), Fault> {
        let values = found.iter().map(|partition| partition.value.clone()).collect();
        let (faults, told) = lossy_conversions(self.pool, self.task, self.survey, Some(values)).await;
        remarks.extend(told);
        faults.into_iter().next().map_or(Ok(()), Err)
    }

    pub(crate) fn name(&self, shown: &[String]) -> String {
        let texts: Vec<String> =
            self.survey.key.iter().zip(shown).map(|(element, text)| element.display(text)).collect();
        match texts.len() {
            0 => "all".to_owned(),
            1 => texts.concat(),
            _ => format!("({})", texts.join(", ")),
        }
    }
}
