//! Places where a test can stop a worker, by name. Off unless the environment has one of
//!
//! - `CLICKHOUSE_COPIER_STOP_AT=<name>`: a worker that comes to that place says so on standard error and stands still, its
//!   session alive, until somebody ends the process;
//! - `CLICKHOUSE_COPIER_FREEZE_AT=<name>`: the first time that it comes there it says so and stops as a whole, as by
//!   SIGSTOP from outside: no sign of life reaches ZooKeeper, until somebody sends SIGCONT. Then it goes on from there.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, raise};

static STOP_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CLICKHOUSE_COPIER_STOP_AT").ok());
static FREEZE_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CLICKHOUSE_COPIER_FREEZE_AT").ok());
static WAS_FROZEN: AtomicBool = AtomicBool::new(false);

/// Stands still here if the environment says so.
#[allow(clippy::print_stderr)] // for tests, which read it there
pub async fn fault_point(name: &str) {
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
