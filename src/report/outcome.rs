//! What a run leaves to be read later: `run --report FILE`, as JSON, Markdown or text.
//!
//! The JSON has all fields of [`Status`], as `status --format json` has, in its version [`SCHEMA`](super::status::SCHEMA); and
//! beside them `outcome`, `worker`, `ended`, `seconds` and `warnings` (see [`Outcome`]). Of the fields that both have, a report
//! looks for no other workers: `workers`, `waits` and `silent` are empty, and there is no rate.

use std::fmt::Write;

use serde::Serialize;

use crate::worker::status::Sight;
use crate::worker::{Ending, Summary};

use super::status::{PartitionState, Status, TableStatus, duration, thousands};
use super::{Report, size};

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// [`Outcome`] as it is.
    Json,
    /// For a wiki or a ticket.
    Markdown,
    /// As the run prints it.
    Text,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The task as it stands.
    #[serde(flatten)]
    pub status: Status,
    /// How the run ended: `finished`, `was_finished` (before it began), `partial` (something failed), `interrupted`,
    /// `cancelled`.
    pub outcome: Ending,
    /// The worker that writes this.
    pub worker: String,
    /// When it ended, in RFC 3339, UTC.
    pub ended: String,
    /// How long this worker ran. Not the time that the task took, if other workers or earlier runs had a part in it.
    pub seconds: f64,
    /// What was odd: in the task file, and at the end on servers.
    pub warnings: Vec<String>,
    #[serde(skip)]
    text: String,
}

impl Form {
    /// By the ending of a file's name.
    pub fn of(file: &std::path::Path) -> Self {
        match file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("json") => Self::Json,
            Some("md" | "markdown") => Self::Markdown,
            _ => Self::Text,
        }
    }
}

impl Outcome {
    /// Of a run. `path` is where the task is recorded.
    pub fn of(summary: &Summary, path: &str, worker: String, ended: String, seconds: f64, notes: &[String]) -> Self {
        let left = summary.left.iter().map(|line| format!("not everything is cleaned up: {line}"));
        Self {
            status: Status::of(&Sight::of_run(summary), path),
            outcome: summary.ending,
            worker,
            ended,
            seconds,
            warnings: notes.iter().cloned().chain(left).collect(),
            text: Report::of(&summary.plans, &summary.boards).to_string(),
        }
    }

    /// In that form.
    ///
    /// # Errors
    /// None in practice: every field has a form in JSON.
    pub fn written(&self, form: Form) -> Result<String, serde_json::Error> {
        Ok(match form {
            Form::Json => serde_json::to_string_pretty(self)? + "\n",
            Form::Markdown => self.markdown(),
            Form::Text => self.plain(),
        })
    }

    fn headline(&self) -> &'static str {
        match self.outcome {
            Ending::Finished => "finished",
            Ending::WasFinished => "finished before this run began",
            Ending::Partial => "partitions have failed",
            Ending::Interrupted => "interrupted",
            Ending::Cancelled => "cancelled",
        }
    }

    fn plain(&self) -> String {
        let mut text = format!(
            "Task {} at {}: {}\nWorker {}, ended {} after {:.1} s\n{}\n",
            self.status.task,
            self.status.path,
            self.headline(),
            self.worker,
            self.ended,
            self.seconds,
            self.text
        );
        for warning in &self.warnings {
            text += &format!("warning: {warning}\n");
        }
        text
    }

    fn markdown(&self) -> String {
        let (status, total) = (&self.status, &self.status.total);
        let mut text = format!("# Copy of {}: {}\n\n", cell(&status.path), self.headline());
        let all: usize = total.partitions.values().sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} of {all} partitions are published, {} rows on the target, {} copied, {} retries. Task {}, worker {}, ended {} \
             after {}.",
            total.partitions.get(&PartitionState::Done).copied().unwrap_or(0),
            thousands(total.rows_published),
            size(total.bytes_copied),
            total.retries,
            cell(&status.task),
            cell(&self.worker),
            self.ended,
            duration(self.seconds.ceil() as u64),
        );
        status.tables.iter().for_each(|table| table_markdown(&mut text, table));
        list(&mut text, "Warnings", &self.warnings);
        text
    }
}

fn table_markdown(text: &mut String, table: &TableStatus) {
    let (name, source, target) = (cell(&table.name), cell(&table.source), cell(&table.target));
    let _ = writeln!(text, "\n## {name}: {source} → {target}\n");
    text.push_str("| partition | state | rows selected | rows on target | seconds | retries | verified by |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: | --- |\n");
    for partition in &table.partitions {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1}{} | {} | {} |",
            cell(&partition.name),
            partition.state,
            thousands(partition.rows),
            partition.rows_published.map_or("-".into(), thousands),
            partition.millis as f64 / 1000.0,
            if partition.together > 1 { "\\*" } else { "" },
            partition.retries,
            match (partition.rows_published, partition.compared) {
                (None, _) => "",
                (Some(_), true) => "count, checksum",
                (Some(_), false) => "count",
            },
        );
    }
    if table.partitions.iter().any(|partition| partition.together > 1) {
        text.push_str("\n\\* seconds of all partitions that were copied together with it\n");
    }
    let failed = table.partitions.iter().filter_map(|partition| {
        let error = partition.error.as_ref().filter(|_| partition.rows_published.is_none())?;
        Some(format!("{}: {error}", partition.name))
    });
    list(text, "Failed", &failed.collect::<Vec<_>>());
    if table.unchanged > 0 {
        let _ = writeln!(text, "\n{} partitions that were copied before are unchanged.", table.unchanged);
    }
    list(text, "Notes", &table.remarks);
}

fn list(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}:\n");
        text.extend(lines.iter().map(|line| format!("- {}\n", cell(line))));
    }
}

/// A text that is nothing but text in Markdown, in one line.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => cell.extend(['\\', c]),
            c if c.is_control() => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::status::tests::status;
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            status: status(),
            outcome: Ending::Partial,
            worker: "w-1".into(),
            ended: "2026-01-02T03:04:05Z".into(),
            seconds: 1.5,
            warnings: vec!["task.xml: odd".into()],
            text: "the report".into(),
        }
    }

    #[test]
    fn the_json_is_the_status_and_more() {
        let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut report = of(&outcome().written(Form::Json).unwrap());
        let object = report.as_object_mut().unwrap();
        let taken = ["outcome", "worker", "ended", "seconds", "warnings"].map(|name| object.remove(name).unwrap());
        assert_eq!(json!(taken), json!(["partial", "w-1", "2026-01-02T03:04:05Z", 1.5, ["task.xml: odd"]]));
        assert_eq!(report, of(&serde_json::to_string(&status()).unwrap()));
    }

    #[test]
    fn markdown_shows_a_name_as_it_is() {
        let text = outcome().written(Form::Markdown).unwrap();
        for words in ["# Copy of /copy: partitions have failed", "| a\\|b | failed | 10 | - |", "- a\\|b: disk  full"] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }

    #[test]
    fn the_name_of_a_file_says_its_form() {
        let of = |name| Form::of(Path::new(name));
        assert_eq!(
            [of("a.json"), of("a.MD"), of("a.txt"), of("json")],
            [Form::Json, Form::Markdown, Form::Text, Form::Text]
        );
    }
}
