//! What a seed lets happen, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Everything that can go wrong in a run. Which of them a seed knows, and how many of them come, is drawn first: many
/// seeds with few kinds find more than one soup of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A worker dies before it sends a request; its session goes on until it times out.
    Crash,
    /// It dies when the request is done, and before it sees the answer.
    CrashAfter,
    /// A worker stands still, but not as long as its session lives.
    ShortPause,
    /// It stands still for longer, and goes on as if nothing had been.
    LongPause,
    /// A session is over while its worker is well.
    SessionExpired,
    /// The answer to a request is lost.
    LostReply,
    /// The request is lost.
    LostRequest,
    /// A server refuses a statement for now: too busy, no memory, a lock.
    Refused,
    /// A statement arrives long after its sender stopped waiting for it.
    LateStatement,
    /// A server does not answer for a while; what runs on it goes on.
    NodeAway,
    /// A server is killed, and comes back.
    NodeRestart,
    /// A server does not come back.
    NodeGone,
    /// The coordinator is away for less than a session lasts.
    CoordinatorAway,
    /// It is away for longer.
    CoordinatorAwayLong,
    /// Somebody changes `max_workers`.
    MaxWorkers,
    /// Somebody pauses the task, and lets it go on after a while.
    Paused,
    /// A worker is told to end.
    Finish,
    /// It is told twice.
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

/// About so many requests pass in a copy without any fault.
const REQUESTS: f64 = 250.0;

/// How often each fault was there.
pub type Fired = BTreeMap<Fault, u64>;

/// The chance of a seed.
pub struct Fates {
    chance: StdRng,
    menu: Vec<Fault>,
    left: u32,
    probability: f64,
    pub fired: Fired,
}

impl Fates {
    pub fn new(mut chance: StdRng) -> Self {
        let kinds = chance.random_range(1..6);
        let menu = (0..kinds).map(|_| FAULTS[chance.random_range(0..FAULTS.len())]).collect();
        let left = chance.random_range(0..10);
        Self { menu, left, probability: f64::from(left) / REQUESTS, chance, fired: Fired::new() }
    }

    /// Nothing happens any more.
    pub fn end(&mut self) {
        self.left = 0;
    }

    /// As much may happen again.
    pub fn begin_again(&mut self) {
        self.left = self.chance.random_range(0..10);
        self.probability = f64::from(self.left) / REQUESTS;
    }

    /// What happens at a request, if anything; `fits` says what can.
    pub fn draw(&mut self, fits: impl Fn(Fault) -> bool) -> Option<Fault> {
        if self.left == 0 || !self.chance.random_bool(self.probability) {
            return None;
        }
        let fault = self.menu[self.chance.random_range(0..self.menu.len())];
        if !fits(fault) {
            return None;
        }
        self.left -= 1;
        *self.fired.entry(fault).or_default() += 1;
        Some(fault)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.chance.random_range(0..of.len())]
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.chance.random_range(0..limit)
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_millis(self.chance.random_range(least.as_millis() as u64..most.as_millis() as u64))
    }

    pub fn seed(&mut self) -> u64 {
        self.chance.random()
    }

    /// One part of a seed's chance, apart from the others: a change in one place leaves the others as they were.
    pub fn part(seed: u64, part: u64) -> StdRng {
        StdRng::seed_from_u64(seed.wrapping_mul(4).wrapping_add(part))
    }
}
