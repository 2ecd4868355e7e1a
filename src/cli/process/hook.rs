//! `--on-finish` and `--on-failure`: run a command of the user, which reads the report.

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

/// How long a command may run. Its purpose is to notify somebody; it should start longer work in the background.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// How long a command may run if a second signal came before it began: the process lives for ten more seconds at most.
const HURRY_LIMIT: Duration = Duration::from_secs(5);
/// How long a command may continue after SIGTERM.
const KILL_DELAY: Duration = Duration::from_secs(3);
/// How long the output of an ended command is read: a process that it left running may hold its output open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// The highest number of bytes of a command's output that are logged.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;

/// The environment variables that a command receives, besides all that begin with `LC_`. Programs need them to find
/// files, to speak the user's language and to reach the network. Other variables are not passed on: they may hold
/// secrets of a task (`from_env`).
const PASSED_VARIABLES: [&str; 22] = [
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
    PASSED_VARIABLES.contains(&name) || name.starts_with("LC_")
}

/// A command, and the values that it receives besides the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook<'a> {
    /// The flag that named the command.
    pub(crate) flag: &'static str,
    /// The text for `sh -c`.
    pub(crate) command: &'a str,
    /// `CLICKHOUSE_COPIER_OUTCOME`
    pub(crate) outcome: &'static str,
    /// `CLICKHOUSE_COPIER_EXIT_CODE`
    pub(crate) exit_code: u8,
    /// `CLICKHOUSE_COPIER_TASK`
    pub(crate) task: &'a str,
}

/// The reason why a command failed.
#[derive(Debug, Error)]
pub(crate) enum HookError {
    /// The shell cannot be started. `sh` may be missing.
    #[error("{flag}: cannot start sh")]
    Start { flag: &'static str, source: io::Error },
    /// The command cannot be waited for.
    #[error("{flag}: lost sight of the command")]
    Watch { flag: &'static str, source: io::Error },
    /// The command failed, or was ended by a signal.
    #[error("{flag}: the command failed ({status})")]
    Failed { flag: &'static str, status: ExitStatus },
    /// The command took too long.
    #[error("{flag}: the command took more than {} s and was ended", limit.as_secs())]
    TooLong { flag: &'static str, limit: Duration },
    /// A second signal came.
    #[error("{flag}: the command was ended, since this process was told to stop")]
    Stopped { flag: &'static str },
}

impl Hook<'_> {
    /// Runs the command with `report` on its standard input, and waits for its end. Its output becomes log lines.
    ///
    /// The command has its own process group. Ctrl-C does not reach it, and the processes that it started end with it.
    /// It is ended after [`RUN_LIMIT`] ([`HURRY_LIMIT`] after a second signal) or at a second signal: by SIGTERM, and by
    /// SIGKILL after [`KILL_DELAY`]. Processes that it leaves running when it ends by itself are left alone.
    pub(crate) async fn run(self, report: String, interrupt: &Interrupt) -> Result<(), HookError> {
        self.run_for(RUN_LIMIT, report, interrupt).await
    }

    async fn run_for(self, limit: Duration, report: String, interrupt: &Interrupt) -> Result<(), HookError> {
        let flag = self.flag;
        let is_stopping = interrupt.is_stopping();
        let limit = if is_stopping { HURRY_LIMIT.min(limit) } else { limit };
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
        // Input and output have their own tasks: a command that does not read, or prints nothing, does not block the
        // others.
        let input_task = child.stdin.take().map(|mut stdin| {
            tokio::spawn(async move {
                // A command may ignore its input.
                let _ = stdin.write_all(report.as_bytes()).await;
            })
        });
        let mut output_tasks = tokio::task::JoinSet::new();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            output_tasks.spawn(log(flag, out));
            output_tasks.spawn(log(flag, err));
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
            () = interrupt.stop(), if !is_stopping => {
                end(&mut child).await;
                Err(HookError::Stopped { flag })
            }
        };
        if let Some(input_task) = input_task {
            input_task.abort();
        }
        let _ = timeout(OUTPUT_TIMEOUT, async { while output_tasks.join_next().await.is_some() {} }).await;
        ended
    }
}

/// Ends the command and the processes that it started.
async fn end(child: &mut Child) {
    // The group has the number of its first process. That process is not waited for yet, so no other process has the
    // number.
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    let _ = killpg(group, Signal::SIGTERM);
    let ended = timeout(KILL_DELAY, child.wait()).await;
    // SIGKILL ends the processes that ignored SIGTERM, if any are left.
    let _ = killpg(group, Signal::SIGKILL);
    if ended.is_err() {
        let _ = child.wait().await;
    }
}

async fn log(flag: &'static str, output: impl AsyncRead + Unpin) {
    let (mut output, mut bytes_left, mut line) = (BufReader::new(output), MAX_OUTPUT_BYTES, Vec::new());
    while let Ok(read @ 1..) = (&mut output).take(bytes_left).read_until(b'\n', &mut line).await {
        tracing::info!("{flag}: {}", String::from_utf8_lossy(&line).trim_end());
        bytes_left -= read as u64;
        line.clear();
    }
    // The rest is read and dropped, so that the command is not blocked.
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
    async fn a_hook_gets_the_report_and_the_outcome_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let (read, known) = (folder.path().join("read"), folder.path().join("known"));
        let words = "$CLICKHOUSE_COPIER_OUTCOME $CLICKHOUSE_COPIER_EXIT_CODE $CLICKHOUSE_COPIER_TASK";
        let command = format!("cat > {}; echo {words} > {}", read.display(), known.display());
        let (_sender, interrupt) = Interrupt::manual();
        hook(&command).run(report(), &interrupt).await.unwrap();
        assert_eq!((text(&read), text(&known)), (report(), "partial 3 /copy/x\n".into()));
    }

    #[tokio::test]
    async fn a_hook_that_ignores_its_input_or_leaves_processes_does_not_block_the_run() {
        let (_sender, interrupt) = Interrupt::manual();
        let begun = Instant::now();
        for command in ["true", "head -c 1000000 /dev/zero; cat > /dev/null", "sleep 3 & exit 0"] {
            hook(command).run(report(), &interrupt).await.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let failed = hook("exit 7").run(report(), &interrupt).await.unwrap_err();
        assert_eq!(failed.to_string(), "--on-failure: the command failed (exit status: 7)");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_its_child_processes() {
        let folder = tempfile::tempdir().unwrap();
        let (held, fifo) = (folder.path().join("held"), folder.path().join("fifo"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&held, "").unwrap();
        // A process of the command holds the lock as long as it runs, whatever signal it receives.
        let command =
            format!("exec 9<{}; flock -n 9 || exit 1; (trap '' TERM; exec sleep 1000) & wait", held.display());
        let (mut sender, interrupt) = Interrupt::manual();
        let limit = Duration::from_millis(500);
        let ended = timeout(10 * KILL_DELAY, hook(&command).run_for(limit, report(), &interrupt)).await;
        let error = ended.expect("the hook was not ended").unwrap_err();
        assert!(matches!(error, HookError::TooLong { .. }), "{error}");
        let free = tokio::task::spawn_blocking(move || fs::File::open(held).unwrap().lock());
        timeout(Duration::from_secs(20), free).await.expect("a process of the hook still runs").unwrap().unwrap();
        // A command that ignores SIGTERM when this process is to stop.
        let begun = Instant::now();
        let ignores_sigterm = format!("trap '' TERM; echo begun > {}; while :; do sleep 1; done", fifo.display());
        let stops = async {
            tokio::fs::read(&fifo).await.unwrap();
            sender.signal();
            sender.signal();
        };
        let (ended, ()) = tokio::join!(hook(&ignores_sigterm).run(report(), &interrupt), stops);
        let error = ended.unwrap_err();
        assert!(matches!(error, HookError::Stopped { .. }) && begun.elapsed() < 3 * KILL_DELAY, "{error}");
        // After a second signal a hook still runs, but only for a short time.
        hook("cat").run(report(), &interrupt).await.unwrap();
        let error = hook("sleep 1000").run(report(), &interrupt).await.unwrap_err();
        assert!(matches!(error, HookError::TooLong { limit: HURRY_LIMIT, .. }), "{error}");
    }
}
