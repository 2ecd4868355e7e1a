//! How many jobs a worker has in hand: as many as make rows arrive faster, and not more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many jobs a worker was told to have in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// So many, at least one.
    Fixed(usize),
    /// As many as turn out to help: two at first.
    Adaptive,
}

/// Where an adaptive number begins, and where it ends.
const FIRST: usize = 2;
const MOST: usize = 8;
/// A rate is known after so long, and after so many pieces for each job in hand.
const WINDOW: Duration = Duration::from_secs(2);
const PIECES: usize = 3;
/// One job more must bring so much; one less may cost so much.
const GAIN: f64 = 1.10;
const LOSS: f64 = 0.97;
/// After a step that did not help, so many windows pass until the next one is tried; twice as many after each further one.
const REST: u32 = 4;
const LONGEST_REST: u32 = 64;

/// Finds the number of jobs, from the bytes of the pieces that end.
#[derive(Debug)]
pub struct Concurrency(Mutex<State>);

#[derive(Debug)]
struct State {
    jobs: Jobs,
    now: usize,
    /// Pieces that began before the last step say nothing about it.
    ignored: usize,
    window: Option<Window>,
    /// The number before the last step, and its rate.
    before: Option<(usize, f64)>,
    up: bool,
    rest: u32,
    next_rest: u32,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: u64,
    pieces: usize,
}

impl Concurrency {
    /// Of a worker that has not begun.
    pub fn new(jobs: Jobs) -> Self {
        let now = match jobs {
            Jobs::Fixed(number) => number.max(1),
            Jobs::Adaptive => FIRST,
        };
        let state = State { jobs, now, ignored: 0, window: None, before: None, up: true, rest: 0, next_rest: REST };
        Self(Mutex::new(state))
    }

    /// How many jobs to have in hand now.
    pub fn jobs(&self) -> usize {
        self.state().now
    }

    /// Takes note of a piece of so many bytes that ended. Gives a line when that changes the number.
    pub fn note(&self, bytes: u64, at: Instant) -> Option<String> {
        let mut state = self.state();
        let before = state.now;
        let rate = state.note(bytes, at)?;
        let now = state.now;
        (now != before).then(|| format!("{now} jobs at a time instead of {before} ({:.0} MB/s)", rate / 1e6))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The rate of the window that this piece ends, in bytes a second.
    fn note(&mut self, bytes: u64, at: Instant) -> Option<f64> {
        if self.jobs != Jobs::Adaptive {
            return None;
        }
        if self.ignored > 0 {
            self.ignored -= 1;
            return None;
        }
        // What ended this piece began in an unknown state: the first one only begins the time.
        let window = match &mut self.window {
            Some(window) => window,
            none => {
                *none = Some(Window { since: at, bytes: 0, pieces: 0 });
                return None;
            }
        };
        window.bytes += bytes;
        window.pieces += 1;
        let took = at.duration_since(window.since);
        if took < WINDOW || window.pieces < PIECES * self.now {
            return None;
        }
        let rate = window.bytes as f64 / took.as_secs_f64();
        self.window = Some(Window { since: at, bytes: 0, pieces: 0 });
        self.decide(rate);
        Some(rate)
    }

    fn decide(&mut self, rate: f64) {
        if let Some((number, base)) = self.before.take() {
            let helped = if self.now > number { rate > base * GAIN } else { rate > base * LOSS };
            if !helped {
                self.up = !self.up;
                self.rest = self.next_rest;
                self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
                self.step_to(number);
                return;
            }
            self.next_rest = REST;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if self.now == MOST || self.now == 1 {
            self.up = self.now == 1;
        }
        self.before = Some((self.now, rate));
        self.step_to(if self.up { self.now + 1 } else { self.now - 1 });
    }

    fn step_to(&mut self, number: usize) {
        self.ignored = self.now;
        self.now = number;
        self.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a worker has while pieces of 10 MB end, where `rate` says how many MB/s so many jobs move.
    fn numbers(rate: impl Fn(usize) -> f64, pieces: usize) -> Vec<usize> {
        let concurrency = Concurrency::new(Jobs::Adaptive);
        let mut now = Instant::now();
        let step = |_| {
            let jobs = concurrency.jobs();
            now += Duration::from_secs_f64(10.0 / rate(jobs));
            concurrency.note(10_000_000, now);
            jobs
        };
        (0..pieces).map(step).collect()
    }

    fn share(numbers: &[usize], wanted: impl Fn(usize) -> bool) -> f64 {
        numbers.iter().filter(|number| wanted(**number)).count() as f64 / numbers.len() as f64
    }

    #[test]
    fn jobs_grow_while_that_helps_and_no_further() {
        let found = numbers(|jobs| 50.0 * jobs.min(5) as f64, 3000);
        assert!(share(&found[500..], |jobs| jobs == 5) > 0.8, "{:?}", &found[2900..]);
        assert!(found.iter().all(|jobs| *jobs <= 6));
        let all = numbers(|jobs| 50.0 * jobs as f64, 3000);
        assert_eq!((all[2999], all.iter().max()), (MOST, Some(&MOST)));
    }

    #[test]
    fn servers_that_are_busy_with_one_job_get_one() {
        let found = numbers(|_| 40.0, 3000);
        assert!(share(&found[500..], |jobs| jobs == 1) > 0.7, "{found:?}");
        let slower = numbers(|jobs| 100.0 / jobs as f64, 2000);
        assert!(share(&slower[500..], |jobs| jobs == 1) > 0.8);
    }

    #[test]
    fn a_number_that_was_told_stays() {
        let concurrency = Concurrency::new(Jobs::Fixed(3));
        let now = Instant::now();
        for second in 0..1000 {
            assert_eq!(concurrency.note(1_000_000, now + Duration::from_secs(second)), None);
        }
        assert_eq!(concurrency.jobs(), 3);
    }
}
