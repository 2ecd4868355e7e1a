//! Writes reports and runs the hook after a run.
//!
//! `--on-finish` runs after exit code 0: among several workers of a task only in the worker that recorded its end, and
//! in a launch that finds the task finished. `--on-failure` runs in each worker whose launch ends with another code,
//! also after a signal. Neither changes the exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use time::OffsetDateTime;

use super::super::args::flags::LogFormat;
use super::super::args::options::RunOptions;
use super::super::output::logs::Logs;
use super::super::output::print_json;
use super::super::{Exit, Failure, Interrupt};
use super::files;
use super::hook::Hook;
use crate::client::ServerClient;
use crate::report::moment::Moment;
use crate::report::outcome::{End, Form, Outcome, RunResult};
use crate::worker::ending::{Ending, Summary};
use crate::worker::target_sizes;
use crate::worker::view::View;

/// The work after a run.
pub(crate) struct AfterRun {
    reports: Vec<PathBuf>,
    /// Whether a report goes to standard output too, as JSON.
    prints: bool,
    on_finish: Option<String>,
    on_failure: Option<String>,
    task_path: String,
    begun: Instant,
}

/// The facts that a run leaves for its report. A run that failed leaves only some of them.
#[derive(Default)]
pub(crate) struct RunFacts {
    /// The state of the task during the run.
    pub(crate) view: View,
    /// The worker's name.
    pub(crate) worker: String,
    /// The summary, if the run reached its own end.
    pub(crate) summary: Option<Summary>,
    /// The client of the servers.
    pub(crate) client: Option<Arc<dyn ServerClient>>,
}

impl AfterRun {
    /// Makes the work after a run that begins now.
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

    /// Writes reports and runs the hook. A run whose requested report cannot be written has failed.
    pub(crate) async fn finish(
        self,
        ended: Result<Exit, Failure>,
        facts: RunFacts,
        logs: &Logs,
        interrupt: &Interrupt,
    ) -> Result<Exit, Failure> {
        if self.reports.is_empty() && !self.prints && self.on_finish.is_none() && self.on_failure.is_none() {
            return ended;
        }
        let mut outcome = self.outcome(&ended, &facts, logs).await;
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
        if let Some((flag, command)) = self.hook(&outcome, facts.summary.as_ref()) {
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
        let runs_hook = |summary: &Summary| summary.ended_it || summary.ending == Ending::WasFinished;
        Some(("--on-finish", self.on_finish.as_deref().filter(|_| summary.is_some_and(runs_hook))?))
    }

    async fn outcome(&self, ended: &Result<Exit, Failure>, facts: &RunFacts, logs: &Logs) -> Outcome {
        let (exit, error) = match ended {
            Ok(exit) => (*exit, None),
            Err(failure) => (failure.exit(), Some(failure.to_string())),
        };
        let (mut held, mut silent) = (Vec::new(), Vec::new());
        // After a signal the sizes of the target tables are not measured: somebody waits for the end.
        if let (Some(summary), Some(client)) = (&facts.summary, &facts.client)
            && exit != Exit::Interrupted
        {
            (held, silent) = target_sizes::measure(client.as_ref(), &summary.task, &summary.plans).await;
        }
        let last_state = match &facts.summary {
            Some(summary) => Some(summary.state()),
            None => facts.view.last().await,
        };
        let end = End {
            verdict: match (&facts.summary, exit) {
                (Some(summary), _) => summary.ending.into(),
                (None, Exit::Interrupted) => RunResult::Interrupted,
                (None, _) => RunResult::Failed,
            },
            exit_code: exit as u8,
            error,
            worker: facts.worker.clone(),
            ended: Moment((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as u64).to_string(),
            seconds: self.begun.elapsed().as_secs_f64(),
            warnings: logs.warnings().into_iter().chain(silent).collect(),
        };
        Outcome::of(end, last_state.as_ref(), &self.task_path, &held)
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
            // A failed report does not prevent the others.
            first = first.and(written);
        }
        first
    }
}
