//! The work on a claimed job: attempts at a piece or a publication, one after the other, until the result is recorded.

mod publishing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{Instrument, error_span};

use super::context::{AttemptError, WorkerContext};
use super::copy::{Attempt, Source};
use super::counters::Counters;
use crate::ledger::{Cache, ClaimChange, Ledger, LedgerError, Outcome};
use crate::model::Generation;
use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, BatchRef, Copied, Failure, Job, PieceRecord, PieceRef, PieceState};
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// The number of failed attempts in a row after which a target node that does not answer counts as lost.
const FAILURES_UNTIL_LOST: u32 = 3;
/// How long the answers of an overloaded server do not count as failures.
const OVERLOAD_GRACE: Duration = Duration::from_secs(6 * 3600);
/// The most partitions that a log line about a batch names.
const MAX_NAMED_PARTITIONS: usize = 20;
/// How often a batch may move to other nodes.
const MAX_GENERATIONS: Generation = Generation(10);

/// The handles that a job needs. Cheap to clone.
#[derive(Clone)]
pub struct JobRunner {
    /// The context of the worker.
    pub context: Arc<WorkerContext>,
    /// The records of the task.
    pub ledger: Ledger,
    /// The records as last read.
    pub cache: Arc<Mutex<Cache>>,
    /// The interrupt that ends waits.
    pub interrupt: Interrupt,
    /// The counters of the worker.
    pub counters: Arc<Counters>,
}

/// A claimed job.
pub enum Claimed {
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
    pub async fn claim(&self, cache: &mut Cache, job: Job) -> Result<Option<Claimed>, LedgerError> {
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
    pub async fn perform(&self, claimed: Claimed) -> Result<Job, LedgerError> {
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
        let mut grace = Grace::default();
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
        grace: &mut Grace,
    ) -> Result<Option<PieceRecord>, LedgerError> {
        let plan = &self.context.plans[piece.table];
        let batch_index = plan.pieces[piece.index].batch;
        let number = record.attempt;
        let batch = self.cache.lock().await.by_table[piece.table].batches[batch_index].clone();
        tracing::debug!("{name}: attempt {number} begins");
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
                tracing::warn!("{name}: another worker has taken over; attempt {number} is void");
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
                    "{name}: {rows} rows copied in {:.1} s (attempt {number})",
                    copied.millis as f64 / 1000.0
                );
                if let Some(news) = self.context.concurrency.note(plan.bytes_of(piece.index), Instant::now()) {
                    tracing::info!("{news}");
                }
                record.done(copied)
            }
            Some(Err(error)) => {
                attempt.abandon().await;
                let batch_ref = BatchRef { table: piece.table, index: batch_index };
                let moved = self.move_if_lost(batch_ref, &batch, &error, record.failures + 1).await?;
                let limit = self.context.worker_options.tries;
                let next = match moved {
                    Some(generation) => record.next_attempt(&self.context.worker, generation),
                    None => record.after_failure(&self.context.worker, grace.failure(&error), limit),
                };
                let given_up = matches!(next.state, PieceState::Failed { .. });
                self.log_failure(name, number.0, &error, given_up, grace);
                next
            }
        };
        let continues = matches!(next.state, PieceState::Running { .. });
        let claim = if continues { ClaimChange::Keep } else { ClaimChange::GiveBack };
        let mut cache = self.cache.lock().await;
        let worker = &self.context.worker;
        let outcome = self.ledger.change_piece(&mut cache, piece, &record, next.clone(), claim, worker).await?;
        drop(cache);
        if outcome == Outcome::Lost {
            tracing::warn!("{name}: another worker has taken over; attempt {number} is void");
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

    /// Returns the record with the source nodes that this attempt adds, if the piece may be cloned. The nodes must be recorded before
    /// any table is created there.
    fn with_lending_nodes(&self, record: &PieceRecord, table: usize, sources: &[Source]) -> Option<PieceRecord> {
        let new = || sources.iter().map(|source| source.node.address()).filter(|node| !record.lent.contains(node));
        if !self.context.may_clone(table) || new().next().is_none() {
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
        let Some(admitted) = self.admit(name, attempt.piece, attempt.batch, nodes).await? else { return Ok(None) };
        let waiting = started.elapsed().as_millis() as u64;
        let result = attempt.perform(&sources).await;
        self.dismiss(admitted).await?;
        Ok(Some(result.map(|copied| Copied { waiting, ..copied })))
    }

    /// Waits before another attempt. An interrupt ends the wait for an overloaded server.
    async fn pause(&self, failures: u32, grace: &Grace) -> PauseEnd {
        tokio::select! {
            biased;
            () = self.interrupt.finish(), if grace.since.is_some() => PauseEnd::Interrupted,
            () = tokio::time::sleep(self.context.pause(failures + grace.waits)) => PauseEnd::Over,
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
    fn log_failure(&self, name: &str, number: u32, error: &AttemptError, given_up: bool, grace: &Grace) {
        self.counters.failed();
        let node = error.node();
        if let Some(node) = node {
            self.context.forget(node);
        }
        if given_up {
            tracing::error!(node, "{name}: attempt {number} failed, and was the last: {error}");
        } else if let Some(since) = grace.since {
            let minutes = since.elapsed().as_secs() / 60;
            tracing::warn!(node, "{name}: attempt {number} waits, and is repeated (for {minutes} min so far): {error}");
        } else {
            tracing::warn!(node, "{name}: attempt {number} failed and is repeated: {error}");
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

/// How long and how often in a row an overloaded server has answered an attempt.
#[derive(Debug, Default)]
struct Grace {
    /// The time of the first such answer.
    since: Option<Instant>,
    /// The number of such answers.
    waits: u32,
}

impl Grace {
    /// Returns the record of an error. An overload is no failure until it has lasted for [`OVERLOAD_GRACE`].
    fn failure(&mut self, error: &AttemptError) -> Failure {
        let mut failure = error.failure();
        if failure.overload {
            let since = *self.since.get_or_insert_with(Instant::now);
            self.waits += 1;
            failure.overload = since.elapsed() < OVERLOAD_GRACE;
        } else {
            *self = Self::default();
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Error, Kind};

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_is_given_hours_and_not_days() {
        let server_error = |code| {
            let kind = Kind::Server { code, message: "Too many parts (300)".into() };
            AttemptError::Server(Error { node: "n".into(), doing: "cannot".into(), kind })
        };
        let mut grace = Grace::default();
        assert!(grace.failure(&server_error(252)).overload);
        tokio::time::advance(OVERLOAD_GRACE / 2).await;
        assert!(grace.failure(&server_error(252)).overload && !grace.failure(&server_error(209)).overload);
        assert!(grace.failure(&server_error(252)).overload, "counted from the beginning again");
        tokio::time::advance(OVERLOAD_GRACE).await;
        assert!(!grace.failure(&server_error(252)).overload);
    }
}
