use super::super::record::{BatchRecord, Copied, PieceRecord, Published};
use super::table::MAX_GROUP_PIECES;
use super::*;
use crate::model::{AttemptNo, Generation};

/// Returns batches with these numbers of pieces, none of them started.
fn records(sizes: &[usize]) -> TableRecords {
    let mut records = TableRecords::default();
    for (batch, size) in sizes.iter().enumerate() {
        let first = records.pieces.len();
        records.pieces_of.push(first..first + size);
        records.batches.push(BatchRecord::new(vec![]));
        records.pieces.extend(vec![PieceRecord::default(); *size]);
        records.batch_of.extend(vec![batch; *size]);
    }
    records
}

fn scheduler(records: &TableRecords) -> Scheduler {
    sized(records, vec![1; records.batches.len()])
}

fn sized(records: &TableRecords, bytes: Vec<u64>) -> Scheduler {
    Scheduler::new(std::slice::from_ref(records), &[Preferences { bytes, ..Preferences::default() }], "w")
}

fn copied() -> PieceState {
    PieceState::Copied(Copied::default())
}

fn piece(piece: usize) -> Job {
    Job::Copy(PieceRef { table: 0, index: piece })
}

fn batch(batch: usize) -> Job {
    Job::Publish(BatchRef { table: 0, index: batch })
}

fn group(group: usize) -> GroupRef {
    GroupRef { table: 0, group }
}

/// Returns the next step when every read returns the current records.
fn next(scheduler: &mut Scheduler, records: &TableRecords) -> Next {
    let by_table = std::slice::from_ref(records);
    for _ in 0..1000 {
        match scheduler.next(by_table) {
            Next::ReadGroups(groups) => {
                for batch in 0..records.batches.len() {
                    scheduler.update_batch(by_table, BatchRef { table: 0, index: batch });
                }
                groups.iter().for_each(|group| scheduler.update_group(by_table, *group));
                let claims = scheduler.claimed_jobs.clone();
                scheduler.update_claims(by_table, claims);
                scheduler.groups_read(by_table, &groups);
            }
            other => return other,
        }
    }
    panic!("the scheduler reads for ever: {scheduler:?}");
}

/// Returns the order in which a single worker does all jobs.
fn all(records: &mut TableRecords, scheduler: &mut Scheduler) -> Vec<Job> {
    let mut order = Vec::new();
    loop {
        let job = match next(scheduler, records) {
            Next::Claim(job) => job,
            Next::Finished => return order,
            other => panic!("{other:?} after {order:?}"),
        };
        match job {
            Job::Copy(piece) => records.pieces[piece.index].state = copied(),
            Job::Publish(batch) => records.batches[batch.index].state = BatchState::Done(Published::default()),
        }
        let by_table = std::slice::from_ref(&*records);
        match job {
            Job::Copy(piece) => scheduler.update_group(by_table, scheduler.group_of(Job::Copy(piece)).unwrap()),
            Job::Publish(batch) => scheduler.update_batch(by_table, batch),
        }
        scheduler.released(by_table, job);
        order.push(job);
    }
}

#[test]
fn a_batch_is_published_only_after_all_its_pieces_are_copied() {
    let mut half = records(&[2]);
    half.pieces[0].state = copied();
    assert_eq!(next(&mut scheduler(&half), &half), Next::Claim(piece(1)));
    half.pieces[1].state = copied();
    let mut whole = scheduler(&half);
    assert_eq!(next(&mut whole, &half), Next::Claim(batch(0)));
    whole.claimed(batch(0));
    assert_eq!(next(&mut whole, &half), Next::Wait);
}

#[test]
fn the_piece_of_a_dead_worker_is_taken_over() {
    let mut left = records(&[1]);
    left.pieces[0].state = PieceState::Running { worker: "gone".into() };
    let mut scheduler = scheduler(&left);
    scheduler.update_claims(std::slice::from_ref(&left), HashSet::from([piece(0)]));
    assert_eq!(next(&mut scheduler, &left), Next::Wait);
    scheduler.update_claims(std::slice::from_ref(&left), HashSet::new());
    assert_eq!(next(&mut scheduler, &left), Next::Claim(piece(0)));
}

#[test]
fn pieces_that_were_copied_to_lost_nodes_are_copied_again() {
    let mut moved = records(&[2]);
    moved.pieces.iter_mut().for_each(|piece| (piece.state, piece.attempt) = (copied(), AttemptNo(1)));
    let mut scheduler = scheduler(&moved);
    moved.batches[0].generation = Generation(1);
    scheduler.update_batch(std::slice::from_ref(&moved), BatchRef { table: 0, index: 0 });
    assert_eq!(next(&mut scheduler, &moved), Next::Claim(piece(0)));
    moved.pieces.iter_mut().for_each(|piece| piece.generation = Generation(1));
    scheduler.update_group(std::slice::from_ref(&moved), group(0));
    assert_eq!(next(&mut scheduler, &moved), Next::Claim(batch(0)));
}

#[test]
fn a_piece_with_newer_target_nodes_makes_the_scheduler_read_its_group() {
    let mut old = records(&[1]);
    old.pieces[0].generation = Generation(1);
    assert_eq!(scheduler(&old).next(std::slice::from_ref(&old)), Next::ReadGroups(vec![group(0)]));
}

#[test]
fn a_failed_piece_prevents_the_publication_of_its_batch_and_the_end_of_the_task() {
    let mut failed = records(&[2]);
    failed.pieces[0].state = PieceState::Failed { error: "e".into(), transient: true };
    failed.pieces[1].state = copied();
    assert_eq!(next(&mut scheduler(&failed), &failed), Next::Stuck);
    failed.batches[0].state = BatchState::Done(Published::default());
    failed.pieces[0].state = copied();
    assert_eq!(next(&mut scheduler(&failed), &failed), Next::Finished);
}

#[test]
fn the_largest_batch_comes_first_and_each_is_finished_before_the_next_begins() {
    let mut three = records(&[5, 5, 5]);
    let mut scheduler = sized(&three, vec![10, 1000, 100]);
    let order = all(&mut three, &mut scheduler);
    let batch_of = |job: &Job| match job {
        Job::Copy(piece) => three.batch_of[piece.index],
        Job::Publish(batch) => batch.index,
    };
    let batches: Vec<usize> = order.iter().map(batch_of).collect();
    assert_eq!(batches, [[1; 6], [2; 6], [0; 6]].concat());
}

#[test]
fn a_worker_prefers_batches_without_workers_and_helps_others_at_the_end() {
    let three = records(&[2, 2, 2]);
    let mut scheduler = scheduler(&three);
    let by_table = std::slice::from_ref(&three);
    scheduler.update_claims(by_table, HashSet::from([piece(0), piece(4)]));
    assert_eq!(scheduler.next(by_table), Next::ReadGroups(vec![group(1)]));
    assert_eq!(next(&mut scheduler, &three), Next::Claim(piece(2)));
    scheduler.claimed(piece(2));
    scheduler.claimed(piece(3));
    let Next::Claim(helped) = next(&mut scheduler, &three) else { panic!("{scheduler:?}") };
    assert!(helped == piece(1) || helped == piece(5), "{helped:?}");
}

#[test]
fn the_worker_of_the_last_piece_publishes_a_large_batch() {
    let mut large = records(&[6, 6]);
    let mut scheduler = scheduler(&large);
    // Other workers have copied the rest, and this one has not seen it.
    let Next::Claim(Job::Copy(own)) = next(&mut scheduler, &large) else { panic!("{scheduler:?}") };
    scheduler.claimed(Job::Copy(own));
    let by_table = std::slice::from_ref(&large);
    scheduler.update_claims(by_table, (0..6).map(piece).collect());
    large.pieces[..6].iter_mut().for_each(|piece| piece.state = copied());
    let by_table = std::slice::from_ref(&large);
    scheduler.update_group(by_table, scheduler.group_of(Job::Copy(own)).unwrap());
    scheduler.released(by_table, Job::Copy(own));
    assert_eq!(next(&mut scheduler, &large), Next::Claim(batch(0)), "before the next batch is begun");
}

#[test]
fn a_group_holds_whole_small_batches_or_a_part_of_a_large_batch() {
    let groups_of = |sizes: &[usize]| groups(&records(sizes).pieces_of);
    assert_eq!(groups_of(&[1, 1, 1, 5, 2]), [0..2, 2..3, 3..5, 5..7, 7..8, 8..10]);
    let many = groups_of(&[100; 3000]);
    assert_eq!(many.len(), 3000 * 7);
    assert!(many.iter().all(|group| group.len() <= MAX_GROUP_PIECES));
}

#[test]
fn a_batch_waits_for_batches_of_other_jobs_with_the_same_partitions_until_they_end() {
    let mut by_table = [records(&[1]), records(&[1, 1])];
    by_table.iter_mut().flat_map(|records| &mut records.pieces).for_each(|piece| piece.state = copied());
    let batch = |table, batch| BatchRef { table, index: batch };
    let after = Preferences { after: vec![vec![batch(0, 0)]], ..Preferences::default() };
    let new_scheduler =
        |by_table: &[TableRecords]| Scheduler::new(by_table, &[Preferences::default(), after.clone()], "w");
    let mut scheduler = new_scheduler(&by_table);
    assert_eq!(scheduler.next(&by_table), Next::Claim(Job::Publish(batch(0, 0))));
    scheduler.claimed(Job::Publish(batch(0, 0)));
    assert_eq!(
        scheduler.next(&by_table),
        Next::Claim(Job::Publish(batch(1, 1))),
        "this batch has no partition of the first one"
    );
    scheduler.claimed(Job::Publish(batch(1, 1)));
    assert_eq!(scheduler.next(&by_table), Next::Wait);
    // Another worker has published the first batch. This worker sees the end of its claim, claims the batch and reads the record.
    scheduler.update_claims(&by_table, HashSet::from([Job::Publish(batch(1, 1))]));
    assert_eq!(scheduler.next(&by_table), Next::Claim(Job::Publish(batch(0, 0))));
    by_table[0].batches[0].state = BatchState::Done(Published::default());
    scheduler.update_batch(&by_table, batch(0, 0));
    assert_eq!(scheduler.next(&by_table), Next::Claim(Job::Publish(batch(1, 0))));
    // The first batch has failed: the batch that waits for it cannot be published.
    by_table[0].batches[0].state =
        BatchState::Failed { error: "e".into(), transient: true, before: std::collections::BTreeMap::new() };
    by_table[1].batches[1].state = BatchState::Done(Published::default());
    assert_eq!(new_scheduler(&by_table).next(&by_table), Next::Stuck);
}
