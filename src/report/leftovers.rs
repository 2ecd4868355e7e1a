//! What a dead task left and what was removed of it: a line for each thing, or all as one object.

use std::fmt;

use serde::Serialize;

use crate::model::{counted, one_line, sentence};
use crate::operations::cleanup::{Findings, Holder, Leftover, Removal, Standing, Thing};
use crate::protocol::{TaskId, Verdict};

/// What a clean-up found and did, as JSON. Fields that have no value are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CleanupReport {
    /// The task's identity; `null` when there is no task and none was named.
    pub task: Option<String>,
    /// Its path.
    pub path: String,
    /// `absent`, `named`, `half_forgotten`, `not_planned`, `unfinished` or `finished`.
    pub standing: &'static str,
    /// How many batches were published, of an unfinished task.
    pub published: Option<PublishedReport>,
    /// Who is alive in it.
    pub at_work: Vec<HolderReport>,
    /// What is there.
    pub things: Vec<ThingReport>,
    /// What nodes said that could not be looked at.
    pub not_looked_at: Vec<String>,
    /// What was removed; `null` when nothing was to be.
    pub removal: Option<RemovalReport>,
    /// Whether the task is gone from the coordinator now.
    pub forgotten: bool,
}

/// How far an unfinished task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PublishedReport {
    /// So many batches are published.
    pub batches: usize,
    /// Of so many.
    pub of: usize,
}

/// Somebody who is alive in a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderReport {
    /// Host, process and a number.
    pub worker: String,
    /// What it claims.
    pub claims: Vec<String>,
}

/// A table or a statement on a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThingReport {
    /// The server.
    pub node: String,
    /// `table` or `statement`.
    pub kind: &'static str,
    /// The table with its database, or the statement's id.
    pub name: String,
    /// Rows of a table, where they are known.
    pub rows: Option<u64>,
    /// Uncompressed bytes of a table, where they are known.
    pub bytes: Option<u64>,
    /// For how many seconds a statement runs.
    pub seconds: Option<f64>,
    /// What its name tells.
    pub told: String,
    /// Whether it may be removed.
    pub may_go: bool,
    /// Why, or why not.
    pub why: String,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovalReport {
    /// Tables dropped.
    pub tables: usize,
    /// Statements ended.
    pub statements: usize,
    /// Batches that are copied again when the task is run again.
    pub batches_given_up: usize,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
    /// Whether it was ended half way by a signal.
    pub interrupted: bool,
}

impl CleanupReport {
    /// Of what was found, what was removed (`None`: nothing was to be), and whether the task was forgotten.
    pub fn of(found: &Findings, removal: Option<&Removal>, forgotten: bool) -> Self {
        let holder = |holder: &Holder| HolderReport { worker: holder.worker.clone(), claims: holder.claims.clone() };
        let (standing, published) = match found.standing {
            Standing::Absent => ("absent", None),
            Standing::Named => ("named", None),
            Standing::HalfForgotten => ("half_forgotten", None),
            Standing::NotPlanned => ("not_planned", None),
            Standing::Unfinished { done, batches, .. } => {
                ("unfinished", Some(PublishedReport { batches: done, of: batches }))
            }
            Standing::Finished => ("finished", None),
        };
        Self {
            task: found.id.as_ref().map(|TaskId(id)| id.clone()),
            path: found.task_path.clone(),
            standing,
            published,
            at_work: found.holders.iter().map(holder).collect(),
            things: found.things.iter().map(|thing| found.thing(thing)).collect(),
            not_looked_at: found.silent.clone(),
            removal: removal.map(|removal| RemovalReport {
                tables: removal.tables,
                statements: removal.statements,
                batches_given_up: removal.given_up,
                failed: removal.failed.clone(),
                interrupted: removal.interrupted,
            }),
            forgotten,
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.task_path;
        match &self.id {
            Some(TaskId(id)) => write!(f, "Task {id}")?,
            None => write!(f, "No task")?,
        }
        match self.standing {
            Standing::Absent => writeln!(f, " at {path}.")?,
            Standing::Named => writeln!(f, ", which is not the one at {path}: whether it is dead is not known here.")?,
            Standing::HalfForgotten => writeln!(f, " at {path}: half removed from the coordinator.")?,
            Standing::NotPlanned => writeln!(f, " at {path}: not planned yet.")?,
            Standing::Unfinished { done, batches, .. } => {
                writeln!(f, " at {path}: not finished, {done} of {} published.", counted(batches, "batch"))?;
            }
            Standing::Finished => writeln!(f, " at {path}: finished.")?,
        }
        for holder in &self.holders {
            let claims = if holder.claims.is_empty() { "nothing".to_owned() } else { holder.claims.join(", ") };
            writeln!(f, "At work: {} (holds {}).", one_line(&holder.worker), one_line(&claims))?;
        }
        for thing in &self.things {
            self.line(f, thing)?;
        }
        for silent in &self.silent {
            writeln!(f, "Not looked at: {}", sentence(silent))?;
        }
        Ok(())
    }
}

impl Findings {
    fn line(&self, f: &mut fmt::Formatter<'_>, thing: &Leftover) -> fmt::Result {
        write!(f, "{}  ", thing.node)?;
        match &thing.what {
            Thing::Table(name, Some((rows, bytes))) => {
                write!(f, "table {} ({rows} rows, {})", one_line(&name.to_string()), size(*bytes))?;
            }
            Thing::Table(name, None) => write!(f, "table {}", one_line(&name.to_string()))?,
            Thing::Statement { query_id, elapsed } => {
                write!(f, "statement {} (runs for {elapsed:.0} s)", one_line(query_id))?;
            }
        }
        if !thing.told.is_empty() {
            write!(f, ": {}", sentence(&thing.told))?;
        }
        match self.fate(&thing.verdict) {
            (true, why) => writeln!(f, ": may go: {why}"),
            (false, why) => writeln!(f, ": stays: {why}"),
        }
    }

    fn thing(&self, thing: &Leftover) -> ThingReport {
        let (kind, name, held, seconds) = match &thing.what {
            Thing::Table(name, held) => ("table", name.to_string(), *held, None),
            Thing::Statement { query_id, elapsed } => ("statement", query_id.clone(), None, Some(*elapsed)),
        };
        let (may_go, why) = self.fate(&thing.verdict);
        ThingReport {
            node: thing.node.to_string(),
            kind,
            name,
            rows: held.map(|(rows, _)| rows),
            bytes: held.map(|(_, bytes)| bytes),
            seconds,
            told: thing.told.clone(),
            may_go,
            why,
        }
    }

    /// Whether a thing may go, and why or why not.
    fn fate(&self, verdict: &Verdict) -> (bool, String) {
        match verdict {
            Verdict::Goes(reason) => (true, reason.to_string()),
            Verdict::Held { by } => (false, format!("{by} is alive")),
            Verdict::OfAnother(id) => match self.neighbours.get(id) {
                Some(path) => (false, format!("of another task, {} at {path}", id.0)),
                None => (false, format!("of another task, {}; whether that one is dead is not known here", id.0)),
            },
            Verdict::NotOurs => (false, "no name that a task gives".to_owned()),
        }
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tables, statements) = (counted(self.tables, "table"), counted(self.statements, "statement"));
        writeln!(f, "Removed: {tables} dropped, {statements} ended.")?;
        for line in &self.failed {
            writeln!(f, "Not removed: {}", sentence(line))?;
        }
        Ok(())
    }
}

/// Uncompressed bytes as a person reads them.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} bytes"),
        1024..=1_048_575 => format!("{} KiB", bytes >> 10),
        1_048_576..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
