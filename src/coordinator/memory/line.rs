//! What a session's connection is like, and waiting for it: whoever waits first goes on first, so that a simulation is the
//! same run every time. (tokio's `watch` wakes its waiters in a random order.)

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// What a session may do just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Up,
    /// Operations wait, and so do watches that fired.
    Cut,
    Over,
}

#[derive(Debug)]
pub(super) struct Line {
    now: Mutex<State>,
    changed: Notify,
}

impl Line {
    pub fn up() -> Self {
        Self { now: Mutex::new(State::Up), changed: Notify::new() }
    }

    pub fn now(&self) -> State {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn turn(&self, to: State) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.changed.notify_waiters();
    }

    /// Returns at once when the state is such. Cancellation is harmless.
    pub async fn until(&self, wanted: impl Fn(State) -> bool) -> State {
        loop {
            // It counts from here on, so no turn is missed between the look and the wait.
            let changed = self.changed.notified();
            let now = self.now();
            if wanted(now) {
                return now;
            }
            changed.await;
        }
    }
}
