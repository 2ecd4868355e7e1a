//! The metrics of one worker. Values of several workers may be added.

use prometheus_client::registry::Unit;

use super::{MetricSet, count, label};
use crate::worker::view::{Totals, View};

/// Returns the metrics of a worker. `name` is the worker's name, `path` the task's path.
pub async fn of_worker(view: &View, name: &str, path: &str) -> String {
    let (totals, jobs_now) = (view.totals(), view.jobs_in_hand().await);
    let mut metrics = MetricSet::new();
    let info =
        vec![("worker", name.to_owned()), ("path", path.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
    metrics.gauge("worker_info", "This worker; always 1", None, [(info, 1)]);
    let at_work = i64::from(jobs_now.is_some());
    metrics.gauge(
        "worker_at_work",
        "1 while it has a place and works, 0 while it waits or begins",
        None,
        [(Vec::new(), at_work)],
    );
    let (pieces, batches) = jobs_now.unwrap_or_default();
    let jobs = [(label("kind", "copy"), count(pieces)), (label("kind", "publish"), count(batches))];
    metrics.gauge("worker_jobs", "Jobs that it has in hand", None, jobs);
    let Totals { pieces, rows, bytes, batches, failures } = totals;
    let mut total = |name, help, unit, value| metrics.counter(name, help, unit, value);
    total("worker_copied_pieces", "Pieces that it copied", None, pieces);
    total("worker_copied_rows", "Rows of them, counted in staging", None, rows);
    total("worker_copied", "Uncompressed bytes of them, estimated", Some(Unit::Bytes), bytes);
    total("worker_published_batches", "Batches that it published", None, batches);
    total("worker_failed_attempts", "Attempts that failed, at pieces and at publishing", None, failures);
    metrics.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_counts_its_pieces_rows_and_failures() {
        let view = View::default();
        view.counters().copied(10, 2000);
        view.counters().copied(5, 1000);
        view.counters().failed();
        let text = of_worker(&view, "host-1-abcd", "/copy").await;
        for line in [
            "clickhouse_copier_worker_copied_pieces_total 2",
            "clickhouse_copier_worker_copied_rows_total 15",
            "clickhouse_copier_worker_copied_bytes_total 3000",
            "clickhouse_copier_worker_published_batches_total 0",
            "clickhouse_copier_worker_failed_attempts_total 1",
            "clickhouse_copier_worker_at_work 0",
            r#"clickhouse_copier_worker_jobs{kind="copy"} 0"#,
            "# TYPE clickhouse_copier_worker_copied_bytes counter",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
