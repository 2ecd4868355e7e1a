//! The plan of a later pass: plans the partitions that are new or changed at the source since the last pass, and leaves out unchanged
//! ones. Reads only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::join_all;

use super::super::errors::Problem;
use super::{Planner, PreviousPasses};
use crate::client::PartName;
use crate::model::{Node, PartitionId, PartitionValue, few};
use crate::plan::{Again, CopiedPartition, Due, Earlier, Found, Mark, OnTarget, Remark, ShardMark, ShardSize};
use crate::task::IfTargetNotEmpty;

impl Planner<'_> {
    /// Returns whether the source table has the columns of the target's key unchanged, without conversion or another time zone.
    fn key_is_as_stored(&self) -> bool {
        let relation = self.survey.relation();
        self.survey.key.iter().all(|element| relation.gives_as_it_is(&element.expression))
    }

    /// Reads the marks of the parts of a source shard on a node, by partition of the target. Returns no marks where the parts cannot be
    /// read; then a later pass copies the partitions again. `ids` are the ids of the partitions where the source has the same partitions.
    pub(super) async fn marks_on(
        &self,
        node: &Node,
        shard: usize,
        ids: Option<Vec<(PartitionValue, PartitionId)>>,
    ) -> HashMap<PartitionValue, ShardMark> {
        let (client, source) = (&self.pool.client, &self.survey.source);
        if !source.engine.is_merge_tree() {
            return HashMap::new();
        }
        let reading = async {
            let list = client.part_list(node, &source.name).await?;
            let ids = match ids {
                Some(ids) => ids,
                // The table does not have the key in the form of the copy.
                None if !self.key_is_as_stored() => return Ok((list, Vec::new())),
                None => {
                    let values = client.values_by_partition(node, &source.name, &self.survey.key).await?;
                    values.into_iter().map(|(id, value, _)| (value, id)).collect()
                }
            };
            Ok::<_, crate::client::Error>((list, ids))
        };
        let (list, ids) = match reading.await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(node = error.node, "{error}: a later pass copies everything again");
                return HashMap::new();
            }
        };
        // Patch parts change rows of parts, and these parts keep their names.
        if list.parts.iter().any(|part| part.id.patched().is_some()) {
            return HashMap::new();
        }
        let mut of_id: HashMap<&PartitionId, Vec<&PartName>> = HashMap::new();
        for part in &list.parts {
            of_id.entry(&part.id).or_default().push(part);
        }
        let mut of_value: HashMap<PartitionValue, BTreeSet<PartitionId>> = HashMap::new();
        for (value, id) in ids {
            of_value.entry(value).or_default().insert(id);
        }
        let mark = |(value, ids): (PartitionValue, BTreeSet<PartitionId>)| {
            let parts = ids.iter().filter_map(|id| of_id.get(id)).flatten();
            let parts = parts.map(|part| (part.name.as_str(), part.rows, part.hash.as_str()));
            (value, ShardMark::of(shard, &list.table, parts))
        };
        of_value.into_iter().map(mark).collect()
    }

    /// Returns the found partitions that must be copied, and the number of partitions that are unchanged.
    pub(super) async fn changed_since(
        &self,
        found: Vec<Found>,
        previous: &PreviousPasses,
        remarks: &mut Vec<Remark>,
    ) -> Result<(Vec<Found>, usize), Problem> {
        let earlier = &previous.earlier;
        self.refuse_lost_shards(&found, earlier)?;
        let copied: HashMap<&PartitionValue, &CopiedPartition> =
            earlier.partitions.iter().map(|copied| (&copied.partition.value, copied)).collect();
        let present: BTreeSet<&PartitionValue> = found.iter().map(|partition| &partition.value).collect();
        let has_vanished = |copied: &&CopiedPartition| {
            let partition = &copied.partition;
            !present.contains(&partition.value) && self.is_enabled(&partition.name, &partition.value.0)
        };
        let vanished: Vec<&CopiedPartition> = earlier.partitions.iter().filter(has_vanished).collect();
        let rows = self.rows_on_target(earlier).await?;
        let may_shrink = self.survey.merges_rows || self.survey.target.has_ttl();
        let on_target = |copied: &CopiedPartition| {
            let (least, most) = rows.get(&copied.partition.value).copied().unwrap_or_default();
            OnTarget { least, most, may_shrink }
        };
        let layout_changed = !self.has_layout_of(earlier);
        if layout_changed {
            remarks.push(Remark::new(
                "columns, keys or shards are others than when it was copied: all of it is copied again",
            ));
        }
        let (mut due, mut unchanged, mut new) = (Vec::new(), 0, 0);
        let mut again: BTreeMap<Again, Vec<&str>> = BTreeMap::new();
        let mut foreign = Vec::new();
        for mut partition in found.iter().cloned() {
            let Some(copied) = copied.get(&partition.value) else {
                new += 1;
                due.push(partition);
                continue;
            };
            let why = match copied.due(&partition, on_target(copied)) {
                Due::Unchanged if !layout_changed => {
                    unchanged += 1;
                    continue;
                }
                Due::Unchanged => Again::Changed,
                Due::Again(why) => why,
            };
            if let Again::Lost(rows) = why
                && rows > 0
            {
                foreign.push((*copied, rows));
            }
            again.entry(why).or_default().push(&copied.partition.name);
            partition.renews = true;
            due.push(partition);
        }
        if previous.drops_vanished {
            for copied in &vanished {
                foreign.extend(copied.lost(on_target(copied)).filter(|rows| *rows > 0).map(|rows| (*copied, rows)));
                due.push(self.vanished(&copied.partition.name, copied));
            }
        }
        if !foreign.is_empty() && self.policy != IfTargetNotEmpty::Replace {
            return Err(self.changed_by_others(&foreign));
        }
        let changed = again.values().map(Vec::len).sum::<usize>();
        let name = &self.job.name;
        tracing::info!(
            table = name,
            "table {name}: since it was copied, {new} partitions are new, {changed} are to be copied again, {unchanged} are \
             unchanged, {} have vanished from the source",
            vanished.len()
        );
        self.remark(&again, &vanished, previous.drops_vanished, remarks);
        Ok((due, unchanged))
    }

    /// Adds remarks about partitions that are copied again, and about vanished ones.
    fn remark(
        &self,
        again: &BTreeMap<Again, Vec<&str>>,
        vanished: &[&CopiedPartition],
        drops: bool,
        remarks: &mut Vec<Remark>,
    ) {
        let lost: Vec<&str> = again
            .iter()
            .filter(|(why, _)| matches!(why, Again::Lost(_) | Again::Replica))
            .flat_map(|(_, names)| names.clone())
            .collect();
        if !lost.is_empty() {
            remarks.push(Remark::new(format!(
                "the target, or a replica of it, does not hold what was copied of {} partitions, and they are copied again: {}",
                lost.len(),
                few(&lost)
            )));
        }
        if let Some(unknown) = again.get(&Again::Unknown) {
            remarks.push(Remark::new(format!(
                "whether {} partitions changed cannot be told from the source's parts, and they are copied again: {}",
                unknown.len(),
                few(unknown)
            )));
        }
        if !vanished.is_empty() {
            let names: Vec<&str> = vanished.iter().map(|copied| copied.partition.name.as_str()).collect();
            let fate =
                if drops { "are dropped on the target" } else { "stay on the target (--drop-vanished drops them)" };
            remarks.push(Remark::new(format!(
                "{} partitions that were copied are not at the source any more, and {fate}: {}",
                names.len(),
                few(&names)
            )));
        }
    }

    /// Refuses a source shard that held rows and now holds none at all. It was more likely lost or created again than emptied on purpose,
    /// so its copied rows must not be dropped.
    fn refuse_lost_shards(&self, found: &[Found], earlier: &Earlier) -> Result<(), Problem> {
        let of_marks = |mark: &Option<Mark>| mark.iter().flat_map(Mark::shards).collect::<Vec<_>>();
        let before: BTreeSet<usize> =
            earlier.partitions.iter().flat_map(|copied| of_marks(&copied.partition.mark)).collect();
        let mut now: BTreeSet<usize> = found.iter().flat_map(|partition| of_marks(&partition.mark)).collect();
        for partition in found {
            let holders = partition.shards.iter().enumerate().filter(|(_, size)| size.rows > 0);
            now.extend(holders.map(|(shard, _)| shard));
        }
        let Some(lost) = before.difference(&now).next() else { return Ok(()) };
        let hosts = self.survey.sources.get(*lost).into_iter().flatten().map(|node| node.address());
        Err(self.servers(&format!(
            "source shard {} ({}) held rows of {} when it was copied, and holds none at all now: was it lost, or made anew? What was \
             copied stays as it is. If it is meant to be empty, drop on the target what is to go, and begin anew at another task path",
            lost + 1,
            hosts.collect::<Vec<_>>().join(", "),
            self.job.source
        )))
    }

    /// Returns whether columns, keys and sharding are the same as in the earlier passes.
    fn has_layout_of(&self, earlier: &Earlier) -> bool {
        let survey = self.survey;
        (&earlier.reading, &earlier.columns, &earlier.key, &earlier.sharding)
            == (&survey.reading, &survey.columns, &survey.key, &survey.sharding)
    }

    /// Returns the plan of a partition that the source no longer has.
    fn vanished(&self, name: &str, copied: &CopiedPartition) -> Found {
        Found {
            value: copied.partition.value.clone(),
            name: name.to_owned(),
            id: copied.partition.id.clone(),
            shards: vec![ShardSize::default(); self.survey.sources.len()],
            mark: None,
            renews: true,
        }
    }

    /// Returns the rows that the target holds of the copied partitions, over all shards. The two numbers are the sums of the smallest
    /// and of the largest numbers, where replicas are written one by one.
    async fn rows_on_target(&self, earlier: &Earlier) -> Result<HashMap<PartitionValue, (u64, u64)>, Problem> {
        let copied: Vec<Found> =
            earlier.partitions.iter().map(|copied| self.vanished(&copied.partition.name, copied)).collect();
        let mut rows: HashMap<PartitionValue, (u64, u64)> = HashMap::new();
        if copied.is_empty() {
            return Ok(rows);
        }
        let survey = self.survey;
        for (shard, nodes) in survey.targets.iter().enumerate() {
            let counts = join_all(nodes.iter().map(|node| async {
                if survey.to_create.iter().any(|missing| missing.address() == node.address()) {
                    return Ok(HashMap::new());
                }
                let present = self.present_on(node, &copied).await.map_err(|error| self.server_error(&error))?;
                Ok::<HashMap<PartitionValue, u64>, Problem>(present.into_iter().collect())
            }));
            let counts: Vec<HashMap<PartitionValue, u64>> = counts.await.into_iter().collect::<Result<_, Problem>>()?;
            for partition in &copied {
                let held = counts.iter().map(|count| count.get(&partition.value).copied().unwrap_or(0));
                let most = held.clone().max().unwrap_or(0);
                // Among replicas that fetch from each other, one may be ahead of the others.
                let least = if survey.replicated[shard] { most } else { held.min().unwrap_or(0) };
                let sums = rows.entry(partition.value.clone()).or_default();
                *sums = (sums.0 + least, sums.1 + most);
            }
        }
        Ok(rows)
    }

    /// Returns the fault that others have changed copied partitions on the target.
    fn changed_by_others(&self, foreign: &[(&CopiedPartition, u64)]) -> Problem {
        let text = |(copied, rows): &(&CopiedPartition, u64)| {
            format!("{} ({} rows were copied, and {rows} are there)", copied.partition.name, copied.target)
        };
        let texts: Vec<String> = foreign.iter().map(text).collect();
        self.servers(&format!(
            "somebody else has changed {} partitions of the target {} since they were copied: {}. What is dropped there is copied \
             again; in a task with <if_target_not_empty>replace</if_target_not_empty> they would give way",
            texts.len(),
            self.job.target,
            few(&texts)
        ))
    }
}
