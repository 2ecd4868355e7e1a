//! The work on a claimed batch, until the result of its publication is recorded.

use futures::future::join_all;
use tokio::time::Instant;
use tracing::{Instrument, error_span};

use super::super::context::WorkerContext;
use super::super::errors::{AttemptError, FailedAttempt, FinalError};
use super::super::publish::{Before, CopiedPiece, Gathered, Publication};
use super::super::retry_policy::{BatchFailure, OverloadGrace};
use super::super::table_rules::policy;
use super::{JobRunner, PauseEnd};
use crate::ledger::{ClaimChange, LedgerError, Outcome};
use crate::model::Generation;
use crate::protocol::{BatchRecord, BatchRef, BatchState, Job, PieceRef, Policy, Published};
use crate::runtime::fault_point::fault_point;

impl JobRunner {
    pub(super) async fn publish(
        &self,
        batch: BatchRef,
        name: &str,
        mut record: BatchRecord,
    ) -> Result<(), LedgerError> {
        fault_point("publication-claimed").await;
        let mut grace = OverloadGrace::default();
        loop {
            let span = error_span!("attempt", attempt = record.publication.0);
            match self.try_to_publish(batch, name, record, &mut grace).instrument(span).await? {
                Some(next) => record = next,
                None => return Ok(()),
            }
        }
    }

    /// Makes one attempt and records its result. Returns the record of the next attempt, if there is one.
    async fn try_to_publish(
        &self,
        batch: BatchRef,
        name: &str,
        mut record: BatchRecord,
        grace: &mut OverloadGrace,
    ) -> Result<Option<BatchRecord>, LedgerError> {
        let number = record.publication;
        let result = self.attempt_publication(batch, &mut record).await?;
        let (next, gathered) = match result {
            Ok((published, gathered)) => {
                let rows: u64 = published.partitions.iter().map(|result| result.target).sum();
                tracing::info!(names_table = true, "{name}: published, {rows} rows on the target (attempt {number})");
                for remark in &published.remarks {
                    tracing::warn!(names_table = true, "{name}: {remark}");
                }
                let next = BatchRecord { state: BatchState::Done(published), ..record.clone() };
                (next, Some(gathered))
            }
            Err(error) => {
                let failed = FailedAttempt { number: number.0, error };
                if self.move_if_lost(batch, &record, &failed.error, record.failures + 1).await?.is_some() {
                    self.log_failure(name, &failed, false, grace);
                    return self.ledger.give_up_claim(Job::Publish(batch)).await.map(|()| None);
                }
                let limit = self.context.worker_options.retry.publication_attempts;
                let failure = grace.judge(failed.error.failure(), Instant::now());
                let next = record.after_failure(&self.context.worker, failure, limit);
                self.log_failure(name, &failed, matches!(next.state, BatchState::Failed { .. }), grace);
                (next, None)
            }
        };
        let continues = matches!(next.state, BatchState::Publishing { .. });
        let claim = if continues { ClaimChange::Keep } else { ClaimChange::GiveBack };
        let mut cache = self.cache.lock().await;
        let worker = &self.context.worker;
        let outcome = self.ledger.change_batch(&mut cache, batch, &record, next.clone(), claim, worker).await?;
        drop(cache);
        if outcome == Outcome::Lost {
            tracing::warn!(
                names_table = true,
                "{name}: another worker has taken over; attempt {number} at publishing is void"
            );
            return Ok(None);
        }
        if let Some(gathered) = gathered {
            self.counters.published();
            fault_point("batch-recorded").await;
            self.publication(batch, &next).await.clear(&gathered).await;
            fault_point("staging-dropped").await;
        }
        if !continues {
            return Ok(None);
        }
        if self.pause(next.failures, grace).await == PauseEnd::Interrupted {
            return self.ledger.give_up_claim(Job::Publish(batch)).await.map(|()| None);
        }
        Ok(Some(next))
    }

    /// Makes one attempt. With the policy `append`, records the numbers of rows that the target held before, after gathering and before
    /// placing.
    async fn attempt_publication(
        &self,
        batch: BatchRef,
        record: &mut BatchRecord,
    ) -> Result<Result<(Published, Vec<Gathered>), AttemptError>, LedgerError> {
        let publication = self.publication(batch, &record.clone()).await;
        let started = Instant::now();
        let gathered = match publication.gather().await {
            Ok(gathered) => gathered,
            Err(error) => return Ok(Err(error)),
        };
        let gathering = started.elapsed().as_millis() as u64;
        let earlier = record.before();
        let mut before = earlier.clone();
        let policy = policy(&self.context.task().tables[batch.table], self.context.worker_options.safe_mode);
        if policy == Policy::Append && gathered.iter().any(|part| !before.contains_key(&part.address())) {
            before = match publication.rows_before(&gathered, &before).await {
                Ok(before) => before,
                Err(error) => return Ok(Err(error)),
            };
            if !self.record_before(batch, record, before.clone()).await? {
                return Ok(Err(FinalError::TakenOver.into()));
            }
            fault_point("before-recorded").await;
        }
        let placed = publication.place(&gathered, &before, &earlier).await;
        if let Err(AttemptError::Overtaken { nodes, .. }) = &placed {
            before.retain(|node, _| !nodes.contains(node));
            if !self.record_before(batch, record, before).await? {
                return Ok(Err(FinalError::TakenOver.into()));
            }
        }
        Ok(placed.map(|published| (Published { gathering, ..published }, gathered)))
    }

    /// Records how many rows the target held before the first row of this task. Returns `false` when another worker has taken over.
    async fn record_before(
        &self,
        batch: BatchRef,
        record: &mut BatchRecord,
        before: Before,
    ) -> Result<bool, LedgerError> {
        let worker = &self.context.worker;
        let state = BatchState::Publishing { worker: worker.clone(), before };
        let next = BatchRecord { state, ..record.clone() };
        let mut cache = self.cache.lock().await;
        let outcome =
            self.ledger.change_batch(&mut cache, batch, record, next.clone(), ClaimChange::Keep, worker).await?;
        let done = outcome != Outcome::Lost;
        if done {
            *record = next;
        }
        Ok(done)
    }

    /// Returns the publication that a record describes, with the recorded attempts of its pieces.
    async fn publication(&self, batch: BatchRef, record: &BatchRecord) -> Publication<'_> {
        let cache = self.cache.lock().await;
        let records = &cache.by_table[batch.table];
        let pieces = records.pieces_of[batch.index]
            .clone()
            .filter_map(|piece| {
                let record = &records.pieces[piece];
                let copied = record.copied()?.clone();
                let piece = PieceRef { table: batch.table, index: piece };
                Some(CopiedPiece { piece, attempt: record.attempt, copied })
            })
            .collect();
        Publication {
            context: &self.context,
            ledger: &self.ledger,
            batch,
            number: record.publication,
            record: record.clone(),
            pieces,
        }
    }

    /// Chooses other target nodes for a batch when one of its nodes is lost together with the rows staged there. All pieces of the
    /// batch are copied again then. Returns the new generation of its nodes.
    ///
    /// A node counts as lost when it has not answered several attempts in a row and does not answer now, or when its staged
    /// rows are missing.
    pub(super) async fn move_if_lost(
        &self,
        batch: BatchRef,
        record: &BatchRecord,
        error: &AttemptError,
        failures: u32,
    ) -> Result<Option<Generation>, LedgerError> {
        let staging_gone = matches!(error, AttemptError::StagingGone(_));
        let (transient, generation) = (error.is_transient(), record.generation);
        if !(BatchFailure { staging_gone, transient, failures, generation }).may_mean_lost_node() {
            return Ok(None);
        }
        let Some(live) = live_targets(&self.context, batch.table).await else { return Ok(None) };
        let lost = record.nodes.iter().zip(&live).any(|(used, live)| used.iter().any(|node| !live.contains(node)));
        if !staging_gone && !lost {
            return Ok(None);
        }
        let nodes = self.context.plans[batch.table].nodes_for(batch.index, &live);
        let mut cache = self.cache.lock().await;
        let expected = cache.by_table[batch.table].batches[batch.index].clone();
        if expected.generation != record.generation || expected.is_done() {
            // Another worker has moved it already.
            return Ok((!expected.is_done()).then_some(expected.generation));
        }
        let moved = expected.moved(nodes);
        let (none, worker) = (ClaimChange::None, &self.context.worker);
        let outcome = self.ledger.change_batch(&mut cache, batch, &expected, moved, none, worker).await?;
        let now = cache.by_table[batch.table].batches[batch.index].generation;
        if outcome == Outcome::Done {
            tracing::warn!(
                names_table = true,
                "table {}: a target node with staged rows of batch {} is lost: other nodes are chosen, and the batch is copied \
                 again",
                self.context.plans[batch.table].name,
                batch.index
            );
        }
        Ok((now > record.generation).then_some(now))
    }
}

/// Returns the addresses of the target nodes that answer now, by shard. Returns `None` when no node of a shard answers, or when no other
/// node may take over: on plain tables with `internal_replication`, the rows of one shard must stay on one replica.
async fn live_targets(context: &WorkerContext, table: usize) -> Option<Vec<Vec<String>>> {
    let task = context.task();
    let plan = &context.plans[table];
    let mut live = Vec::new();
    for (index, shard) in task.target(&task.tables[table]).shards.iter().enumerate() {
        if plan.replicated[index] && !plan.engine_replicates && shard.replicas.len() > 1 {
            return None;
        }
        let answers = join_all(shard.replicas.iter().map(|node| context.pool.client.answers(node))).await;
        let answering = shard.replicas.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
        let addresses: Vec<String> = answering.map(|(node, _)| node.address()).collect();
        if addresses.is_empty() {
            return None;
        }
        live.push(addresses);
    }
    Some(live)
}
