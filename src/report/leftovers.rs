//! The leftovers of a dead task and their removal: one line for each of them, or all as one JSON object.

use std::fmt;

use serde::Serialize;

use crate::model::{counted, one_line, sentence};
use crate::operations::cleanup::{Findings, Holder, Leftover, LeftoverKind, Removal, Standing};
use crate::protocol::{Claim, LeftoverVerdict, TaskId};

/// The findings and the removals of `cleanup`, as JSON. Fields that have no value are `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CleanupReport {
    /// The task's identity. `null` if there is no task and none was named.
    pub(crate) task: Option<String>,
    /// The path of the task.
    pub(crate) path: String,
    /// `absent`, `named`, `half_forgotten`, `not_planned`, `unfinished` or `finished`.
    pub(crate) standing: &'static str,
    /// How many batches of an unfinished task are published.
    pub(crate) published: Option<PublishedReport>,
    /// The workers that are alive in the task.
    pub(crate) at_work: Vec<HolderReport>,
    /// The tables and statements that were found.
    pub(crate) things: Vec<ThingReport>,
    /// The errors of nodes that could not be searched.
    pub(crate) not_looked_at: Vec<String>,
    /// The removals; `null` if nothing was to be removed.
    pub(crate) removal: Option<RemovalReport>,
    /// Whether the task is removed from the coordinator now.
    pub(crate) forgotten: bool,
}

/// The progress of an unfinished task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PublishedReport {
    /// The number of published batches.
    pub(crate) batches: usize,
    /// The number of all batches.
    #[serde(rename = "of")]
    pub(crate) total: usize,
}

/// A worker that is alive in a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HolderReport {
    /// The worker's name: host, process and a number.
    pub(crate) worker: String,
    /// The pieces and batches that it claims.
    pub(crate) claims: Vec<String>,
}

/// A table or a statement on a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ThingReport {
    /// The server.
    pub(crate) node: String,
    /// `table` or `statement`.
    pub(crate) kind: &'static str,
    /// The table with its database, or the statement's id.
    pub(crate) name: String,
    /// Rows of a table, if they are known.
    pub(crate) rows: Option<u64>,
    /// Uncompressed bytes of a table, if they are known.
    pub(crate) bytes: Option<u64>,
    /// The seconds that a statement has run.
    pub(crate) seconds: Option<f64>,
    /// The meaning of its name.
    #[serde(rename = "told")]
    pub(crate) description: String,
    /// Whether it may be removed.
    pub(crate) may_go: bool,
    /// The reason why it may be removed, or why not.
    pub(crate) why: String,
}

/// The removals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RemovalReport {
    /// The number of dropped tables.
    pub(crate) tables: usize,
    /// The number of ended statements.
    pub(crate) statements: usize,
    /// Batches that are copied again when the task is run again.
    pub(crate) batches_given_up: usize,
    /// Removals that failed, with the reasons.
    pub(crate) failed: Vec<String>,
    /// Whether a signal ended the removal early.
    pub(crate) interrupted: bool,
}

impl CleanupReport {
    /// Makes the report from the findings, the removal (`None` if nothing was to be removed), and whether the task was
    /// forgotten.
    pub fn of(found: &Findings, removal: Option<&Removal>, forgotten: bool) -> Self {
        let holder = |holder: &Holder| HolderReport {
            worker: holder.worker.clone(),
            claims: holder.claims.iter().map(Claim::to_string).collect(),
        };
        let (standing, published) = match found.standing {
            Standing::Absent => ("absent", None),
            Standing::Named => ("named", None),
            Standing::HalfForgotten => ("half_forgotten", None),
            Standing::NotPlanned => ("not_planned", None),
            Standing::Unfinished { done, batches, .. } => {
                ("unfinished", Some(PublishedReport { batches: done, total: batches }))
            }
            Standing::Finished => ("finished", None),
        };
        Self {
            task: found.id.as_ref().map(|TaskId(id)| id.clone()),
            path: found.task_path.clone(),
            standing,
            published,
            at_work: found.holders.iter().map(holder).collect(),
            things: found.leftovers.iter().map(|thing| found.thing_report(thing)).collect(),
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
            let names: Vec<String> = holder.claims.iter().map(Claim::to_string).collect();
            let claims = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            writeln!(f, "At work: {} (holds {}).", one_line(&holder.worker), one_line(&claims))?;
        }
        for thing in &self.leftovers {
            self.write_thing(f, thing)?;
        }
        for silent in &self.silent {
            writeln!(f, "Not looked at: {}", sentence(silent))?;
        }
        Ok(())
    }
}

impl Findings {
    fn write_thing(&self, f: &mut fmt::Formatter<'_>, thing: &Leftover) -> fmt::Result {
        write!(f, "{}  ", thing.node)?;
        match &thing.what {
            LeftoverKind::Table(name, Some((rows, bytes))) => {
                write!(f, "table {} ({rows} rows, {})", one_line(&name.to_string()), size(*bytes))?;
            }
            LeftoverKind::Table(name, None) => write!(f, "table {}", one_line(&name.to_string()))?,
            LeftoverKind::Statement { query_id, elapsed } => {
                write!(f, "statement {} (runs for {elapsed:.0} s)", one_line(query_id))?;
            }
        }
        if !thing.description.is_empty() {
            write!(f, ": {}", sentence(&thing.description))?;
        }
        match self.removal_decision(&thing.verdict) {
            (true, why) => writeln!(f, ": may go: {why}"),
            (false, why) => writeln!(f, ": stays: {why}"),
        }
    }

    fn thing_report(&self, thing: &Leftover) -> ThingReport {
        let (kind, name, rows_and_bytes, seconds) = match &thing.what {
            LeftoverKind::Table(name, held) => ("table", name.to_string(), *held, None),
            LeftoverKind::Statement { query_id, elapsed } => ("statement", query_id.clone(), None, Some(*elapsed)),
        };
        let (may_go, why) = self.removal_decision(&thing.verdict);
        ThingReport {
            node: thing.node.to_string(),
            kind,
            name,
            rows: rows_and_bytes.map(|(rows, _)| rows),
            bytes: rows_and_bytes.map(|(_, bytes)| bytes),
            seconds,
            description: thing.description.clone(),
            may_go,
            why,
        }
    }

    /// Returns whether a leftover may be removed, and the reason.
    fn removal_decision(&self, verdict: &LeftoverVerdict) -> (bool, String) {
        match verdict {
            LeftoverVerdict::Goes(reason) => (true, reason.to_string()),
            LeftoverVerdict::Held { by } => (false, format!("{by} is alive")),
            LeftoverVerdict::OfAnother(id) => match self.neighbours.get(id) {
                Some(path) => (false, format!("of another task, {} at {path}", id.0)),
                None => (false, format!("of another task, {}; whether that one is dead is not known here", id.0)),
            },
            LeftoverVerdict::NotOurs => (false, "no name that a task gives".to_owned()),
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

/// Returns uncompressed bytes in a readable unit.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} bytes"),
        1024..=1_048_575 => format!("{} KiB", bytes >> 10),
        1_048_576..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
