//! The rows of a piece as whole parts: files that nobody decodes, sorts or encodes.
//!
//! # How
//! 1. On the source node a table of the attempt's own gets the partitions of the source table, by hard links. It is a replica
//!    at a path of its own in ZooKeeper, and alone there. What is in it changes no more: all that is asked before the parts
//!    travel (which columns they have, to which target shard their rows belong) is asked of it.
//! 2. On each target node another one, at another path, fetches them (`FETCH PARTITION`). It tells at once what is wrong; a
//!    second replica at the first path would fetch when its queue comes round (18.16: 11 s, where this takes 2), and tell nobody.
//! 3. The staging table takes them from there, by hard links. From here on everything is as with other ways.
//! 4. Both tables are dropped, and their nodes in ZooKeeper with them. They are in the parts' way only while parts travel.
//!
//! Until step 3 the staging table is untouched, so that another way may be taken in the same attempt.
//!
//! The first table is filled by REPLACE, not by ATTACH: a replicated table refuses two equal parts at once (docs/clickhouse-behaviour.md, T5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use crate::client::{Error, Placing};
use crate::model::{Node, PartitionId, TableName, Way};
use crate::sql::{KeyElement, Relation, Selection, TableDefinition};

use super::super::context::AttemptError;
use super::{Attempt, Source};
use crate::runtime::fault_point::fault_point;

/// Partitions for one ALTER.
const PER_ALTER: usize = 100;
/// How long a server may see an older state of ZooKeeper than another one, and how often it is looked at. Nobody tells.
const BEHIND: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);
/// The name of the replica that others fetch from.
const REPLICA: &str = "source";

/// What keeps a piece from being cloned, before anything of it is staged.
#[derive(Debug, Clone)]
pub(super) enum Hindrance {
    /// The tables, the rows or the servers are not fit for it.
    Unfit(String),
    /// Patch parts change the rows: a query applies them, and parts that travel as files do not have them.
    Patched(String),
    /// A server said no, or nothing.
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
struct Brought {
    ids: Vec<PartitionId>,
    /// The nodes of the target shard that their rows belong to, each with the table that has them there.
    on: Vec<(Arc<Node>, TableName)>,
}

/// A table of the attempt's own, to be dropped in the end whether it was made or not.
type Made = (Arc<Node>, TableName);

impl Attempt<'_> {
    /// Clones the piece where it is to be cloned. Whether its rows are staged now: else another way is to be taken.
    ///
    /// # Errors
    /// Where the task says that it must be cloned, and it can't be; and where what was begun to be staged was not finished.
    pub(super) async fn clone_if_wanted(
        &self,
        sources: &[Source],
        nodes: &[Vec<Arc<Node>>],
    ) -> Result<bool, AttemptError> {
        let task = self.context.task();
        let job = &task.tables[self.piece.table];
        let told = job.transfer == Some(Way::Clone);
        let ways = &self.context.pool.ways;
        let given_up = || sources.iter().any(|source| ways.is_given_up(self.piece.table, &source.node));
        if !told && (job.transfer.is_some() || job.paced || !self.plan().clones || given_up()) {
            return Ok(false);
        }
        let mut made = Vec::new();
        let brought = self.bring(sources, nodes, &mut made).await;
        let done = match brought {
            Ok(brought) => {
                fault_point("parts-fetched").await;
                self.stage_parts(&brought).await.map(|()| true)
            }
            // The next updates of the source would stop a task that began well: its rows are sent instead.
            Err(hindrance @ Hindrance::Patched(_)) => {
                self.give_up_cloning(sources, &hindrance);
                Ok(false)
            }
            Err(hindrance) if told => Err(match hindrance {
                Hindrance::Unfit(why) | Hindrance::Patched(why) => AttemptError::Final(format!(
                    "clone does not work: {why}. Without <transfer> the worker looks for another way"
                )),
                Hindrance::Server(error) => error.into(),
            }),
            Err(hindrance) => {
                self.give_up_cloning(sources, &hindrance);
                Ok(false)
            }
        };
        self.drop_made(&made).await;
        done
    }

    /// What one piece shows of its servers would be the same with the next; what is wrong with its own rows need not be.
    fn give_up_cloning(&self, sources: &[Source], hindrance: &Hindrance) {
        let ways = &self.context.pool.ways;
        if let Hindrance::Server(error) = hindrance
            && !error.is_unreachable()
        {
            sources.iter().for_each(|source| ways.give_up(self.piece.table, &source.node));
        }
        let line = format!("table {}: transfer: not clone, since {}", self.plan().name, hindrance.reason());
        if ways.is_news(&line) {
            tracing::info!("{line}");
        }
    }

    async fn bring(
        &self,
        sources: &[Source],
        nodes: &[Vec<Arc<Node>>],
        made: &mut Vec<Made>,
    ) -> Result<Vec<Brought>, Hindrance> {
        let ids = self.fit_for_parts()?;
        // All of them to their ends: what is cut off in the middle may still make a table.
        let brought = join_all(sources.iter().map(|source| self.bring_from(source, nodes, &ids))).await;
        let (tables, brought): (Vec<Vec<Made>>, Vec<_>) = brought.into_iter().unzip();
        made.extend(tables.into_iter().flatten());
        brought.into_iter().collect()
    }

    /// The ids of the piece's partitions, where it is made of whole ones that are transferred as they are.
    fn fit_for_parts(&self) -> Result<Vec<PartitionId>, Hindrance> {
        let plan = self.plan();
        let piece = &plan.pieces[self.piece.piece];
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

    /// Also gives every table that may have been made, whatever came of it.
    async fn bring_from(
        &self,
        source: &Source,
        nodes: &[Vec<Arc<Node>>],
        ids: &[PartitionId],
    ) -> (Vec<Made>, Result<Brought, Hindrance>) {
        let mut made = Vec::new();
        let brought = self.bring_out(source, nodes, ids, &mut made).await;
        (made, brought)
    }

    async fn bring_out(
        &self,
        source: &Source,
        nodes: &[Vec<Arc<Node>>],
        ids: &[PartitionId],
        made: &mut Vec<Made>,
    ) -> Result<Brought, Hindrance> {
        let (context, plan, client) = (self.context, self.plan(), &self.context.pool.client);
        let node = &source.node;
        let definition = client.table(node, &plan.source).await?;
        let definition = definition.ok_or_else(|| Hindrance::Unfit(format!("{node}: {} is gone", plan.source)))?;
        self.compare_definitions(node, &definition, nodes).await?;
        let there: BTreeMap<PartitionId, bool> =
            client.parts(node, &plan.source).await?.into_iter().map(|part| (part.id, part.patched)).collect();
        let ids: Vec<PartitionId> = ids.iter().filter(|id| there.contains_key(id)).cloned().collect();
        if let Some(id) = ids.iter().find(|id| there.get(id) == Some(&true)) {
            return Err(Hindrance::Patched(format!(
                "{node}: patch parts of lightweight updates change rows of partition {id} of {}",
                plan.source
            )));
        }

        let out =
            plan.source.beside(context.id.parts_out(self.batch_ref(), self.piece, self.number, source.share.shard));
        // On one server the staging table takes them from here.
        let local = nodes.iter().flatten().all(|target| target.url() == node.url());
        let path = path_of(&out, "");
        let statement = match local {
            true => definition.create_staging(&out, &plan.columns),
            false => definition.create_passage(&out, &plan.columns, &path, REPLICA),
        };
        let statement =
            statement.ok_or_else(|| Hindrance::Unfit(format!("{node}: {} has other columns", plan.source)))?;
        made.push((node.clone(), out.clone()));
        self.make(node, &out, &statement, &definition).await?;
        fault_point("parts-out-made").await;
        let settings = context.target_settings(node).await?;
        for some in ids.chunks(PER_ALTER) {
            client.place(node, Placing::Replace, &out, &plan.source, some, &settings).await?;
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
            return Ok(Brought { ids: Vec::new(), on: Vec::new() });
        };
        if local {
            return Ok(Brought { ids, on: nodes[shard].iter().map(|target| (target.clone(), out.clone())).collect() });
        }
        let into = context.beside_target(
            self.piece.table,
            context.id.parts_in(self.batch_ref(), self.piece, self.number, source.share.shard),
        );
        made.extend(nodes[shard].iter().map(|target| (target.clone(), into.clone())));
        let fetched = join_all(
            nodes[shard]
                .iter()
                .enumerate()
                .map(|(replica, target)| self.fetch_on(target, (shard, replica), &into, (node, path.as_str()), &ids)),
        );
        fetched.await.into_iter().collect::<Result<(), Hindrance>>()?;
        Ok(Brought { ids, on: nodes[shard].iter().map(|target| (target.clone(), into.clone())).collect() })
    }

    async fn compare_definitions(
        &self,
        node: &Node,
        definition: &TableDefinition,
        nodes: &[Vec<Arc<Node>>],
    ) -> Result<(), Hindrance> {
        let pool = &self.context.pool;
        let release = pool.facts(node).await?.release();
        for target in nodes.iter().flatten() {
            let there = self.context.target(self.piece.table, target).await?;
            if let Some(why) = definition.against_parts_in(&there) {
                return Err(Hindrance::Unfit(why));
            }
            if pool.facts(target).await?.release() != release {
                return Err(Hindrance::Unfit(format!("{node} and {target} are of different versions")));
            }
        }
        Ok(())
    }

    async fn make(
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

    /// The target shard that all rows of a table belong to; `None` where there are no rows.
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

    async fn fetch_on(
        &self,
        target: &Arc<Node>,
        (shard, replica): (usize, usize),
        into: &TableName,
        (source, path): (&Node, &str),
        ids: &[PartitionId],
    ) -> Result<(), Hindrance> {
        let (context, client) = (self.context, &self.context.pool.client);
        self.wait_until_seen(target, source, path).await?;
        let definition = context.target(self.piece.table, target).await?;
        let own_path = path_of(into, &format!("_s{shard}r{replica}"));
        let statement = definition
            .create_passage(into, &self.plan().columns, &own_path, REPLICA)
            .ok_or_else(|| context.lacks(self.piece.table, target))?;
        self.make(target, into, &statement, &definition).await?;
        let settings = context.target_settings(target).await?;
        for (part, some) in ids.chunks(PER_ALTER).enumerate() {
            let query_id = context.id.query(self.piece, self.number, shard, replica, part);
            client.fetch(target, into, path, some, &query_id, &settings).await?;
        }
        Ok(())
    }

    /// The target finds the parts through ZooKeeper, of which it may ask a server that is a little behind that of the source:
    /// what it does not see it would not fetch.
    async fn wait_until_seen(&self, target: &Node, source: &Node, path: &str) -> Result<(), Hindrance> {
        let client = &self.context.pool.client;
        let path = format!("{path}/replicas/{REPLICA}/parts");
        let parts = async |node| {
            let names = client.zookeeper_children(node, &path).await?;
            Ok::<_, Error>(names.map(|names| names.into_iter().collect::<BTreeSet<_>>()))
        };
        let there = parts(source).await?;
        let begun = Instant::now();
        loop {
            let seen = parts(target).await?;
            if seen == there {
                return Ok(());
            }
            if begun.elapsed() > BEHIND {
                return Err(Hindrance::Unfit(match seen {
                    None => format!("{source} and {target} do not have the same ZooKeeper"),
                    Some(_) => format!("{target} does not see in ZooKeeper which parts {source} has"),
                }));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// From here on the staging tables are touched: what goes wrong is for the next attempt, with staging tables of its own.
    async fn stage_parts(&self, brought: &[Brought]) -> Result<(), AttemptError> {
        let staging = self.staging();
        for of in brought {
            let placed = of.on.iter().map(|(node, from)| self.stage_on(node, &staging, from, &of.ids));
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
        for some in ids.chunks(PER_ALTER) {
            self.context.pool.client.place(node, Placing::Attach, staging, from, some, &settings).await?;
        }
        Ok(())
    }

    async fn drop_made(&self, made: &[Made]) {
        join_all(made.iter().map(|(node, name)| async move {
            let settings = self.context.target_settings(node).await.unwrap_or_default();
            if let Err(error) = self.context.pool.client.drop_table(node, name, &settings).await {
                tracing::warn!(node = error.node, "{error}; it stays until the task ends");
            }
        }))
        .await;
    }
}

/// Where a table lives in ZooKeeper: right below a node that servers make for themselves (`/clickhouse/tables`,
/// `/clickhouse/task_queue`), so that nothing is left when the table is dropped.
fn path_of(name: &TableName, more: &str) -> String {
    format!("/clickhouse/{}{more}", name.table)
}
