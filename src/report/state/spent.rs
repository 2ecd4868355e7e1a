//! The time that workers spent on each activity.

use serde::Serialize;

use crate::protocol::{Copied, Published};

/// The time that workers spent on each activity, in milliseconds of all jobs together: four pieces at once take four
/// seconds per second. Only successful attempts count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spent {
    /// Waiting for servers to be free for another piece.
    pub(crate) waiting: u64,
    /// Creating staging tables and moving rows into them.
    pub(crate) transferring: u64,
    /// Counting and comparing staged rows and published rows.
    pub(crate) verifying: u64,
    /// Gathering staged rows and publishing them.
    pub(crate) publishing: u64,
}

impl Spent {
    /// Returns the time that the copy of a piece took.
    pub(super) fn on_copy(copied: &Copied) -> Self {
        Self {
            waiting: copied.waiting,
            transferring: copied.millis.saturating_sub(copied.verifying),
            verifying: copied.verifying,
            publishing: 0,
        }
    }

    /// Returns the time that the publication of a batch took.
    pub(super) fn on_publication(published: &Published) -> Self {
        Self {
            verifying: published.verifying,
            publishing: published.gathering + published.millis.saturating_sub(published.verifying),
            ..Self::default()
        }
    }

    /// Adds other times.
    pub(super) fn add(&mut self, other: Self) {
        self.waiting += other.waiting;
        self.transferring += other.transferring;
        self.verifying += other.verifying;
        self.publishing += other.publishing;
    }

    /// Returns the sum of all times.
    pub(crate) fn total(&self) -> u64 {
        self.named().iter().map(|(_, millis)| millis).sum()
    }

    /// Returns each time with its name.
    pub(crate) fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("transferring", self.transferring),
            ("verifying", self.verifying),
            ("publishing", self.publishing),
            ("waiting for servers", self.waiting),
        ]
    }
}
