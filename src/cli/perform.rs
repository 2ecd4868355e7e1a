//! Performs an invocation: sets up logs, signals and the runtime, and calls the verb.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

use super::args::options::{Invocation, LogOptions, RunOptions};
use super::commands::check::check;
use super::commands::cleanup::cleanup;
use super::commands::control::command;
use super::commands::dashboard::dashboard;
use super::commands::init::init;
use super::commands::plan::plan;
use super::commands::reverse::reverse;
use super::commands::run::{run, status};
use super::commands::status::status as show_status;
use super::commands::verify::verify;
use super::output::complain;
use super::output::logs::Logs;
use super::process::daemon::{self, Readiness};
use super::{Exit, Failure, Interrupt};

/// How long a run may continue after the order to stop at once. Then it is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the runtime waits for blocking calls at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Performs the invocation. All errors have been shown when this returns.
pub(crate) fn perform(invocation: Invocation) -> Exit {
    let outcome = match invocation {
        Invocation::Run(options) => perform_run(options),
        Invocation::Counts(options) => perform_short(&options.log.clone(), |interrupt| status(options, interrupt)),
        Invocation::Status(options) => perform_short(&options.log.clone(), |interrupt| show_status(options, interrupt)),
        Invocation::Dashboard(options) => {
            perform_short(&options.log.clone(), |interrupt| dashboard(options, interrupt))
        }
        Invocation::Plan(options) => perform_short(&options.log.clone(), |interrupt| plan(options, interrupt)),
        Invocation::Command(options) => perform_short(&options.log.clone(), |interrupt| command(options, interrupt)),
        Invocation::Check(options) => perform_short(&options.log.clone(), |interrupt| check(options, interrupt)),
        Invocation::Verify(options) => perform_short(&options.log.clone(), |interrupt| verify(options, interrupt)),
        Invocation::Init(options) => perform_short(&options.log.clone(), |interrupt| init(options, interrupt)),
        Invocation::Reverse(options) => perform_short(&options.log.clone(), |interrupt| reverse(options, interrupt)),
        Invocation::Cleanup(options) => perform_short(&options.log.clone(), |interrupt| cleanup(options, interrupt)),
    };
    outcome.unwrap_or_else(|Unlogged(failure)| {
        complain(&failure.to_string());
        failure.exit()
    })
}

/// A failure that happened before there was a log.
struct Unlogged(Failure);

impl<E: Into<Failure>> From<E> for Unlogged {
    fn from(error: E) -> Unlogged {
        Unlogged(error.into())
    }
}

fn perform_run(options: RunOptions) -> Result<Exit, Unlogged> {
    let mut readiness = Readiness::of_this_process()?;
    if options.daemon && !readiness.is_background() {
        for notice in &options.notices {
            complain(notice);
        }
        return daemon::launch().map_err(Unlogged);
    }
    let logs = Logs::install(&options.log, !readiness.is_background()).map_err(|error| {
        let failure = Failure::from(error);
        readiness.failed(&failure.to_string());
        failure
    })?;
    if let (Some(mask), true) = (options.umask, readiness.is_background()) {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
    }
    for notice in &options.notices {
        tracing::warn!("{notice}");
    }
    let outcome = in_runtime(|interrupt| run(options, &logs, interrupt, &mut readiness));
    match &outcome {
        Ok(_) => readiness.ended(),
        Err(failure) => readiness.failed(&failure.to_string()),
    }
    let exit = logged(outcome);
    logs.report_lost();
    Ok(exit)
}

/// Performs a verb that works once and creates no log folder.
fn perform_short<W: Future<Output = Result<Exit, Failure>>>(
    log: &LogOptions,
    work: impl FnOnce(Interrupt) -> W,
) -> Result<Exit, Unlogged> {
    let _logs = Logs::install(log, true)?;
    Ok(logged(in_runtime(work)))
}

fn logged(outcome: Result<Exit, Failure>) -> Exit {
    outcome.unwrap_or_else(|failure| {
        for line in failure.to_string().lines() {
            tracing::error!("{line}");
        }
        failure.exit()
    })
}

/// Runs `work` in a runtime with signals connected to its [`Interrupt`]. Drops the work if it continues too long after
/// the second signal.
fn in_runtime<W: Future<Output = Result<Exit, Failure>>>(work: impl FnOnce(Interrupt) -> W) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::Runtime)?;
    let outcome = runtime.block_on(async {
        let interrupt = Interrupt::listen().map_err(StartError::Signals)?;
        let stop_signal = interrupt.clone();
        tokio::select! {
            outcome = work(interrupt) => outcome,
            () = async { stop_signal.stop().await; tokio::time::sleep(STOP_TIMEOUT).await } => {
                tracing::warn!("the work in hand did not stop in {} s and was left as it is", STOP_TIMEOUT.as_secs());
                Ok(Exit::Interrupted)
            }
        }
    });
    // A blocking call that hangs must not keep a finished process alive.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

#[derive(Debug, Error)]
enum StartError {
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
}
