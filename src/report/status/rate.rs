//! How fast a task is copied.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ledger::overview::TaskOverview;
use crate::protocol::{Job, job_of_claim};

use super::Status;

/// A rate is that of the last minute.
const WINDOW: Duration = Duration::from_secs(60);

/// The rate of one look: what a job moved on average so far, times the jobs at work now.
pub(super) fn of_jobs(overview: &TaskOverview) -> Option<u64> {
    let (mut bytes, mut millis) = (0, 0);
    for (plan, records) in overview.plans.iter().zip(&overview.by_table) {
        for (piece, record) in records.pieces.iter().enumerate() {
            if let Some(copied) = record.copied() {
                bytes += plan.bytes_of(piece);
                millis += copied.millis;
            }
        }
    }
    let jobs = overview.claims.iter().filter(|(claim, _)| matches!(job_of_claim(claim), Some(Job::Copy(_)))).count();
    (jobs > 0 && millis > 0).then(|| (bytes as f64 / millis as f64 * 1000.0 * jobs as f64) as u64)
}

/// Measures the rate from look to look.
#[derive(Debug, Default)]
pub struct Speedometer {
    seen: VecDeque<(Instant, u64)>,
}

impl Speedometer {
    /// Takes note of a look, and gives it the rate of the last minute; until pieces ended while this looked on, the one of the
    /// look itself stays.
    pub fn note(&mut self, status: &mut Status, at: Instant) {
        let copied = status.total.bytes_copied;
        while self.seen.len() > 1 && at.duration_since(self.seen[0].0) > WINDOW {
            self.seen.pop_front();
        }
        if let Some((since, before)) = self.seen.front()
            && copied > *before
            && at > *since
        {
            let rate = (copied - before) as f64 / at.duration_since(*since).as_secs_f64();
            status.at_rate(Some(rate as u64));
        }
        self.seen.push_back((at, copied));
    }
}
