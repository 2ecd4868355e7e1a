//! The transfer `clone`: copies a piece as whole parts. No server decodes, sorts or encodes rows; the parts are copied as files.
//!
//! # Steps
//! 1. On the source node, a table of this attempt gets the partitions of the source table by hard links. It is the only replica at
//!    its own path in ZooKeeper. Its contents do not change any more, so all questions about the parts (which columns they have, to
//!    which target shard their rows belong) are asked of this table.
//! 2. On each target node, another table at another path fetches the parts (`FETCH PARTITION`). This statement reports errors at once.
//!    A second replica at the first path would fetch when its queue allows (18.16: 11 s, where this takes 2 s), and report no errors.
//! 3. The staging table takes the parts from there by hard links. All further steps are the same as with other transfers.
//! 4. Both tables are dropped, and their nodes in ZooKeeper with them. They exist only during the transfer.
//!
//! Before step 3 the staging table is unchanged, so that the same attempt may use another transfer.
//!
//! The first table is filled by REPLACE, not by ATTACH: a replicated table refuses two equal parts at once (docs/clickhouse-behaviour.md, T5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use super::super::errors::{AttemptError, FinalError};
use super::super::table_rules::lacks_columns;
use super::{Attempt, Source};
use crate::client::{Error, Placing};
use crate::model::{Node, PartitionId, TableName, Way};
use crate::runtime::fault_point::fault_point;
use crate::sql::{KeyElement, Relation, Selection, TableDefinition};

/// The most partitions in one ALTER.
const PARTITIONS_PER_ALTER: usize = 100;
/// How long a server may see an older state of ZooKeeper than another server.
const ZOOKEEPER_LAG_LIMIT: Duration = Duration::from_secs(5);
/// How often the state that a server sees is read again. There is no notification.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The name of the replica that target nodes fetch from.
const REPLICA: &str = "source";

/// The reason why a piece cannot be cloned, found before any of its rows are staged.
#[derive(Debug, Clone)]
pub(super) enum Hindrance {
    /// The tables, the rows or the servers do not allow it.
    Unfit(String),
    /// Patch parts change the rows. A query applies patch parts; parts that are copied as files lack the changes.
    Patched(String),
    /// A server answered with an error, or did not answer.
    Server(Error),
}

impl From<Error> for Hindrance {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<AttemptError> for Hindrance {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Server(error) => Self::Server(error),
            other => Self::Unfit(other.to_string()),
        }
    }
}

impl Hindrance {
    fn reason(&self) -> String {
        match self {
            Self::Unfit(why) | Self::Patched(why) => why.clone(),
            Self::Server(error) => error.to_string(),
        }
    }
}

/// The parts of a source shard, ready to be staged.
struct FetchedParts {
    ids: Vec<PartitionId>,
    /// The nodes of the target shard that the rows belong to, each with its table that holds the parts.
    tables: Vec<(Arc<Node>, TableName)>,
}

/// A node that fetches parts.
struct FetchTarget<'a> {
    node: &'a Node,
    /// The index of its target shard.
    shard: usize,
    /// The index of the node among the replicas of the shard.
    replica: usize,
}

/// A temporary table of the attempt, to be dropped at the end. It may not exist.
type TemporaryTable = (Arc<Node>, TableName);

impl Attempt<'_> {
    /// Clones the piece where the task wants that or allows it. Returns whether its rows are staged now; otherwise the caller must use
    /// another transfer.
    ///
    /// # Errors
    /// Where the task demands `clone` and the piece cannot be cloned, and where staging began and failed.
    pub(super) async fn clone_if_wanted(
        &self,
        sources: &[Source],
        nodes: &[Vec<Arc<Node>>],
    ) -> Result<bool, AttemptError> {
        let task = self.context.task();
        let job = &task.tables[self.piece.table];
        let is_demanded = job.transfer == Some(Way::Clone);
        let routes = &self.context.pool.routes;
        let given_up = || sources.iter().any(|source| routes.is_given_up(self.piece.table, &source.node));
        if !is_demanded && (job.transfer.is_some() || job.paced || !self.plan().clones || given_up()) {
            return Ok(false);
        }
        let mut made = Vec::new();
        let fetched_parts = self.fetch_parts(sources, nodes, &mut made).await;
        let done = match fetched_parts {
            Ok(fetched_parts) => {
                fault_point("parts-fetched").await;
                self.stage_parts(&fetched_parts).await.map(|()| true)
            }
            // A task that demands `clone` must not fail because of later updates of the source, so the rows are sent instead.
            Err(hindrance @ Hindrance::Patched(_)) => {
                self.give_up_cloning(sources, &hindrance);
                Ok(false)
            }
            Err(hindrance) if is_demanded => Err(match hindrance {
                Hindrance::Unfit(why) | Hindrance::Patched(why) => FinalError::CannotClone { why }.into(),
                Hindrance::Server(error) => error.into(),
            }),
            Err(hindrance) => {
                self.give_up_cloning(sources, &hindrance);
                Ok(false)
            }
        };
        self.drop_temporary(&made).await;
        done
    }

    /// Logs the reason, and clones no more pieces from the source nodes where the reason is an error of a server. The next piece would get
    /// the same error. Reasons in the rows of one piece need not apply to the next one.
    fn give_up_cloning(&self, sources: &[Source], hindrance: &Hindrance) {
        let routes = &self.context.pool.routes;
        if let Hindrance::Server(error) = hindrance
            && !error.is_unreachable()
        {
            sources.iter().for_each(|source| routes.give_up(self.piece.table, &source.node));
        }
        let line = format!("table {}: transfer: not clone, since {}", self.plan().name, hindrance.reason());
        if routes.is_news(&line) {
            tracing::info!(names_table = true, "{line}");
        }
    }

    /// Brings the parts of all sources to their target nodes. Adds all temporary tables to `made`.
    async fn fetch_parts(
        &self,
        sources: &[Source],
        nodes: &[Vec<Arc<Node>>],
        made: &mut Vec<TemporaryTable>,
    ) -> Result<Vec<FetchedParts>, Hindrance> {
        let ids = self.fit_for_parts()?;
        // Wait for all of them, even after an error: a cancelled CREATE may still create a table.
        let fetched_parts = join_all(sources.iter().map(|source| self.fetch_parts_from(source, nodes, &ids))).await;
        let (tables, fetched_parts): (Vec<Vec<TemporaryTable>>, Vec<_>) = fetched_parts.into_iter().unzip();
        made.extend(tables.into_iter().flatten());
        fetched_parts.into_iter().collect()
    }

    /// Returns the ids of the piece's partitions, where the piece consists of whole partitions that are transferred unchanged.
    fn fit_for_parts(&self) -> Result<Vec<PartitionId>, Hindrance> {
        let plan = self.plan();
        let piece = &plan.pieces[self.piece.index];
        if piece.slice.is_some() {
            return Err(Hindrance::Unfit("the piece is a slice of a partition, and parts hold whole ones".into()));
        }
        if let Some(why) = plan.against_parts() {
            return Err(Hindrance::Unfit(why));
        }
        let ids: Option<Vec<PartitionId>> =
            plan.partitions_of(piece.batch).iter().map(|partition| partition.id.clone()).collect();
        ids.ok_or_else(|| Hindrance::Unfit("the ids of its partitions cannot be told from their values".into()))
    }

    /// Brings the parts of one source to its target nodes. Also returns all temporary tables that may exist, even after an error.
    async fn fetch_parts_from(
        &self,
        source: &Source,
        nodes: &[Vec<Arc<Node>>],
        ids: &[PartitionId],
    ) -> (Vec<TemporaryTable>, Result<FetchedParts, Hindrance>) {
        let mut made = Vec::new();
        let fetched_parts = self.link_and_fetch(source, nodes, ids, &mut made).await;
        (made, fetched_parts)
    }

    /// Performs steps 1 and 2 for one source.
    async fn link_and_fetch(
        &self,
        source: &Source,
        nodes: &[Vec<Arc<Node>>],
        ids: &[PartitionId],
        made: &mut Vec<TemporaryTable>,
    ) -> Result<FetchedParts, Hindrance> {
        let (context, plan, client) = (self.context, self.plan(), &self.context.pool.client);
        let node = &source.node;
        let definition = client.table(node, &plan.source).await?;
        let definition = definition.ok_or_else(|| Hindrance::Unfit(format!("{node}: {} is gone", plan.source)))?;
        self.compare_definitions(node, &definition, nodes).await?;
        let is_patched: BTreeMap<PartitionId, bool> =
            client.parts(node, &plan.source).await?.into_iter().map(|part| (part.id, part.patched)).collect();
        let ids: Vec<PartitionId> = ids.iter().filter(|id| is_patched.contains_key(id)).cloned().collect();
        if let Some(id) = ids.iter().find(|id| is_patched.get(id) == Some(&true)) {
            return Err(Hindrance::Patched(format!(
                "{node}: patch parts of lightweight updates change rows of partition {id} of {}",
                plan.source
            )));
        }

        let out =
            plan.source.beside(context.id.parts_out(self.batch_ref(), self.piece, self.number, source.share.shard));
        // Where all nodes are one server, the staging table takes the parts from this table.
        let local = nodes.iter().flatten().all(|target| target.url() == node.url());
        let path = path_of(&out, "");
        let statement = match local {
            true => definition.create_staging(&out, &plan.columns),
            false => definition.create_passage(&out, &plan.columns, &path, REPLICA),
        };
        let statement =
            statement.ok_or_else(|| Hindrance::Unfit(format!("{node}: {} has other columns", plan.source)))?;
        made.push((node.clone(), out.clone()));
        self.create(node, &out, &statement, &definition).await?;
        fault_point("parts-out-made").await;
        let settings = context.target_settings(node).await?;
        for chunk in ids.chunks(PARTITIONS_PER_ALTER) {
            client.place(node, Placing::Replace, &out, &plan.source, chunk, &settings).await?;
        }
        let lacking = client.parts_lacking(node, &out, &definition.stored()).await?;
        if lacking > 0 {
            return Err(Hindrance::Unfit(format!(
                "{node}: {lacking} parts of {} were written before a column was added to it or changed",
                plan.source
            )));
        }
        let shard = self.shard_of_parts(node, &out).await?;
        let (Some(shard), false) = (shard, ids.is_empty()) else {
            return Ok(FetchedParts { ids: Vec::new(), tables: Vec::new() });
        };
        if local {
            return Ok(FetchedParts {
                ids,
                tables: nodes[shard].iter().map(|target| (target.clone(), out.clone())).collect(),
            });
        }
        let into =
            plan.target.beside(context.id.parts_in(self.batch_ref(), self.piece, self.number, source.share.shard));
        made.extend(nodes[shard].iter().map(|target| (target.clone(), into.clone())));
        let fetched = join_all(nodes[shard].iter().enumerate().map(|(replica, target)| {
            self.fetch_on(FetchTarget { node: target, shard, replica }, &into, node, &path, &ids)
        }));
        fetched.await.into_iter().collect::<Result<(), Hindrance>>()?;
        Ok(FetchedParts { ids, tables: nodes[shard].iter().map(|target| (target.clone(), into.clone())).collect() })
    }

    /// Checks that the tables and versions of a source node and of the target nodes allow cloning.
    async fn compare_definitions(
        &self,
        node: &Node,
        definition: &TableDefinition,
        nodes: &[Vec<Arc<Node>>],
    ) -> Result<(), Hindrance> {
        let pool = &self.context.pool;
        let release = pool.facts(node).await?.release();
        for target in nodes.iter().flatten() {
            let target_definition = self.context.target(self.piece.table, target).await?;
            if let Some(why) = definition.against_parts_in(&target_definition) {
                return Err(Hindrance::Unfit(why));
            }
            if pool.facts(target).await?.release() != release {
                return Err(Hindrance::Unfit(format!("{node} and {target} are of different versions")));
            }
        }
        Ok(())
    }

    /// Creates a temporary table and stops its merges.
    async fn create(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        like: &TableDefinition,
    ) -> Result<(), Hindrance> {
        let client = &self.context.pool.client;
        let settings = self.context.target_settings(node).await?;
        client.create_table(node, name, statement, &settings).await?;
        if like.engine.is_old_syntax() {
            client.stop_merges(node, name).await?;
        }
        Ok(())
    }

    /// Returns the target shard that all rows of a table belong to, or `None` where there are no rows.
    async fn shard_of_parts(&self, node: &Node, name: &TableName) -> Result<Option<usize>, Hindrance> {
        let plan = self.plan();
        let Some(sharding) = plan.sharding.as_ref().filter(|_| plan.target_shards().count() > 1) else {
            return Ok(plan.target_shards().next());
        };
        let settings = self.context.source_settings(node).await?;
        let rows = Selection::all(Relation::plain(name.clone()));
        let slot = KeyElement { expression: sharding.slot_key().slot(), type_name: "UInt64".into() };
        let tallies = self.context.pool.client.tally(node, &rows, &[slot], &settings).await?;
        let mut shards = BTreeSet::new();
        for tally in tallies {
            shards.insert(sharding.owner_of(&tally.value).ok_or_else(|| {
                Hindrance::Unfit(format!("{node}: rows are in a slot that no target shard has ({:?})", tally.value.0))
            })?);
        }
        match shards.into_iter().collect::<Vec<_>>().as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            several => {
                let several: Vec<String> = several.iter().map(|shard| (shard + 1).to_string()).collect();
                Err(Hindrance::Unfit(format!(
                    "{node}: the rows of {} in this piece belong to target shards {}, and parts are not split",
                    plan.source,
                    several.join(", ")
                )))
            }
        }
    }

    /// Fetches the parts on a target node.
    async fn fetch_on(
        &self,
        FetchTarget { node: target, shard, replica }: FetchTarget<'_>,
        into: &TableName,
        source: &Node,
        path: &str,
        ids: &[PartitionId],
    ) -> Result<(), Hindrance> {
        let (context, client) = (self.context, &self.context.pool.client);
        self.wait_until_seen(target, source, path).await?;
        let definition = context.target(self.piece.table, target).await?;
        let own_path = path_of(into, &format!("_s{shard}r{replica}"));
        let statement = definition
            .create_passage(into, &self.plan().columns, &own_path, REPLICA)
            .ok_or_else(|| lacks_columns(self.plan(), target))?;
        self.create(target, into, &statement, &definition).await?;
        let settings = context.target_settings(target).await?;
        for (index, chunk) in ids.chunks(PARTITIONS_PER_ALTER).enumerate() {
            let query_id = context.id.query(self.piece, self.number, shard, replica, index);
            client.fetch(target, into, path, chunk, &query_id, &settings).await?;
        }
        Ok(())
    }

    /// Waits until a target node sees all parts in ZooKeeper. It may be connected to a ZooKeeper server that lags behind the one of the
    /// source, and it would not fetch parts that it does not see.
    async fn wait_until_seen(&self, target: &Node, source: &Node, path: &str) -> Result<(), Hindrance> {
        let client = &self.context.pool.client;
        let path = format!("{path}/replicas/{REPLICA}/parts");
        let parts = async |node| {
            let names = client.zookeeper_children(node, &path).await?;
            Ok::<_, Error>(names.map(|names| names.into_iter().collect::<BTreeSet<_>>()))
        };
        let expected = parts(source).await?;
        let started = Instant::now();
        loop {
            let seen = parts(target).await?;
            if seen == expected {
                return Ok(());
            }
            if started.elapsed() > ZOOKEEPER_LAG_LIMIT {
                return Err(Hindrance::Unfit(match seen {
                    None => format!("{source} and {target} do not have the same ZooKeeper"),
                    Some(_) => format!("{target} does not see in ZooKeeper which parts {source} has"),
                }));
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Attaches the fetched parts to the staging tables. An error here fails the attempt, since the staging tables may have changed; the
    /// next attempt has its own staging tables.
    async fn stage_parts(&self, fetched_parts: &[FetchedParts]) -> Result<(), AttemptError> {
        let staging = self.staging();
        for parts in fetched_parts {
            let placed = parts.tables.iter().map(|(node, from)| self.stage_on(node, &staging, from, &parts.ids));
            try_join_all(placed).await?;
        }
        Ok(())
    }

    async fn stage_on(
        &self,
        node: &Node,
        staging: &TableName,
        from: &TableName,
        ids: &[PartitionId],
    ) -> Result<(), AttemptError> {
        let settings = self.context.target_settings(node).await?;
        for chunk in ids.chunks(PARTITIONS_PER_ALTER) {
            self.context.pool.client.place(node, Placing::Attach, staging, from, chunk, &settings).await?;
        }
        Ok(())
    }

    /// Drops the temporary tables.
    async fn drop_temporary(&self, made: &[TemporaryTable]) {
        join_all(made.iter().map(|(node, name)| async move {
            let settings = self.context.target_settings(node).await.unwrap_or_default();
            if let Err(error) = self.context.pool.client.drop_table(node, name, &settings).await {
                tracing::warn!(node = error.node, "{error}; it stays until the task ends");
            }
        }))
        .await;
    }
}

/// Returns the path of a temporary table in ZooKeeper. It is directly below `/clickhouse`, which servers create themselves (for
/// `/clickhouse/tables` and `/clickhouse/task_queue`), so that nothing is left when the table is dropped.
fn path_of(name: &TableName, suffix: &str) -> String {
    format!("/clickhouse/{}{suffix}", name.table)
}
