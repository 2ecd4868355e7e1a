//! The checks of plans and records in fuzzing; see [`super`].

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ledger::{encoded, parsed};
use crate::plan::{Document, Earlier, TablePlan};
use crate::protocol::{
    BatchRecord, Extent, Failure, Job, Next, Order, PieceRecord, Preferences, Scheduler, TableRecords, TaskId,
    TaskRecord, groups,
};
use crate::report::Report;
use crate::report::plan::PlanText;

/// The highest number of steps of the scheduler on a few records.
const MAX_STEPS: usize = 10_000;

/// Reads a record. An accepted record, and every change of it, can be stored and read again.
pub(crate) fn record(input: &[u8]) {
    let Some((kind, data)) = input.split_first() else { return };
    match kind % 7 {
        0 => {
            let Some(record) = read::<TaskRecord>(data) else { return };
            assert_same(&record.next_pass(TaskId("x".into()), true));
            record.account.lines();
        }
        1 => read::<Vec<PieceRecord>>(data).into_iter().flatten().for_each(|record| piece(&record)),
        2 => read::<BatchRecord>(data).iter().for_each(batch),
        3 => read::<TablePlan>(data).iter().filter(|plan| plan.check().is_ok()).for_each(use_plan),
        4 => drop(read::<Earlier>(data)),
        5 => drop(read::<Order>(data)),
        _ => table_records(data),
    }
}

/// Reads a record of a node, stores it, and checks that it is read again as the same record.
fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let record = parsed::<T>("/n", data).ok()?;
    assert_same(&record);
    Some(record)
}

fn assert_same<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) {
    match parsed::<T>("/n", &encoded(record)) {
        Ok(again) => assert_eq!(&again, record),
        Err(error) => panic!("{record:?}: {error}"),
    }
}

fn failure() -> Failure {
    Failure { error: "e".into(), transient: true, too_large: true, overload: false }
}

fn piece(record: &PieceRecord) {
    let next = record.next_attempt("w", record.generation);
    assert!(next.attempt > record.attempt, "an attempt is given out twice: {record:?}");
    for changed in [next.after_failure("w", failure(), 3), record.fresh_start(false), record.fresh_start(true), next] {
        assert_same(&changed);
    }
}

fn batch(record: &BatchRecord) {
    let next = record.next_attempt("w");
    assert!(next.publication > record.publication, "an attempt is given out twice: {record:?}");
    let moved = record.moved(vec![vec!["h:9000".into()]]);
    assert!(moved.generation > record.generation, "{record:?}");
    let failed = next.after_failure("w", failure(), 3);
    for changed in [next, moved, failed, record.void(), record.fresh_start(false), record.fresh_start(true)] {
        assert_same(&changed);
    }
}

/// Reads a plan, the records of its pieces and the records of its batches, one line each. If they fit each other, the
/// scheduler runs to its end, and a report is made.
fn table_records(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(plan) = lines.next().and_then(read::<TablePlan>).filter(|plan| plan.check().is_ok()) else { return };
    let Some(pieces) = lines.next().and_then(read::<Vec<PieceRecord>>) else { return };
    let Some(batches) = lines.next().and_then(read::<Vec<BatchRecord>>) else { return };
    let shards = plan.replicated.len();
    let extent = |batch: usize| Extent { partitions: plan.batches[batch].partitions.len(), shards };
    let fits = pieces.len() == plan.pieces.len()
        && pieces.iter().zip(&plan.pieces).all(|(record, piece)| record.check(extent(piece.batch)).is_ok())
        && batches.len() == plan.batches.len()
        && batches.iter().enumerate().all(|(batch, record)| record.check(extent(batch)).is_ok());
    // Such records are refused when they are read.
    let is_newer = |(piece, record): (usize, &PieceRecord)| {
        batches.get(plan.pieces[piece].batch).is_some_and(|batch| record.generation > batch.generation)
    };
    if !fits || pieces.iter().enumerate().any(is_newer) {
        return;
    }
    let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
    let batch_of = plan.pieces.iter().map(|piece| piece.batch).collect();
    let by_table = [TableRecords { batches, pieces_of, batch_of, pieces }];
    assert!(!Report::of(std::slice::from_ref(&plan), &by_table).to_string().is_empty());
    let mut scheduler = Scheduler::new(&by_table, &[Preferences::default()], "w");
    for _ in 0..MAX_STEPS {
        match scheduler.next(&by_table) {
            Next::Claim(job) => {
                scheduler.claimed(job);
                if let Job::Copy(piece) = job {
                    assert!(piece.index < plan.pieces.len());
                }
            }
            Next::ReadGroups(groups) => scheduler.groups_read(&by_table, &groups),
            Next::Wait | Next::Finished | Next::Stuck => return,
        }
    }
    panic!("a worker never knows what to do: {by_table:?}");
}

/// Computes everything that is derived from a plan.
fn use_plan(plan: &TablePlan) {
    let live = vec![vec!["a".to_owned(), "b".to_owned()]; plan.replicated.len()];
    for batch in 0..plan.batches.len() {
        plan.nodes_for(batch, &live);
    }
    for piece in 0..plan.pieces.len() {
        plan.bytes_of(piece);
        crate::sql::tally(&plan.rows_of(piece), &plan.key);
        plan.target_shards().for_each(|shard| drop(crate::sql::tally(&plan.rows_for(piece, shard), &plan.key)));
    }
    let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
    let grouped: usize = groups(&pieces_of).iter().map(ExactSizeIterator::len).sum();
    assert_eq!(grouped, plan.pieces.len(), "{plan:?}");
    let _ = plan.check_shards(2, 2);
}

/// Reads a document as `run --plan` does. An accepted document can be written and read again, does not differ from
/// itself, and can be shown.
pub(crate) fn plan(input: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Document>(input) else { return };
    let printed = serde_json::to_string_pretty(&document).unwrap_or_else(|error| panic!("{document:?}: {error}"));
    match serde_json::from_str::<Document>(&printed) {
        Ok(again) => assert_eq!(again, document),
        Err(error) => panic!("{printed}: {error}"),
    }
    assert_eq!(document.changes(&document), Vec::<String>::new());
    if document.check().is_ok() {
        document.tables.iter().for_each(|planned| use_plan(&planned.plan));
        assert!(!PlanText(&document).to_string().is_empty());
    }
}
