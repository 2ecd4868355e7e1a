use super::*;

fn failure(transient: bool) -> Failure {
    Failure { error: "e".into(), transient, too_large: false, overload: false }
}

#[test]
fn an_attempt_number_is_never_given_out_twice() {
    let first = PieceRecord::default().next_attempt("a", Generation(0));
    let second = first.after_failure("a", failure(true), 3);
    let taken_over = second.next_attempt("b", Generation(0));
    assert_eq!((first.attempt, second.attempt, taken_over.attempt), (AttemptNo(1), AttemptNo(2), AttemptNo(3)));
    assert_eq!(taken_over.failures, 1, "the new worker continues the count");
    assert_eq!(taken_over.fresh_start(false).next_attempt("c", Generation(1)).attempt, AttemptNo(4));
}

/// An earlier version started another attempt when a job did not know that another worker had copied the piece. The
/// publisher then found rows of an unknown attempt, and the partition failed for good.
#[test]
fn a_copied_piece_is_not_copied_again_unless_its_nodes_are_lost() {
    let running = PieceRecord::default().next_attempt("a", Generation(1));
    let copied = running.done(Copied::default());
    assert!(running.is_to_copy(Generation(1)) && copied.is_to_copy(Generation(2)));
    assert!(
        !copied.is_to_copy(Generation(1)) && !running.is_to_copy(Generation(0)),
        "the record has a newer generation"
    );
}

#[test]
fn moving_a_batch_to_other_nodes_voids_its_pieces_and_keeps_the_rows_that_append_recorded() {
    let before = BTreeMap::from([("a:9000".to_owned(), BTreeMap::from([(PartitionId("1".into()), 7)]))]);
    let mut batch = BatchRecord::new(vec![vec!["a:9000".into()]]);
    batch.state = BatchState::Publishing { worker: "w".into(), before: before.clone() };
    let moved = batch.moved(vec![vec!["b:9000".into()]]);
    assert_eq!((moved.generation, moved.before()), (Generation(1), before));
    assert_eq!(moved.former, ["a:9000"]);
    assert_eq!(moved.moved(vec![vec!["a:9000".into()]]).former, ["b:9000"], "a node can come back");
}

#[test]
fn a_piece_that_needed_too_much_memory_is_narrower_for_every_later_worker() {
    let first = PieceRecord::default().next_attempt("a", Generation(0));
    let second = first.after_failure("a", Failure { too_large: true, ..failure(true) }, 3);
    let third = second.after_failure("a", failure(true), 3).next_attempt("b", Generation(1));
    assert_eq!((first.narrow, second.narrow, third.narrow), (0, 1, 1));
}

#[test]
fn attempts_end_at_the_limit_or_at_the_first_permanent_error() {
    let record = PieceRecord { failures: 2, ..PieceRecord::default().next_attempt("a", Generation(0)) };
    assert!(matches!(record.after_failure("a", failure(true), 3).state, PieceState::Failed { transient: true, .. }));
    let record = PieceRecord::default().next_attempt("a", Generation(0));
    assert!(matches!(record.after_failure("a", failure(false), 3).state, PieceState::Failed { transient: false, .. }));
}

#[test]
fn a_failure_by_overload_does_not_count_as_an_attempt() {
    let overload = || Failure { overload: true, ..failure(true) };
    let record = (0..100).fold(PieceRecord::default().next_attempt("a", Generation(0)), |record, _| {
        record.after_failure("a", overload(), 2)
    });
    assert_eq!((record.attempt, record.failures), (AttemptNo(101), 0));
    assert!(matches!(record.after_failure("a", failure(true), 2).state, PieceState::Running { .. }));
    let batch = BatchRecord::new(Vec::new()).next_attempt("a").after_failure("a", overload(), 1);
    assert_eq!((batch.publication, batch.failures), (PublicationNo(2), 0));
    assert!(matches!(batch.state, BatchState::Publishing { .. }));
}

/// A task that an older version started is resumed.
#[test]
fn records_without_times_are_read() {
    let piece: PieceRecord = serde_json::from_str(r#"{"a":1,"s":{"c":{"n":[3],"g":[3],"ms":5}}}"#).unwrap();
    let copied = Copied { selected: vec![3], staged: vec![3], millis: 5, ..Copied::default() };
    assert_eq!(piece.copied(), Some(&copied));
    let state: BatchState = serde_json::from_str(r#"{"done":{"partitions":[{"s":3,"t":3}],"millis":7}}"#).unwrap();
    let BatchState::Done(published) = state else { panic!("{state:?}") };
    assert_eq!((published.millis, published.began, published.gathering), (7, 0, 0));
}

#[test]
fn a_pending_piece_takes_few_bytes() {
    assert_eq!(serde_json::to_string(&PieceRecord::default()).unwrap(), r#"{"s":"p"}"#);
}

/// An attempt number beyond the limit would be given out twice.
#[test]
fn a_record_with_more_attempts_than_can_be_counted_is_refused() {
    let piece =
        |field: &str, count: u64| serde_json::from_str::<PieceRecord>(&format!(r#"{{"{field}":{count},"s":"p"}}"#));
    for field in ["a", "f", "o", "v", "m"] {
        assert!(piece(field, MOST_COUNTED.into()).is_ok());
        let error = piece(field, u64::from(MOST_COUNTED) + 1).unwrap_err();
        assert!(error.to_string().contains("more than can be counted"), "{error}");
    }
    for field in ["generation", "publication", "failures", "rounds"] {
        let text = format!(r#"{{"nodes":[],"state":"copying","{field}":4294967295}}"#);
        assert!(serde_json::from_str::<BatchRecord>(&text).is_err(), "{text}");
    }
}
