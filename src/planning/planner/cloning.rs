//! Whether parts are to travel as files.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;

use crate::client::Error;
use crate::model::{Node, PartitionId, PartitionValue, Way};
use crate::plan::Found;
use crate::sql::{KeyElement, PartitionFilter, Selection};

use super::super::errors::Fault;
use super::super::survey::no_clone;
use super::Planner;
use crate::nodes::settings::wanted_for_source;

/// The least that is worth cloning, uncompressed: what a piece costs besides its rows is about half a second more than that of
/// another way, in which a push moves so much.
const WORTH_CLONING: u64 = 128 << 20;

impl Planner<'_> {
    /// Whether pieces are to be cloned; gives the partitions the ids that they have in the source then. Refuses a task that says
    /// so where they cannot be.
    pub(super) async fn clones(&self, found: &mut [Found]) -> Result<bool, Fault> {
        let told = self.job.transfer == Some(Way::Clone);
        let bytes: u64 = found.iter().flat_map(|partition| &partition.shards).map(|(_, bytes)| bytes).sum();
        if found.is_empty() || (!told && (self.job.transfer.is_some() || bytes < WORTH_CLONING)) {
            return Ok(false);
        }
        let against = match &self.survey.against_clone {
            None => match self.against_clone(found).await {
                Err(error) if told => return Err(self.world(&error)),
                Err(error) => Some(error.to_string()),
                Ok(against) => against,
            },
            against => against.clone(),
        };
        let (name, clones) = (&self.job.name, against.is_none());
        match against {
            Some(why) if told => return Err(self.world(&no_clone(&why))),
            Some(why) => tracing::info!(table = name, "table {name}: transfer: not clone, since {why}"),
            None => tracing::info!(
                "table {name}: transfer: clone: both sides have the same columns and keys, and what a source shard has belongs \
                 to one target shard, so whole parts travel as files"
            ),
        }
        Ok(clones)
    }

    /// What ZooKeeper and the rows have against it.
    async fn against_clone(&self, found: &mut [Found]) -> Result<Option<String>, Error> {
        let told = self.job.transfer == Some(Way::Clone);
        if let Some(why) = self.survey.against_zookeepers(self.pool, told).await {
            return Ok(Some(why));
        }
        let shards = self.survey.sources.iter().filter_map(|nodes| nodes.first());
        let nodes: Vec<&Arc<Node>> = shards.collect();
        if found.iter().any(|partition| partition.id.is_none()) {
            let (client, survey) = (&self.pool.client, self.survey);
            let values = nodes.iter().map(|node| client.values_by_partition(node, &survey.source.name, &survey.key));
            let mut ids: HashMap<PartitionValue, PartitionId> = HashMap::new();
            for (id, value, _) in try_join_all(values).await?.into_iter().flatten() {
                if ids.insert(value, id.clone()).is_some_and(|other| other != id) {
                    return Ok(Some("a partition has different ids on different servers".into()));
                }
            }
            for partition in found.iter_mut() {
                let Some(id) = ids.remove(&partition.value) else {
                    return Ok(Some(format!("the id of partition {} could not be found", partition.name)));
                };
                partition.id = Some(id);
            }
        }
        let Some(sharding) = &self.survey.sharding else { return Ok(None) };
        if sharding.slots.iter().filter(|slots| !slots.is_empty()).count() < 2 {
            return Ok(None);
        }
        let rows = Selection {
            partitions: self.survey.enabled.as_ref().map(|_| PartitionFilter {
                elements: self.survey.key.clone(),
                values: found.iter().map(|partition| partition.value.clone()).collect(),
            }),
            ..Selection::all(self.survey.relation())
        };
        let slot = [KeyElement { expression: sharding.slot_key().slot(), type_name: "UInt64".into() }];
        let slots = nodes.iter().map(|node| async {
            let settings = self.pool.settings(node, &wanted_for_source(self.task)).await?;
            self.pool.client.tally(node, &rows, &slot, &settings).await
        });
        for (shard, tallies) in try_join_all(slots).await?.iter().enumerate() {
            let owners: BTreeSet<_> = tallies.iter().map(|tally| sharding.owner_of(&tally.value)).collect();
            if owners.len() > 1 {
                return Ok(Some(format!(
                    "rows of source shard {} belong to {} target shards, and parts are not split",
                    shard + 1,
                    owners.len()
                )));
            }
        }
        Ok(None)
    }
}
