//! One attempt at a piece: staging tables, transfer, counts (design §3).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::Instant;

use crate::cluster::{Error, Push};
use crate::model::Node;
use crate::protocol::{BatchRecord, BatchRef, BatchTable, Copied, PieceRef};

use super::fault_point::fault_point;
use super::site::{AttemptError, Site};

/// How often a running transfer is looked at, and how many looks in a row may fail.
const LOOK: Duration = Duration::from_secs(5);
const BAD_LOOKS: u32 = 12;

/// An attempt at a piece.
pub struct Attempt<'a> {
    /// What it works with.
    pub site: &'a Site,
    /// The piece.
    pub piece: PieceRef,
    /// Its number.
    pub number: u32,
    /// The record of its batch.
    pub batch: &'a BatchRecord,
}

impl Attempt<'_> {
    /// Copies the piece's rows into staging tables of this attempt, and counts them there.
    ///
    /// Cancellation: statements that were sent go on; [`Self::abandon`] ends them, or the next attempt does.
    pub async fn perform(&self) -> Result<Copied, AttemptError> {
        let started = Instant::now();
        let nodes = self.site.target_nodes(self.piece.table, &self.batch.nodes)?;
        if self.number > 1 {
            self.clear_earlier(&nodes).await;
        }
        self.create_staging(&nodes).await?;
        fault_point("staging-created").await;
        let source = self.source().await?;
        self.transfer(&source, &nodes).await?;
        fault_point("piece-pushed").await;
        if self.site.strikes(self.site.conduct.copy_fault_probability) {
            return Err(AttemptError::Mismatch("a fault was wished for by --copy-fault-probability".into()));
        }
        let mut copied = self.verify(&source, &nodes).await?;
        fault_point("piece-verified").await;
        copied.millis = started.elapsed().as_millis() as u64;
        Ok(copied)
    }

    /// Ends the statements of this attempt that still run, and of no newer one. Best effort: they can only touch its own
    /// tables.
    pub async fn abandon(&self) {
        let prefix = self.site.id.attempt_queries(self.piece, self.number);
        let shard = self.site.source_shard(self.piece.table, self.plan().pieces[self.piece.piece].shard);
        join_all(shard.replicas.iter().map(|node| self.site.fleet.warehouse.kill(node, &prefix))).await;
    }

    pub(super) fn plan(&self) -> &crate::plan::TablePlan {
        &self.site.plans[self.piece.table]
    }

    fn batch_ref(&self) -> BatchRef {
        BatchRef { table: self.piece.table, batch: self.plan().pieces[self.piece.piece].batch }
    }

    pub(super) fn staging(&self) -> crate::model::TableName {
        let name = self.site.id.staging(self.batch_ref(), self.piece, self.number);
        self.site.beside_target(self.piece.table, name)
    }

    /// Ends what earlier attempts left. Nothing hangs on it but disk space: their tables are theirs alone.
    async fn clear_earlier(&self, nodes: &[Vec<Arc<Node>>]) {
        self.end_earlier().await;
        let prefix = self.site.id.piece_tables(self.batch_ref(), self.piece);
        let own = self.staging();
        for node in nodes.iter().flatten() {
            let warehouse = &self.site.fleet.warehouse;
            let left = match warehouse.tables_with_prefix(node, &own.database, &prefix).await {
                Ok(left) => left,
                Err(error) => {
                    tracing::warn!("{error}; tables of earlier attempts stay until the task ends");
                    continue;
                }
            };
            let settings = self.site.target_settings(node).await.unwrap_or_default();
            for name in left.into_iter().filter(|name| self.is_earlier(name)) {
                if let Err(error) = warehouse.drop_table(node, &own.beside(name), &settings).await {
                    tracing::warn!("{error}; it stays until the task ends");
                }
            }
        }
    }

    /// Whether a table is one of an earlier attempt. A later one may be there when this worker stood still for a while.
    fn is_earlier(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.site.id.batch_tables(self.batch_ref()));
        matches!(rest.and_then(BatchTable::parse), Some(BatchTable::Staging { attempt, .. }) if attempt < self.number)
    }

    /// Ends the statements of earlier attempts.
    async fn end_earlier(&self) {
        let (warehouse, id) = (&self.site.fleet.warehouse, &self.site.id);
        let shard = self.site.source_shard(self.piece.table, self.plan().pieces[self.piece.piece].shard);
        join_all(shard.replicas.iter().map(|node| async move {
            let running = warehouse.running(node, &id.piece_queries(self.piece)).await.unwrap_or_default();
            let earlier: BTreeSet<u32> = running
                .iter()
                .filter_map(|statement| id.attempt_of_query(self.piece, &statement.query_id))
                .filter(|attempt| *attempt < self.number)
                .collect();
            for attempt in earlier {
                if let Err(error) = warehouse.kill(node, &id.attempt_queries(self.piece, attempt)).await {
                    tracing::warn!("{error}; it can only touch tables of its own attempt");
                }
            }
        }))
        .await;
    }

    async fn create_staging(&self, nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        try_join_all(nodes.iter().flatten().map(|node| self.create_staging_on(node))).await.map(drop)
    }

    async fn create_staging_on(&self, node: &Node) -> Result<(), AttemptError> {
        let site = self.site;
        let target = site.target(self.piece.table, node).await?;
        let staging = self.staging();
        let statement = target
            .create_staging(&staging, &self.plan().columns)
            .ok_or_else(|| self.site.lacks(self.piece.table, node))?;
        let settings = site.target_settings(node).await?;
        site.fleet.warehouse.create_table(node, &staging, &statement, &settings).await?;
        if target.engine.is_old_syntax() {
            // The old syntax has no settings that could keep the table from merging.
            site.fleet.warehouse.stop_merges(node, &staging).await?;
        }
        Ok(())
    }

    /// The replica to read from: the first that answers.
    async fn source(&self) -> Result<Arc<Node>, AttemptError> {
        let piece = &self.plan().pieces[self.piece.piece];
        let shard = self.site.source_shard(self.piece.table, piece.shard);
        let mut first = None;
        for node in self.site.fleet.in_order(&shard, self.piece.piece) {
            match self.site.fleet.warehouse.server(&node).await {
                Ok(_) => return Ok(node),
                Err(error) => {
                    self.site.fleet.suspect(&node);
                    first = first.or(Some(error));
                }
            }
        }
        Err(first.map_or_else(|| AttemptError::Final("the source shard has no replica".into()), AttemptError::Server))
    }

    async fn transfer(&self, source: &Arc<Node>, nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        let plan = self.plan();
        for shard in plan.target_shards() {
            for (replica, node) in nodes[shard].iter().enumerate() {
                let push = Push {
                    from: source.clone(),
                    to: node.clone(),
                    into: self.staging(),
                    values: plan.reading.values.clone(),
                    rows: plan.rows_for(self.piece.piece, shard),
                    query_id: self.site.id.query(self.piece, self.number, shard, replica),
                    settings: self.site.push_settings(source, node).await?,
                };
                self.push(&push).await.inspect_err(|error| {
                    if error.is_unreachable() {
                        self.site.fleet.suspect(source);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// One statement, to its end. Where the connection breaks, the server goes on: its end is awaited then, and the counts
    /// tell what came of it. A transfer that runs may take as long as it needs.
    async fn push(&self, push: &Push) -> Result<(), Error> {
        tokio::select! {
            biased;
            done = self.site.fleet.warehouse.push(push) => match done {
                Err(error) if error.is_unreachable() => {
                    if self.site.fleet.warehouse.running(&push.from, &push.query_id).await.is_err() {
                        return Err(error);
                    }
                    tracing::warn!("{error}; the statement may go on: waiting for its end");
                }
                done => return done,
            },
            gone = self.until_gone(push) => return gone,
        }
        self.until_gone(push).await
    }

    /// Returns when a statement does not run any more, or its node has not answered for a while.
    async fn until_gone(&self, push: &Push) -> Result<(), Error> {
        let mut silent = 0;
        let mut absent = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.site.fleet.warehouse.running(&push.from, &push.query_id).await {
                Ok(running) if running.is_empty() => absent += 1,
                Ok(_) => (silent, absent) = (0, 0),
                Err(error) if silent + 1 == BAD_LOOKS => return Err(error),
                Err(_) => silent += 1,
            }
            // An answer may be on its way when the statement is seen no more.
            if absent == 2 {
                return Ok(());
            }
        }
    }
}
