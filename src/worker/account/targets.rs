//! The account of the target: checks that every target node holds the published rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::context::WorkerContext;
use super::super::retry_policy::counts_again;
use super::published;
use crate::client::Error;
use crate::client::codes::UNKNOWN_TABLE;
use crate::model::{Node, PartitionId, TableName, few};
use crate::nodes::counts::target_rows;
use crate::nodes::pool::NodePool;
use crate::protocol::account::{Expected, Findings, Placed};
use crate::protocol::{BatchRecord, TableRecords};
use crate::runtime::bounded::all_tables;

/// How long a replica may take to fetch rows from other replicas before it is counted again.
const CATCH_UP: Duration = Duration::from_secs(120);
/// The most partitions that a count names in its filter. With more, it counts all partitions of the table.
const MAX_NAMED_PARTITIONS: usize = 250;

/// A target table on a node, with the rows that all table jobs put there.
struct NodeTable {
    /// Index of a table job that fills it.
    table: usize,
    /// The table.
    name: TableName,
    /// Index of the target shard.
    shard: usize,
    node: Arc<Node>,
    /// Whether it fetches rows from other replicas.
    fetches: bool,
    rows: BTreeMap<PartitionId, Expected>,
}

/// The result of counting a node.
enum Count {
    Even,
    Different(String),
    Silent(String),
}

/// Settles the account of all target nodes.
pub(super) async fn settle(context: &WorkerContext, by_table: &[TableRecords]) -> Findings {
    let mut findings = Findings::default();
    let places = places(context, by_table, &mut findings);
    let counts = all_tables(places.iter().map(|place| place.count(context))).await;
    let mut counted: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut silent = Vec::new();
    for (place, count) in places.iter().zip(counts) {
        match count {
            Count::Even => drop(counted.insert((place.table, place.shard))),
            Count::Different(line) => {
                counted.insert((place.table, place.shard));
                findings.differences.push(line);
            }
            Count::Silent(line) => silent.push((place, line)),
        }
    }
    for (place, line) in silent {
        // Another node of the shard was counted and holds the rows, so a warning about this one is enough.
        if counted.contains(&(place.table, place.shard)) {
            tracing::warn!(node = place.node.address(), "not counted in the end: {line}");
        } else {
            findings.unaccounted.push(line);
        }
    }
    findings
}

/// Returns the nodes with the rows that each must hold.
fn places(context: &WorkerContext, by_table: &[TableRecords], findings: &mut Findings) -> Vec<NodeTable> {
    let task = context.task();
    let mut places: BTreeMap<(String, TableName), NodeTable> = BTreeMap::new();
    for (table, (plan, records)) in context.plans.iter().zip(by_table).enumerate() {
        let Some(done) = published(plan, records) else { continue };
        let cluster = task.target(&task.tables[table]);
        for (batch, placed) in records.batches.iter().zip(done) {
            let Some(placed) = &placed.placed else { continue };
            for (shard, address, rows) in shares(context, table, batch, placed) {
                let Some(node) = NodePool::find(cluster, shard, &address) else {
                    findings
                        .unaccounted
                        .push(format!("the task names target node {address} of {} no more", plan.target));
                    continue;
                };
                let fetches = plan.replicated[shard] && plan.engine_replicates;
                let (key, name) = ((node.url(), plan.target.clone()), plan.target.clone());
                let place =
                    places.entry(key).or_insert(NodeTable { table, name, shard, node, fetches, rows: BTreeMap::new() });
                for (id, expected) in rows {
                    let all = place.rows.get(id).map_or(expected, |other| other.and(expected));
                    place.rows.insert(id.clone(), all);
                }
            }
        }
    }
    places.into_values().collect()
}

/// A shard of the target, the address of one of its nodes, and the rows of a batch that this node must hold.
type Share<'a> = (usize, String, Vec<(&'a PartitionId, Expected)>);

/// Returns the nodes with the rows of a batch that each must hold. All replicas of a Replicated table must hold the same rows.
fn shares<'a>(context: &WorkerContext, table: usize, batch: &BatchRecord, placed: &'a Placed) -> Vec<Share<'a>> {
    let (task, plan) = (context.task(), &context.plans[table]);
    let mut shares = Vec::new();
    for (shard, nodes) in batch.nodes.iter().enumerate() {
        match nodes.first() {
            Some(first) if plan.replicated[shard] && plan.engine_replicates => {
                let replicas = &task.target(&task.tables[table]).shards[shard].replicas;
                shares.extend(replicas.iter().map(|node| (shard, node.address(), placed.on(first))));
            }
            _ => shares.extend(nodes.iter().map(|node| (shard, node.clone(), placed.on(node)))),
        }
    }
    shares
}

impl NodeTable {
    /// Counts the rows of the table. Where rows are missing on a replica, waits until it has fetched them and counts again.
    async fn count(&self, context: &WorkerContext) -> Count {
        if self.rows.is_empty() {
            return Count::Even;
        }
        let shrinks = match context.target(self.table, &self.node).await {
            Ok(target) => target.engine.merges_rows() || target.has_ttl(),
            Err(error) => return Count::Silent(format!("{error}: the rows of {} there are not counted", self.name)),
        };
        let mut wrong = match self.wrong(context, shrinks).await {
            Ok(wrong) => wrong,
            Err(error) => return Count::Silent(error.to_string()),
        };
        if !wrong.is_empty() && self.fetches {
            let fetched = context.pool.client.sync_replica(&self.node, &self.name);
            match tokio::time::timeout(CATCH_UP, fetched).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Count::Silent(error.to_string()),
                Err(_) => {
                    let waited = CATCH_UP.as_secs();
                    return Count::Silent(format!(
                        "{}: {} has not fetched all rows in {waited} s",
                        self.node, self.name
                    ));
                }
            }
            wrong = match self.wrong(context, shrinks).await {
                Ok(wrong) => wrong,
                Err(error) => return Count::Silent(error.to_string()),
            };
        }
        if wrong.is_empty() { Count::Even } else { Count::Different(self.line(&wrong)) }
    }

    /// Returns the partitions that hold other rows than they must, with what they hold.
    async fn wrong(&self, context: &WorkerContext, shrinks: bool) -> Result<Vec<(&PartitionId, Expected, u64)>, Error> {
        let ids: Vec<PartitionId> = self.rows.keys().cloned().collect();
        let only = (ids.len() <= MAX_NAMED_PARTITIONS).then_some(ids.as_slice());
        let task = context.task();
        let mut attempts = 1;
        let counted = loop {
            match target_rows(&context.pool, &task, &self.node, &self.name, only).await {
                Ok(counted) => break counted,
                // The server answers, but the table does not exist any more.
                Err(error) if error.code() == Some(UNKNOWN_TABLE) => break BTreeMap::new(),
                Err(error) if counts_again(error.remedy(), attempts) => {
                    let pause = context.worker_options.retry.pause(attempts);
                    tokio::time::sleep(context.randomness.jitter(pause)).await;
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let held = |id: &PartitionId| counted.get(id).copied().unwrap_or(0);
        let rows = self.rows.iter().map(|(id, expected)| (id, Expected { shrinks, ..*expected }, held(id)));
        Ok(rows.filter(|(_, expected, held)| !expected.is_met_by(*held)).collect())
    }

    /// Returns the message about partitions with wrong numbers of rows.
    fn line(&self, wrong: &[(&PartitionId, Expected, u64)]) -> String {
        let text = |(id, expected, held): &(&PartitionId, Expected, u64)| {
            let before =
                if expected.before > 0 { format!(" beside {} of others", expected.before) } else { String::new() };
            format!("{id} holds {held} rows, and {} were put there{before}", expected.added)
        };
        let missing: u64 = wrong.iter().map(|(_, expected, held)| expected.rows().saturating_sub(*held)).sum();
        let surplus: u64 = wrong.iter().map(|(_, expected, held)| held.saturating_sub(expected.rows())).sum();
        let rows = match (missing, surplus) {
            (missing, 0) => format!("{missing} rows are missing"),
            (0, surplus) => format!("{surplus} rows are too many (did somebody else write to it?)"),
            (missing, surplus) => format!("{missing} rows are missing, and {surplus} too many"),
        };
        let texts: Vec<String> = wrong.iter().map(text).collect();
        let shard = self.shard + 1;
        format!("target shard {shard} ({}): {}: {rows}. Partitions: {}", self.node, self.name, few(&texts))
    }
}
