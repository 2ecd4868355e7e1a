use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::{AttemptNo, Generation, PartitionValue, PublicationNo};
use crate::plan::{BatchPlan, PartitionPlan, PiecePlan, Reading, Remark, SourceShare, TablePlan};
use crate::protocol::{
    BatchRecord, BatchRef, BatchState, Claim, Copied, HeldClaim, PartitionResult, PieceRecord, PieceState, Published,
    TableRecords,
};
use crate::report::moment::Moment;

/// Returns a plan of three batches: partitions a and b in one piece, c in two, d in one.
fn plan() -> TablePlan {
    let reading = Reading { columns: None, raw: Vec::new(), values: Vec::new(), condition: None, left: Vec::new() };
    let partition = |name: &str, rows| PartitionPlan {
        value: PartitionValue(vec![name.into()]),
        name: name.into(),
        id: None,
        rows,
        bytes: rows * 10,
        mark: None,
        renews: false,
    };
    let piece = |batch, rows| PiecePlan { batch, sources: vec![SourceShare { shard: 0, rows }], slice: None };
    TablePlan {
        batches: vec![
            BatchPlan { partitions: 0..2, pieces: 0..1 },
            BatchPlan { partitions: 2..3, pieces: 1..3 },
            BatchPlan { partitions: 3..4, pieces: 3..4 },
        ],
        pieces: vec![piece(0, 30), piece(1, 20), piece(1, 20), piece(2, 50)],
        remarks: vec![Remark::new("planned")],
        ..TablePlan::empty(
            reading,
            vec![partition("a", 10), partition("b", 20), partition("c", 40), partition("d", 50)],
        )
    }
}

fn copied(selected: &[u64], began: u64, millis: u64) -> PieceState {
    let (verifying, waiting) = (40, 50);
    PieceState::Copied(Copied { selected: selected.to_vec(), began, millis, verifying, waiting, ..Copied::default() })
}

fn piece(attempts: u32, state: PieceState) -> PieceRecord {
    PieceRecord { attempt: AttemptNo(attempts), state, ..PieceRecord::default() }
}

fn batch(publications: u32, state: BatchState) -> BatchRecord {
    BatchRecord { publication: PublicationNo(publications), state, ..BatchRecord::new(Vec::new()) }
}

/// Returns the records: a and b are published, c is being copied, d has failed.
fn records() -> TableRecords {
    let published = Published {
        partitions: vec![
            PartitionResult { selected: 11, target: 9, checksum: Some(1) },
            PartitionResult { selected: 20, target: 20, checksum: None },
        ],
        millis: 700,
        began: 10_000,
        verifying: 80,
        gathering: 90,
        remarks: vec!["two rows expired".into()],
        placed: None,
    };
    let running = PieceState::Running { worker: "w".into() };
    let failed = PieceState::Failed { error: "disk full".into(), transient: true };
    TableRecords {
        batches: vec![
            batch(2, BatchState::Done(published)),
            batch(0, BatchState::Copying),
            batch(0, BatchState::Copying),
        ],
        pieces_of: vec![0..1, 1..3, 3..4],
        batch_of: vec![0, 1, 1, 2],
        pieces: vec![
            piece(1, copied(&[11, 20], 1000, 3000)),
            piece(1, copied(&[25], 2000, 1000)),
            PieceRecord { last_error: Some("timeout".into()), ..piece(3, running) },
            PieceRecord { last_error: Some("disk f…".into()), ..piece(4, failed) },
        ],
    }
}

fn overview(records: TableRecords) -> TaskOverview {
    let copies = Claim::Job(Job::Copy(PieceRef { table: 0, index: 2 }));
    TaskOverview {
        plans: Arc::new(vec![plan()]),
        by_table: vec![records],
        claims: vec![HeldClaim { claim: copies, worker: "w".into() }],
        ..TaskOverview::empty()
    }
}

#[test]
fn the_sums_of_a_table_are_those_of_its_partitions_and_batches() {
    let overview = overview(records());
    let model = TaskModel::of(&overview);
    let partitions =
        BTreeMap::from([(PartitionState::Done, 2), (PartitionState::Copying, 1), (PartitionState::Failed, 1)]);
    let expected = Amounts {
        partitions,
        rows: 11 + 20 + 40 + 50,
        rows_copied: 11 + 20 + 25,
        rows_published: 9 + 20,
        bytes: 1200,
        bytes_copied: 100 + 200 + 250,
        partitions_compared: 1,
        // One publication, two attempts at c, three at d.
        retries: 1 + 2 + 3,
    };
    assert_eq!((&model.tables[0].amounts, &model.total), (&expected, &expected));
    assert_eq!((model.total.count(PartitionState::Pending), model.total.all_partitions()), (0, 4));
    let spent = Spent { waiting: 100, transferring: 2960 + 960, verifying: 40 + 40 + 80, publishing: 90 + 620 };
    assert_eq!((model.tables[0].spent, model.spent), (spent, spent));
    assert_eq!(model.tables[0].remarks, ["planned", "two rows expired"]);
    // Pieces of 300 and 200 bytes took 4 seconds, and one piece is copied now.
    assert_eq!(model.bytes_per_second, Some((300 + 200) / 4));
}

#[test]
fn a_batch_has_the_times_of_its_pieces_and_of_its_publication() {
    let overview = overview(records());
    let model = TaskModel::of(&overview);
    let times = |batch: usize| {
        let batch = model.batch(0, batch).unwrap();
        let [began, copied, published] =
            [batch.began_at, batch.copied_at, batch.published_at].map(|moment| moment.map(|Moment(millis)| millis));
        (batch.millis, began, copied, published)
    };
    assert_eq!(times(0), (3700, Some(1000), Some(4000), Some(10_700)));
    assert_eq!(times(1), (1000, Some(2000), None, None), "one of two pieces is copied");
    assert_eq!(times(2), (0, None, None, None));
}

#[test]
fn a_copy_to_lost_nodes_counts_its_time_but_no_rows() {
    let mut records = records();
    records.batches[1].generation = Generation(1);
    let overview = overview(records);
    let model = TaskModel::of(&overview);
    let batch = model.batch(0, 1).unwrap();
    assert_eq!((batch.state, batch.millis, batch.spent.waiting), (PartitionState::Copying, 1000, 50));
    assert_eq!((batch.partitions[0].rows_copied, batch.partitions[0].bytes_copied), (0, 0));
    let [lost, again] = [1, 2].map(|index| model.piece(PieceRef { table: 0, index }).unwrap());
    assert_eq!((lost.stage, lost.rows_copied(), lost.error), (PieceStage::Pending, None, None));
    assert_eq!((again.stage, again.worker), (PieceStage::Copying, Some("w")));
}

#[test]
fn a_batch_is_publishing_when_all_its_pieces_are_copied() {
    let mut records = records();
    records.pieces[2] = piece(3, copied(&[75], 0, 10));
    let overview = overview(records);
    let model = TaskModel::of(&overview);
    let batch = model.batch(0, 1).unwrap();
    assert_eq!((batch.state, batch.copied_at), (PartitionState::Publishing, Some(Moment(3000))));
    let grown = &batch.partitions[0];
    assert_eq!((grown.rows, grown.rows_copied, grown.bytes_copied), (40, 100, 400), "no more than all bytes");
}

#[test]
fn an_error_says_whether_its_piece_is_tried_again() {
    let mut records = records();
    records.batches[1].last_error = Some("replica is away".into());
    let overview = overview(records.clone());
    let model = TaskModel::of(&overview);
    let error = |index| model.piece(PieceRef { table: 0, index }).unwrap().error;
    assert_eq!((error(0), error(1)), (None, None));
    assert_eq!(error(2), Some(LastError { text: "timeout", tried_again: true }));
    assert_eq!(error(3), Some(LastError { text: "disk full", tried_again: false }));
    let batch = |batch| model.batch(0, batch).unwrap();
    assert_eq!(batch(1).publishing_error, Some(LastError { text: "replica is away", tried_again: true }));
    assert_eq!((batch(1).failure, batch(2).failure), (None, Some("disk full")));
    assert_eq!(model.piece(PieceRef { table: 0, index: 3 }).unwrap().last_error, Some("disk full"));

    let before = BTreeMap::new();
    records.batches[2].state = BatchState::Failed { error: "readonly".into(), transient: false, before };
    let holders = Holders::default();
    let (plan, failed) = (plan(), BatchRef { table: 0, index: 2 });
    let batch = BatchModel::of(failed, &plan, &records, &holders);
    assert_eq!(batch.failure, Some("readonly"), "the error of publishing comes before those of pieces");
    // Attempts for nodes that are lost are not final for the piece.
    records.batches[2] = BatchRecord { generation: Generation(1), ..BatchRecord::new(Vec::new()) };
    let batch = BatchModel::of(failed, &plan, &records, &holders);
    assert_eq!((batch.pieces[0].stage, batch.pieces[0].last_error), (PieceStage::Pending, Some("disk full")));
    assert_eq!(batch.pieces[0].error, Some(LastError { text: "disk full", tried_again: true }));
    assert_eq!((batch.state, batch.failure), (PartitionState::Copying, None), "it is copied to other nodes");
}

#[test]
fn the_state_of_a_task_follows_from_its_partitions() {
    let mut overview = overview(records());
    let state = |overview: &TaskOverview| TaskModel::of(overview).state;
    assert_eq!(state(&overview), TaskState::Copying);
    overview.claims.clear();
    assert_eq!(state(&overview), TaskState::Idle);
    assert_eq!(TaskModel::of(&overview).bytes_per_second, None, "nobody copies");
    overview.by_table[0].pieces[1] = piece(1, PieceState::Failed { error: "e".into(), transient: false });
    assert_eq!(state(&overview), TaskState::Failed, "what is not done has failed");
    let done = BatchState::Done(Published { partitions: vec![PartitionResult::default()], ..Published::default() });
    overview.by_table[0].batches[1].state = done.clone();
    overview.by_table[0].batches[2].state = done;
    assert_eq!(state(&overview), TaskState::Finishing);
    overview.record.finished = true;
    assert_eq!(state(&overview), TaskState::Finished);
}

#[test]
fn only_pieces_and_batches_of_the_plan_are_found() {
    let overview = overview(records());
    let model = TaskModel::of(&overview);
    assert!(model.batch(0, 3).is_none() && model.batch(1, 0).is_none());
    for (table, index) in [(0, 4), (1, 0)] {
        assert!(model.piece(PieceRef { table, index }).is_none());
    }
    // The second piece of its batch.
    assert_eq!(model.piece(PieceRef { table: 0, index: 2 }).map(|piece| piece.attempts), Some(3));
}
