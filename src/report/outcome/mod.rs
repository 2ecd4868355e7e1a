//! The report of a run: `run --report FILE` as HTML, JSON, Markdown or text, and the input of hooks. All forms are made
//! from one value, [`Outcome`].
//!
//! The JSON has all fields of [`Status`], as `status --format json` has, in its version
//! [`SCHEMA`](super::status::SCHEMA), and further fields. A report does not read about other workers: `workers`,
//! `waits` and `silent` are empty, and there is no rate.

mod charts;
mod course;
mod facts;
mod html;
mod markdown;

use serde::Serialize;

use super::Report;
use super::state::TaskModel;
use super::status::Status;
use crate::ledger::overview::TaskOverview;
use crate::model::{one_line, printable, printable_json, sentence};
use crate::plan::TablePlan;
use crate::worker::ending::Ending;
use crate::worker::target_sizes::TargetSize;

pub(crate) use super::state::Spent;
pub(crate) use course::Throughput;
pub(crate) use facts::{Planned, ShardBulk, Side};

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An HTML page without other files.
    Html,
    /// [`Outcome`] as it is, as JSON.
    Json,
    /// Markdown, for a wiki or a ticket.
    Markdown,
    /// Text, as the run prints it.
    Text,
}

/// The result of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// The task is finished.
    Finished,
    /// The task was finished before this run began.
    WasFinished,
    /// The task is finished, and source and target differ: see `account`.
    Different,
    /// The task is finished, and some rows are not accounted for: see `account`.
    Unaccounted,
    /// All rows are copied and accounted for, and tables of the task are left on servers.
    Uncleaned,
    /// Some partitions failed; everything else is done.
    Partial,
    /// A signal ended the run.
    Interrupted,
    /// The task was cancelled.
    Cancelled,
    /// The run could not continue: see `error`.
    Failed,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The state of the task, or its last known state.
    #[serde(flatten)]
    pub(crate) status: Status,
    /// The result of the run.
    pub(crate) outcome: RunResult,
    /// The exit code of the process.
    pub(crate) exit_code: u8,
    /// The error, if the run failed.
    pub(crate) error: Option<String>,
    /// The worker that writes this report.
    pub(crate) worker: String,
    /// The version of the program.
    pub(crate) version: &'static str,
    /// When it ended, in RFC 3339, UTC.
    pub(crate) ended: String,
    /// The seconds that this worker ran. Other workers or earlier runs may have copied a part of the task.
    pub(crate) seconds: f64,
    /// All warnings and errors that this worker logged.
    pub(crate) warnings: Vec<String>,
    /// The time that all workers spent on each activity.
    pub(crate) spent: Spent,
    /// The copied bytes over time. Absent if no times were recorded.
    pub(crate) throughput: Option<Throughput>,
    /// The size of each shard: at the source before, on the target after.
    pub(crate) shards: Vec<ShardBulk>,
    /// The plans.
    pub(crate) plans: Vec<Planned>,
}

/// The result of a run, with the facts about its worker.
#[derive(Debug, Clone)]
pub struct End {
    /// See [`Outcome::outcome`].
    pub verdict: RunResult,
    /// See [`Outcome::exit_code`].
    pub exit_code: u8,
    /// See [`Outcome::error`].
    pub error: Option<String>,
    /// See [`Outcome::worker`].
    pub worker: String,
    /// See [`Outcome::ended`].
    pub ended: String,
    /// See [`Outcome::seconds`].
    pub seconds: f64,
    /// See [`Outcome::warnings`].
    pub warnings: Vec<String>,
}

impl Form {
    /// Returns the format for the extension of a file's name.
    pub fn of(file: &std::path::Path) -> Self {
        match file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Self::Html,
            Some("json") => Self::Json,
            Some("md" | "markdown") => Self::Markdown,
            _ => Self::Text,
        }
    }
}

impl From<Ending> for RunResult {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Finished => Self::Finished,
            Ending::WasFinished => Self::WasFinished,
            Ending::Different => Self::Different,
            Ending::Unaccounted => Self::Unaccounted,
            Ending::Uncleaned => Self::Uncleaned,
            Ending::Partial => Self::Partial,
            Ending::Interrupted => Self::Interrupted,
            Ending::Cancelled => Self::Cancelled,
        }
    }
}

impl RunResult {
    /// Returns the word for this result in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::WasFinished => "was_finished",
            Self::Different => "different",
            Self::Unaccounted => "unaccounted",
            Self::Uncleaned => "uncleaned",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl Outcome {
    /// Makes the outcome of a run. `seen` is the last known state of the task, if there is one. `path` is the path of
    /// the task, and `target_sizes` holds the sizes of its target tables.
    pub fn of(end: End, seen: Option<&TaskOverview>, path: &str, target_sizes: &[TargetSize]) -> Self {
        let model = seen.map(TaskModel::of);
        let status = model.as_ref().map_or_else(|| Status::unknown(path), |model| Status::of_model(model, path));
        let plans: &[TablePlan] = seen.map_or(&[], |seen| &seen.plans);
        let End { verdict, exit_code, error, worker, ended, seconds, warnings } = end;
        Self {
            status,
            outcome: verdict,
            exit_code,
            error,
            worker,
            version: env!("CARGO_PKG_VERSION"),
            ended,
            seconds,
            warnings,
            spent: model.as_ref().map(|model| model.spent).unwrap_or_default(),
            throughput: model.as_ref().and_then(Throughput::of),
            shards: facts::shards(plans, target_sizes),
            plans: plans.iter().map(Planned::of).collect(),
        }
    }

    /// Returns the report in this format.
    ///
    /// # Errors
    /// In practice there are none: every field has a form in JSON.
    pub fn written(&self, form: Form) -> Result<String, serde_json::Error> {
        // In every format the text may be shown on a terminal, so control characters are escaped.
        Ok(match form {
            Form::Html => printable(&html::page(self)).into_owned(),
            Form::Json => printable_json(&(serde_json::to_string_pretty(self)? + "\n")).into_owned(),
            Form::Markdown => printable(&markdown::page(self)).into_owned(),
            Form::Text => printable(&self.text_form()).into_owned(),
        })
    }

    fn headline(&self) -> &'static str {
        match self.outcome {
            RunResult::Finished => "finished",
            RunResult::WasFinished => "finished before this run began",
            RunResult::Different => "finished, and source and target DIFFER",
            RunResult::Unaccounted => "finished, and some rows are not accounted for",
            RunResult::Uncleaned => "all rows are copied, and tables of the task are left on servers",
            RunResult::Partial => "partitions have failed",
            RunResult::Interrupted => "interrupted",
            RunResult::Cancelled => "cancelled",
            RunResult::Failed => "failed",
        }
    }

    /// Returns the task's identity. A run that failed early may not know it.
    fn task(&self) -> &str {
        if self.status.task.is_empty() { "(not known)" } else { &self.status.task }
    }

    fn text_form(&self) -> String {
        let mut text = format!(
            "Task {} at {}: {}\nWorker {}, ended {} after {:.1} s\n",
            self.task(),
            one_line(&self.status.path),
            self.headline(),
            self.worker,
            self.ended,
            self.seconds,
        );
        if let Some(error) = &self.error {
            text += &format!("error: {}\n", sentence(error));
        }
        text += &format!("{}\n", Report::of_status(&self.status));
        for warning in &self.warnings {
            text += &format!("warning: {}\n", sentence(warning));
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::status::tests::status;
    use super::*;
    use crate::report::moment::Moment;

    pub(super) fn outcome() -> Outcome {
        Outcome {
            status: status(),
            outcome: RunResult::Partial,
            exit_code: 3,
            error: None,
            worker: "w-1".into(),
            version: "1.2.3",
            ended: "2026-01-02T03:04:05Z".into(),
            seconds: 1.5,
            warnings: vec!["task.xml: odd".into()],
            spent: Spent { waiting: 0, transferring: 5000, verifying: 1000, publishing: 250 },
            throughput: Some(Throughput { began: Moment(1000), ended: Moment(3000), stretch: 1000, bytes: vec![7, 9] }),
            shards: vec![ShardBulk {
                table: "hits".into(),
                side: Side::Source,
                shard: 1,
                node: None,
                rows: 10,
                bytes: 100,
                whole_table: false,
            }],
            plans: Vec::new(),
        }
    }

    #[test]
    fn the_json_has_all_fields_of_the_status_and_further_fields() {
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut report = parsed(&outcome().written(Form::Json).unwrap());
        let object = report.as_object_mut().unwrap();
        let names = ["outcome", "exit_code", "worker", "version", "ended", "seconds", "warnings", "throughput"];
        let values = names.map(|name| object.remove(name).unwrap());
        let (began, ended) = ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:03.000Z");
        let throughput = json!({"began": began, "ended": ended, "stretch": 1000, "bytes": [7, 9]});
        let warnings = json!(["task.xml: odd"]);
        assert_eq!(
            json!(values),
            json!(["partial", 3, "w-1", "1.2.3", "2026-01-02T03:04:05Z", 1.5, warnings, throughput])
        );
        for name in ["error", "spent", "shards", "plans"] {
            object.remove(name).unwrap();
        }
        assert_eq!(report, parsed(&serde_json::to_string(&status()).unwrap()));
    }

    #[test]
    fn markdown_escapes_names() {
        let text = outcome().written(Form::Markdown).unwrap();
        for words in ["# Copy of /copy: partitions have failed", "| a\\|b | failed | 10 | - |", "- a\\|b: disk  full"] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }

    #[test]
    fn the_extension_of_the_file_gives_the_format() {
        let form = |name| Form::of(Path::new(name));
        assert_eq!(
            [form("a.json"), form("a.MD"), form("a.txt"), form("json"), form("a.html")],
            [Form::Json, Form::Markdown, Form::Text, Form::Text, Form::Html]
        );
    }
}
