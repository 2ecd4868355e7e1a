//! Decides which of a task's tables and statements on servers may be removed, and why.
//!
//! Pure: it maps a name, the records and the live workers to a [`LeftoverVerdict`]. A table or statement may be removed only
//! if its name contains the task's own identity in a form that the task itself would use. Everything else stays.

use std::collections::BTreeSet;
use std::fmt;

use super::names::{BatchRef, BatchTable, MadeStatement, MadeTable, PieceRef, TaskId};
use super::record::{BatchState, PieceState};
use super::table_records::TableRecords;
use crate::model::{AttemptNo, PublicationNo};

/// The live workers of the task: names of workers whose coordinator sessions are alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alive(pub(crate) BTreeSet<String>);

/// The verdict on a table or statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftoverVerdict {
    /// It may be removed.
    Goes(Reason),
    /// It belongs to the task, and a live worker may need it.
    Held {
        /// The worker that holds it according to the records; otherwise any live worker.
        by: String,
    },
    /// It belongs to another task.
    OfAnother(TaskId),
    /// Its name begins like a name of ours, but no task would choose this name.
    NotOurs,
}

/// Why a table or statement may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The rows of its batch are in the target table and were counted there.
    Published,
    /// Its rows are recorded as copied and wait to be published. Removing it loses only work: the rows are copied
    /// again.
    Waiting,
    /// A newer attempt exists.
    Older {
        /// Number of the newest attempt.
        newest: u32,
    },
    /// The worker that used it is gone.
    WorkerGone {
        /// The name of the worker.
        worker: String,
    },
    /// The attempt failed.
    Failed,
    /// It was given up together with its batch's staged rows.
    GivenUp,
    /// The records contain no such attempt.
    Unrecorded,
    /// Only the task's name is known, because a person gave it.
    Named,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => f.write_str("its batch is published and counted"),
            Self::Waiting => f.write_str("its rows are copied but not published; a later run copies them again"),
            Self::Older { newest } => write!(f, "a newer attempt was begun (attempt {newest})"),
            Self::WorkerGone { worker } => write!(f, "its worker is gone ({worker})"),
            Self::Failed => f.write_str("the attempt failed"),
            Self::GivenUp => f.write_str("it was given up: its batch is to be copied again"),
            Self::Unrecorded => f.write_str("no record knows of it"),
            Self::Named => f.write_str("its task was named with --task-id"),
        }
    }
}

/// Judges whether a table may be removed. `task` is the task to clean up; `by_table` holds its records, if they are
/// known.
pub(crate) fn judge_table(
    name: &str,
    task: Option<&TaskId>,
    by_table: Option<&[TableRecords]>,
    alive: &Alive,
) -> LeftoverVerdict {
    let Some(made) = MadeTable::parse(name) else { return LeftoverVerdict::NotOurs };
    if task != Some(&made.task) {
        return LeftoverVerdict::OfAnother(made.task);
    }
    let reason = match (by_table, made.table) {
        (None, _) => Reason::Named,
        (Some(by_table), BatchTable::Assembly { publication }) => of_assembly(by_table, made.batch, publication),
        (Some(by_table), BatchTable::Staging { piece, attempt, .. } | BatchTable::Parts { piece, attempt, .. }) => {
            of_attempt(by_table, PieceRef { table: made.batch.table, index: piece }, attempt)
        }
    };
    unless_held(reason, alive)
}

/// Judges whether a statement may be killed.
pub(crate) fn judge_statement(
    query_id: &str,
    task: Option<&TaskId>,
    by_table: Option<&[TableRecords]>,
    alive: &Alive,
) -> LeftoverVerdict {
    let Some(made) = MadeStatement::parse(query_id) else { return LeftoverVerdict::NotOurs };
    if task != Some(&made.task) {
        return LeftoverVerdict::OfAnother(made.task);
    }
    let reason = by_table.map_or(Reason::Named, |by_table| of_attempt(by_table, made.piece, made.attempt));
    unless_held(reason, alive)
}

/// Returns the reason only if no worker is alive: another live worker could take over the table at any moment.
fn unless_held(reason: Reason, alive: &Alive) -> LeftoverVerdict {
    let named = match &reason {
        Reason::WorkerGone { worker } => alive.0.get(worker),
        _ => None,
    };
    match named.or(alive.0.first()) {
        Some(by) => LeftoverVerdict::Held { by: by.clone() },
        None => LeftoverVerdict::Goes(reason),
    }
}

fn of_attempt(by_table: &[TableRecords], piece: PieceRef, attempt: AttemptNo) -> Reason {
    let Some(records) = by_table.get(piece.table) else { return Reason::Unrecorded };
    let Some(record) = records.pieces.get(piece.index) else { return Reason::Unrecorded };
    if records.batches[records.batch_of[piece.index]].is_done() {
        return Reason::Published;
    }
    if attempt > record.attempt {
        return Reason::Unrecorded;
    }
    if attempt < record.attempt {
        return Reason::Older { newest: record.attempt.0 };
    }
    if record.generation < records.generation_of(piece.index) {
        return Reason::GivenUp;
    }
    match &record.state {
        PieceState::Copied(_) => Reason::Waiting,
        PieceState::Running { worker } => Reason::WorkerGone { worker: worker.clone() },
        PieceState::Failed { .. } => Reason::Failed,
        // A fresh start means that the attempt before it failed.
        PieceState::Pending => Reason::Failed,
    }
}

fn of_assembly(by_table: &[TableRecords], batch: BatchRef, publication: PublicationNo) -> Reason {
    let Some(record) = by_table.get(batch.table).and_then(|records| records.batches.get(batch.index)) else {
        return Reason::Unrecorded;
    };
    match &record.state {
        BatchState::Done(_) => Reason::Published,
        _ if publication > record.publication => Reason::Unrecorded,
        _ if publication < record.publication => Reason::Older { newest: record.publication.0 },
        BatchState::Publishing { worker, .. } if !worker.is_empty() => Reason::WorkerGone { worker: worker.clone() },
        BatchState::Failed { .. } => Reason::Failed,
        BatchState::Copying | BatchState::Publishing { .. } => Reason::GivenUp,
    }
}

/// Returns the batches whose staged rows must be recorded as given up before their tables are dropped: batches that
/// are not done and have an attempt that still counts.
pub(crate) fn to_void(by_table: &[TableRecords]) -> Vec<BatchRef> {
    let mut found = Vec::new();
    for (table, records) in by_table.iter().enumerate() {
        for (batch, record) in records.batches.iter().enumerate() {
            let pieces = &records.pieces[records.pieces_of[batch].clone()];
            let counts =
                pieces.iter().any(|piece| piece.attempt > AttemptNo(0) && piece.generation == record.generation);
            if !record.is_done() && counts {
                found.push(BatchRef { table, index: batch });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::claims::Job;
    use super::super::record::{BatchRecord, Copied, PieceRecord, Published};
    use super::super::scheduler::{Preferences, Scheduler};
    use super::super::table_records::Next;
    use super::*;

    fn id() -> TaskId {
        TaskId("0123456789ab".into())
    }

    fn batch(batch: usize) -> BatchRef {
        BatchRef { table: 0, index: batch }
    }

    fn piece(piece: usize) -> PieceRef {
        PieceRef { table: 0, index: piece }
    }

    /// Three batches of two pieces: the first is done; the second is publishing, by worker w; in the third, w copies
    /// piece 4, and piece 5 failed.
    fn records() -> TableRecords {
        let record = |attempt, state| PieceRecord { attempt, state, ..Default::default() };
        let copied = || PieceState::Copied(Copied::default());
        let failed = PieceState::Failed { error: "e".into(), transient: true };
        let running = PieceState::Running { worker: "w".into() };
        let mut batches = vec![BatchRecord::new(vec![]); 3];
        batches[0].state = BatchState::Done(Published::default());
        batches[1] = batches[1].next_attempt("v").next_attempt("w");
        TableRecords {
            batches,
            pieces_of: vec![0..2, 2..4, 4..6],
            batch_of: vec![0, 0, 1, 1, 2, 2],
            pieces: vec![
                record(AttemptNo(1), copied()),
                record(AttemptNo(1), copied()),
                record(AttemptNo(1), copied()),
                record(AttemptNo(3), copied()),
                record(AttemptNo(2), running),
                record(AttemptNo(1), failed),
            ],
        }
    }

    fn reason(name: &str) -> Reason {
        match judge_table(name, Some(&id()), Some(&[records()]), &Alive::default()) {
            LeftoverVerdict::Goes(reason) => reason,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn each_table_of_a_dead_task_is_removable_for_a_reason() {
        let gone = || Reason::WorkerGone { worker: "w".into() };
        let id = id();
        for (name, why) in [
            (id.staging(batch(0), piece(0), AttemptNo(1)), Reason::Published),
            (id.assembly(batch(0), PublicationNo(1)), Reason::Published),
            (id.staging(batch(1), piece(2), AttemptNo(1)), Reason::Waiting),
            (id.taken(batch(1), piece(3), AttemptNo(3), PublicationNo(2)), Reason::Waiting),
            (id.staging(batch(1), piece(3), AttemptNo(2)), Reason::Older { newest: 3 }),
            (id.assembly(batch(1), PublicationNo(1)), Reason::Older { newest: 2 }),
            (id.assembly(batch(1), PublicationNo(2)), gone()),
            (id.staging(batch(2), piece(4), AttemptNo(2)), gone()),
            (id.staging(batch(2), piece(4), AttemptNo(3)), Reason::Unrecorded),
            (id.staging(batch(2), piece(5), AttemptNo(1)), Reason::Failed),
            (id.staging(batch(9), piece(99), AttemptNo(1)), Reason::Unrecorded),
            (id.parts_out(batch(0), piece(0), AttemptNo(1), 0), Reason::Published),
            (id.parts_in(batch(2), piece(4), AttemptNo(2), 1), gone()),
        ] {
            assert_eq!(reason(&name), why, "{name}");
        }
    }

    #[test]
    fn tables_and_statements_of_others_are_not_removable() {
        let other = TaskId("ba9876543210".into());
        let judge = |name: &str, task: Option<&TaskId>| judge_table(name, task, Some(&[records()]), &Alive::default());
        let other_table = other.staging(batch(0), piece(0), AttemptNo(1));
        assert_eq!(judge(&other_table, Some(&id())), LeftoverVerdict::OfAnother(other.clone()));
        assert_eq!(judge(&other_table, None), LeftoverVerdict::OfAnother(other.clone()));
        for name in ["copier_notes", "copier_0123456789ab_mine", "copier_0123456789ab_t0_b0_p0_a1_old"] {
            assert_eq!(judge(name, Some(&id())), LeftoverVerdict::NotOurs, "{name}");
        }
        assert_eq!(
            judge_table(&other_table, Some(&other), None, &Alive::default()),
            LeftoverVerdict::Goes(Reason::Named)
        );
        let statement = |query: &str| judge_statement(query, Some(&id()), Some(&[records()]), &Alive::default());
        assert_eq!(statement(&other.query(piece(0), AttemptNo(1), 0, 0, 0)), LeftoverVerdict::OfAnother(other));
        assert_eq!(statement("copier:somebody"), LeftoverVerdict::NotOurs);
        assert_eq!(
            statement(&id().query(piece(4), AttemptNo(1), 0, 0, 0)),
            LeftoverVerdict::Goes(Reason::Older { newest: 2 })
        );
    }

    #[test]
    fn nothing_is_removable_while_a_worker_is_alive() {
        let alive = |names: &[&str]| Alive(names.iter().map(|name| (*name).to_owned()).collect());
        let id = id();
        for (name, by) in [
            (id.staging(batch(0), piece(0), AttemptNo(1)), "a"),
            (id.staging(batch(2), piece(4), AttemptNo(2)), "w"),
            (id.staging(batch(2), piece(4), AttemptNo(1)), "a"),
        ] {
            let verdict = judge_table(&name, Some(&id), Some(&[records()]), &alive(&["a", "w"]));
            assert_eq!(verdict, LeftoverVerdict::Held { by: by.into() }, "{name}");
        }
        let running = id.query(piece(4), AttemptNo(2), 0, 0, 0);
        let verdict = judge_statement(&running, Some(&id), Some(&[records()]), &alive(&["w"]));
        assert_eq!(verdict, LeftoverVerdict::Held { by: "w".into() });
    }

    /// Returns the next job of a worker that knows all records.
    fn following(records: &TableRecords) -> Next {
        let by_table = std::slice::from_ref(records);
        let mut scheduler =
            Scheduler::new(by_table, &[Preferences { bytes: vec![4, 2, 1], ..Preferences::default() }], "w");
        match scheduler.next(by_table) {
            Next::ReadGroups(groups) => {
                scheduler.groups_read(by_table, &groups);
                scheduler.next(by_table)
            }
            other => other,
        }
    }

    #[test]
    fn given_up_batches_are_copied_again_under_new_names_and_published_ones_are_not() {
        let mut records = records();
        assert_eq!(to_void(std::slice::from_ref(&records)), [batch(1), batch(2)]);
        for voided in to_void(std::slice::from_ref(&records)) {
            records.batches[voided.index] = records.batches[voided.index].void();
        }
        assert_eq!(to_void(std::slice::from_ref(&records)), [], "each batch is voided once");
        let waiting = id().taken(batch(1), piece(3), AttemptNo(3), PublicationNo(2));
        let verdict = judge_table(&waiting, Some(&id()), Some(&[records.clone()]), &Alive::default());
        assert_eq!(verdict, LeftoverVerdict::Goes(Reason::GivenUp));
        let mut jobs = Vec::new();
        while let Next::Claim(job) = following(&records) {
            jobs.push(job);
            match job {
                Job::Copy(PieceRef { index: piece, .. }) => {
                    let record = records.pieces[piece].clone();
                    records.pieces[piece] =
                        record.next_attempt("x", records.generation_of(piece)).done(Copied::default());
                    assert_eq!(records.pieces[piece].attempt, record.attempt.next(), "a name is never used again");
                }
                Job::Publish(batch) => records.batches[batch.index].state = BatchState::Done(Published::default()),
            }
        }
        let (copy, publish) = (|index| Job::Copy(piece(index)), |index| Job::Publish(batch(index)));
        assert_eq!(jobs, [copy(2), copy(3), publish(1), copy(4), copy(5), publish(2)]);
    }
}
