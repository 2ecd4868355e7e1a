//! The records of a task in the coordinator.

use std::collections::BTreeMap;

use clickhouse_copier::ledger::status_text;
use clickhouse_copier::protocol::account::Findings;
use clickhouse_copier::protocol::{BatchRecord, Order, PieceRecord, Published, TaskId, TaskRecord};

use super::facts::{batches, pieces, task};
use super::{check, check_stored};

#[test]
fn the_record_of_a_task_keeps_its_form() {
    check_stored("record-task.json", &task());
    let new = TaskRecord {
        format: TaskRecord::FORMAT,
        id: TaskId("0123456789ab".into()),
        inputs: BTreeMap::new(),
        planned: false,
        prepared: false,
        finished: false,
        pass: 0,
        drops_vanished: false,
        forgotten: false,
        account: Findings::default(),
    };
    check_stored("record-task-new.json", &new);
}

#[test]
fn the_records_of_pieces_keep_their_form() {
    check_stored("record-pieces.json", &pieces());
    // The record that is stored with a plan.
    assert_eq!(serde_json::to_string(&[PieceRecord::default()]).expect("JSON"), r#"[{"s":"p"}]"#);
}

#[test]
fn the_records_of_batches_keep_their_form() {
    check_stored("record-batches.json", &batches());
    check_stored("record-batch-new.json", &BatchRecord::new(vec![vec!["t1:9000".into()], Vec::new()]));
    check_stored("record-published-least.json", &Published::default());
}

#[test]
fn orders_to_workers_keep_their_form() {
    check_stored("record-orders.json", &[Order::Run, Order::Pause, Order::PauseNow, Order::Cancel]);
}

#[test]
fn the_status_node_has_the_form_of_the_original() {
    let counts = BTreeMap::from([("hits".to_owned(), (7, 3)), ("visits".to_owned(), (2, 0))]);
    check("record-status.json", &status_text(&counts));
}

/// Records of older versions do not have later fields.
#[test]
fn records_without_later_fields_are_read() {
    let published: Published = serde_json::from_str(r#"{"partitions":[{"s":1,"t":2}],"millis":3}"#).expect("JSON");
    assert_eq!((published.partitions.len(), published.millis, published.placed), (1, 3, None));
    let batch: BatchRecord = serde_json::from_str(r#"{"nodes":[],"state":"copying"}"#).expect("JSON");
    assert_eq!(batch, BatchRecord::new(Vec::new()));
    let piece: PieceRecord = serde_json::from_str(r#"{"s":{"c":{"n":[1],"g":[1],"ms":5}}}"#).expect("JSON");
    assert_eq!(piece.copied().map(|copied| (copied.millis, copied.began)), Some((5, 0)));
}
