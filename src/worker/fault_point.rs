//! Places where a test can stop a worker, by name.
//!
//! With `CLICKHOUSE_COPIER_STOP_AT=<name>` in the environment a worker that comes to that place says so on standard error
//! and stands still, its session alive, until somebody ends the process. Off otherwise.

use std::sync::OnceLock;

/// Stands still here if the environment says so.
pub async fn fault_point(name: &str) {
    static STOP_AT: OnceLock<Option<String>> = OnceLock::new();
    let stop_at = STOP_AT.get_or_init(|| std::env::var("CLICKHOUSE_COPIER_STOP_AT").ok());
    if stop_at.as_deref() == Some(name) {
        eprintln!("fault point {name} reached");
        std::future::pending::<()>().await;
    }
}
