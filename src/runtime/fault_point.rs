//! Named points at which a test can stop a worker. They do nothing unless one of these variables is set:
//!
//! - `CLICKHOUSE_COPIER_STOP_AT=<name>`: a worker that reaches the point reports it on standard error and waits there, with its
//!   session alive, until the process is ended;
//! - `CLICKHOUSE_COPIER_FREEZE_AT=<name>`: a worker that reaches the point for the first time reports it and freezes as a whole, as
//!   after SIGSTOP from outside. ZooKeeper gets no heartbeats until the process receives SIGCONT. Then the worker continues.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, raise};

static STOP_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CLICKHOUSE_COPIER_STOP_AT").ok());
static FREEZE_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CLICKHOUSE_COPIER_FREEZE_AT").ok());
static WAS_FROZEN: AtomicBool = AtomicBool::new(false);

/// Stops the worker here if the environment says so.
#[allow(clippy::print_stderr)] // for tests, which read it there
pub(crate) async fn fault_point(name: &str) {
    if STOP_AT.as_deref() == Some(name) {
        eprintln!("fault point {name} reached");
        std::future::pending::<()>().await;
    }
    if FREEZE_AT.as_deref() == Some(name) && !WAS_FROZEN.swap(true, Ordering::Relaxed) {
        eprintln!("fault point {name} reached");
        if let Err(error) = raise(Signal::SIGSTOP) {
            eprintln!("it cannot be stopped: {error}");
        }
    }
}
