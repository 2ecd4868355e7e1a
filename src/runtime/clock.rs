//! The time of day, for reports and logs. No decision depends on it, since the clocks of machines differ.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since 1970 by this machine's clock.
pub(crate) fn now() -> u64 {
    // A clock before 1970 counts as 0.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
