//! One attempt at a piece: creates staging tables, transfers the rows, counts them (docs/design.md, §3).

mod dealing;
mod parts;
mod transfer;
mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use super::context::WorkerContext;
use super::errors::{AttemptError, FinalError, Mismatch};
use super::retry_policy::ends_without_other_replica;
use super::table_rules::{lacks_columns, may_clone};
use crate::client::codes::TABLE_ALREADY_EXISTS;
use crate::model::{AttemptNo, Node, TableName};
use crate::plan::SourceShare;
use crate::protocol::{BatchRecord, BatchRef, BatchTable, Copied, PieceRef};
use crate::runtime::clock::now;
use crate::runtime::fault_point::fault_point;

/// An attempt at a piece.
pub(crate) struct Attempt<'a> {
    /// The context of the worker.
    pub(crate) context: &'a WorkerContext,
    /// The piece.
    pub(crate) piece: PieceRef,
    /// The number of the attempt.
    pub(crate) number: AttemptNo,
    /// How often earlier attempts ran out of memory.
    pub(crate) narrow: u32,
    /// The record of the batch of the piece.
    pub(crate) batch: &'a BatchRecord,
}

/// A node that the piece is read from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(super) node: Arc<Node>,
    /// The share of the piece on the node's shard.
    share: SourceShare,
}

impl Attempt<'_> {
    /// Copies the piece's rows into staging tables of this attempt, and counts them there.
    ///
    /// Cancellation: statements that were sent continue; [`Self::abandon`] or the next attempt ends them.
    pub(crate) async fn perform(&self, sources: &[Source]) -> Result<Copied, AttemptError> {
        let (started, began) = (Instant::now(), now());
        let nodes = self.context.target_nodes(self.piece.table, &self.batch.nodes)?;
        if self.number > AttemptNo(1) {
            self.clear_earlier(&nodes).await;
        }
        self.create_staging(&nodes).await?;
        fault_point("staging-created").await;
        let copied = self.copy_from(sources, &nodes).await;
        let mut copied = copied.map_err(|error| self.suspect_source(sources, error))?;
        fault_point("piece-verified").await;
        (copied.began, copied.millis) = (began, started.elapsed().as_millis() as u64);
        Ok(copied)
    }

    /// Transfers the rows and verifies them.
    async fn copy_from(&self, sources: &[Source], nodes: &[Vec<Arc<Node>>]) -> Result<Copied, AttemptError> {
        if !self.clone_if_wanted(sources, nodes).await? {
            self.transfer(sources, nodes).await?;
        }
        fault_point("piece-pushed").await;
        if self.context.randomness.strikes(self.context.worker_options.copy_fault_probability) {
            return Err(Mismatch::WantedFault { flag: "--copy-fault-probability" }.into());
        }
        let transferred = Instant::now();
        let copied = self.verify(sources, nodes).await?;
        Ok(Copied { verifying: transferred.elapsed().as_millis() as u64, ..copied })
    }

    /// Marks the source node that failed, so that the next attempt asks another replica first. Where there is no other replica and the
    /// data of this one are damaged, returns a final error.
    fn suspect_source(&self, sources: &[Source], error: AttemptError) -> AttemptError {
        let AttemptError::Server(server_error) = &error else { return error };
        let Some(source) = sources.iter().find(|source| server_error.node == source.node.address()) else {
            return error;
        };
        self.context.pool.suspect(&source.node);
        let shard = self.context.source_shard(self.piece.table, source.share.shard);
        if ends_without_other_replica(server_error.remedy(), shard.replicas.len()) {
            return FinalError::DamagedSource(server_error.clone()).into();
        }
        error
    }

    /// Ends the statements of this attempt that still run, and those of no newer attempt. Ignores errors: the statements can only
    /// touch tables of this attempt.
    pub(crate) async fn abandon(&self) {
        let prefix = self.context.id.attempt_queries(self.piece, self.number);
        let nodes = self.context.statement_nodes(self.piece, &self.batch.nodes);
        join_all(nodes.iter().map(|node| self.context.pool.client.kill(node, &prefix))).await;
    }

    /// Returns the plan of the table job.
    fn plan(&self) -> &crate::plan::TablePlan {
        &self.context.plans[self.piece.table]
    }

    fn batch_ref(&self) -> BatchRef {
        BatchRef { table: self.piece.table, index: self.plan().pieces[self.piece.index].batch }
    }

    /// Returns the name of the staging table of this attempt.
    fn staging(&self) -> TableName {
        self.plan().target.beside(self.context.id.staging(self.batch_ref(), self.piece, self.number))
    }

    /// Ends the statements and drops the tables of earlier attempts. Only disk space depends on it: no other attempt uses these tables.
    async fn clear_earlier(&self, nodes: &[Vec<Arc<Node>>]) {
        self.end_earlier().await;
        let prefix = self.context.id.piece_tables(self.batch_ref(), self.piece);
        let plan = self.plan();
        let targets = nodes.iter().flatten().map(|node| (node.clone(), &plan.target));
        let mut places: Vec<(Arc<Node>, &TableName)> = targets.collect();
        if may_clone(plan, &self.context.task().tables[self.piece.table]) {
            let shares = plan.pieces[self.piece.index].sources.iter();
            let replicas = shares.flat_map(|share| self.context.source_shard(self.piece.table, share.shard).replicas);
            places.extend(replicas.map(|node| (Arc::new(node), &plan.source)));
        }
        for (node, beside) in &places {
            let client = &self.context.pool.client;
            let left = match client.tables_with_prefix(node, &beside.database, &prefix).await {
                Ok(left) => left,
                Err(error) => {
                    tracing::warn!(node = error.node, "{error}; tables of earlier attempts stay until the task ends");
                    continue;
                }
            };
            let settings = self.context.target_settings(node).await.unwrap_or_default();
            for (attempt, name) in left.into_iter().filter_map(|name| Some((self.earlier(&name)?, name))) {
                // A DROP waits for statements that write to the table. An old server does not answer about the database meanwhile.
                let statements = self.context.id.attempt_queries(self.piece, attempt);
                if client.is_at_work(node, &statements).await.unwrap_or(true) {
                    tracing::warn!(
                        node = node.address(),
                        "{node}: a statement of attempt {attempt} still runs there: {} stays until the task ends",
                        beside.beside(&name)
                    );
                    continue;
                }
                if let Err(error) = client.drop_table(node, &beside.beside(name), &settings).await {
                    tracing::warn!(node = error.node, "{error}; it stays until the task ends");
                }
            }
        }
    }

    /// Returns the number of the earlier attempt that created a table. Tables of later attempts may exist when this worker was frozen for
    /// a while; for these it returns `None`.
    fn earlier(&self, name: &str) -> Option<AttemptNo> {
        let suffix = name.strip_prefix(&self.context.id.batch_tables(self.batch_ref()))?;
        match BatchTable::parse(suffix)? {
            BatchTable::Staging { attempt, .. } | BatchTable::Parts { attempt, .. } => {
                Some(attempt).filter(|attempt| *attempt < self.number)
            }
            BatchTable::Assembly { .. } => None,
        }
    }

    /// Ends the statements of earlier attempts.
    async fn end_earlier(&self) {
        let (client, id) = (&self.context.pool.client, &self.context.id);
        let nodes = self.context.statement_nodes(self.piece, &self.batch.nodes);
        join_all(nodes.iter().map(|node| async move {
            let running = client.running(node, &id.piece_queries(self.piece)).await.unwrap_or_default();
            let earlier: BTreeSet<AttemptNo> = running
                .iter()
                .filter_map(|statement| id.attempt_of_query(self.piece, &statement.query_id))
                .filter(|attempt| *attempt < self.number)
                .collect();
            for attempt in earlier {
                if let Err(error) = client.kill(node, &id.attempt_queries(self.piece, attempt)).await {
                    tracing::warn!(node = error.node, "{error}; it can only touch tables of its own attempt");
                }
            }
        }))
        .await;
    }

    /// Creates the staging table on all target nodes.
    async fn create_staging(&self, nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        try_join_all(nodes.iter().flatten().map(|node| self.create_staging_on(node))).await.map(drop)
    }

    async fn create_staging_on(&self, node: &Node) -> Result<(), AttemptError> {
        let context = self.context;
        let target = context.target(self.piece.table, node).await?;
        let staging = self.staging();
        let statement =
            target.create_staging(&staging, &self.plan().columns).ok_or_else(|| lacks_columns(self.plan(), node))?;
        let settings = context.target_settings(node).await?;
        if let Err(error) = context.pool.client.create_table(node, &staging, &statement, &settings).await {
            // A database of engine Replicated creates a table on all its replicas at once. Only this attempt uses the name, so an
            // existing table is the wanted one.
            let database = context.pool.client.database_engine(node, &staging.database).await?;
            if error.code() != Some(TABLE_ALREADY_EXISTS) || database.as_deref() != Some("Replicated") {
                return Err(error.into());
            }
        }
        if target.engine.is_old_syntax() {
            // The old syntax has no settings that stop merges.
            context.pool.client.stop_merges(node, &staging).await?;
        }
        Ok(())
    }

    /// Returns the replicas to read from: the first one of each source shard that answers.
    pub(crate) async fn sources(&self) -> Result<Vec<Source>, AttemptError> {
        let shares = &self.plan().pieces[self.piece.index].sources;
        try_join_all(shares.iter().map(|share| self.source(*share))).await
    }

    async fn source(&self, share: SourceShare) -> Result<Source, AttemptError> {
        let shard = self.context.source_shard(self.piece.table, share.shard);
        let mut first = None;
        for node in self.context.pool.in_order(&shard, self.piece.index) {
            match self.context.pool.client.answers(&node).await {
                Ok(()) => return Ok(Source { node, share }),
                Err(error) => {
                    self.context.pool.suspect(&node);
                    first = first.or(Some(error));
                }
            }
        }
        Err(first.map_or_else(|| FinalError::NoReplica.into(), AttemptError::Server))
    }
}
