//! What a dead task left, a line for each thing.

use std::fmt;

use crate::protocol::{TaskId, Verdict};
use crate::worker::cleanup::{Findings, Leftover, Removal, Standing, Thing};

/// `1 table`, `2 tables`.
pub fn counted(count: usize, one: &str) -> String {
    let plural = match one {
        "batch" => "batches".to_owned(),
        one => format!("{one}s"),
    };
    if count == 1 { format!("1 {one}") } else { format!("{count} {plural}") }
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
            writeln!(f, "At work: {} (holds {claims}).", holder.worker)?;
        }
        for thing in &self.things {
            self.line(f, thing)?;
        }
        for silent in &self.silent {
            writeln!(f, "Not looked at: {silent}")?;
        }
        Ok(())
    }
}

impl Findings {
    fn line(&self, f: &mut fmt::Formatter<'_>, thing: &Leftover) -> fmt::Result {
        write!(f, "{}  ", thing.node)?;
        match &thing.what {
            Thing::Table(name, Some((rows, bytes))) => write!(f, "table {name} ({rows} rows, {})", size(*bytes))?,
            Thing::Table(name, None) => write!(f, "table {name}")?,
            Thing::Statement { query_id, elapsed } => write!(f, "statement {query_id} (runs for {elapsed:.0} s)")?,
        }
        if !thing.told.is_empty() {
            write!(f, ": {}", thing.told)?;
        }
        match &thing.verdict {
            Verdict::Goes(reason) => writeln!(f, ": may go: {reason}"),
            Verdict::Held { by } => writeln!(f, ": stays: {by} is alive"),
            Verdict::OfAnother(id) => match self.neighbours.get(id) {
                Some(path) => writeln!(f, ": stays: of another task, {} at {path}", id.0),
                None => writeln!(f, ": stays: of another task, {}; whether that one is dead is not known here", id.0),
            },
            Verdict::NotOurs => writeln!(f, ": stays: no name that a task gives"),
        }
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tables, statements) = (counted(self.tables, "table"), counted(self.statements, "statement"));
        writeln!(f, "Removed: {tables} dropped, {statements} ended.")?;
        for line in &self.failed {
            writeln!(f, "Not removed: {line}")?;
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
