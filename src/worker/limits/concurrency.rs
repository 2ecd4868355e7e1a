//! The number of jobs that a worker runs at once: as many as make the copy faster, and not more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The option for the number of jobs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// A fixed number, at least one.
    Fixed(usize),
    /// The number that moves most bytes per second, by measurement. It starts with two.
    Adaptive,
}

/// The first adaptive number of jobs.
const INITIAL_JOBS: usize = 2;
/// The largest adaptive number of jobs.
const MAX_JOBS: usize = 8;
/// The shortest time in which a rate is measured.
const MIN_WINDOW: Duration = Duration::from_secs(2);
/// The fewest pieces in a measurement, for each job at once.
const MIN_PIECES_PER_JOB: usize = 3;
/// One more job must raise the rate by this factor, or the step is undone.
const MIN_GAIN: f64 = 1.10;
/// One job less may lower the rate to this factor, or the step is undone.
const MAX_LOSS: f64 = 0.97;
/// The number of windows to wait after a step that did not help. It doubles after each further such step.
const INITIAL_PAUSE: u32 = 4;
/// The largest number of windows to wait after a step that did not help.
const MAX_PAUSE: u32 = 64;

/// The number of jobs at once. An adaptive number follows from the bytes of the copied pieces.
#[derive(Debug)]
pub(crate) struct Concurrency(Mutex<State>);

#[derive(Debug)]
struct State {
    jobs: Jobs,
    now: usize,
    /// The number of pieces to ignore, since they began before the last step.
    ignored: usize,
    window: Option<Window>,
    /// The measurement before the last step.
    before: Option<Measured>,
    /// Whether the next step adds a job.
    up: bool,
    /// The number of windows to wait before the next step.
    pause: u32,
    next_pause: u32,
}

/// The rate of a number of jobs.
#[derive(Debug, Clone, Copy)]
struct Measured {
    jobs: usize,
    bytes_per_second: f64,
}

/// A measurement that runs.
#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: u64,
    pieces: usize,
}

impl Concurrency {
    /// Creates the state of a worker that has not begun.
    pub(crate) fn new(jobs: Jobs) -> Self {
        let now = match jobs {
            Jobs::Fixed(number) => number.max(1),
            Jobs::Adaptive => INITIAL_JOBS,
        };
        let state =
            State { jobs, now, ignored: 0, window: None, before: None, up: true, pause: 0, next_pause: INITIAL_PAUSE };
        Self(Mutex::new(state))
    }

    /// Returns the number of jobs to run now.
    pub(crate) fn jobs(&self) -> usize {
        self.state().now
    }

    /// Records a copied piece, with its bytes. Returns a log line when that changes the number of jobs.
    pub(crate) fn note(&self, bytes: u64, at: Instant) -> Option<String> {
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
    /// Records a piece. Returns the rate of the window that it ends, in bytes per second.
    fn note(&mut self, bytes: u64, at: Instant) -> Option<f64> {
        if self.jobs != Jobs::Adaptive {
            return None;
        }
        if self.ignored > 0 {
            self.ignored -= 1;
            return None;
        }
        // It is unknown when this piece began, so the first piece only starts the window.
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
        if took < MIN_WINDOW || window.pieces < MIN_PIECES_PER_JOB * self.now {
            return None;
        }
        let rate = window.bytes as f64 / took.as_secs_f64();
        self.window = Some(Window { since: at, bytes: 0, pieces: 0 });
        self.decide(rate);
        Some(rate)
    }

    /// Takes the next step, or undoes the last one if it did not help.
    fn decide(&mut self, rate: f64) {
        if let Some(Measured { jobs, bytes_per_second: base }) = self.before.take() {
            let helped = if self.now > jobs { rate > base * MIN_GAIN } else { rate > base * MAX_LOSS };
            if !helped {
                self.up = !self.up;
                self.pause = self.next_pause;
                self.next_pause = (self.next_pause * 2).min(MAX_PAUSE);
                self.step_to(jobs);
                return;
            }
            self.next_pause = INITIAL_PAUSE;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        if self.now == MAX_JOBS || self.now == 1 {
            self.up = self.now == 1;
        }
        self.before = Some(Measured { jobs: self.now, bytes_per_second: rate });
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

    /// Returns the number of jobs at each piece of 10 MB. `rate` gives the MB/s that a number of jobs moves.
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
    fn the_number_of_jobs_grows_only_while_throughput_grows() {
        let found = numbers(|jobs| 50.0 * jobs.min(5) as f64, 3000);
        assert!(share(&found[500..], |jobs| jobs == 5) > 0.8, "{:?}", &found[2900..]);
        assert!(found.iter().all(|jobs| *jobs <= 6));
        let all = numbers(|jobs| 50.0 * jobs as f64, 3000);
        assert_eq!((all[2999], all.iter().max()), (MAX_JOBS, Some(&MAX_JOBS)));
    }

    #[test]
    fn servers_that_one_job_saturates_get_one_job() {
        let found = numbers(|_| 40.0, 3000);
        assert!(share(&found[500..], |jobs| jobs == 1) > 0.7, "{found:?}");
        let slower = numbers(|jobs| 100.0 / jobs as f64, 2000);
        assert!(share(&slower[500..], |jobs| jobs == 1) > 0.8);
    }

    #[test]
    fn a_fixed_number_of_jobs_never_changes() {
        let concurrency = Concurrency::new(Jobs::Fixed(3));
        let now = Instant::now();
        for second in 0..1000 {
            assert_eq!(concurrency.note(1_000_000, now + Duration::from_secs(second)), None);
        }
        assert_eq!(concurrency.jobs(), 3);
    }
}
