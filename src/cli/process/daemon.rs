//! `--daemon`: the launch continues in a child process. The parent ends once the child has begun its work, or with the
//! child's error.
//!
//! The child is this program with the same arguments and a mark in its environment. Its standard output is a pipe on
//! which it reports once. Until it is ready it stays in the parent's process group and session, so Ctrl-C ends both;
//! then it leaves the terminal. If the parent has ended by then, the launch was called off, and the child ends too: no
//! daemon remains that the user does not know of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use thiserror::Error;

use super::super::output::logs::LogPlaces;
use super::super::output::{OutputError, log_file, print};
use super::super::{Exit, Failure};

/// The environment variable that marks the child. Its value is the parent's pid, so it means nothing in another process
/// that inherits it.
const MARK: &str = "CLICKHOUSE_COPIER_DAEMON_OF";

/// The reason why the background process could not take over.
#[derive(Debug, Error)]
pub(crate) enum DaemonError {
    /// The child could not be started.
    #[error("--daemon: cannot start the background process")]
    Start(#[source] io::Error),
    /// The child could not be waited for.
    #[error("--daemon: lost sight of the background process")]
    Watch(#[source] io::Error),
    /// The child ended without a report.
    #[error("--daemon: the background process ended before it began to work ({0})")]
    Silent(ExitStatus),
    /// The child reported why it failed.
    #[error("{0}")]
    Failed(String),
    /// The child works, and its launcher cannot print that.
    #[error("{line}")]
    Untold {
        /// The line that should have been printed.
        line: String,
        /// The error of printing.
        source: OutputError,
    },
    /// The child can't leave its terminal.
    #[error("--daemon: cannot leave the terminal")]
    Detach(#[source] io::Error),
    /// The parent did not wait for the end of the launch.
    #[error("--daemon: the launch was called off")]
    CalledOff(#[source] io::Error),
}

/// The child's report on its pipe: a word, a newline, a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Report {
    /// The child works. Contains the path of its log.
    Ready(String),
    /// The child has nothing left to do. Its exit code tells the result.
    Ended,
    /// The child failed. Contains the reason.
    Failed(String),
    /// The child ended without a report.
    Silent,
}

impl Report {
    fn to_text(&self) -> String {
        match self {
            Report::Ready(place) => format!("ready\n{place}"),
            Report::Ended => "ended\n".to_owned(),
            Report::Failed(why) => format!("failed\n{why}"),
            Report::Silent => String::new(),
        }
    }

    fn from_text(text: &str) -> Report {
        match text.split_once('\n') {
            Some(("ready", place)) => Report::Ready(place.to_owned()),
            Some(("ended", _)) => Report::Ended,
            Some(("failed", why)) => Report::Failed(why.to_owned()),
            _ => Report::Silent,
        }
    }
}

/// Starts the child and waits for its report. There is no time limit here: the child limits how long it tries to
/// connect. Succeeds only if the child has begun its work, or has completed it.
pub(crate) fn launch() -> Result<Exit, Failure> {
    let mut child = spawn().map_err(DaemonError::Start)?;
    let mut text = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut text).map_err(DaemonError::Watch)?;
    }
    match Report::from_text(&String::from_utf8_lossy(&text)) {
        Report::Ready(place) => {
            let line = format!("working in the background as process {}; log: {place}", child.id());
            print(&line).map_err(|source| DaemonError::Untold { line, source })?;
            Ok(Exit::Done)
        }
        Report::Ended => Ok(end_of(&mut child)?.1),
        Report::Failed(why) => match end_of(&mut child)?.1 {
            Exit::Done => Err(Failure::new(Exit::Failed, DaemonError::Failed(why))),
            exit => Err(Failure::new(exit, DaemonError::Failed(why))),
        },
        Report::Silent => Err(DaemonError::Silent(end_of(&mut child)?.0).into()),
    }
}

fn spawn() -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}

fn end_of(child: &mut Child) -> Result<(ExitStatus, Exit), DaemonError> {
    let status = child.wait().map_err(DaemonError::Watch)?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok((status, Exit::from_code(code)))
}

/// The child's side: reports the result of the launch once. In another process it does nothing.
#[derive(Debug)]
pub(crate) struct Readiness {
    background: bool,
    pipe: Option<File>,
    /// The files that were open when this process began, besides its three standard streams.
    inherited: Vec<RawFd>,
}

impl Readiness {
    /// Returns the readiness of a process that stays in the foreground.
    pub(crate) fn foreground() -> Readiness {
        Readiness { background: false, pipe: None, inherited: Vec::new() }
    }

    /// Returns the readiness of this process, as its environment says. Call it once, before anything is printed: from
    /// then on the standard output of a background process takes only the report.
    pub(crate) fn of_this_process() -> Result<Readiness, DaemonError> {
        let mark = std::env::var(MARK).ok().and_then(|mark| mark.parse().ok());
        if mark != Some(parent_id()) {
            return Ok(Readiness::foreground());
        }
        let inherited = inherited();
        let take_stdout = || -> io::Result<File> {
            let pipe = io::stdout().as_fd().try_clone_to_owned()?;
            nix::unistd::dup2_stdout(dev_null()?)?;
            Ok(File::from(pipe))
        };
        Ok(Readiness { background: true, pipe: Some(take_stdout().map_err(DaemonError::Detach)?), inherited })
    }

    /// Returns whether this is the child of a launch with `--daemon`.
    pub(crate) fn is_background(&self) -> bool {
        self.background
    }

    /// Reports that the task is read, the servers answer and work has begun: the parent may end. Later messages of the
    /// system (for example that memory ran out) go to `stderr.log` in the launch's folder. Inherited files are closed,
    /// so that no process waits for the end of a pipe and no disk stays mounted because of them.
    ///
    /// Fails if the parent has ended or the terminal cannot be left. The run should end then.
    pub(crate) fn ready(&mut self, places: &LogPlaces) -> Result<(), DaemonError> {
        let Some(pipe) = self.pipe.take() else { return Ok(()) };
        nix::unistd::setsid().map_err(|error| DaemonError::Detach(error.into()))?;
        let redirect_stderr = || -> io::Result<()> {
            let errors = match &places.folder {
                Some(folder) => log_file::open(&folder.join("stderr.log"))?,
                None => dev_null()?,
            };
            Ok(nix::unistd::dup2_stderr(errors)?)
        };
        redirect_stderr().map_err(DaemonError::Detach)?;
        // The files are closed only now: the task file may be one of them (`--task-file <(…)`).
        for number in self.inherited.drain(..) {
            // This process has not closed the number before, so it does not belong to another file.
            let _ = nix::unistd::close(number);
        }
        send(pipe, &Report::Ready(places.all.display().to_string())).map_err(DaemonError::CalledOff)
    }

    /// Reports a failure before the process was ready. After [`ready`](Self::ready) it does nothing: the logs have the
    /// error.
    pub(crate) fn failed(&mut self, why: &str) {
        self.send_report(&Report::Failed(why.to_owned()));
    }

    /// Reports a good end before the process was ready: there was nothing left to do.
    pub(crate) fn ended(&mut self) {
        self.send_report(&Report::Ended);
    }

    fn send_report(&mut self, report: &Report) {
        if let Some(pipe) = self.pipe.take()
            && let Err(error) = send(pipe, report)
        {
            tracing::warn!("nobody waited for the end of this launch: {error}");
        }
    }
}

fn send(mut pipe: File, report: &Report) -> io::Result<()> {
    pipe.write_all(report.to_text().as_bytes())
}

/// Returns the files besides the standard streams that are open now. Returns none if the system does not list them.
fn inherited() -> Vec<RawFd> {
    let folder = Path::new("/proc/self/fd");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let numbers: Vec<RawFd> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The folder itself was open while it was read.
    let is_open = |number: &RawFd| fs::symlink_metadata(folder.join(number.to_string())).is_ok();
    numbers.into_iter().filter(|number| *number > 2).filter(is_open).collect()
}

fn dev_null() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for report in [
            Report::Ready("/var/log/x y/log.log".to_owned()),
            Report::Ended,
            Report::Failed("two\nlines".to_owned()),
            Report::Silent,
        ] {
            assert_eq!(Report::from_text(&report.to_text()), report);
        }
    }

    #[test]
    fn an_incomplete_report_counts_as_no_report() {
        assert_eq!(Report::from_text("rea"), Report::Silent);
        assert_eq!(Report::from_text("hello\nworld"), Report::Silent);
    }

    #[test]
    fn a_foreground_process_sends_no_report() {
        let mut readiness = Readiness::foreground();
        let places = LogPlaces { folder: None, all: "a".into(), errors: "b".into() };
        assert!(readiness.ready(&places).is_ok());
        readiness.failed("x");
        assert!(!readiness.is_background());
    }
}
