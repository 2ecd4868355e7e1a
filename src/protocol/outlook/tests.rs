use super::super::record::{BatchRecord, Copied, PieceRecord, Published};
use super::table::MOST;
use super::*;

/// Batches of so many pieces, none of them begun.
fn board(sizes: &[usize]) -> TableBoard {
    let mut board = TableBoard::default();
    for (batch, size) in sizes.iter().enumerate() {
        let first = board.pieces.len();
        board.pieces_of.push(first..first + size);
        board.batches.push(BatchRecord::new(vec![]));
        board.pieces.extend(vec![PieceRecord::default(); *size]);
        board.batch_of.extend(vec![batch; *size]);
    }
    board
}

fn outlook(board: &TableBoard) -> Outlook {
    sized(board, vec![1; board.batches.len()])
}

fn sized(board: &TableBoard, bytes: Vec<u64>) -> Outlook {
    Outlook::new(std::slice::from_ref(board), &[Liking { bytes, ..Liking::default() }], "w")
}

fn copied() -> PieceState {
    PieceState::Copied(Copied::default())
}

fn piece(piece: usize) -> Job {
    Job::Copy(PieceRef { table: 0, piece })
}

fn batch(batch: usize) -> Job {
    Job::Publish(BatchRef { table: 0, batch })
}

fn group(group: usize) -> GroupRef {
    GroupRef { table: 0, group }
}

/// What is next when all looks show what is there.
fn next(outlook: &mut Outlook, board: &TableBoard) -> Next {
    let boards = std::slice::from_ref(board);
    for _ in 0..1000 {
        match outlook.next(boards) {
            Next::Look(groups) => {
                for batch in 0..board.batches.len() {
                    outlook.saw_batch(boards, BatchRef { table: 0, batch });
                }
                groups.iter().for_each(|group| outlook.saw_group(boards, *group));
                let claims = outlook.busy.clone();
                outlook.saw_claims(boards, claims);
                outlook.looked(boards, &groups);
            }
            other => return other,
        }
    }
    panic!("it looks for ever: {outlook:?}");
}

/// The order in which one worker, alone, does everything.
fn all(board: &mut TableBoard, outlook: &mut Outlook) -> Vec<Job> {
    let mut order = Vec::new();
    loop {
        let job = match next(outlook, board) {
            Next::Claim(job) => job,
            Next::Finished => return order,
            other => panic!("{other:?} after {order:?}"),
        };
        match job {
            Job::Copy(of) => board.pieces[of.piece].state = copied(),
            Job::Publish(of) => board.batches[of.batch].state = BatchState::Done(Published::default()),
        }
        let boards = std::slice::from_ref(&*board);
        match job {
            Job::Copy(of) => outlook.saw_group(boards, outlook.group_of(Job::Copy(of)).unwrap()),
            Job::Publish(of) => outlook.saw_batch(boards, of),
        }
        outlook.released(boards, job);
        order.push(job);
    }
}

#[test]
fn a_batch_is_published_when_every_piece_of_it_is_copied_and_not_before() {
    let mut half = board(&[2]);
    half.pieces[0].state = copied();
    assert_eq!(next(&mut outlook(&half), &half), Next::Claim(piece(1)));
    half.pieces[1].state = copied();
    let mut whole = outlook(&half);
    assert_eq!(next(&mut whole, &half), Next::Claim(batch(0)));
    whole.claimed(batch(0));
    assert_eq!(next(&mut whole, &half), Next::Wait);
}

#[test]
fn what_a_dead_worker_left_is_taken_over() {
    let mut left = board(&[1]);
    left.pieces[0].state = PieceState::Running { worker: "gone".into() };
    let mut outlook = outlook(&left);
    outlook.saw_claims(std::slice::from_ref(&left), HashSet::from([piece(0)]));
    assert_eq!(next(&mut outlook, &left), Next::Wait);
    outlook.saw_claims(std::slice::from_ref(&left), HashSet::new());
    assert_eq!(next(&mut outlook, &left), Next::Claim(piece(0)));
}

#[test]
fn what_was_copied_for_lost_nodes_is_copied_again() {
    let mut moved = board(&[2]);
    moved.pieces.iter_mut().for_each(|piece| (piece.state, piece.attempt) = (copied(), 1));
    let mut outlook = outlook(&moved);
    moved.batches[0].generation = 1;
    outlook.saw_batch(std::slice::from_ref(&moved), BatchRef { table: 0, batch: 0 });
    assert_eq!(next(&mut outlook, &moved), Next::Claim(piece(0)));
    moved.pieces.iter_mut().for_each(|piece| piece.generation = 1);
    outlook.saw_group(std::slice::from_ref(&moved), group(0));
    assert_eq!(next(&mut outlook, &moved), Next::Claim(batch(0)));
}

#[test]
fn who_knows_of_newer_target_nodes_is_asked_which() {
    let mut old = board(&[1]);
    old.pieces[0].generation = 1;
    assert_eq!(outlook(&old).next(std::slice::from_ref(&old)), Next::Look(vec![group(0)]));
}

#[test]
fn a_failed_piece_keeps_its_batch_from_being_published_and_the_task_from_being_finished() {
    let mut failed = board(&[2]);
    failed.pieces[0].state = PieceState::Failed { error: "e".into(), transient: true };
    failed.pieces[1].state = copied();
    assert_eq!(next(&mut outlook(&failed), &failed), Next::Stuck);
    failed.batches[0].state = BatchState::Done(Published::default());
    failed.pieces[0].state = copied();
    assert_eq!(next(&mut outlook(&failed), &failed), Next::Finished);
}

#[test]
fn the_largest_batch_comes_first_and_each_is_finished_before_the_next_begins() {
    let mut three = board(&[5, 5, 5]);
    let mut outlook = sized(&three, vec![10, 1000, 100]);
    let order = all(&mut three, &mut outlook);
    let batch_of = |job: &Job| match job {
        Job::Copy(of) => three.batch_of[of.piece],
        Job::Publish(of) => of.batch,
    };
    let batches: Vec<usize> = order.iter().map(batch_of).collect();
    assert_eq!(batches, [[1; 6], [2; 6], [0; 6]].concat());
}

#[test]
fn a_worker_goes_where_nobody_is_and_helps_others_in_the_end() {
    let three = board(&[2, 2, 2]);
    let mut outlook = outlook(&three);
    let boards = std::slice::from_ref(&three);
    outlook.saw_claims(boards, HashSet::from([piece(0), piece(4)]));
    assert_eq!(outlook.next(boards), Next::Look(vec![group(1)]));
    assert_eq!(next(&mut outlook, &three), Next::Claim(piece(2)));
    outlook.claimed(piece(2));
    outlook.claimed(piece(3));
    let Next::Claim(helped) = next(&mut outlook, &three) else { panic!("{outlook:?}") };
    assert!(helped == piece(1) || helped == piece(5), "{helped:?}");
}

#[test]
fn who_copies_the_last_piece_of_a_large_batch_finds_it_copied() {
    let mut large = board(&[6, 6]);
    let mut outlook = outlook(&large);
    // Others have copied the rest, unseen.
    let Next::Claim(Job::Copy(own)) = next(&mut outlook, &large) else { panic!("{outlook:?}") };
    outlook.claimed(Job::Copy(own));
    let boards = std::slice::from_ref(&large);
    outlook.saw_claims(boards, (0..6).map(piece).collect());
    large.pieces[..6].iter_mut().for_each(|piece| piece.state = copied());
    let boards = std::slice::from_ref(&large);
    outlook.saw_group(boards, outlook.group_of(Job::Copy(own)).unwrap());
    outlook.released(boards, Job::Copy(own));
    assert_eq!(next(&mut outlook, &large), Next::Claim(batch(0)), "before the next batch is begun");
}

#[test]
fn groups_hold_whole_small_batches_or_a_part_of_a_large_one() {
    let of = |sizes: &[usize]| groups(&board(sizes).pieces_of);
    assert_eq!(of(&[1, 1, 1, 5, 2]), [0..2, 2..3, 3..5, 5..7, 7..8, 8..10]);
    let many = of(&[100; 3000]);
    assert_eq!(many.len(), 3000 * 7);
    assert!(many.iter().all(|group| group.len() <= MOST));
}

#[test]
fn a_batch_waits_for_those_of_other_jobs_that_fill_its_partitions_and_not_for_ever() {
    let mut boards = [board(&[1]), board(&[1, 1])];
    boards.iter_mut().flat_map(|board| &mut board.pieces).for_each(|piece| piece.state = copied());
    let of = |table, batch| BatchRef { table, batch };
    let after = Liking { after: vec![vec![of(0, 0)]], ..Liking::default() };
    let fresh = |boards: &[TableBoard]| Outlook::new(boards, &[Liking::default(), after.clone()], "w");
    let mut outlook = fresh(&boards);
    assert_eq!(outlook.next(&boards), Next::Claim(Job::Publish(of(0, 0))));
    outlook.claimed(Job::Publish(of(0, 0)));
    assert_eq!(outlook.next(&boards), Next::Claim(Job::Publish(of(1, 1))), "which has no partition of the first");
    outlook.claimed(Job::Publish(of(1, 1)));
    assert_eq!(outlook.next(&boards), Next::Wait);
    // Others have published the first: the end of their claim is seen, and who tries to claim it sees the record.
    outlook.saw_claims(&boards, HashSet::from([Job::Publish(of(1, 1))]));
    assert_eq!(outlook.next(&boards), Next::Claim(Job::Publish(of(0, 0))));
    boards[0].batches[0].state = BatchState::Done(Published::default());
    outlook.saw_batch(&boards, of(0, 0));
    assert_eq!(outlook.next(&boards), Next::Claim(Job::Publish(of(1, 0))));
    // The first has failed: nothing is left to do for the one behind it.
    boards[0].batches[0].state =
        BatchState::Failed { error: "e".into(), transient: true, before: std::collections::BTreeMap::new() };
    boards[1].batches[1].state = BatchState::Done(Published::default());
    assert_eq!(fresh(&boards).next(&boards), Next::Stuck);
}
