//! The rows that the target holds already.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::Planner;
use crate::client::Error;
use crate::model::{Node, PartitionId, PartitionValue, few};
use crate::plan::{Found, Remark};
use crate::sql::{Relation, Selection};
use crate::task::IfTargetNotEmpty;

impl Planner<'_> {
    /// Counts the rows that the target holds already in the partitions to copy, before any row moves (I2), and applies the policy of the
    /// task to them.
    pub(super) async fn apply_policy(&self, found: &mut Vec<Found>, remarks: &mut Vec<Remark>) -> Result<(), Problem> {
        // Partitions that an earlier pass has filled were checked then.
        let new: Vec<Found> = found.iter().filter(|partition| !partition.renews).cloned().collect();
        if !self.survey.target_exists || new.is_empty() {
            return Ok(());
        }
        let nodes: Vec<&Arc<Node>> = self
            .survey
            .targets
            .iter()
            .flatten()
            .filter(|node| !self.survey.to_create.iter().any(|missing| missing.address() == node.address()))
            .collect();
        let present = join_all(nodes.iter().map(|node| self.present_on(node, &new))).await;
        let mut filled: BTreeMap<PartitionValue, (u64, String)> = BTreeMap::new();
        for (node, present) in nodes.iter().zip(present) {
            for (value, rows) in present.map_err(|error| self.server_error(&error))? {
                filled.entry(value).or_insert((rows, node.address()));
            }
        }
        if filled.is_empty() {
            return Ok(());
        }
        let count = filled.len();
        let text = |partition: &Found| {
            let (rows, node) = filled.get(&partition.value)?;
            Some(format!("{} ({rows} rows on {node})", partition.name))
        };
        let texts: Vec<String> = new.iter().filter_map(text).collect();
        let listed = few(&texts);
        match self.policy {
            IfTargetNotEmpty::Fail => {
                return Err(self.servers(&format!(
                    "the target {} holds rows already in {count} of the partitions to copy: {listed}. Say what to do with \
                     them: <if_target_not_empty>replace, append or skip</if_target_not_empty>",
                    self.job.target
                )));
            }
            IfTargetNotEmpty::Skip => {
                remarks.push(Remark::new(format!(
                    "{count} partitions are skipped, since the target holds rows in them: {listed}"
                )));
                found.retain(|partition| !filled.contains_key(&partition.value));
            }
            IfTargetNotEmpty::Replace => {
                remarks.push(Remark::new(format!(
                    "rows that the target holds already are replaced in {count} partitions: {listed}"
                )));
            }
            IfTargetNotEmpty::Append => {
                remarks.push(Remark::new(format!(
                    "rows are added to those that the target holds already in {count} partitions: {listed}"
                )));
            }
        }
        Ok(())
    }

    /// Returns the wanted partitions in which a target node has rows, with the number of rows.
    pub(crate) async fn present_on(&self, node: &Node, found: &[Found]) -> Result<Vec<(PartitionValue, u64)>, Error> {
        let client = &self.pool.client;
        let target = &self.job.target;
        let filled: BTreeSet<PartitionId> =
            client.parts(node, target).await?.into_iter().filter(|part| part.rows > 0).map(|part| part.id).collect();
        if filled.is_empty() {
            return Ok(Vec::new());
        }
        if found.iter().all(|partition| partition.id.is_some()) {
            let ids: Vec<PartitionId> =
                found.iter().filter_map(|partition| partition.id.clone()).filter(|id| filled.contains(id)).collect();
            let rows = client.rows_by_partition(node, target, Some(&ids)).await?;
            let named = |partition: &Found| {
                let rows = partition.id.as_ref().and_then(|id| rows.get(id)).copied()?;
                (rows > 0).then(|| (partition.value.clone(), rows))
            };
            return Ok(found.iter().filter_map(named).collect());
        }
        let wanted: HashSet<&PartitionValue> = found.iter().map(|partition| &partition.value).collect();
        let all = Selection::all(Relation::plain(target.clone()));
        let tallies = client.tally(node, &all, &self.survey.key, &Vec::new()).await?;
        Ok(tallies
            .into_iter()
            .filter(|tally| wanted.contains(&tally.value))
            .map(|tally| (tally.value, tally.rows))
            .collect())
    }
}
