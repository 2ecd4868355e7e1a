//! The nodes to read on both sides, and the measures of partitions there.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;

use super::By;
use crate::client::{Digest, Error, Settings};
use crate::model::{Node, PartitionValue, Shard, TableName};
use crate::nodes::checksums::{Hashes, Measure};
use crate::nodes::pool::NodePool;
use crate::nodes::settings::wanted_for_source;
use crate::plan::{PartitionPlan, TablePlan};
use crate::sql::{
    self, KeyElement, PartitionFilter, Relation, Selection, Slice, SlotFilter, TableDefinition, key_elements,
};
use crate::task::{TableJob, Task};

/// The setting with which a server ends a SELECT whose client has disconnected. The statements here may run for long.
const CANCEL: &str = "cancel_http_readonly_queries_on_client_close";

/// Both sides of a table job.
pub(super) struct Sides<'a> {
    pool: &'a NodePool,
    plan: &'a TablePlan,
    /// The readers of the source shards, one for each.
    pub(super) sources: Vec<Reader>,
    /// The target shards that have the table.
    pub(super) targets: Vec<TargetShard>,
    /// The sorting key of the target, with expressions that give the same texts on both sides.
    pub(super) key: Vec<KeyText>,
    /// Why the source may have lost rows since the copy.
    pub(super) source_loses: Option<String>,
    /// Why the target may have lost rows since the copy.
    pub(super) target_loses: Option<String>,
}

/// A node to read, with the parts of the statements for it.
pub(super) struct Reader {
    pub(super) node: Arc<Node>,
    relation: Relation,
    settings: Settings,
    /// The expression whose values are summed up for each group.
    hash: String,
    /// The hash of a row, which identifies rows where there is no sorting key.
    pub(super) row: String,
    /// The condition that a row belongs to the shard of this node.
    home: Option<KeyElement>,
}

/// A target shard.
pub(super) struct TargetShard {
    /// The number of the shard, from 1.
    number: usize,
    pub(super) readers: Vec<Reader>,
    /// Whether each reader should hold all rows of the shard. Otherwise the rows are spread over them.
    mirrored: bool,
}

/// An element of the sorting key.
pub(super) struct KeyText {
    /// The expression in the definition of the table.
    pub(super) name: String,
    /// The type on the target.
    pub(super) type_name: String,
    /// The expression that gives the value as a text.
    pub(super) text: KeyElement,
}

/// The measures of a partition.
pub(super) struct Measured {
    pub(super) source: Measure,
    pub(super) target: Measure,
    pub(super) misplaced: Vec<String>,
}

impl<'a> Sides<'a> {
    /// Chooses the nodes to read. The error is a sentence.
    pub(super) async fn open(
        pool: &'a NodePool,
        task: &Task,
        job: &TableJob,
        plan: &'a TablePlan,
        by: By,
        remarks: &mut Vec<String>,
    ) -> Result<Self, String> {
        let opener = Opener { pool, task, plan, by };
        let mut origins = Vec::new();
        for (index, shard) in task.source(job).shards.iter().enumerate() {
            let found = opener.one_of(shard, &format!("source shard {}", index + 1), &plan.source, remarks).await?;
            origins
                .push(found.ok_or_else(|| format!("source shard {}: there is no table {}", index + 1, plan.source))?);
        }
        let wanted: Vec<usize> = plan.target_shards().collect();
        let mut holders = Vec::new();
        for (index, shard) in task.target(job).shards.iter().enumerate() {
            let name = format!("target shard {}", index + 1);
            let fetches = plan.replicated.get(index).copied().unwrap_or(true) && plan.engine_replicates;
            let nodes = if fetches || shard.replicas.len() == 1 {
                opener.one_of(shard, &name, &plan.target, remarks).await?.into_iter().collect()
            } else {
                opener.all_of(shard, &name, &plan.target).await?
            };
            if nodes.is_empty() && wanted.contains(&index) {
                return Err(format!("{name}: there is no table {}", plan.target));
            }
            holders.push((index, nodes));
        }
        let Some((first, target)) = holders.iter().flat_map(|(_, nodes)| nodes).next() else {
            return Err(format!("there is no table {} on the target", plan.target));
        };
        let target = target.clone();
        let hashes = Hashes::of(plan, &target)
            .ok_or_else(|| format!("{first}: {} lacks one of the columns {}", plan.target, plan.columns.join(", ")))?;
        let key = opener.key(first, &target).await.map_err(|error| error.to_string())?;
        if key.is_empty() {
            remarks.push(format!("{} has no sorting key: rows that differ are named by their hash", plan.target));
        }
        let mut sources = Vec::new();
        for (node, _) in &origins {
            let relation = plan.reading.relation(&plan.source);
            sources.push(opener.reader(node, relation, hashes.at_source(), None).await.map_err(|e| e.to_string())?);
        }
        let placed = opener.is_placed_by_columns(remarks);
        let mut targets = Vec::new();
        for (index, nodes) in holders {
            let mirrored = !plan.replicated.get(index).copied().unwrap_or(true);
            let mut readers = Vec::new();
            for (node, _) in &nodes {
                let home = if placed { opener.home(index) } else { None };
                let relation = Relation::plain(plan.target.clone());
                readers.push(opener.reader(node, relation, hashes.at_target(), home).await.map_err(|e| e.to_string())?);
            }
            targets.push(TargetShard { number: index + 1, readers, mirrored });
        }
        let source_loses = origins.iter().find_map(|(_, definition)| loses(definition, None));
        Ok(Self { pool, plan, sources, targets, key, source_loses, target_loses: loses(&target, job.merges_rows) })
    }

    /// Returns the names of the elements of a key.
    pub(super) fn key_names(&self) -> Vec<String> {
        if self.key.is_empty() {
            return vec!["hash of the row".to_owned()];
        }
        self.key.iter().map(|element| element.name.clone()).collect()
    }

    /// Measures partitions of one batch on both sides.
    pub(super) async fn measure(&self, partitions: &[&PartitionPlan]) -> Result<Vec<Measured>, Error> {
        let sources = async {
            let found = try_join_all(self.sources.iter().map(|reader| self.by_partition(reader, partitions))).await?;
            Ok::<_, Error>(found)
        };
        let targets = try_join_all(self.targets.iter().map(|shard| async move {
            try_join_all(shard.readers.iter().map(|reader| self.by_partition(reader, partitions))).await
        }));
        let (sources, targets) = futures::future::try_join(sources, targets).await?;
        let measured = |index: usize| {
            let source = sources.iter().fold(Measure::default(), |all, found| all.and(found[index].0));
            let (mut target, mut misplaced) = (Measure::default(), Vec::new());
            for (shard, readers) in self.targets.iter().zip(&targets) {
                for (reader, (measure, strays)) in shard.readers.iter().zip(readers.iter().map(|found| found[index])) {
                    if strays > 0 {
                        let what = if strays == 1 {
                            "1 row that belongs".into()
                        } else {
                            format!("{strays} rows that belong")
                        };
                        misplaced
                            .push(format!("{}: target shard {} has {what} to another one", reader.node, shard.number));
                    }
                    let first = readers[0][index].0;
                    if shard.mirrored && measure != first {
                        let other =
                            if measure.rows == first.rows { ", but other ones".to_owned() } else { String::new() };
                        misplaced.push(format!(
                            "{} has {} rows and {} {}{other}: replicas of target shard {} that are to hold the same",
                            shard.readers[0].node, first.rows, reader.node, measure.rows, shard.number
                        ));
                    }
                    if !shard.mirrored {
                        target = target.and(measure);
                    }
                }
                if let (true, Some(first)) = (shard.mirrored, readers.first()) {
                    target = target.and(first[index].0);
                }
            }
            Measured { source, target, misplaced }
        };
        Ok((0..partitions.len()).map(measured).collect())
    }

    /// Returns the readers that together hold each row of the target once.
    pub(super) fn target_readers(&self) -> impl Iterator<Item = &Reader> {
        self.targets.iter().flat_map(|shard| shard.readers.iter().take(if shard.mirrored { 1 } else { usize::MAX }))
    }

    /// Measures each partition on a node, and counts the rows that belong to other shards.
    async fn by_partition(&self, reader: &Reader, partitions: &[&PartitionPlan]) -> Result<Vec<(Measure, u64)>, Error> {
        let all = self.digest(reader, partitions, None, &self.plan.key, true).await?;
        let width = self.plan.key.len();
        let mut found = vec![(Measure::default(), 0); partitions.len()];
        let position = |value: &[String]| partitions.iter().position(|partition| partition.value.0 == value);
        if all.iter().all(|digest| position(&digest.value.0[..width]).is_some()) {
            for digest in all {
                if let Some(index) = position(&digest.value.0[..width]) {
                    add(&mut found[index], &digest, width);
                }
            }
            return Ok(found);
        }
        // Versions write some values differently. Then each partition needs its own statement.
        for (partition, found) in partitions.iter().zip(&mut found) {
            for digest in self.digest(reader, &[partition], None, &[], true).await? {
                add(found, &digest, 0);
            }
        }
        Ok(found)
    }

    /// Reads the rows and sums of some partitions by a key. With `placed`, the last element of each value tells whether the rows belong to
    /// the shard, if the reader has such a condition.
    pub(super) async fn digest(
        &self,
        reader: &Reader,
        partitions: &[&PartitionPlan],
        slice: Option<Slice>,
        key: &[KeyElement],
        placed: bool,
    ) -> Result<Vec<Digest>, Error> {
        let values: Vec<PartitionValue> = partitions.iter().map(|partition| partition.value.clone()).collect();
        let rows = Selection {
            partitions: Some(PartitionFilter { elements: self.plan.key.clone(), values }),
            slice,
            ..Selection::all(reader.relation.clone())
        };
        let key: Vec<KeyElement> = key.iter().chain(reader.home.iter().filter(|_| placed)).cloned().collect();
        self.pool.client.digest(&reader.node, &rows, &key, &reader.hash, &reader.settings).await
    }
}

/// Adds a digest to the measure of its partition, and counts its rows as strays if the value after the partition key says so.
fn add((measure, strays): &mut (Measure, u64), digest: &Digest, width: usize) {
    *measure = measure.and(Measure { rows: digest.rows, sum: digest.sum });
    if digest.value.0.get(width).is_some_and(|home| home == "0") {
        *strays += digest.rows;
    }
}

/// Returns why a server may remove or change rows of a table itself. `merges_rows` is the setting of the task for its engine.
fn loses(table: &TableDefinition, merges_rows: Option<bool>) -> Option<String> {
    match () {
        () if merges_rows.unwrap_or_else(|| table.engine.merges_rows()) => Some("merges rows by its engine".to_owned()),
        () if table.has_ttl() => Some("removes rows by its TTL".to_owned()),
        () => None,
    }
}

/// The inputs for the choice of readers.
struct Opener<'a> {
    pool: &'a NodePool,
    task: &'a Task,
    plan: &'a TablePlan,
    by: By,
}

/// A node with its definition of the table.
type Holder = (Arc<Node>, TableDefinition);

impl Opener<'_> {
    /// Returns the live replica of a shard with the shortest queue, or `None` where no replica has the table.
    async fn one_of(
        &self,
        shard: &Shard,
        name: &str,
        table: &TableName,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Holder>, String> {
        let (live, errors) = self.pool.live_replicas(shard).await;
        if live.is_empty() {
            let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(format!("{name}: no replica answers: {}", why.join("; ")));
        }
        let mut best: Option<(u64, Holder)> = None;
        let mut first = None;
        for (_, node) in live {
            match self.holder(&node, table).await {
                Ok(Some((queue, holder))) if best.as_ref().is_none_or(|(least, _)| queue < *least) => {
                    best = Some((queue, holder));
                }
                Ok(_) => {}
                Err(error) => first = first.or(Some(error)),
            }
        }
        match (best, first) {
            (Some((queue, holder)), _) => {
                if queue > 0 {
                    remarks.push(format!(
                        "{}: the replica of {table} has {queue} entries in its queue: some rows may be on their way",
                        holder.0
                    ));
                }
                Ok(Some(holder))
            }
            (None, Some(error)) => Err(format!("{name}: {error}")),
            (None, None) if !errors.is_empty() => {
                let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(format!("{name}: no replica that answers has the table {table}: {}", why.join("; ")))
            }
            (None, None) => Ok(None),
        }
    }

    async fn holder(&self, node: &Arc<Node>, table: &TableName) -> Result<Option<(u64, Holder)>, Error> {
        let client = &self.pool.client;
        let Some(definition) = client.table(node, table).await? else { return Ok(None) };
        let queue = match definition.engine.is_replicated() {
            true => client.replica_state(node, table).await?.map_or(0, |state| state.queue),
            false => 0,
        };
        Ok(Some((queue, (node.clone(), definition))))
    }

    /// Returns all replicas of a shard whose replicas are written one by one. Each must answer.
    async fn all_of(&self, shard: &Shard, name: &str, table: &TableName) -> Result<Vec<Holder>, String> {
        let mut holders = Vec::new();
        for node in &shard.replicas {
            let node = Arc::new(node.clone());
            let found = async {
                self.pool.facts(&node).await?;
                self.pool.client.table(&node, table).await
            };
            if let Some(definition) = found.await.map_err(|error| format!("{name}: {error}"))? {
                holders.push((node.clone(), definition));
            }
        }
        if !holders.is_empty() && holders.len() < shard.replicas.len() {
            return Err(format!("{name}: not every replica has the table {table}"));
        }
        Ok(holders)
    }

    async fn reader(
        &self,
        node: &Arc<Node>,
        relation: Relation,
        row: String,
        home: Option<KeyElement>,
    ) -> Result<Reader, Error> {
        let mut wanted: BTreeMap<String, String> = wanted_for_source(self.task);
        wanted.insert(CANCEL.to_owned(), "1".to_owned());
        let settings = self.pool.settings(node, &wanted).await?;
        let hash = match self.by {
            By::Checksum => row.clone(),
            By::Count => "toUInt64(0)".to_owned(),
        };
        Ok(Reader { node: node.clone(), relation, settings, hash, row, home })
    }

    /// Returns the elements of the target's sorting key.
    async fn key(&self, node: &Node, target: &TableDefinition) -> Result<Vec<KeyText>, Error> {
        let names: Vec<String> = key_elements(&target.sorting_key).into_iter().map(without_direction).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let rows = Selection::all(Relation::plain(self.plan.target.clone()));
        let types = self.pool.client.types(node, Some(&rows), &names).await?;
        let text = |(name, type_name): (String, String)| {
            let element = KeyElement { expression: format!("({name})"), type_name: type_name.clone() };
            let value = element.message_text();
            let value = if type_name.contains("Nullable(") { format!("ifNull({value}, 'NULL')") } else { value };
            KeyText { name, type_name, text: KeyElement { expression: value, type_name: "String".into() } }
        };
        Ok(names.into_iter().zip(types).map(text).collect())
    }

    /// Returns whether the sharding key uses only columns of the target. Adds a remark where it does not.
    fn is_placed_by_columns(&self, remarks: &mut Vec<String>) -> bool {
        let Some(sharding) = &self.plan.sharding else { return false };
        let placed = sharding.slot_key().key.uses_only(&self.plan.columns);
        if !placed {
            remarks.push(
                "the columns of the target do not tell the shard of a row: where rows lie is not checked".to_owned(),
            );
        }
        placed
    }

    /// Returns the expression whether a row belongs to a target shard.
    fn home(&self, shard: usize) -> Option<KeyElement> {
        let sharding = self.plan.sharding.as_ref()?;
        let slots = sharding.slots.get(shard)?.clone();
        let condition = SlotFilter { key: sharding.slot_key(), slots }.condition();
        Some(KeyElement { expression: format!("toUInt8({condition})"), type_name: "UInt8".into() })
    }
}

/// Removes the direction of an element of a sorting key: `a DESC` → `a`.
fn without_direction(element: String) -> String {
    let without = [" DESC", " ASC"].iter().find_map(|direction| element.strip_suffix(direction));
    without.map(str::to_owned).unwrap_or(element)
}

/// Returns the hash that assigns keys to buckets. The same key has the same hash on every version.
pub(super) fn key_hash(key: &[KeyText]) -> String {
    sql::values_hash(key.iter().map(|element| (element.name.as_str(), element.type_name.as_str())))
}
