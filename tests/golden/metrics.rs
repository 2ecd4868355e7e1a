//! The metrics for Prometheus: names, types, units and labels.

use std::collections::BTreeSet;
use std::sync::Arc;

use clickhouse_copier::report::status::Status;
use clickhouse_copier::web::metrics::{CONTENT_TYPE, of_task, of_worker};
use clickhouse_copier::web::watch::{Reading, TaskSnapshot};
use clickhouse_copier::worker::view::View;
use time::OffsetDateTime;

use super::check;
use super::facts::overview;

/// Returns types and units as they are, and samples without their values and without help.
fn forms(text: &str) -> String {
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let mut forms: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("# HELP")) {
        let sample = line.rsplit_once(' ').filter(|_| !line.starts_with('#')).map(|(sample, _)| sample);
        forms.push(sample.unwrap_or(line).replace(&version, "version=\"…\""));
    }
    // Samples of one metric come in any order.
    forms.chunk_by_mut(|one, next| !one.starts_with('#') && !next.starts_with('#')).for_each(<[String]>::sort);
    forms.join("\n")
}

fn seen() -> Reading {
    let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
    let mut status = Status::of(&overview(), "/copy/hits");
    status.at_rate(Some(100));
    Reading { seen: Some(Arc::new(TaskSnapshot { at, overview: overview(), status })), ..Reading::default() }
}

#[test]
fn metrics_of_a_task_keep_their_names_types_and_labels() {
    check("metrics-task.txt", &forms(&of_task(&seen())));
    let stale = Reading { stale: Some("away".into()), ..seen() };
    check("metrics-task-away.txt", &forms(&of_task(&stale)));
}

#[test]
fn metrics_of_a_task_keep_their_values() {
    let text = of_task(&seen()).replace(env!("CARGO_PKG_VERSION"), "(version)");
    let values: BTreeSet<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    check("metrics-task-values.txt", &values.into_iter().collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn metrics_of_a_worker_keep_their_names_types_and_labels() {
    let text = of_worker(&View::default(), "host-1-aaaa", "/copy/hits").await;
    check("metrics-worker.txt", &forms(&text));
}

#[test]
fn metrics_keep_their_content_type() {
    assert_eq!(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8");
}
