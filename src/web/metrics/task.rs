//! The metrics of a whole task.

use prometheus_client::registry::Unit;

use super::{Labels, MetricSet, count, gauge_value, label, state_label};
use crate::report::status::{Amounts, PartitionState, Status, TaskState};
use crate::web::watch::Reading;

const PARTITION_STATES: [PartitionState; 5] = [
    PartitionState::Done,
    PartitionState::Publishing,
    PartitionState::Copying,
    PartitionState::Pending,
    PartitionState::Failed,
];
const TASK_STATES: [TaskState; 9] = [
    TaskState::Planning,
    TaskState::Copying,
    TaskState::Idle,
    TaskState::Pausing,
    TaskState::Paused,
    TaskState::Cancelled,
    TaskState::Failed,
    TaskState::Finishing,
    TaskState::Finished,
];

/// Returns the metrics of the dashboard. If the task cannot be read now, there are only `up` and the time of the last
/// reading: other values would look like a task that makes no progress.
pub fn of_task(look: &Reading) -> String {
    let mut metrics = MetricSet::new();
    let seen = look.seen.as_deref();
    let now = seen.filter(|_| look.stale.is_none());
    metrics.gauge("up", "Whether the task can be seen: 1, or 0", None, [(Vec::new(), i64::from(now.is_some()))]);
    metrics.gauge(
        "last_seen_timestamp",
        "When the task was seen last, in Unix time",
        Some(Unit::Seconds),
        seen.map(|seen| (Vec::new(), seen.at.unix_timestamp())),
    );
    if let Some(seen) = now {
        task(&mut metrics, &seen.status);
    }
    metrics.text()
}

fn task(metrics: &mut MetricSet, status: &Status) {
    let info = vec![
        ("task", status.task.clone()),
        ("path", status.path.clone()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    metrics.gauge("task_info", "The task that is looked at; always 1", None, [(info, 1)]);
    let states = TASK_STATES.map(|state| (label("state", &state_label(state)), i64::from(state == status.state)));
    metrics.gauge("task_state", "1 for the state that the task is in, 0 for the others", None, states);

    let partitions = status.tables.iter().flat_map(|table| {
        PARTITION_STATES.map(|state| {
            let labels: Labels = vec![("table", table.name.clone()), ("state", state_label(state))];
            (labels, count(table.amounts.count(state)))
        })
    });
    metrics.gauge("partitions", "Partitions of the target in each state", None, partitions);
    amounts(metrics, status);
    progress(metrics, status);
    let errors = [true, false].map(|again| {
        let errors = status.errors.iter().filter(|error| error.tried_again == again);
        (label("tried_again", if again { "true" } else { "false" }), count(errors.count()))
    });
    metrics.gauge("errors", "Pieces and batches whose last attempt failed", None, errors);
    metrics.gauge("silent_servers", "Servers that did not answer", None, [(Vec::new(), count(status.silent.len()))]);
}

/// Adds rows, bytes and retries of each table job.
fn amounts(metrics: &mut MetricSet, status: &Status) {
    let by_table = |value: fn(&Amounts) -> u64| -> Vec<(Labels, i64)> {
        let tables = status.tables.iter();
        tables.map(|table| (label("table", &table.name), gauge_value(value(&table.amounts)))).collect()
    };
    metrics.gauge("planned_rows", "Rows to copy", None, by_table(|amounts| amounts.rows));
    metrics.gauge(
        "copied_rows",
        "Rows that were counted in staging or target tables",
        None,
        by_table(|amounts| amounts.rows_copied),
    );
    metrics.gauge(
        "published_rows",
        "Rows that were counted in the target table",
        None,
        by_table(|amounts| amounts.rows_published),
    );
    let bytes = || Some(Unit::Bytes);
    metrics.gauge("planned", "Uncompressed bytes to copy, estimated", bytes(), by_table(|amounts| amounts.bytes));
    metrics.gauge(
        "copied",
        "Of them counted in staging or target tables",
        bytes(),
        by_table(|amounts| amounts.bytes_copied),
    );
    let retries = status.tables.iter().map(|table| (label("table", &table.name), u64::from(table.amounts.retries)));
    metrics.counters("retries", "Attempts after the first, at pieces and at publishing", retries);
}

/// Adds the rate, the time that remains, the workers and their jobs.
fn progress(metrics: &mut MetricSet, status: &Status) {
    let no_labels = Vec::new;
    let rate = gauge_value(status.bytes_per_second.unwrap_or(0));
    let per_second = Some(Unit::Other("bytes_per_second".into()));
    metrics.gauge(
        "copying",
        "Uncompressed bytes copied in a second, over the last minute",
        per_second,
        [(no_labels(), rate)],
    );
    let left = status.seconds_left.map(|left| (no_labels(), gauge_value(left)));
    metrics.gauge(
        "remaining",
        "Seconds until all is copied, at that rate; absent where that is unknown",
        Some(Unit::Seconds),
        left,
    );
    metrics.gauge("workers", "Workers that have a place", None, [(no_labels(), count(status.workers.len()))]);
    let jobs = || status.workers.iter().flat_map(|worker| &worker.jobs);
    metrics.gauge(
        "jobs",
        "Pieces and publications that workers have in hand",
        None,
        [(no_labels(), count(jobs().count()))],
    );
    let statements: usize = jobs().map(|job| job.statements.len()).sum();
    metrics.gauge("statements", "Statements of the task that servers show", None, [(no_labels(), count(statements))]);
    metrics.gauge(
        "waits",
        "Things that wait for something else than a worker",
        None,
        [(no_labels(), count(status.waits.len()))],
    );
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;
    use crate::ledger::overview::TaskOverview;
    use crate::report::status::sample;
    use crate::web::watch::TaskSnapshot;

    fn reading(status: Status) -> Reading {
        let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        Reading {
            seen: Some(Arc::new(TaskSnapshot { at, overview: TaskOverview::empty(), status })),
            ..Reading::default()
        }
    }

    /// Returns all metrics of a task in progress.
    pub(crate) fn all_metrics() -> String {
        let mut status = sample(3);
        status.seconds_left = Some(1);
        of_task(&reading(status))
    }

    #[test]
    fn metrics_have_units_and_labels() {
        let mut status = sample(7);
        status.tables[0].name = "a\"b\\c\nd".into();
        status.tables[0].amounts.partitions.insert(PartitionState::Done, 3);
        status.tables[0].amounts.bytes_copied = 5_000_000_000;
        let text = of_task(&reading(status));
        for line in [
            "# TYPE clickhouse_copier_up gauge",
            "clickhouse_copier_up 1",
            "clickhouse_copier_last_seen_timestamp_seconds 1700000000",
            "# UNIT clickhouse_copier_copied_bytes bytes",
            r#"clickhouse_copier_copied_bytes{table="a\"b\\c\nd"} 5000000000"#,
            r#"clickhouse_copier_partitions{table="a\"b\\c\nd",state="done"} 3"#,
            r#"clickhouse_copier_partitions{table="a\"b\\c\nd",state="failed"} 0"#,
            "# TYPE clickhouse_copier_retries counter",
            r#"clickhouse_copier_retries_total{table="a\"b\\c\nd"} 0"#,
            r#"clickhouse_copier_task_state{state="copying"} 1"#,
            r#"clickhouse_copier_task_state{state="finished"} 0"#,
            r#"clickhouse_copier_errors{tried_again="true"} 0"#,
            "clickhouse_copier_copying_bytes_per_second 0",
            "clickhouse_copier_workers 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("remaining"), "there is no metric for an unknown number:\n{text}");
    }

    #[test]
    fn the_number_of_metrics_does_not_grow_with_partitions() {
        assert_eq!(of_task(&reading(sample(3))).lines().count(), of_task(&reading(sample(3000))).lines().count());
    }

    #[test]
    fn a_task_that_cannot_be_read_exports_no_progress() {
        let stale = Reading { stale: Some("away".into()), ..reading(sample(3)) };
        let text = of_task(&stale);
        assert!(
            text.contains("\nclickhouse_copier_up 0\n") && text.contains("last_seen_timestamp_seconds 17"),
            "{text}"
        );
        assert!(!text.contains("workers") && !text.contains("partitions"), "{text}");
        assert!(of_task(&Reading::default()).contains("\nclickhouse_copier_up 0\n"));
    }
}
