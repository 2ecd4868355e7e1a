//! The messages to a page: the whole state first, then the changes. Each viewer is compared with what it received
//! itself, so a viewer that reads slowly receives fewer and larger messages.

use serde::Serialize;

use super::events::Event;
use super::watch::Reading;
use crate::report::status::{PartitionState, PartitionStatus, Status, TableStatus};

/// A message to the page.
#[derive(Debug, Serialize)]
pub struct PageUpdates<'a> {
    /// Whether the page must forget its state.
    whole: bool,
    /// The time of the reading, in RFC 3339.
    seen_at: Option<String>,
    /// The reason why the reading is old.
    stale: Option<&'a str>,
    /// The task; its tables have no partitions here. Absent until the task was read.
    status: Option<Status>,
    /// Partitions that are new or changed: the indexes of table and partition, and the cell.
    partitions: Vec<(usize, usize, Cell<'a>)>,
    /// The events since the last message.
    events: Vec<&'a Event>,
    /// The rates since the last message: Unix time in milliseconds, bytes per second.
    rates: Vec<(i64, u64)>,
}

/// A partition in the grid. It is short, because there may be ten thousand.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Cell<'a> {
    name: &'a str,
    state: PartitionState,
    rows: u64,
    copied: u64,
    failed: bool,
}

impl<'a> Cell<'a> {
    fn of(partition: &'a PartitionStatus) -> Self {
        Self {
            name: &partition.name,
            state: partition.state,
            rows: partition.rows,
            copied: partition.rows_copied,
            failed: partition.error.is_some(),
        }
    }
}

impl<'a> PageUpdates<'a> {
    /// Makes the message for a viewer that received `before` last, or nothing yet.
    pub fn of(before: Option<&Reading>, now: &'a Reading) -> Self {
        let status = now.seen.as_deref().map(|seen| &seen.status);
        let sent_status = before.and_then(|before| before.seen.as_deref()).map(|seen| &seen.status);
        let sent_status = sent_status.filter(|sent_status| status.is_some_and(|status| is_same(sent_status, status)));
        let whole = sent_status.is_none();
        let since = if whole { None } else { before };
        let last_rate = since.and_then(|before| before.rates.back()).map_or(i64::MIN, |rate| rate.unix_millis);
        let rates = now.rates.iter().filter(|rate| rate.unix_millis > last_rate);
        Self {
            whole,
            seen_at: now.seen.as_deref().map(super::watch::TaskSnapshot::at_text),
            stale: now.stale.as_deref(),
            status: status.map(without_partitions),
            partitions: status.map(|status| cells(sent_status, status)).unwrap_or_default(),
            events: now.events.after(since.map_or(0, |before| before.events.last())).collect(),
            rates: rates.map(|rate| (rate.unix_millis, rate.bytes_per_second)).collect(),
        }
    }
}

/// Returns whether both states have the same partitions at the same indexes.
fn is_same(sent_status: &Status, status: &Status) -> bool {
    let shape = |status: &Status| -> Vec<(String, usize)> {
        status.tables.iter().map(|table| (table.name.clone(), table.partitions.len())).collect()
    };
    sent_status.task == status.task && shape(sent_status) == shape(status)
}

fn without_partitions(status: &Status) -> Status {
    let tables = status.tables.iter().map(|table| TableStatus {
        name: table.name.clone(),
        source: table.source.clone(),
        target: table.target.clone(),
        amounts: table.amounts.clone(),
        partitions: Vec::new(),
        unchanged: table.unchanged,
        remarks: table.remarks.clone(),
    });
    Status {
        schema: status.schema,
        task: status.task.clone(),
        path: status.path.clone(),
        state: status.state,
        total: status.total.clone(),
        bytes_per_second: status.bytes_per_second,
        seconds_left: status.seconds_left,
        tables: tables.collect(),
        workers: status.workers.clone(),
        waits: status.waits.clone(),
        errors: status.errors.clone(),
        account: status.account.clone(),
        silent: status.silent.clone(),
    }
}

fn cells<'a>(sent_status: Option<&Status>, status: &'a Status) -> Vec<(usize, usize, Cell<'a>)> {
    let mut cells = Vec::new();
    for (index, table) in status.tables.iter().enumerate() {
        for (at, partition) in table.partitions.iter().enumerate() {
            let cell = Cell::of(partition);
            let before = sent_status.and_then(|sent_status| sent_status.tables[index].partitions.get(at)).map(Cell::of);
            if before.as_ref() != Some(&cell) {
                cells.push((index, at, cell));
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use time::OffsetDateTime;

    use super::super::events::{About, EventLog};
    use super::super::watch::{Rate, TaskSnapshot};
    use super::*;
    use crate::ledger::overview::TaskOverview;
    use crate::report::status::sample;

    fn reading(number: u64, status: Status) -> Reading {
        let mut events = EventLog::default();
        (0..number).for_each(|n| events.note("t", About::Task, n.to_string()));
        let seen = TaskSnapshot { at: OffsetDateTime::UNIX_EPOCH, overview: TaskOverview::empty(), status };
        Reading {
            number,
            seen: Some(Arc::new(seen)),
            events: Arc::new(events),
            rates: Arc::new(
                (1..=number as i64).map(|second| Rate { unix_millis: second, bytes_per_second: 5 }).collect(),
            ),
            ..Reading::default()
        }
    }

    fn sent(before: Option<&Reading>, now: &Reading) -> Value {
        serde_json::to_value(PageUpdates::of(before, now)).unwrap()
    }

    #[test]
    fn the_first_update_has_everything_and_later_ones_only_changes() {
        let first = reading(1, sample(10_000));
        let all = sent(None, &first);
        assert_eq!((all["whole"].as_bool(), all["partitions"].as_array().map(Vec::len)), (Some(true), Some(10_000)));
        assert_eq!(all["status"]["tables"][0]["partitions"], json!([]));
        assert_eq!(all["rates"], json!([[1, 5]]));

        let mut status = sample(10_000);
        status.tables[0].partitions[4321].state = PartitionState::Done;
        // Some readings in between were not sent.
        let changed = sent(Some(&first), &reading(4, status));
        assert_eq!(changed["whole"], false);
        let cell = json!({"name": "p4321", "state": "done", "rows": 10, "copied": 0, "failed": false});
        assert_eq!(changed["partitions"], json!([[0, 4321, cell]]));
        assert_eq!(changed["rates"], json!([[2, 5], [3, 5], [4, 5]]));
        assert_eq!(changed["events"].as_array().map(Vec::len), Some(3));
        assert!(changed.to_string().len() < 3000, "{changed}");
    }

    #[test]
    fn another_task_at_the_same_path_is_sent_as_a_whole() {
        let mut other = sample(3);
        other.task = "ba9876543210".into();
        let update = sent(Some(&reading(1, sample(3))), &reading(2, other));
        assert_eq!((update["whole"].as_bool(), update["partitions"].as_array().map(Vec::len)), (Some(true), Some(3)));
        assert_eq!(sent(Some(&reading(1, sample(3))), &reading(2, sample(4)))["whole"], true);
    }

    #[test]
    fn a_stale_reading_says_why() {
        let now = Reading { stale: Some("connection refused".into()), ..reading(2, sample(3)) };
        let sent = sent(Some(&reading(1, sample(3))), &now);
        assert_eq!((&sent["stale"], &sent["partitions"]), (&json!("connection refused"), &json!([])));
        assert_eq!(serde_json::to_value(PageUpdates::of(None, &Reading::default())).unwrap()["status"], Value::Null);
    }
}
