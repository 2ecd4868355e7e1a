//! Decides whether a statement or a transfer still makes progress.
//!
//! A slow statement that moves is never given up, however long it takes. A statement is given up if it moves nothing
//! for the time limit: it reads and writes no row, and no part and no byte arrives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Running;

/// How many seconds a statement or a transfer may move nothing, unless a user sets another limit.
pub(crate) const STALL_SECONDS: u32 = 600;
/// The same as a duration.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(STALL_SECONDS as u64);
/// The pause between two observations of a statement.
const OBSERVATION_INTERVAL: Duration = Duration::from_secs(5);
/// The longest time between two observations that counts: a process that was frozen has not seen what moved
/// meanwhile.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Returns the pause between two observations for a time limit: a short limit needs more of them.
pub(crate) fn observation_pause(limit: Duration) -> Duration {
    OBSERVATION_INTERVAL.min(limit / 4)
}

/// This process's own knowledge about a transfer in progress.
#[derive(Debug, Default)]
pub struct Course {
    bytes: AtomicU64,
    waits: AtomicUsize,
}

impl Course {
    /// Counts bytes of rows that passed this process.
    pub(crate) fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns how many bytes of rows have passed so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Marks the transfer as waiting until the result is dropped: for a permit, a full server, or a bandwidth limit.
    pub(crate) fn wait(&self) -> Waits<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    /// Returns whether the transfer waits.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) > 0
    }
}

/// A guard: the transfer counts as waiting while this lives.
#[derive(Debug)]
pub(crate) struct Waits<'a>(&'a Course);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The state of a statement or transfer at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransferObservation {
    /// The running statements, by the queried node. A node that did not answer is left out.
    pub(crate) statements: BTreeMap<String, Vec<Running>>,
    /// The bytes that have passed this process.
    pub(crate) bytes: u64,
    /// Whether the transfer waits for its turn.
    pub(crate) waits: bool,
}

/// The verdict on an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StallVerdict {
    /// It has moved since the last observation, or need not move.
    Moves,
    /// It has not moved, but not for long enough.
    Still,
    /// It has not moved for this long, which is too long.
    Stalled(Duration),
}

/// The observations of one statement or transfer.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: Duration,
    /// How long nothing has moved.
    still: Duration,
    last: Instant,
    /// The progress of each node's statements when it last answered.
    seen: BTreeMap<String, Vec<Progress>>,
    bytes: u64,
}

/// The progress of a statement.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Progress {
    query_id: String,
    read_rows: u64,
    written_rows: u64,
    moved: u64,
}

impl Watch {
    /// Starts the observation now.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, still: Duration::ZERO, last: now, seen: BTreeMap::new(), bytes: 0 }
    }

    /// Judges one more observation.
    pub(crate) fn judge(&mut self, observation: &TransferObservation, now: Instant) -> StallVerdict {
        let mut moved = observation.waits || observation.bytes != self.bytes;
        self.bytes = observation.bytes;
        for (node, statements) in &observation.statements {
            let done = |statement: &Running| Progress {
                query_id: statement.query_id.clone(),
                read_rows: statement.read_rows,
                written_rows: statement.written_rows,
                moved: statement.moved,
            };
            let mut done: Vec<Progress> = statements.iter().map(done).collect();
            done.sort_unstable();
            moved |= self.seen.get(node) != Some(&done);
            self.seen.insert(node.clone(), done);
        }
        let gap = now.saturating_duration_since(self.last).min(LONGEST_GAP.max(self.limit / 4));
        self.last = now;
        if moved {
            self.still = Duration::ZERO;
            return StallVerdict::Moves;
        }
        self.still += gap;
        if self.still >= self.limit { StallVerdict::Stalled(self.still) } else { StallVerdict::Still }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(read: u64, written: u64, moved: u64) -> Running {
        Running { query_id: "q".into(), elapsed: 1.0, read_rows: read, written_rows: written, moved }
    }

    fn observation(nodes: &[(&str, Vec<Running>)], bytes: u64) -> TransferObservation {
        let statements = nodes.iter().map(|(node, running)| ((*node).to_owned(), running.clone())).collect();
        TransferObservation { statements, bytes, waits: false }
    }

    async fn after(watch: &mut Watch, observation: &TransferObservation, seconds: u64) -> StallVerdict {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        watch.judge(observation, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_without_progress_for_the_stall_timeout_is_ended() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let still = observation(&[("a", vec![running(5, 5, 5)]), ("b", vec![])], 7);
        assert_eq!(after(&mut watch, &still, 20).await, StallVerdict::Moves);
        for _ in 0..2 {
            assert_eq!(after(&mut watch, &still, 20).await, StallVerdict::Still);
        }
        // One row read, one row written, one byte, one statement more or fewer.
        for changed in [
            observation(&[("a", vec![running(6, 5, 5)])], 7),
            observation(&[("a", vec![running(6, 6, 5)])], 7),
            observation(&[("a", vec![running(6, 6, 6)])], 7),
            observation(&[("a", vec![running(6, 6, 6)])], 8),
            observation(&[("b", vec![running(0, 0, 0)])], 8),
            observation(&[("a", vec![])], 8),
        ] {
            assert_eq!(after(&mut watch, &changed, 20).await, StallVerdict::Moves, "{changed:?}");
            assert_eq!(after(&mut watch, &changed, 20).await, StallVerdict::Still, "{changed:?}");
        }
        let last = observation(&[("a", vec![])], 8);
        assert_eq!(after(&mut watch, &last, 20).await, StallVerdict::Still);
        assert_eq!(after(&mut watch, &last, 20).await, StallVerdict::Stalled(Duration::from_secs(60)));
    }

    /// The running time of a statement is no progress, and a node that does not answer shows none.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_shows_no_progress() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let mut statement = running(5, 5, 5);
        assert_eq!(after(&mut watch, &observation(&[("a", vec![statement.clone()])], 0), 1).await, StallVerdict::Moves);
        for _ in 0..3 {
            statement.elapsed += 10.0;
            assert_eq!(
                after(&mut watch, &observation(&[("a", vec![statement.clone()])], 0), 15).await,
                StallVerdict::Still
            );
        }
        assert_eq!(after(&mut watch, &observation(&[], 0), 15).await, StallVerdict::Stalled(Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_wait_or_of_a_frozen_process_does_not_count() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let course = Course::default();
        let seen = |waits| TransferObservation { waits, ..observation(&[("a", vec![running(1, 1, 1)])], 0) };
        assert_eq!(after(&mut watch, &seen(false), 1).await, StallVerdict::Moves);
        {
            let _waits = course.wait();
            for _ in 0..100 {
                assert_eq!(after(&mut watch, &seen(course.waits()), 30).await, StallVerdict::Moves);
            }
        }
        assert!(!course.waits());
        // This process was frozen for a day.
        assert_eq!(after(&mut watch, &seen(false), 86_400).await, StallVerdict::Still);
        assert_eq!(after(&mut watch, &seen(false), 30).await, StallVerdict::Stalled(Duration::from_secs(60)));
    }
}
