//! The rate of a copy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Status;
use crate::ledger::overview::TaskOverview;
use crate::protocol::Job;

/// The period over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(60);

/// Returns the rate from one reading, in bytes per second: the average of a job so far, times the number of jobs that
/// copy now.
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
    let jobs = overview.claims.iter().filter(|(claim, _)| matches!(claim.job(), Some(Job::Copy(_)))).count();
    (jobs > 0 && millis > 0).then(|| (bytes as f64 / millis as f64 * 1000.0 * jobs as f64) as u64)
}

/// Measures the rate from one reading to the next.
#[derive(Debug, Default)]
pub struct Speedometer {
    readings: VecDeque<(Instant, u64)>,
}

impl Speedometer {
    /// Records a reading, and sets its rate to that of the last minute. Until pieces have ended between two readings,
    /// the rate of the reading itself stays.
    pub fn note(&mut self, status: &mut Status, at: Instant) {
        let copied = status.total.bytes_copied;
        while self.readings.len() > 1 && at.duration_since(self.readings[0].0) > WINDOW {
            self.readings.pop_front();
        }
        if let Some((since, before)) = self.readings.front()
            && copied > *before
            && at > *since
        {
            let rate = (copied - before) as f64 / at.duration_since(*since).as_secs_f64();
            status.at_rate(Some(rate as u64));
        }
        self.readings.push_back((at, copied));
    }
}
