//! `--on-finish` and `--on-failure`: a command of the user's, told by the report how a run ended.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::super::Interrupt;

/// So long a command may take. It is there to tell somebody; what takes longer is to be started by it and left alone.
const LIMIT: Duration = Duration::from_secs(300);
/// So long where this process was told to stop at once before it began: that process lives for ten seconds more at the most.
const HURRY: Duration = Duration::from_secs(5);
/// So long it is given to end after it was asked to.
const GRACE: Duration = Duration::from_secs(3);
/// So long its last words are waited for when it has ended: what it left running may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// So much of what it says is logged.
const MOST_SAID: u64 = 64 << 10;

/// What a command gets of this process's environment, beside all that begins with `LC_`: what programs need to find their files, to
/// speak the user's language and to reach the network. Nothing else: a task's secrets may be there (`from_env`).
const PASSED_ON: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

fn is_passed_on(name: &str) -> bool {
    PASSED_ON.contains(&name) || name.starts_with("LC_")
}

/// A command, and what it is told beside the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook<'a> {
    /// The flag that named it.
    pub(crate) flag: &'static str,
    /// For `sh -c`.
    pub(crate) command: &'a str,
    /// `CLICKHOUSE_COPIER_OUTCOME`
    pub(crate) outcome: &'static str,
    /// `CLICKHOUSE_COPIER_EXIT_CODE`
    pub(crate) exit_code: u8,
    /// `CLICKHOUSE_COPIER_TASK`
    pub(crate) task: &'a str,
}

/// Why a command did not do what it was to.
#[derive(Debug, Error)]
pub(crate) enum HookError {
    /// There may be no `sh`.
    #[error("{flag}: cannot start sh")]
    Start { flag: &'static str, source: io::Error },
    /// It cannot be waited for.
    #[error("{flag}: lost sight of the command")]
    Watch { flag: &'static str, source: io::Error },
    /// It said that it failed, or was ended by a signal.
    #[error("{flag}: the command failed ({status})")]
    Failed { flag: &'static str, status: ExitStatus },
    /// It took too long.
    #[error("{flag}: the command took more than {} s and was ended", limit.as_secs())]
    TooLong { flag: &'static str, limit: Duration },
    /// This process was told to stop at once.
    #[error("{flag}: the command was ended, since this process was told to stop")]
    Stopped { flag: &'static str },
}

impl Hook<'_> {
    /// Runs it with `report` on its standard input, and waits for its end; what it says becomes log lines.
    ///
    /// It has a process group of its own: Ctrl-C does not reach it, and what it started ends with it where it is ended. That is
    /// after [`LIMIT`] ([`HURRY`] after a second signal), or at a second signal; by SIGTERM, and [`GRACE`] later by SIGKILL. What it leaves running when it ends
    /// by itself is left alone.
    pub(crate) async fn run(self, report: String, interrupt: &Interrupt) -> Result<(), HookError> {
        self.run_for(LIMIT, report, interrupt).await
    }

    async fn run_for(self, limit: Duration, report: String, interrupt: &Interrupt) -> Result<(), HookError> {
        let flag = self.flag;
        let hurry = interrupt.is_stopping();
        let limit = if hurry { HURRY.min(limit) } else { limit };
        tracing::debug!("{flag}: runs {}", self.command);
        let mut child = Command::new("sh")
            .args(["-c", self.command])
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_passed_on)))
            .env("CLICKHOUSE_COPIER_OUTCOME", self.outcome)
            .env("CLICKHOUSE_COPIER_EXIT_CODE", self.exit_code.to_string())
            .env("CLICKHOUSE_COPIER_TASK", self.task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| HookError::Start { flag, source })?;
        // In tasks of their own: one that reads nothing, or says nothing, does not hold up the others.
        let told = child.stdin.take().map(|mut stdin| {
            tokio::spawn(async move {
                // A command may be content with its environment.
                let _ = stdin.write_all(report.as_bytes()).await;
            })
        });
        let mut words = tokio::task::JoinSet::new();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            words.spawn(log(flag, out));
            words.spawn(log(flag, err));
        }
        let ended = tokio::select! {
            status = child.wait() => match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(HookError::Failed { flag, status }),
                Err(source) => Err(HookError::Watch { flag, source }),
            },
            () = sleep(limit) => {
                end(&mut child).await;
                Err(HookError::TooLong { flag, limit })
            }
            () = interrupt.stop(), if !hurry => {
                end(&mut child).await;
                Err(HookError::Stopped { flag })
            }
        };
        if let Some(told) = told {
            told.abort();
        }
        let _ = timeout(LAST_WORDS, async { while words.join_next().await.is_some() {} }).await;
        ended
    }
}

/// Ends the command and what it started.
async fn end(child: &mut Child) {
    // Its group has its own number. Not waited for yet, so the number is nobody else's.
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    let _ = killpg(group, Signal::SIGTERM);
    let ended = timeout(GRACE, child.wait()).await;
    // What did not listen goes with it, or is gone.
    let _ = killpg(group, Signal::SIGKILL);
    if ended.is_err() {
        let _ = child.wait().await;
    }
}

async fn log(flag: &'static str, output: impl AsyncRead + Unpin) {
    let (mut output, mut left, mut line) = (BufReader::new(output), MOST_SAID, Vec::new());
    while let Ok(read @ 1..) = (&mut output).take(left).read_until(b'\n', &mut line).await {
        tracing::info!("{flag}: {}", String::from_utf8_lossy(&line).trim_end());
        left -= read as u64;
        line.clear();
    }
    // The rest is read and forgotten, so that the command is not held up.
    let _ = tokio::io::copy_buf(&mut output, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn hook(command: &str) -> Hook<'_> {
        Hook { flag: "--on-failure", command, outcome: "partial", exit_code: 3, task: "/copy/x" }
    }

    fn report() -> String {
        format!("{{{}}}\n", " ".repeat(1 << 20))
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn it_reads_the_report_and_knows_how_the_run_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (read, known) = (folder.path().join("read"), folder.path().join("known"));
        let words = "$CLICKHOUSE_COPIER_OUTCOME $CLICKHOUSE_COPIER_EXIT_CODE $CLICKHOUSE_COPIER_TASK";
        let command = format!("cat > {}; echo {words} > {}", read.display(), known.display());
        let (_hand, interrupt) = Interrupt::by_hand();
        hook(&command).run(report(), &interrupt).await.unwrap();
        assert_eq!((text(&read), text(&known)), (report(), "partial 3 /copy/x\n".into()));
    }

    #[tokio::test]
    async fn one_that_reads_nothing_or_says_much_or_leaves_something_running_holds_nobody_up() {
        let (_hand, interrupt) = Interrupt::by_hand();
        let begun = Instant::now();
        for command in ["true", "head -c 1000000 /dev/zero; cat > /dev/null", "sleep 3 & exit 0"] {
            hook(command).run(report(), &interrupt).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let failed = hook("exit 7").run(report(), &interrupt).await.unwrap_err();
        assert_eq!(failed.to_string(), "--on-failure: the command failed (exit status: 7)");
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (held, fifo) = (folder.path().join("held"), folder.path().join("fifo"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&held, "").unwrap();
        // Held by a command of its own for as long as that runs, whatever it is told.
        let command =
            format!("exec 9<{}; flock -n 9 || exit 1; (trap '' TERM; exec sleep 1000) & wait", held.display());
        let (mut hand, interrupt) = Interrupt::by_hand();
        let limit = Duration::from_millis(500);
        let ended = timeout(10 * GRACE, hook(&command).run_for(limit, report(), &interrupt)).await;
        let error = ended.expect("it was not ended").unwrap_err();
        assert!(matches!(error, HookError::TooLong { .. }), "{error}");
        let free = tokio::task::spawn_blocking(move || fs::File::open(held).unwrap().lock());
        timeout(Duration::from_secs(20), free).await.expect("what it started is still there").unwrap().unwrap();
        // One that does not listen, when this process is to stop.
        let begun = Instant::now();
        let deaf = format!("trap '' TERM; echo begun > {}; while :; do sleep 1; done", fifo.display());
        let stops = async {
            tokio::fs::read(&fifo).await.unwrap();
            hand.signal();
            hand.signal();
        };
        let (ended, ()) = tokio::join!(hook(&deaf).run(report(), &interrupt), stops);
        let error = ended.unwrap_err();
        assert!(matches!(error, HookError::Stopped { .. }) && begun.elapsed() < 3 * GRACE, "{error}");
        // What was asked to stop before that still tells somebody, but not for long.
        hook("cat").run(report(), &interrupt).await.unwrap();
        let error = hook("sleep 1000").run(report(), &interrupt).await.unwrap_err();
        assert!(matches!(error, HookError::TooLong { limit: HURRY, .. }), "{error}");
    }
}
