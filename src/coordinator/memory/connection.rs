//! The state of a session's connection. Waiters continue in the order in which they came, so that a simulation always
//! runs the same way. (tokio's `watch` wakes its waiters in a random order.)

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Up,
    /// Operations and fired watches wait.
    Cut,
    Over,
}

#[derive(Debug)]
pub(super) struct SessionConnection {
    state: Mutex<ConnectionState>,
    changed: Notify,
}

impl SessionConnection {
    pub(crate) fn connected() -> Self {
        Self { state: Mutex::new(ConnectionState::Up), changed: Notify::new() }
    }

    pub(crate) fn state(&self) -> ConnectionState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, to: ConnectionState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.changed.notify_waiters();
    }

    /// Waits for a state that fulfils the condition. Cancellation is harmless.
    pub(crate) async fn wait_until(&self, wanted: impl Fn(ConnectionState) -> bool) -> ConnectionState {
        loop {
            // It counts from here on, so no change is missed between the check and the wait.
            let changed = self.changed.notified();
            let state = self.state();
            if wanted(state) {
                return state;
            }
            changed.await;
        }
    }
}
