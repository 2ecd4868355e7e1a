//! The time of day, for what people read. Nothing is decided by it: clocks of machines differ.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by this machine's clock.
pub fn now() -> u64 {
    // A clock that stands before 1970 tells nothing.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
