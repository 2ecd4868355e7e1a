//! The account of a table job's source: checks that all its rows were selected.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};

use super::super::context::WorkerContext;
use super::published;
use crate::client::{Error, Kind};
use crate::model::{Node, PartitionId, few};
use crate::nodes::counts::{blocks_of, readable, source_rows};
use crate::plan::{Account, ShardAccount, TablePlan};
use crate::protocol::account::{Change, Findings, SourceFacts, SourceVerdict, judge_source};
use crate::protocol::{Published, TableRecords};
use crate::sql::{PartitionFilter, Selection};

/// Settles the account of one table job's source.
pub(super) async fn settle(
    context: &WorkerContext,
    table: usize,
    plan: &TablePlan,
    records: &TableRecords,
) -> Findings {
    let mut findings = Findings::default();
    // Plans of versions that did not count the source have no account.
    let (Some(account), Some(done)) = (&plan.account, published(plan, records)) else { return findings };
    let source = Source { context, table, plan, account };
    let selected = done.iter().flat_map(|published| &published.partitions).map(|result| result.selected).sum();
    let planned = plan.partitions.iter().map(|partition| partition.rows).sum();
    let mut facts = SourceFacts { planned, selected, change: source.change().await, now: None };
    let mut verdict = judge_source(facts);
    if verdict == SourceVerdict::CountAgain {
        match source.count_again().await {
            Ok(now) => facts.now = Some(now),
            // All planned rows were copied, and there is no sign of a change. The source may be gone when a copy ends.
            Err(error) if facts.change == Change::Unknown && planned == selected => {
                tracing::debug!(node = error.node, "the source is not counted again: {error}");
                return findings;
            }
            Err(error) => {
                findings.unaccounted.push(format!(
                    "table {}: {selected} rows were copied of {planned} that were planned, the source may have changed, and it cannot \
                     be counted again: {error}",
                    plan.name
                ));
                return findings;
            }
        }
        verdict = judge_source(facts);
    }
    match verdict {
        SourceVerdict::Even | SourceVerdict::CountAgain => {}
        SourceVerdict::Differs => findings.differences.push(source.difference(facts, &done)),
        SourceVerdict::Moved(rows) => findings.unaccounted.push(source.moved(facts, rows)),
    }
    findings
}

/// The source of a table job, with its account.
struct Source<'a> {
    context: &'a WorkerContext,
    table: usize,
    plan: &'a TablePlan,
    account: &'a Account,
}

impl Source<'_> {
    /// Returns how the source changed since planning.
    async fn change(&self) -> Change {
        let shards = self.account.shards.iter().enumerate();
        let changes = join_all(shards.map(|(shard, before)| self.change_of(shard, before))).await;
        let any = |change| changes.contains(&change);
        [Change::Copied, Change::Elsewhere, Change::Unknown]
            .into_iter()
            .find(|change| any(*change))
            .unwrap_or(Change::None)
    }

    async fn change_of(&self, shard: usize, before: &ShardAccount) -> Change {
        let nodes = self.context.source_shard(self.table, shard).replicas;
        // Another replica may hold the same rows in other parts.
        let node = nodes.iter().find(|node| node.address() == before.node);
        let (Some(node), Some(parts)) = (node, &before.parts) else { return Change::Unknown };
        let Ok(list) = self.context.pool.client.part_list(node, &self.plan.source).await else {
            return Change::Unknown;
        };
        let changed = blocks_of(&list).changed_since(parts);
        if changed.is_empty() { Change::None } else { self.kind_of(&changed) }
    }

    fn kind_of(&self, changed: &BTreeSet<PartitionId>) -> Change {
        let copied: Option<BTreeSet<&PartitionId>> =
            self.plan.partitions.iter().map(|partition| partition.id.as_ref()).collect();
        let named = self.account.beside.is_none();
        match copied.filter(|_| self.account.same_partitions) {
            // A condition may exclude all new rows.
            Some(copied) if changed.iter().any(|id| copied.contains(id)) && !self.is_filtered() => Change::Copied,
            Some(copied) if named && !changed.iter().any(|id| copied.contains(id)) => Change::None,
            Some(_) => Change::Elsewhere,
            None if named || self.is_filtered() => Change::Elsewhere,
            None => Change::Copied,
        }
    }

    fn is_filtered(&self) -> bool {
        self.plan.reading.condition.is_some()
    }

    /// Counts the rows of the planned partitions now, on one replica of each source shard.
    async fn count_again(&self) -> Result<u64, Error> {
        let mut rows = Selection::all(self.plan.reading.relation(&self.plan.source));
        if self.account.beside.is_none() {
            let values = self.plan.partitions.iter().map(|partition| partition.value.clone()).collect();
            rows.partitions = Some(PartitionFilter { elements: self.plan.key.clone(), values });
        }
        let counts =
            self.account.shards.iter().enumerate().map(|(shard, before)| self.count_shard(shard, before, &rows));
        let counted: u64 = try_join_all(counts).await?.into_iter().sum();
        Ok(counted.saturating_sub(self.account.beside.unwrap_or(0)))
    }

    async fn count_shard(&self, shard: usize, before: &ShardAccount, rows: &Selection) -> Result<u64, Error> {
        let task = self.context.task();
        let columns = readable(&self.plan.reading, &self.plan.columns);
        let mut nodes: Vec<Arc<Node>> =
            self.context.source_shard(self.table, shard).replicas.into_iter().map(Arc::new).collect();
        nodes.sort_by_key(|node| node.address() != before.node);
        let mut first = None;
        for node in nodes {
            match source_rows(&self.context.pool, &task, &node, rows.clone(), columns).await {
                Ok(rows) => return Ok(rows),
                Err(error) => first = first.or(Some(error)),
            }
        }
        // A shard without an answer does not count as empty.
        Err(first.unwrap_or_else(|| Error {
            node: format!("source shard {}", shard + 1),
            doing: "cannot count its rows again".into(),
            kind: Kind::Network("the task names no replica of it".into()),
        }))
    }

    /// Returns the message that rows were lost or duplicated between the source and the records.
    fn difference(&self, facts: SourceFacts, done: &[&Published]) -> String {
        let SourceFacts { planned, selected, .. } = facts;
        let (rows, which) =
            if selected < planned { (planned - selected, "missing") } else { (selected - planned, "too many") };
        let results = done.iter().flat_map(|published| &published.partitions);
        let places: Vec<String> = self
            .plan
            .partitions
            .iter()
            .zip(results)
            .filter(|(partition, result)| partition.rows != result.selected)
            .map(|(partition, result)| format!("{} ({} of {})", partition.name, result.selected, partition.rows))
            .collect();
        format!(
            "table {}: {rows} rows are {which}: {selected} were copied of {planned} that {} held before copying, and the source did \
             not change meanwhile. Partitions: {}. Source shards: {}",
            self.plan.name,
            self.plan.source,
            few(&places),
            self.shards()
        )
    }

    /// Returns the message that the source changed during the copy.
    fn moved(&self, facts: SourceFacts, rows: u64) -> String {
        let (name, selected) = (&self.plan.name, facts.selected);
        if rows == 0 {
            return format!(
                "table {name}: the source changed while it was copied: {selected} rows were copied, it holds as many now, and its parts \
                 are others. Copy it again when nobody writes to it, or copy what has changed with --incremental"
            );
        }
        let now = facts.now.unwrap_or(0);
        format!(
            "table {name}: the source changed: {selected} rows were copied, and it holds {now} now, so {rows} rows are not accounted \
             for. Copy what has changed with --incremental"
        )
    }

    fn shards(&self) -> String {
        let shards = self.account.shards.iter().enumerate();
        let texts: Vec<String> = shards
            .map(|(shard, account)| format!("{} ({}: {} rows)", shard + 1, account.node, account.counted))
            .collect();
        few(&texts)
    }
}
