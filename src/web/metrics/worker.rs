//! A worker's own figures: those of several workers may be added up.

use prometheus_client::registry::Unit;

use super::{Figures, count, label};
use crate::worker::view::{Done, View};

/// What a worker exports. `name` is the worker's, `path` the task's.
pub async fn of_worker(view: &View, name: &str, path: &str) -> String {
    let (done, in_hand) = (view.done(), view.jobs_in_hand().await);
    let mut figures = Figures::new();
    let info =
        vec![("worker", name.to_owned()), ("path", path.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
    figures.gauge("worker_info", "This worker; always 1", None, [(info, 1)]);
    let at_work = i64::from(in_hand.is_some());
    figures.gauge(
        "worker_at_work",
        "1 while it has a place and works, 0 while it waits or begins",
        None,
        [(Vec::new(), at_work)],
    );
    let (pieces, batches) = in_hand.unwrap_or_default();
    let jobs = [(label("kind", "copy"), count(pieces)), (label("kind", "publish"), count(batches))];
    figures.gauge("worker_jobs", "Jobs that it has in hand", None, jobs);
    let Done { pieces, rows, bytes, batches, failures } = done;
    let mut total = |name, help, unit, value| figures.counter(name, help, unit, value);
    total("worker_copied_pieces", "Pieces that it copied", None, pieces);
    total("worker_copied_rows", "Rows of them, counted in staging", None, rows);
    total("worker_copied", "Uncompressed bytes of them, estimated", Some(Unit::Bytes), bytes);
    total("worker_published_batches", "Batches that it published", None, batches);
    total("worker_failed_attempts", "Attempts that failed, at pieces and at publishing", None, failures);
    figures.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_counts_what_it_did() {
        let view = View::default();
        view.tally().copied(10, 2000);
        view.tally().copied(5, 1000);
        view.tally().failed();
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
