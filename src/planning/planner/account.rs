//! The account before copying (I7): the rows that a query counts on each source shard must equal the listed rows, or the task is refused.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::errors::Problem;
use super::{Marks, Planner, Tallies};
use crate::client::{Error, Tally};
use crate::model::{Node, PartitionValue, few};
use crate::nodes::counts::{blocks_of, readable, source_rows};
use crate::nodes::settings::wanted_for_source;
use crate::plan::{Account, Found, PartitionPlan, Remark, ShardAccount};
use crate::protocol::account::{Blocks, MAX_OBSERVATIONS, ObservedParts, ShardBalance, ShardObservation, judge_shard};
use crate::sql::{Selection, key_elements};

/// The listed and the counted rows of a source shard.
pub(super) struct ShardCount {
    node: Arc<Node>,
    listed: u64,
    balance: ShardBalance,
    account: ShardAccount,
}

impl Planner<'_> {
    /// Lists the partitions of a source shard on a node and counts its rows. Repeats that where they differ because the source changed.
    pub(super) async fn discover_and_count(
        &self,
        node: &Arc<Node>,
        shard: usize,
    ) -> Result<(Tallies, Marks, ShardCount), Error> {
        let (survey, mut observations) = (self.survey, Vec::new());
        loop {
            let before = self.blocks_on(node).await;
            let (tallies, marks) = self.discover_on(node, shard).await?;
            let all = Selection::all(survey.relation());
            let columns = readable(&survey.reading, &survey.columns);
            let counted = source_rows(self.pool, self.task, node, all, columns).await?;
            let listed = tallies.iter().map(|(tally, _)| tally.rows).sum();
            let after = if listed == counted { before.clone() } else { self.blocks_on(node).await };
            observations.push(ShardObservation {
                listed,
                counted,
                parts: before.zip(after.clone()).map(|(before, after)| ObservedParts { before, after }),
            });
            let balance = judge_shard(&observations);
            if balance == ShardBalance::Moved && observations.len() < MAX_OBSERVATIONS {
                continue;
            }
            let account = ShardAccount { node: node.address(), counted, parts: after };
            return Ok((tallies, marks, ShardCount { node: node.clone(), listed, balance, account }));
        }
    }

    /// Reads the blocks of the parts of the source on a node.
    async fn blocks_on(&self, node: &Node) -> Option<Blocks> {
        let source = &self.survey.source;
        if !source.engine.is_merge_tree() {
            return None;
        }
        match self.pool.client.part_list(node, &source.name).await {
            Ok(list) => Some(blocks_of(&list)),
            Err(error) => {
                tracing::debug!(
                    node = error.node,
                    "{error}: whether the source holds still is told by counting it again"
                );
                None
            }
        }
    }

    /// Compares the planned rows of each shard with the counted rows.
    ///
    /// # Errors
    /// A fault that names the shard, the number of rows, and their partitions.
    pub(super) async fn balance(
        &self,
        found: &[Found],
        counts: &[ShardCount],
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Problem> {
        for (shard, count) in counts.iter().enumerate() {
            let planned: u64 = found.iter().map(|partition| partition.shards[shard].rows).sum();
            let counted = count.account.counted;
            if planned == counted {
                continue;
            }
            if count.balance == ShardBalance::Moved && planned == count.listed {
                remarks.push(Remark::new(format!(
                    "source shard {} ({}) changes while it is planned: {planned} rows were listed, and {counted} counted after that",
                    shard + 1,
                    count.node
                )));
                continue;
            }
            let place = self.place_of_difference(shard, &count.node, found).await;
            return Err(self.servers(&difference(
                &format!("source shard {} ({}): {}", shard + 1, count.node, self.job.source),
                planned,
                counted,
                &place,
            )));
        }
        Ok(())
    }

    /// Returns the partitions in which a count by the key finds another number of rows than planned.
    async fn place_of_difference(&self, shard: usize, node: &Node, found: &[Found]) -> Option<String> {
        let settings = self.pool.settings(node, &wanted_for_source(self.task)).await.ok()?;
        let all = Selection::all(self.survey.relation());
        let tallies = self.pool.client.tally(node, &all, &self.survey.key, &settings).await.ok()?;
        let mut counted: HashMap<&PartitionValue, &Tally> = tallies.iter().map(|tally| (&tally.value, tally)).collect();
        let mut places = Vec::new();
        for partition in found {
            let (planned, now) =
                (partition.shards[shard].rows, counted.remove(&partition.value).map_or(0, |tally| tally.rows));
            if planned != now {
                places.push(format!("{} ({planned} planned, {now} counted)", partition.name));
            }
        }
        let mut unseen: Vec<&Tally> = counted.into_values().collect();
        unseen.sort_by(|a, b| a.value.cmp(&b.value));
        places.extend(
            unseen.iter().map(|tally| format!("{} (not planned, {} counted)", self.name(&tally.shown), tally.rows)),
        );
        (!places.is_empty()).then(|| few(&places))
    }

    /// Returns the account to store with the plan of `partitions`.
    pub(super) fn account(&self, counts: Vec<ShardCount>, listed: u64, partitions: &[PartitionPlan]) -> Account {
        let planned: u64 = partitions.iter().map(|partition| partition.rows).sum();
        let own = self.survey.source.engine.partition_key().map(|key| key_elements(&key)).unwrap_or_default();
        let wanted = self.survey.key.iter().map(|element| element.expression.as_str());
        Account {
            moved: counts.iter().any(|count| count.listed != count.account.counted),
            shards: counts.into_iter().map(|count| count.account).collect(),
            beside: self.survey.enabled.is_none().then(|| listed.saturating_sub(planned)),
            same_partitions: self.survey.source.engine.is_merge_tree() && own.iter().map(String::as_str).eq(wanted),
        }
    }
}

/// Returns the message that the rows of a shard are not those of the plan.
fn difference(shard: &str, planned: u64, counted: u64, place: &Option<String>) -> String {
    let (rows, why) = if counted > planned {
        (counted - planned, "the plan would not copy them")
    } else {
        (planned - counted, "a query does not show them: does a row policy or a filter hide rows from this account?")
    };
    let place =
        place.as_ref().map_or("in which partitions cannot be told".to_owned(), |place| format!("partitions: {place}"));
    format!(
        "{shard} holds {counted} rows by a count and {planned} by the list of its partitions, so {rows} rows are not accounted for, and \
         {why}. {place}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_rows_is_reported_with_its_number_and_direction() {
        let more = difference("source shard 1 (a:9000): d.t", 45, 60, &Some("'7' (15 planned, 30 counted)".into()));
        assert!(
            more.contains("holds 60 rows by a count and 45") && more.contains("15 rows are not accounted"),
            "{more}"
        );
        assert!(more.ends_with("partitions: '7' (15 planned, 30 counted)"), "{more}");
        let fewer = difference("source shard 1 (a:9000): d.t", 1000, 500, &None);
        assert!(fewer.contains("500 rows are not accounted") && fewer.contains("row policy"), "{fewer}");
    }
}
