//! The planner of one table job: finds the partitions of each source shard and the rows that the target holds already, and divides the
//! work into batches and pieces. Reads only.

mod account;
mod cloning;
mod discover;
mod drop_guard;
mod enabled;
mod incremental;
mod negative_zero;
mod slices;
mod target;

use std::collections::HashMap;

use futures::future::try_join_all;

use crate::client::{Error, Tally};
use crate::model::PartitionValue;
use crate::plan::{self, BatchSizing, Earlier, Found, Remark, ShardMark, TablePlan};
use crate::sql::Slice;
use crate::task::{IfTargetNotEmpty, TableJob, Task};

pub(crate) use drop_guard::guards_drops;

use super::errors::Problem;
use super::survey::{Survey, lossy_conversions};
use crate::nodes::pool::NodePool;

/// The least bytes of a batch that is cloned. Cloned batches are larger, since their rows cost little, and each piece needs some tables.
const CLONED_BATCH_BYTES: u64 = 512 << 20;

/// Plans one table job: all of it, or the partitions that have changed since earlier passes.
///
/// # Errors
/// When servers do not answer, or a target partition holds rows and the task does not say what to do with them.
pub(crate) async fn plan(
    pool: &NodePool,
    task: &Task,
    survey: &Survey,
    policy: IfTargetNotEmpty,
    previous: Option<&PreviousPasses>,
) -> Result<TablePlan, Problem> {
    Planner { pool, task, job: &task.tables[survey.job], survey, policy }.plan(previous).await
}

/// The state of one table job at the start of a pass.
#[derive(Debug, Clone)]
pub(crate) struct PreviousPasses {
    /// The partitions that earlier passes have copied.
    pub(crate) earlier: Earlier,
    /// Whether the target drops partitions that the source no longer has.
    pub(crate) drops_vanished: bool,
}

/// The partitions of a source shard with their bytes.
type Tallies = Vec<(Tally, u64)>;

/// The marks of the parts of a source shard, by partition.
type Marks = HashMap<PartitionValue, ShardMark>;

/// The inputs of a plan.
pub(crate) struct Planner<'a> {
    pub(crate) pool: &'a NodePool,
    task: &'a Task,
    pub(crate) job: &'a TableJob,
    pub(crate) survey: &'a Survey,
    pub(crate) policy: IfTargetNotEmpty,
}

impl Planner<'_> {
    async fn plan(&self, previous: Option<&PreviousPasses>) -> Result<TablePlan, Problem> {
        let mut remarks = self.survey.remarks.clone();
        let (found, seen) = self.discover().await.map_err(|error| self.server_error(&error))?;
        self.balance(&found, &seen, &mut remarks).await?;
        let listed: u64 = found.iter().flat_map(|partition| &partition.shards).map(|shard| shard.rows).sum();
        let mut found = self.enabled(found, previous, &mut remarks)?;
        self.refuse_negative_zero(&found).await?;
        let mut unchanged = 0;
        if let Some(previous) = previous {
            (found, unchanged) = self.changed_since(found, previous, &mut remarks).await?;
            self.refuse_lossy(&found, &mut remarks).await?;
        }
        self.apply_policy(&mut found, &mut remarks).await?;
        let clones = self.clones(&mut found).await?;
        let usual = || plan::usual_batch_bytes(&found).max(if clones { CLONED_BATCH_BYTES } else { 0 });
        let batch_bytes = self.job.batch_bytes.unwrap_or_else(usual);
        let sizing = BatchSizing { batch_bytes, splits: u64::from(self.job.number_of_splits) };
        let batches = plan::batches(&found, sizing);
        // Cloned parts hold whole partitions, so these are not divided.
        let cuts = if clones { Vec::new() } else { plan::cuts(&found, &batches, sizing) };
        let sliced = try_join_all(cuts.iter().map(|cut| async {
            let partition = &found[batches[cut.batch].start];
            self.slices(partition, cut.shard, cut.count).await.map(|slices| ((cut.batch, cut.shard), slices))
        }))
        .await
        .map_err(|error| self.server_error(&error))?;
        let mut sliced: HashMap<(usize, usize), Vec<Slice>> = sliced.into_iter().collect();
        let (partitions, batches, pieces) =
            plan::assemble(&found, &batches, sizing, |batch, shard| sliced.remove(&(batch, shard)).unwrap_or_default());
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
        let guard = self.drop_guard(&plan).await.map_err(|error| self.server_error(&error))?;
        plan.remarks.extend(guard.map(Remark::new));
        Ok(plan)
    }

    /// Returns a problem of the servers, with the name of the table job.
    pub(crate) fn servers(&self, cause: &str) -> Problem {
        Problem::servers(cause).in_table(&self.job.name)
    }

    /// Returns the problem that a server's error is, with the name of the table job.
    pub(crate) fn server_error(&self, error: &Error) -> Problem {
        Problem::of_server(error).in_table(&self.job.name)
    }

    /// Refuses partitions of a later pass in which conversions would lose values. For the first pass this was checked when the task was
    /// accepted.
    async fn refuse_lossy(&self, found: &[Found], remarks: &mut Vec<Remark>) -> Result<(), Problem> {
        let values = found.iter().map(|partition| partition.value.clone()).collect();
        let (faults, warnings) = lossy_conversions(self.pool, self.task, self.survey, Some(values)).await;
        remarks.extend(warnings.into_iter().map(Remark::new));
        faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// Returns the name of a partition, as a person writes it.
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
