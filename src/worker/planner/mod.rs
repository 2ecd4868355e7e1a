//! From a survey to the plan of a table job: what each source shard holds, what the target holds already, and where to
//! cut. Reads only.

mod cloning;
mod slices;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;

use crate::cluster::{Error, Tally};
use crate::model::{Node, PartitionId, PartitionValue};
use crate::plan::{self, Found, ShardMark, TablePlan, Wishes};
use crate::sql::{Selection, Slice, key_elements, unquoted_elements};
use crate::task::{IfTargetNotEmpty, TableJob, Task};

use super::fleet::Fleet;
use super::since::{Since, few, mark_of};
use super::survey::{Fault, Survey, lossy_conversions};
use super::wishes::source_wishes;

/// The partitions of a source shard with their bytes.
type Tallies = Vec<(Tally, u64)>;
/// What the parts of a source shard are, by partition.
type Marks = HashMap<PartitionValue, ShardMark>;

/// Batches that are cloned hold more: their rows cost little, and each piece the making of some tables.
const CLONED_BATCH: u64 = 512 << 20;

/// Plans one table job: all of it, or what has changed since an earlier pass.
///
/// # Errors
/// Servers that do not answer; a target partition that holds rows where the task does not say what to do with them.
pub async fn plan(
    fleet: &Fleet,
    task: &Task,
    survey: &Survey,
    policy: IfTargetNotEmpty,
    since: Option<&Since>,
) -> Result<TablePlan, Fault> {
    Planner { fleet, task, job: &task.tables[survey.job], survey, policy }.plan(since).await
}

pub(super) struct Planner<'a> {
    pub(super) fleet: &'a Fleet,
    task: &'a Task,
    pub(super) job: &'a TableJob,
    pub(super) survey: &'a Survey,
    pub(super) policy: IfTargetNotEmpty,
}

impl Planner<'_> {
    async fn plan(&self, since: Option<&Since>) -> Result<TablePlan, Fault> {
        let mut remarks = self.survey.remarks.clone();
        let found = self.discover().await.map_err(|error| self.world(&error))?;
        let mut found = self.enabled(found, &mut remarks);
        let mut unchanged = 0;
        if let Some(since) = since {
            (found, unchanged) = self.since(found, since, &mut remarks).await?;
            self.refuse_lossy(&found, &mut remarks).await?;
        }
        self.look_at_target(&mut found, &mut remarks).await?;
        let clones = self.clones(&mut found).await?;
        let usual = || plan::usual_batch_bytes(&found).max(if clones { CLONED_BATCH } else { 0 });
        let batch_bytes = self.job.batch_bytes.unwrap_or_else(usual);
        let wishes = Wishes { batch_bytes, splits: u64::from(self.job.number_of_splits) };
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
        Ok(TablePlan {
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
        })
    }

    pub(super) fn world(&self, problem: &impl ToString) -> Fault {
        Fault::World(format!("table {}: {}", self.job.name, problem.to_string()))
    }

    /// Counts the values that conversions would lose in what a later pass copies; the first pass was counted when the task was
    /// accepted.
    async fn refuse_lossy(&self, found: &[Found], remarks: &mut Vec<String>) -> Result<(), Fault> {
        let values = found.iter().map(|partition| partition.value.clone()).collect();
        let (faults, told) = lossy_conversions(self.fleet, self.task, self.survey, Some(values)).await;
        remarks.extend(told);
        faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// The partitions of the target's key with rows and bytes on each source shard, in the order of their values.
    async fn discover(&self) -> Result<Vec<Found>, Error> {
        let shards = try_join_all(
            self.survey.sources.iter().enumerate().map(|(shard, nodes)| self.discover_shard(shard, nodes)),
        )
        .await?;
        let count = shards.len();
        let mut found: BTreeMap<Vec<Sortable>, Found> = BTreeMap::new();
        let mut marks = Vec::new();
        for (shard, (tallies, marked)) in shards.into_iter().enumerate() {
            marks.push(marked);
            for (tally, bytes) in tallies {
                let order = tally.value.0.iter().map(|text| Sortable::of(text)).collect();
                let entry = found.entry(order).or_insert_with(|| Found {
                    name: self.name(&tally.shown),
                    value: tally.value.clone(),
                    id: tally.id.clone(),
                    shards: vec![(0, 0); count],
                    mark: None,
                    renews: false,
                });
                entry.shards[shard] = (tally.rows, bytes);
            }
        }
        let mut found: Vec<Found> = found.into_values().collect();
        for partition in &mut found {
            partition.mark = mark_of(partition, &mut marks);
        }
        Ok(found)
    }

    /// From what the parts say where that is exact, by query where it is not; from the first replica that answers.
    async fn discover_shard(&self, shard: usize, nodes: &[Arc<Node>]) -> Result<(Tallies, Marks), Error> {
        let mut first = None;
        for node in nodes {
            match self.discover_on(node, shard).await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_unreachable() => {
                    self.fleet.suspect(node);
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        first.map_or(Ok(Default::default()), Err)
    }

    async fn discover_on(&self, node: &Node, shard: usize) -> Result<(Tallies, Marks), Error> {
        let source = &self.survey.source;
        let parts =
            if source.engine.is_merge_tree() { self.fleet.warehouse.parts(node, &source.name).await? } else { vec![] };
        if self.parts_are_exact()
            && parts.iter().all(|part| part.exact)
            && let Some(tallies) = parts
                .iter()
                .map(|part| Some((self.tally_of_part(&part.name, &part.id, part.rows)?, part.bytes)))
                .collect::<Option<Tallies>>()
        {
            let ids = tallies.iter().filter_map(|(tally, _)| Some((tally.value.clone(), tally.id.clone()?)));
            let marks = self.marks_on(node, shard, Some(ids.collect())).await;
            return Ok((tallies, marks));
        }
        // Looked at before the rows are counted: what comes in between is a change.
        let marks = self.marks_on(node, shard, None).await;
        let (rows, bytes) = parts.iter().fold((0, 0), |(rows, bytes), part| (rows + part.rows, bytes + part.bytes));
        let row_bytes = if rows > 0 { bytes as f64 / rows as f64 } else { self.guessed_row_bytes() };
        let settings = self.fleet.settings(node, &source_wishes(self.task)).await?;
        let all = Selection::all(self.survey.relation());
        let tallies = self.fleet.warehouse.tally(node, &all, &self.survey.key, &settings).await?;
        let sized = |tally: Tally| {
            let bytes = (tally.rows as f64 * row_bytes) as u64;
            (tally, bytes)
        };
        Ok((tallies.into_iter().map(sized).collect(), marks))
    }

    /// Whether the source's own partitions are the target's, and nothing picks among their rows.
    fn parts_are_exact(&self) -> bool {
        let own = self.survey.source.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        let wanted: Vec<&str> = self.survey.key.iter().map(|element| element.expression.as_str()).collect();
        let reading = &self.survey.reading;
        reading.condition.is_none()
            && reading.columns.is_none()
            && own == wanted
            && self.survey.key.iter().all(|element| element.is_named_by_parts(own.len()))
    }

    /// `system.parts.partition` is not quoted when the key has one element, and is a tuple of literals when it has more.
    fn tally_of_part(&self, name: &str, id: &PartitionId, rows: u64) -> Option<Tally> {
        let texts = match self.survey.key.len() {
            0 => Vec::new(),
            1 => vec![name.to_owned()],
            _ => unquoted_elements(name).ok()?,
        };
        (texts.len() == self.survey.key.len()).then(|| Tally {
            value: PartitionValue(texts.clone()),
            shown: texts,
            id: Some(id.clone()),
            rows,
        })
    }

    fn guessed_row_bytes(&self) -> f64 {
        let width = |type_name: &str| match type_name {
            "Int8" | "UInt8" | "Enum8" => 1.0,
            "Int16" | "UInt16" | "Enum16" | "Date" => 2.0,
            "Int32" | "UInt32" | "Float32" | "DateTime" => 4.0,
            "Int64" | "UInt64" | "Float64" | "DateTime64" => 8.0,
            _ => 24.0,
        };
        self.survey.source.columns.iter().map(|column| width(&column.type_name)).sum()
    }

    pub(super) fn name(&self, shown: &[String]) -> String {
        let texts: Vec<String> =
            self.survey.key.iter().zip(shown).map(|(element, text)| element.display(text)).collect();
        match texts.len() {
            0 => "all".to_owned(),
            1 => texts.concat(),
            _ => format!("({})", texts.join(", ")),
        }
    }

    /// Those that the task names, in its order; a word about those that are nowhere.
    fn enabled(&self, found: Vec<Found>, remarks: &mut Vec<String>) -> Vec<Found> {
        let Some(enabled) = &self.survey.enabled else { return found };
        let mut by_name: HashMap<String, Found> =
            found.into_iter().map(|partition| (partition.name.clone(), partition)).collect();
        let mut some: Vec<String> = by_name.keys().cloned().collect();
        some.sort_unstable();
        let mut wanted = Vec::new();
        for texts in enabled {
            let name = self.name(texts);
            match by_name.remove(&name) {
                Some(partition) => wanted.push(partition),
                None if some.contains(&name) => {}
                None => {
                    let listed = if some.is_empty() {
                        "the source has none".to_owned()
                    } else {
                        format!("the source has {}", few(&some))
                    };
                    remarks.push(format!("enabled_partitions: there is no partition {name}; {listed}"));
                }
            }
        }
        wanted
    }
}

/// Numbers in the order of numbers, texts after them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Sortable {
    Number(i128),
    Text(String),
}

impl Sortable {
    fn of(text: &str) -> Self {
        text.parse().map(Self::Number).unwrap_or_else(|_| Self::Text(text.to_owned()))
    }
}
