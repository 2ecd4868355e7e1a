//! What follows a run, however it ended: its reports, then its hook.
//!
//! `--on-finish` runs where a launch ends with 0: of several workers at one task only in the one that recorded its end, and in a
//! launch that finds the task finished. `--on-failure` runs in each worker whose launch ends with another code, signals
//! included. Neither changes the exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

use crate::client::ServerClient;
use crate::report::moment::Moment;
use crate::report::outcome::{End, Form, Outcome, Verdict};
use crate::worker::ending::{Ending, Summary};
use crate::worker::target_sizes;
use crate::worker::view::View;

use super::super::args::flags::LogFormat;
use super::super::args::options::RunOptions;
use super::super::output::logs::Logs;
use super::super::output::print_json;
use super::super::{Exit, Failure, Interrupt};
use super::files;
use super::hook::Hook;

/// What is to be done after a run.
pub(crate) struct Aftermath {
    reports: Vec<PathBuf>,
    /// Whether one goes to standard output too, for a program.
    prints: bool,
    on_finish: Option<String>,
    on_failure: Option<String>,
    task_path: String,
    begun: Instant,
}

/// What a run lets be known of itself, as far as it came.
#[derive(Default)]
pub(crate) struct Traces {
    /// The task while it was worked on.
    pub(crate) view: View,
    /// The worker's name.
    pub(crate) worker: String,
    /// What there is to report, if it came to an end of its own.
    pub(crate) summary: Option<Summary>,
    /// The servers.
    pub(crate) client: Option<Arc<dyn ServerClient>>,
}

impl Aftermath {
    /// Of a run that begins now.
    pub(crate) fn of(options: &RunOptions) -> Self {
        Self {
            reports: options.report.clone(),
            prints: options.format == LogFormat::Json,
            on_finish: options.on_finish.clone(),
            on_failure: options.on_failure.clone(),
            task_path: options.address.task_path().to_owned(),
            begun: Instant::now(),
        }
    }

    /// Writes reports and runs the hook. A report that was asked for and cannot be written is no success.
    pub(crate) async fn follow(
        self,
        ended: Result<Exit, Failure>,
        traces: Traces,
        logs: &Logs,
        interrupt: &Interrupt,
    ) -> Result<Exit, Failure> {
        if self.reports.is_empty() && !self.prints && self.on_finish.is_none() && self.on_failure.is_none() {
            return ended;
        }
        let mut outcome = self.outcome(&ended, &traces, logs).await;
        let written = self.write(&outcome).and(self.print(&outcome));
        let ended = match (ended, written) {
            (Ok(Exit::Done), Err(error)) => {
                outcome.exit_code = Exit::Failed as u8;
                outcome.error = Some(error.to_string());
                Err(error)
            }
            (ended, Err(error)) => {
                tracing::error!("{error}");
                ended
            }
            (ended, Ok(())) => ended,
        };
        if let Some((flag, command)) = self.hook(&outcome, traces.summary.as_ref()) {
            let (exit_code, task) = (outcome.exit_code, self.task_path.as_str());
            let hook = Hook { flag, command, outcome: outcome.outcome.as_str(), exit_code, task };
            if let Err(error) = hook.run(outcome.written(Form::Json)?, interrupt).await {
                tracing::error!("{}", super::super::exit::chain(&error));
            }
        }
        ended
    }

    fn hook(&self, outcome: &Outcome, summary: Option<&Summary>) -> Option<(&'static str, &str)> {
        if outcome.exit_code != Exit::Done as u8 {
            return Some(("--on-failure", self.on_failure.as_deref()?));
        }
        let tells = |summary: &Summary| summary.ended_it || summary.ending == Ending::WasFinished;
        Some(("--on-finish", self.on_finish.as_deref().filter(|_| summary.is_some_and(tells))?))
    }

    async fn outcome(&self, ended: &Result<Exit, Failure>, traces: &Traces, logs: &Logs) -> Outcome {
        let (exit, error) = match ended {
            Ok(exit) => (*exit, None),
            Err(failure) => (failure.exit(), Some(failure.to_string())),
        };
        let (mut held, mut silent) = (Vec::new(), Vec::new());
        // Who was told to end is waited for.
        if let (Some(of), Some(client)) = (&traces.summary, &traces.client)
            && exit != Exit::Interrupted
        {
            (held, silent) = target_sizes::measure(client.as_ref(), &of.task, &of.plans).await;
        }
        let seen = match &traces.summary {
            Some(summary) => Some(summary.state()),
            None => traces.view.last().await,
        };
        let end = End {
            verdict: match (&traces.summary, exit) {
                (Some(summary), _) => summary.ending.into(),
                (None, Exit::Interrupted) => Verdict::Interrupted,
                (None, _) => Verdict::Failed,
            },
            exit_code: exit as u8,
            error,
            worker: traces.worker.clone(),
            ended: Moment((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as u64).to_string(),
            seconds: self.begun.elapsed().as_secs_f64(),
            warnings: logs.warnings().into_iter().chain(silent).collect(),
        };
        Outcome::of(end, seen.as_ref(), &self.task_path, &held)
    }

    fn print(&self, outcome: &Outcome) -> Result<(), Failure> {
        if self.prints {
            print_json(&outcome.written(Form::Json)?)?;
        }
        Ok(())
    }

    fn write(&self, outcome: &Outcome) -> Result<(), Failure> {
        let mut first = Ok(());
        for file in &self.reports {
            let written = outcome.written(Form::of(file)).map_err(Failure::from);
            let written = written.and_then(|text| files::replace(file, &text).map_err(Failure::from));
            // Each of them is tried.
            first = first.and(written);
        }
        first
    }
}
