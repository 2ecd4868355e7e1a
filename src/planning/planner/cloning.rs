//! The decision whether a table job is cloned.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;

use super::super::errors::Problem;
use super::super::survey::no_clone;
use super::Planner;
use crate::client::Error;
use crate::model::{Node, PartitionId, PartitionValue, Way};
use crate::nodes::settings::wanted_for_source;
use crate::plan::Found;
use crate::sql::{KeyElement, PartitionFilter, Selection};

/// The least uncompressed bytes of a job that is worth cloning. A cloned piece costs about half a second more than a pushed one, apart
/// from its rows, and a push moves this many bytes in that time.
const WORTH_CLONING: u64 = 128 << 20;

impl Planner<'_> {
    /// Decides whether pieces are cloned. If so, sets the ids that the partitions have in the source. Refuses a task that demands `clone`
    /// where it is not possible.
    pub(super) async fn clones(&self, found: &mut [Found]) -> Result<bool, Problem> {
        let is_demanded = self.job.transfer == Some(Way::Clone);
        let bytes: u64 = found.iter().flat_map(|partition| &partition.shards).map(|shard| shard.bytes).sum();
        if found.is_empty() || (!is_demanded && (self.job.transfer.is_some() || bytes < WORTH_CLONING)) {
            return Ok(false);
        }
        let against = match &self.survey.against_clone {
            None => match self.against_clone(found).await {
                Err(error) if is_demanded => return Err(self.server_error(&error)),
                Err(error) => Some(error.to_string()),
                Ok(against) => against,
            },
            against => against.clone(),
        };
        let (name, clones) = (&self.job.name, against.is_none());
        match against {
            Some(why) if is_demanded => return Err(self.servers(&no_clone(&why))),
            Some(why) => tracing::info!(table = name, "table {name}: transfer: not clone, since {why}"),
            None => tracing::info!(
                "table {name}: transfer: clone: both sides have the same columns and keys, and what a source shard has belongs \
                 to one target shard, so whole parts travel as files"
            ),
        }
        Ok(clones)
    }

    /// Returns why ZooKeeper or the rows do not allow cloning.
    async fn against_clone(&self, found: &mut [Found]) -> Result<Option<String>, Error> {
        let is_demanded = self.job.transfer == Some(Way::Clone);
        if let Some(why) = self.survey.against_zookeepers(self.pool, is_demanded).await {
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
