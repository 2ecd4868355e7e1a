//! From a claim to a recorded result: attempts at a piece or a publication, one after the other.

mod publishing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{Instrument, error_span};

use crate::plan::TablePlan;
use crate::protocol::{BatchRecord, BatchRef, Copied, Failure, Job, PieceRecord, PieceRef, PieceState};

use super::context::{AttemptError, WorkerContext};
use super::copy::{Attempt, Source};
use super::counters::Tally;
use crate::ledger::{Cache, ClaimChange, Ledger, LedgerError, Outcome};
use crate::runtime::fault_point::fault_point;
use crate::runtime::signals::Interrupt;

/// So many attempts in a row fail before a target node that does not answer counts as lost.
const PATIENCE: u32 = 3;
/// So long a server that asks for time is given it; after that each time is a failure like others.
const GRACE: Duration = Duration::from_secs(6 * 3600);
/// So many partitions of a batch are named in each line about it.
const MOST_NAMES: usize = 20;
/// So often a batch is moved to other nodes.
const MOST_GENERATIONS: u32 = 10;

/// What a job needs. Cheap to clone.
#[derive(Clone)]
pub struct JobRunner {
    /// What it works with.
    pub context: Arc<WorkerContext>,
    /// Where it records.
    pub ledger: Ledger,
    /// What was recorded last.
    pub cache: Arc<Mutex<Cache>>,
    /// Ends what only waits.
    pub interrupt: Interrupt,
    /// Where it counts what is done.
    pub tally: Arc<Tally>,
}

/// What was claimed.
pub enum Claimed {
    /// A piece, with the record of its attempt.
    Piece(PieceRef, PieceRecord),
    /// A batch, with the record of its attempt.
    Batch(BatchRef, BatchRecord),
}

impl JobRunner {
    /// Tries to take a job. `None`: somebody else was faster.
    ///
    /// The job must have been chosen from what `cache` holds, and the cache must not have been let go since: what a job of our
    /// own learns in between may be that it is done already.
    pub async fn claim(&self, cache: &mut Cache, job: Job) -> Result<Option<Claimed>, LedgerError> {
        let worker = &self.context.worker;
        let (claimed, outcome) = match job {
            Job::Copy(piece) => {
                let record = cache.by_table[piece.table].pieces[piece.piece].clone();
                let generation = cache.by_table[piece.table].generation_of(piece.piece);
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
                let record = cache.by_table[batch.table].batches[batch.batch].clone();
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
        // Ours or somebody's: either way it is not free.
        cache.claimed(job);
        Ok((outcome == Outcome::Done).then_some(claimed))
    }

    /// Works on a claimed job until it is recorded as done or failed.
    ///
    /// # Errors
    /// Only what makes all work of this worker stop: the coordinator. What servers say is recorded.
    pub async fn perform(&self, claimed: Claimed) -> Result<Job, LedgerError> {
        let job = match claimed {
            Claimed::Piece(piece, record) => {
                let plan = &self.context.plans[piece.table];
                let job = format!("table {} piece {} ({})", plan.name, piece.piece, self.describe(piece));
                let batch = plan.pieces[piece.piece].batch;
                let (table, partition) = (&plan.name, partition_names(plan, batch));
                // Spans are errors, as it were: a file for errors alone has them too.
                let span = error_span!("piece", job, table, partition, batch, piece = piece.piece);
                self.copy(piece, &job, record).instrument(span).await?;
                Job::Copy(piece)
            }
            Claimed::Batch(batch, record) => {
                let plan = &self.context.plans[batch.table];
                let job = match plan.partitions_of(batch.batch) {
                    [one] => format!("table {} partition {}", plan.name, one.name),
                    many => format!("table {} batch {} ({} partitions)", plan.name, batch.batch, many.len()),
                };
                let (table, partition) = (&plan.name, partition_names(plan, batch.batch));
                let span = error_span!("batch", job, table, partition, batch = batch.batch);
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
            let span = error_span!("attempt", attempt = record.attempt);
            match self.try_to_copy(piece, name, record, &mut grace).instrument(span).await? {
                Some(next) => record = next,
                None => return Ok(()),
            }
        }
    }

    /// One attempt, and what is recorded of it. Gives the record of the next one, if there is to be one.
    async fn try_to_copy(
        &self,
        piece: PieceRef,
        name: &str,
        mut record: PieceRecord,
        grace: &mut Grace,
    ) -> Result<Option<PieceRecord>, LedgerError> {
        let plan = &self.context.plans[piece.table];
        let of = &plan.pieces[piece.piece];
        let number = record.attempt;
        let batch = self.cache.lock().await.by_table[piece.table].batches[of.batch].clone();
        tracing::debug!("{name}: attempt {number} begins");
        let attempt = Attempt { context: &self.context, piece, number, narrow: record.narrow, batch: &batch };
        let sources = attempt.sources().await;
        if let Ok(sources) = &sources
            && let Some(next) = self.lends(&record, piece.table, sources)
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
        let next = match self.admitted(name, &attempt, sources).await? {
            // Whoever comes next takes the piece up.
            None => return self.ledger.give_up_claim(Job::Copy(piece)).await.map(|()| None),
            Some(Ok(copied)) => {
                let rows: u64 = copied.staged.iter().sum();
                tracing::info!(
                    "{name}: {rows} rows copied in {:.1} s (attempt {number})",
                    copied.millis as f64 / 1000.0
                );
                if let Some(news) = self.context.concurrency.note(plan.bytes_of(piece.piece), Instant::now()) {
                    tracing::info!("{news}");
                }
                record.done(copied)
            }
            Some(Err(error)) => {
                attempt.abandon().await;
                let of = BatchRef { table: piece.table, batch: of.batch };
                let moved = self.move_if_lost(of, &batch, &error, record.failures + 1).await?;
                let limit = self.context.worker_options.tries;
                let next = match moved {
                    Some(generation) => record.next_attempt(&self.context.worker, generation),
                    None => record.after_failure(&self.context.worker, grace.failure(&error), limit),
                };
                let given_up = matches!(next.state, PieceState::Failed { .. });
                self.tell(name, number, &error, given_up, grace);
                next
            }
        };
        let again = matches!(next.state, PieceState::Running { .. });
        let claim = if again { ClaimChange::Keep } else { ClaimChange::GiveBack };
        let mut cache = self.cache.lock().await;
        let worker = &self.context.worker;
        let outcome = self.ledger.change_piece(&mut cache, piece, &record, next.clone(), claim, worker).await?;
        drop(cache);
        if outcome == Outcome::Lost {
            tracing::warn!("{name}: another worker has taken over; attempt {number} is void");
            return Ok(None);
        }
        if let Some(copied) = next.copied() {
            self.tally.copied(copied.staged.iter().sum(), plan.bytes_of(piece.piece));
        }
        if !again {
            fault_point("piece-recorded").await;
            return Ok(None);
        }
        if self.pause(next.failures, grace).await == Paused::Interrupted {
            return self.ledger.give_up_claim(Job::Copy(piece)).await.map(|()| None);
        }
        Ok(Some(next))
    }

    /// The record of a piece that may be cloned from other source nodes than before: they are known before anything is made there.
    fn lends(&self, record: &PieceRecord, table: usize, sources: &[Source]) -> Option<PieceRecord> {
        let new = || sources.iter().map(|source| source.node.address()).filter(|node| !record.lent.contains(node));
        if !self.context.may_clone(table) || new().next().is_none() {
            return None;
        }
        Some(PieceRecord { lent: record.lent.iter().cloned().chain(new()).collect(), ..record.clone() })
    }

    /// An attempt, once it may begin. `None`: the run is to end before that.
    async fn admitted(
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
        let asked = Instant::now();
        let Some(admitted) = self.admit(name, attempt.piece, attempt.batch, nodes).await? else { return Ok(None) };
        let waiting = asked.elapsed().as_millis() as u64;
        let result = attempt.perform(&sources).await;
        self.dismiss(admitted).await?;
        Ok(Some(result.map(|copied| Copied { waiting, ..copied })))
    }

    /// The pause before another attempt. What waits until a server has recovered does not outlast a run that is to end.
    async fn pause(&self, failures: u32, grace: &Grace) -> Paused {
        tokio::select! {
            biased;
            () = self.interrupt.finish(), if grace.since.is_some() => Paused::Interrupted,
            () = tokio::time::sleep(self.context.pause(failures + grace.waits)) => Paused::Over,
        }
    }

    fn describe(&self, piece: PieceRef) -> String {
        let plan = &self.context.plans[piece.table];
        let of = &plan.pieces[piece.piece];
        let what = match plan.partitions_of(of.batch) {
            [one] => format!("partition {}", one.name),
            many => format!("{} partitions", many.len()),
        };
        // The pieces of a batch are in the order of their shards.
        let siblings = &plan.pieces[plan.batches[of.batch].pieces.clone()];
        let first = siblings.partition_point(|piece| piece.first_shard() < of.first_shard());
        let slice = match siblings.partition_point(|piece| piece.first_shard() <= of.first_shard()) - first {
            count @ 2.. => {
                let at = piece.piece - plan.batches[of.batch].pieces.start - first;
                format!(" slice {} of {count}", at + 1)
            }
            _ => String::new(),
        };
        let shards: Vec<String> = of.sources.iter().map(|share| (share.shard + 1).to_string()).collect();
        format!("{what}{slice}, source shard{} {}", if shards.len() > 1 { "s" } else { "" }, shards.join(", "))
    }

    fn tell(&self, name: &str, number: u32, error: &AttemptError, given_up: bool, grace: &Grace) {
        self.tally.failed();
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

/// The partitions of a batch, for a line that a program reads.
fn partition_names(plan: &TablePlan, batch: usize) -> String {
    let partitions = plan.partitions_of(batch);
    let names: Vec<&str> = partitions.iter().take(MOST_NAMES).map(|partition| partition.name.as_str()).collect();
    match partitions.len().saturating_sub(MOST_NAMES) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// How a pause ended.
#[derive(Debug, PartialEq, Eq)]
enum Paused {
    Over,
    Interrupted,
}

/// The time that a server was given because it asked for it.
#[derive(Debug, Default)]
struct Grace {
    /// When it asked first, of times in a row.
    since: Option<Instant>,
    /// How often, since then.
    waits: u32,
}

impl Grace {
    /// An error as it is recorded: what a server asks time for is no failure, as long as it is not asked for too long.
    fn failure(&mut self, error: &AttemptError) -> Failure {
        let mut failure = error.failure();
        if failure.overload {
            let since = *self.since.get_or_insert_with(Instant::now);
            self.waits += 1;
            failure.overload = since.elapsed() < GRACE;
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
        let of = |code| {
            let kind = Kind::Server { code, message: "Too many parts (300)".into() };
            AttemptError::Server(Error { node: "n".into(), doing: "cannot".into(), kind })
        };
        let mut grace = Grace::default();
        assert!(grace.failure(&of(252)).overload);
        tokio::time::advance(GRACE / 2).await;
        assert!(grace.failure(&of(252)).overload && !grace.failure(&of(209)).overload);
        assert!(grace.failure(&of(252)).overload, "counted from the beginning again");
        tokio::time::advance(GRACE).await;
        assert!(!grace.failure(&of(252)).overload);
    }
}
