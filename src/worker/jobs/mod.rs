//! The work on a claimed job: attempts at a piece or a publication, one after the other, until the result is recorded.

mod publishing;

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{Instrument, error_span};

use super::context::WorkerContext;
use super::copy::{Attempt, Source};
use super::counters::Counters;
use super::errors::{AttemptError, FailedAttempt};
use super::limits::admission::Admission;
use super::retry_policy::OverloadGrace;
use super::table_rules::may_clone;
use crate::ledger::{Cache, ClaimChange, Ledger, LedgerError, Outcome};
use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, BatchRef, Copied, Job, PieceRecord, PieceRef, PieceState};
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// The most partitions that a log line about a batch names.
const MAX_NAMED_PARTITIONS: usize = 20;

/// The handles that a job needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct JobRunner {
    /// The context of the worker.
    pub(crate) context: Arc<WorkerContext>,
    /// The records of the task.
    pub(crate) ledger: Ledger,
    /// The records as last read.
    pub(crate) cache: Arc<Mutex<Cache>>,
    /// The interrupt that ends waits.
    pub(crate) interrupt: Interrupt,
    /// The counters of the worker.
    pub(crate) counters: Arc<Counters>,
}

/// A claimed job.
pub(crate) enum Claimed {
    /// A piece, with the record of its attempt.
    Piece(PieceRef, PieceRecord),
    /// A batch, with the record of its attempt.
    Batch(BatchRef, BatchRecord),
}

impl JobRunner {
    /// Tries to claim a job. Returns `None` when another worker was faster.
    ///
    /// The caller must have chosen the job from `cache` and kept the lock of the cache since then. Another job of this worker could
    /// otherwise find in between that the job is done.
    pub(crate) async fn claim(&self, cache: &mut Cache, job: Job) -> Result<Option<Claimed>, LedgerError> {
        let worker = &self.context.worker;
        let (claimed, outcome) = match job {
            Job::Copy(piece) => {
                let record = cache.by_table[piece.table].pieces[piece.index].clone();
                let generation = cache.by_table[piece.table].generation_of(piece.index);
                if !record.is_to_copy(generation) {
                    cache.claimed(job);
                    return Ok(None);
                }
                let next = record.next_attempt(worker, generation);
                let take = ClaimChange::Take;
                let outcome = self.ledger.change_piece(cache, piece, &record, next.clone(), take, worker).await?;
                (Claimed::Piece(piece, next), outcome)
            }
            Job::Publish(batch) => {
                let record = cache.by_table[batch.table].batches[batch.index].clone();
                if record.is_done() {
                    cache.claimed(job);
                    return Ok(None);
                }
                let next = record.next_attempt(worker);
                let take = ClaimChange::Take;
                let outcome = self.ledger.change_batch(cache, batch, &record, next.clone(), take, worker).await?;
                (Claimed::Batch(batch, next), outcome)
            }
        };
        // Either this worker or another one has the claim now.
        cache.claimed(job);
        Ok((outcome == Outcome::Done).then_some(claimed))
    }

    /// Works on a claimed job until it is recorded as done or failed.
    ///
    /// # Errors
    /// Only errors of the coordinator, which stop all work of this worker. Errors of servers are recorded.
    pub(crate) async fn perform(&self, claimed: Claimed) -> Result<Job, LedgerError> {
        let job = match claimed {
            Claimed::Piece(piece, record) => {
                let plan = &self.context.plans[piece.table];
                let job = format!("table {} piece {} ({})", plan.name, piece.index, self.describe(piece));
                let batch = plan.pieces[piece.index].batch;
                let (table, partition) = (&plan.name, partition_names(plan, batch));
                // The span has level ERROR, so that a log of errors only shows it too.
                let span = error_span!("piece", job, table, partition, batch, piece = piece.index);
                self.copy(piece, &job, record).instrument(span).await?;
                Job::Copy(piece)
            }
            Claimed::Batch(batch, record) => {
                let plan = &self.context.plans[batch.table];
                let job = match plan.partitions_of(batch.index) {
                    [one] => format!("table {} partition {}", plan.name, one.name),
                    many => format!("table {} batch {} ({} partitions)", plan.name, batch.index, many.len()),
                };
                let (table, partition) = (&plan.name, partition_names(plan, batch.index));
                let span = error_span!("batch", job, table, partition, batch = batch.index);
                self.publish(batch, &job, record).instrument(span).await?;
                Job::Publish(batch)
            }
        };
        self.cache.lock().await.released(job);
        Ok(job)
    }

    async fn copy(&self, piece: PieceRef, name: &str, mut record: PieceRecord) -> Result<(), LedgerError> {
        fault_point("piece-claimed").await;
        let mut grace = OverloadGrace::default();
        loop {
            let span = error_span!("attempt", attempt = record.attempt.0);
            match self.try_to_copy(piece, name, record, &mut grace).instrument(span).await? {
                Some(next) => record = next,
                None => return Ok(()),
            }
        }
    }

    /// Makes one attempt and records its result. Returns the record of the next attempt, if there is one.
    async fn try_to_copy(
        &self,
        piece: PieceRef,
        name: &str,
        mut record: PieceRecord,
        grace: &mut OverloadGrace,
    ) -> Result<Option<PieceRecord>, LedgerError> {
        let plan = &self.context.plans[piece.table];
        let batch_index = plan.pieces[piece.index].batch;
        let number = record.attempt;
        let batch = self.cache.lock().await.by_table[piece.table].batches[batch_index].clone();
        tracing::debug!(names_table = true, "{name}: attempt {number} begins");
        let attempt = Attempt { context: &self.context, piece, number, narrow: record.narrow, batch: &batch };
        let sources = attempt.sources().await;
        if let Ok(sources) = &sources
            && let Some(next) = self.with_lending_nodes(&record, piece.table, sources)
        {
            let (keep, worker) = (ClaimChange::Keep, &self.context.worker);
            let mut cache = self.cache.lock().await;
            let outcome = self.ledger.change_piece(&mut cache, piece, &record, next.clone(), keep, worker).await?;
            drop(cache);
            if outcome == Outcome::Lost {
                tracing::warn!(names_table = true, "{name}: another worker has taken over; attempt {number} is void");
                return Ok(None);
            }
            record = next;
        }
        let next = match self.perform_admitted(name, &attempt, sources).await? {
            // The next worker claims the piece again.
            None => return self.ledger.give_up_claim(Job::Copy(piece)).await.map(|()| None),
            Some(Ok(copied)) => {
                let rows: u64 = copied.staged.iter().sum();
                tracing::info!(
                    names_table = true,
                    "{name}: {rows} rows copied in {:.1} s (attempt {number})",
                    copied.millis as f64 / 1000.0
                );
                if let Some(news) = self.context.concurrency.note(plan.bytes_of(piece.index), Instant::now()) {
                    tracing::info!("{news}");
                }
                record.done(copied)
            }
            Some(Err(error)) => self.record_after_failure(name, &attempt, &record, error, grace).await?,
        };
        let continues = matches!(next.state, PieceState::Running { .. });
        let claim = if continues { ClaimChange::Keep } else { ClaimChange::GiveBack };
        let mut cache = self.cache.lock().await;
        let worker = &self.context.worker;
        let outcome = self.ledger.change_piece(&mut cache, piece, &record, next.clone(), claim, worker).await?;
        drop(cache);
        if outcome == Outcome::Lost {
            tracing::warn!(names_table = true, "{name}: another worker has taken over; attempt {number} is void");
            return Ok(None);
        }
        if let Some(copied) = next.copied() {
            self.counters.copied(copied.staged.iter().sum(), plan.bytes_of(piece.index));
        }
        if !continues {
            fault_point("piece-recorded").await;
            return Ok(None);
        }
        if self.pause(next.failures, grace).await == PauseEnd::Interrupted {
            return self.ledger.give_up_claim(Job::Copy(piece)).await.map(|()| None);
        }
        Ok(Some(next))
    }

    /// Ends a failed attempt. Returns the record of the next attempt, or the one that says that the piece has failed.
    async fn record_after_failure(
        &self,
        name: &str,
        attempt: &Attempt<'_>,
        record: &PieceRecord,
        error: AttemptError,
        grace: &mut OverloadGrace,
    ) -> Result<PieceRecord, LedgerError> {
        attempt.abandon().await;
        let piece = attempt.piece;
        let plan = &self.context.plans[piece.table];
        let batch = BatchRef { table: piece.table, index: plan.pieces[piece.index].batch };
        let moved = self.move_if_lost(batch, attempt.batch, &error, record.failures + 1).await?;
        let limit = self.context.worker_options.retry.piece_attempts;
        let next = match moved {
            Some(generation) => record.next_attempt(&self.context.worker, generation),
            None => {
                let failure = grace.judge(error.failure(), Instant::now());
                record.after_failure(&self.context.worker, failure, limit)
            }
        };
        let given_up = matches!(next.state, PieceState::Failed { .. });
        self.log_failure(name, &FailedAttempt { number: attempt.number.0, error }, given_up, grace);
        Ok(next)
    }

    /// Returns the record with the source nodes that this attempt adds, if the piece may be cloned. The nodes must be recorded before
    /// any table is created there.
    fn with_lending_nodes(&self, record: &PieceRecord, table: usize, sources: &[Source]) -> Option<PieceRecord> {
        let new = || sources.iter().map(|source| source.node.address()).filter(|node| !record.lent.contains(node));
        let may_clone = may_clone(&self.context.plans[table], &self.context.task().tables[table]);
        if !may_clone || new().next().is_none() {
            return None;
        }
        Some(PieceRecord { lent: record.lent.iter().cloned().chain(new()).collect(), ..record.clone() })
    }

    /// Waits until an attempt may begin, then performs it. Returns `None` when the run is interrupted first.
    async fn perform_admitted(
        &self,
        name: &str,
        attempt: &Attempt<'_>,
        sources: Result<Vec<Source>, AttemptError>,
    ) -> Result<Option<Result<Copied, AttemptError>>, LedgerError> {
        let sources = match sources {
            Ok(sources) => sources,
            Err(error) => return Ok(Some(Err(error))),
        };
        let nodes = sources.iter().map(|source| source.node.as_ref());
        let started = Instant::now();
        let admission = Admission { context: &self.context, ledger: &self.ledger, interrupt: &self.interrupt, name };
        let Some(admitted) = admission.admit(attempt.piece, attempt.batch, nodes).await? else { return Ok(None) };
        let waiting = started.elapsed().as_millis() as u64;
        let result = attempt.perform(&sources).await;
        admission.dismiss(admitted).await?;
        Ok(Some(result.map(|copied| Copied { waiting, ..copied })))
    }

    /// Waits before another attempt. An interrupt ends the wait for an overloaded server.
    async fn pause(&self, failures: u32, grace: &OverloadGrace) -> PauseEnd {
        let pause = self.context.worker_options.retry.pause(failures + grace.answers());
        let pause = self.context.randomness.jitter(pause);
        tokio::select! {
            biased;
            () = self.interrupt.finish(), if grace.since().is_some() => PauseEnd::Interrupted,
            () = tokio::time::sleep(pause) => PauseEnd::Over,
        }
    }

    /// Returns the partitions, the slice and the source shards of a piece, for log lines.
    fn describe(&self, piece: PieceRef) -> String {
        let plan = &self.context.plans[piece.table];
        let planned = &plan.pieces[piece.index];
        let what = match plan.partitions_of(planned.batch) {
            [one] => format!("partition {}", one.name),
            many => format!("{} partitions", many.len()),
        };
        // The pieces of a batch are in the order of their shards.
        let siblings = &plan.pieces[plan.batches[planned.batch].pieces.clone()];
        let first = siblings.partition_point(|piece| piece.first_shard() < planned.first_shard());
        let slice = match siblings.partition_point(|piece| piece.first_shard() <= planned.first_shard()) - first {
            count @ 2.. => {
                let at = piece.index - plan.batches[planned.batch].pieces.start - first;
                format!(" slice {} of {count}", at + 1)
            }
            _ => String::new(),
        };
        let shards: Vec<String> = planned.sources.iter().map(|share| (share.shard + 1).to_string()).collect();
        format!("{what}{slice}, source shard{} {}", if shards.len() > 1 { "s" } else { "" }, shards.join(", "))
    }

    /// Logs and counts a failed attempt.
    fn log_failure(&self, name: &str, failed: &FailedAttempt, given_up: bool, grace: &OverloadGrace) {
        self.counters.failed();
        let FailedAttempt { number, error } = failed;
        let node = error.node();
        if let Some(node) = node {
            self.context.forget(node);
        }
        if given_up {
            tracing::error!(node, names_table = true, "{name}: attempt {number} failed, and was the last: {error}");
        } else if let Some(since) = grace.since() {
            let minutes = since.elapsed().as_secs() / 60;
            tracing::warn!(
                node,
                names_table = true,
                "{name}: attempt {number} waits, and is repeated (for {minutes} min so far): {error}"
            );
        } else {
            tracing::warn!(node, names_table = true, "{name}: attempt {number} failed and is repeated: {error}");
        }
    }
}

/// Returns the names of the partitions of a batch, for log lines that a program reads.
fn partition_names(plan: &TablePlan, batch: usize) -> String {
    let partitions = plan.partitions_of(batch);
    let names: Vec<&str> =
        partitions.iter().take(MAX_NAMED_PARTITIONS).map(|partition| partition.name.as_str()).collect();
    match partitions.len().saturating_sub(MAX_NAMED_PARTITIONS) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The end of a pause.
#[derive(Debug, PartialEq, Eq)]
enum PauseEnd {
    Over,
    Interrupted,
}
