//! The rate of a copy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Status;

/// The period over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(60);

/// Measures the rate from one reading to the next.
#[derive(Debug, Default)]
pub(crate) struct Speedometer {
    readings: VecDeque<Amount>,
}

/// The bytes that were copied until an instant.
#[derive(Debug)]
struct Amount {
    at: Instant,
    bytes_copied: u64,
}

impl Speedometer {
    /// Records a reading, and sets its rate to that of the last minute. Until pieces have ended between two readings,
    /// the rate of the reading itself stays.
    pub(crate) fn note(&mut self, status: &mut Status, now: Instant) {
        let copied = status.total.bytes_copied;
        while self.readings.len() > 1 && now.duration_since(self.readings[0].at) > WINDOW {
            self.readings.pop_front();
        }
        if let Some(before) = self.readings.front()
            && copied > before.bytes_copied
            && now > before.at
        {
            let rate = (copied - before.bytes_copied) as f64 / now.duration_since(before.at).as_secs_f64();
            status.at_rate(Some(rate as u64));
        }
        self.readings.push_back(Amount { at: now, bytes_copied: copied });
    }
}
