//! Whether a statement or a transfer still moves anything.
//!
//! What is slow but moves is never given up, however long it takes. What moves nothing for the time limit is given up: no row is read or
//! written, no part and no byte arrives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Running;

/// How many seconds a statement or a transfer may move nothing, unless a user says else.
pub const STALL_SECONDS: u32 = 600;
/// The same as a duration.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(STALL_SECONDS as u64);
/// How often a statement is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The most time between two looks that counts: a process that was frozen has seen nothing of what moved meanwhile.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// Returns the pause between two looks for a time limit: a short limit needs more of them.
pub fn look_every(limit: Duration) -> Duration {
    LOOK.min(limit / 4)
}

/// What this process itself knows of a transfer that is under way.
#[derive(Debug, Default)]
pub struct Course {
    bytes: AtomicU64,
    waits: AtomicUsize,
}

impl Course {
    /// Takes note of rows that passed this process.
    pub fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many bytes of rows have passed so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that the transfer waits for its turn until the result is dropped: for a permit, a full server, a limit on bytes a second.
    pub fn wait(&self) -> Waits<'_> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    /// Whether the transfer waits for its turn.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed) > 0
    }
}

/// A transfer that waits for its turn as long as this lives.
#[derive(Debug)]
pub struct Waits<'a>(&'a Course);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The statements that run, by the node that was asked. A node that did not answer is left out.
    pub statements: BTreeMap<String, Vec<Running>>,
    /// The bytes that have passed this process.
    pub bytes: u64,
    /// Whether it waits for its turn.
    pub waits: bool,
}

/// What a look means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something has moved since the last look, or need not move.
    Moves,
    /// Nothing has moved, but not for long enough.
    Still,
    /// Nothing has moved for this long, which is too long.
    Stalled(Duration),
}

/// The looks at one statement or transfer.
#[derive(Debug)]
pub struct Watch {
    limit: Duration,
    /// For how long nothing has moved.
    still: Duration,
    last: Instant,
    /// Of each node, what its statements had done when it last answered.
    seen: BTreeMap<String, Vec<Done>>,
    bytes: u64,
}

/// The id of a statement, and what it has read, written and moved.
type Done = (String, u64, u64, u64);

impl Watch {
    /// Begins now.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, still: Duration::ZERO, last: now, seen: BTreeMap::new(), bytes: 0 }
    }

    /// Judges by one more look.
    pub fn judge(&mut self, look: &Look, now: Instant) -> Verdict {
        let mut moved = look.waits || look.bytes != self.bytes;
        self.bytes = look.bytes;
        for (node, statements) in &look.statements {
            let done = |one: &Running| (one.query_id.clone(), one.read_rows, one.written_rows, one.moved);
            let mut done: Vec<Done> = statements.iter().map(done).collect();
            done.sort_unstable();
            moved |= self.seen.get(node) != Some(&done);
            self.seen.insert(node.clone(), done);
        }
        let gap = now.saturating_duration_since(self.last).min(LONGEST_GAP.max(self.limit / 4));
        self.last = now;
        if moved {
            self.still = Duration::ZERO;
            return Verdict::Moves;
        }
        self.still += gap;
        if self.still >= self.limit { Verdict::Stalled(self.still) } else { Verdict::Still }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(read: u64, written: u64, moved: u64) -> Running {
        Running { query_id: "q".into(), elapsed: 1.0, read_rows: read, written_rows: written, moved }
    }

    fn look(at: &[(&str, Vec<Running>)], bytes: u64) -> Look {
        let statements = at.iter().map(|(node, running)| ((*node).to_owned(), running.clone())).collect();
        Look { statements, bytes, waits: false }
    }

    async fn after(watch: &mut Watch, look: &Look, seconds: u64) -> Verdict {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        watch.judge(look, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_nothing_for_the_limit_is_stalled_and_what_moves_at_all_is_not() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let still = look(&[("a", vec![running(5, 5, 5)]), ("b", vec![])], 7);
        assert_eq!(after(&mut watch, &still, 20).await, Verdict::Moves);
        for _ in 0..2 {
            assert_eq!(after(&mut watch, &still, 20).await, Verdict::Still);
        }
        // One row read, one written, one byte, one statement more or fewer.
        for changed in [
            look(&[("a", vec![running(6, 5, 5)])], 7),
            look(&[("a", vec![running(6, 6, 5)])], 7),
            look(&[("a", vec![running(6, 6, 6)])], 7),
            look(&[("a", vec![running(6, 6, 6)])], 8),
            look(&[("b", vec![running(0, 0, 0)])], 8),
            look(&[("a", vec![])], 8),
        ] {
            assert_eq!(after(&mut watch, &changed, 20).await, Verdict::Moves, "{changed:?}");
            assert_eq!(after(&mut watch, &changed, 20).await, Verdict::Still, "{changed:?}");
        }
        let last = look(&[("a", vec![])], 8);
        assert_eq!(after(&mut watch, &last, 20).await, Verdict::Still);
        assert_eq!(after(&mut watch, &last, 20).await, Verdict::Stalled(Duration::from_secs(60)));
    }

    /// The time that a statement runs is no progress, and a node that does not answer shows none.
    #[tokio::test(start_paused = true)]
    async fn silence_is_no_progress() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let mut statement = running(5, 5, 5);
        assert_eq!(after(&mut watch, &look(&[("a", vec![statement.clone()])], 0), 1).await, Verdict::Moves);
        for _ in 0..3 {
            statement.elapsed += 10.0;
            assert_eq!(after(&mut watch, &look(&[("a", vec![statement.clone()])], 0), 15).await, Verdict::Still);
        }
        assert_eq!(after(&mut watch, &look(&[], 0), 15).await, Verdict::Stalled(Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_waited_or_not_looked_at_does_not_count() {
        let mut watch = Watch::new(Duration::from_secs(60), Instant::now());
        let course = Course::default();
        let seen = |waits| Look { waits, ..look(&[("a", vec![running(1, 1, 1)])], 0) };
        assert_eq!(after(&mut watch, &seen(false), 1).await, Verdict::Moves);
        {
            let _waits = course.wait();
            for _ in 0..100 {
                assert_eq!(after(&mut watch, &seen(course.waits()), 30).await, Verdict::Moves);
            }
        }
        assert!(!course.waits());
        // This process was frozen for a day.
        assert_eq!(after(&mut watch, &seen(false), 86_400).await, Verdict::Still);
        assert_eq!(after(&mut watch, &seen(false), 30).await, Verdict::Stalled(Duration::from_secs(60)));
    }
}
