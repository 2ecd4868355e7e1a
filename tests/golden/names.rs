//! Names of tables, statements and nodes of a task. The program finds statements and tables of a running task by these names.

use std::fmt::Write as _;

use clickhouse_copier::ledger::membership::{beginner_place, cleaner_place};
use clickhouse_copier::model::{AttemptNo, PublicationNo, Way};
use clickhouse_copier::protocol::{BatchRef, Claim, Job, MadeStatement, MadeTable, PieceRef, TaskId, groups};

use super::check;

const BATCH: BatchRef = BatchRef { table: 1, index: 23 };
const PIECE: PieceRef = PieceRef { table: 1, index: 456 };

fn task() -> TaskId {
    TaskId("0123456789ab".into())
}

#[test]
fn tables_of_a_task_keep_their_names_and_are_known_by_them() {
    let id = task();
    let tables = [
        ("staging", id.staging(BATCH, PIECE, AttemptNo(7))),
        ("staging, taken", id.taken(BATCH, PIECE, AttemptNo(7), PublicationNo(8))),
        ("parts out", id.parts_out(BATCH, PIECE, AttemptNo(7), 9)),
        ("parts in", id.parts_in(BATCH, PIECE, AttemptNo(7), 9)),
        ("assembly", id.assembly(BATCH, PublicationNo(8))),
    ];
    let mut text = String::new();
    for (what, name) in &tables {
        let made = MadeTable::parse(name).unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!((made.name(), &made.task, made.batch), (name.clone(), &id, BATCH));
        let _ = writeln!(text, "{what}: {name}");
    }
    let starts = [
        ("all tasks", TaskId::ALL_TABLES.to_owned()),
        ("a task", id.tables()),
        ("a batch", id.batch_tables(BATCH)),
        ("a piece", id.piece_tables(BATCH, PIECE)),
    ];
    for (what, start) in starts {
        let _ = writeln!(text, "start of {what}: {start}");
    }
    check("names-tables.txt", &text);
}

#[test]
fn statements_of_a_task_keep_their_ids_and_are_known_by_them() {
    let id = task();
    let statements = [
        ("one statement", id.query(PIECE, AttemptNo(7), 1, 2, 0)),
        ("one of many", id.query(PIECE, AttemptNo(7), 1, 2, 3)),
    ];
    let mut text = String::new();
    for (what, query) in &statements {
        let made = MadeStatement::parse(query).unwrap_or_else(|| panic!("{query} is not known"));
        assert_eq!((made.task, made.piece, made.attempt), (id.clone(), PIECE, AttemptNo(7)));
        let _ = writeln!(text, "{what}: {query}");
    }
    let starts = [
        ("all tasks", TaskId::ALL_QUERIES.to_owned()),
        ("a task", id.queries()),
        ("a piece", id.piece_queries(PIECE)),
        ("an attempt", id.attempt_queries(PIECE, AttemptNo(7))),
    ];
    for (what, start) in starts {
        let _ = writeln!(text, "start of {what}: {start}");
    }
    check("names-statements.txt", &text);
}

#[test]
fn claims_and_places_keep_their_names() {
    let mut text = String::new();
    for job in [Job::Copy(PIECE), Job::Publish(BATCH)] {
        assert_eq!(Claim::parse(&job.claim()).job(), Some(job));
        let _ = writeln!(text, "claims/{}", job.claim());
    }
    assert_eq!(Claim::parse("planning").job(), None);
    let _ = writeln!(text, "{}\n{}", cleaner_place("host"), beginner_place("host"));
    check("names-claims.txt", &text);
}

/// A node of the coordinator has the records of one group: other groups are other paths.
#[test]
fn pieces_are_grouped_as_they_are_stored() {
    let few = [0..1, 1..2, 2..3];
    let many = [0..15, 15..18, 18..60, 60..61];
    check("names-groups.txt", &format!("{few:?}: {:?}\n{many:?}: {:?}", groups(&few), groups(&many)));
}

#[test]
fn transfers_keep_their_names() {
    let ways = [Way::Push, Way::Pull, Way::Relay, Way::Clone].map(Way::as_str);
    assert_eq!(ways, ["push", "pull", "relay", "clone"]);
}
