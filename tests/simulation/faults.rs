//! The faults of a seed, and when they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A fault. A seed first draws a few kinds of faults and their number: many seeds with few kinds find more than seeds with
/// all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A worker dies before it sends a request; its session goes on until it times out.
    Crash,
    /// A worker dies after its request is done, before it sees the answer.
    CrashAfter,
    /// A worker is paused for less than its session timeout.
    ShortPause,
    /// A worker is paused for longer than its session timeout, and then continues.
    LongPause,
    /// A session ends while its worker runs.
    SessionExpired,
    /// The answer to a request is lost.
    LostReply,
    /// A request is lost.
    LostRequest,
    /// A server refuses a statement once: too busy, no memory, a lock.
    Refused,
    /// A statement arrives long after its sender stopped waiting for it.
    LateStatement,
    /// A server does not answer for a while. Its statements continue.
    NodeAway,
    /// A server is killed, and comes back.
    NodeRestart,
    /// A server does not come back.
    NodeGone,
    /// The coordinator is away for less than the session timeout.
    CoordinatorAway,
    /// The coordinator is away for longer than the session timeout.
    CoordinatorAwayLong,
    /// A user changes `max_workers`.
    MaxWorkers,
    /// A user pauses the task, and resumes it after a while.
    Paused,
    /// A worker gets a first signal to end.
    Finish,
    /// A worker gets two signals to end.
    Stop,
    /// A replica fetches nothing for a while.
    Lag,
    /// A server merges what it holds.
    Merge,
}

pub const FAULTS: [Fault; 20] = [
    Fault::Crash,
    Fault::CrashAfter,
    Fault::ShortPause,
    Fault::LongPause,
    Fault::SessionExpired,
    Fault::LostReply,
    Fault::LostRequest,
    Fault::Refused,
    Fault::LateStatement,
    Fault::NodeAway,
    Fault::NodeRestart,
    Fault::NodeGone,
    Fault::CoordinatorAway,
    Fault::CoordinatorAwayLong,
    Fault::MaxWorkers,
    Fault::Paused,
    Fault::Finish,
    Fault::Stop,
    Fault::Lag,
    Fault::Merge,
];

/// The number of requests in a copy without faults, roughly.
const REQUESTS: f64 = 250.0;

/// How often each fault happened.
pub type FaultCounts = BTreeMap<Fault, u64>;

/// Source of randomness of a seed, and the faults that are left.
pub struct RandomFaults {
    random: StdRng,
    kinds: Vec<Fault>,
    left: u32,
    probability: f64,
    pub fired: FaultCounts,
}

impl RandomFaults {
    pub fn new(mut random: StdRng) -> Self {
        let kinds = random.random_range(1..6);
        let kinds = (0..kinds).map(|_| FAULTS[random.random_range(0..FAULTS.len())]).collect();
        let left = random.random_range(0..10);
        Self { kinds, left, probability: f64::from(left) / REQUESTS, random, fired: FaultCounts::new() }
    }

    /// Stops all faults.
    pub fn end(&mut self) {
        self.left = 0;
    }

    /// Draws a new number of faults, for the second pass.
    pub fn begin_again(&mut self) {
        self.left = self.random.random_range(0..10);
        self.probability = f64::from(self.left) / REQUESTS;
    }

    /// Draws a fault for a request, or none. `fits` says which faults are possible.
    pub fn draw(&mut self, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        if self.left == 0 || !self.random.random_bool(self.probability) {
            return None;
        }
        let fault = self.kinds[self.random.random_range(0..self.kinds.len())];
        if !fits(fault) {
            return None;
        }
        self.left -= 1;
        *self.fired.entry(fault).or_default() += 1;
        Some(fault)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.random.random_range(0..of.len())]
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.random.random_range(0..limit)
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_millis(self.random.random_range(least.as_millis() as u64..most.as_millis() as u64))
    }

    pub fn seed(&mut self) -> u64 {
        self.random.random()
    }

    /// Returns one of several independent random sources of a seed: more draws from one do not change the others.
    pub fn part(seed: u64, part: u64) -> StdRng {
        StdRng::seed_from_u64(seed.wrapping_mul(4).wrapping_add(part))
    }
}
