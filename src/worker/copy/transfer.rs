//! The rows of a piece on their way, to one target node after the other.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::{Error, Transfer};
use crate::model::{Node, Way};

use super::super::site::AttemptError;
use super::Attempt;

/// How often a running transfer is looked at, and how many looks in a row may fail.
const LOOK: Duration = Duration::from_secs(5);
const BAD_LOOKS: u32 = 12;

impl Attempt<'_> {
    /// Moves the piece's rows to all target nodes.
    pub(super) async fn transfer(&self, source: &Arc<Node>, nodes: &[Vec<Arc<Node>>]) -> Result<(), AttemptError> {
        for shard in self.plan().target_shards() {
            for (replica, node) in nodes[shard].iter().enumerate() {
                self.transfer_to(source, node, shard, replica).await?;
            }
        }
        Ok(())
    }

    async fn transfer_to(
        &self,
        source: &Arc<Node>,
        node: &Arc<Node>,
        shard: usize,
        replica: usize,
    ) -> Result<(), AttemptError> {
        let (site, plan) = (self.site, self.plan());
        let rows = plan.rows_for(self.piece.piece, shard);
        let task = site.task();
        let job = &task.tables[self.piece.table];
        let choice = site.fleet.way(source, node, job.transfer, rows.filters_at_the_table()).await?;
        if let Some(since) = &choice.since {
            let line = format!("table {}: transfer: {} from {source} to {node}, since {since}", plan.name, choice.way);
            if site.fleet.ways.is_news(&line) {
                tracing::info!("{line}");
            }
        }
        let (at_source, at_target) = site.transfer_settings(choice.way, source, node, self.narrow).await?;
        // What ran out of memory is moved a few partitions at a time.
        for (part, rows) in rows.parted(1 << self.narrow.min(8)).into_iter().enumerate() {
            let transfer = Transfer {
                way: choice.way,
                from: source.clone(),
                to: node.clone(),
                into: self.staging(),
                columns: plan.columns.clone(),
                values: plan.reading.values.clone(),
                rows,
                query_id: site.id.query(self.piece, self.number, shard, replica, part),
                at_source: at_source.clone(),
                at_target: at_target.clone(),
                compress: job.relay_compression,
            };
            if let Err(error) = self.carry(&transfer).await {
                let another = site.fleet.failed(source, node, choice.way, &error) && job.transfer.is_none();
                return Err(match another {
                    true => AttemptError::Mismatch(format!("{error}; the next attempt takes another way")),
                    false => error.into(),
                });
            }
        }
        Ok(())
    }

    /// One transfer, to its end. Where the connection breaks, a server goes on with a push or a pull: its end is awaited then,
    /// and the counts tell what came of it. A transfer that runs may take as long as it needs.
    async fn carry(&self, transfer: &Transfer) -> Result<(), Error> {
        tokio::select! {
            biased;
            done = self.site.fleet.warehouse.transfer(transfer) => match done {
                Err(error) if error.is_unreachable() && transfer.way != Way::Relay => {
                    if self.is_running(transfer).await.is_err() {
                        return Err(error);
                    }
                    tracing::warn!("{error}; the statement may go on: waiting for its end");
                }
                done => return done,
            },
            gone = self.until_gone(transfer) => return gone,
        }
        self.until_gone(transfer).await
    }

    /// Whether a statement of a transfer runs on one of its nodes; all of them must answer.
    async fn is_running(&self, transfer: &Transfer) -> Result<bool, Error> {
        let warehouse = &self.site.fleet.warehouse;
        let looks =
            join_all(transfer.nodes().into_iter().map(|node| warehouse.running(node, &transfer.query_id))).await;
        let mut any = false;
        for look in looks {
            any |= !look?.is_empty();
        }
        Ok(any)
    }

    /// Returns when a transfer does not run any more, or a node of it has not answered for a while.
    async fn until_gone(&self, transfer: &Transfer) -> Result<(), Error> {
        let mut silent = 0;
        let mut absent = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.is_running(transfer).await {
                Ok(false) => absent += 1,
                Ok(true) => (silent, absent) = (0, 0),
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
