//! A server process that cannot outlive the process that started it.
//!
//! A server is the child of a `sh` that does nothing but read a pipe whose write end only our process has (Rust opens it
//! close-on-exec). When our process ends, in whatever way, the kernel closes the pipe, `read` returns, and the shell kills
//! the server and removes its folder. The shell has a process group of its own, so that Ctrl-C ends us and not the shell.
//!
//! The server's end is seen the same way round: its stdout is a pipe that only it holds, end of file means that it ended.
//! Until the shell is released the dead server stays a zombie; so its pid can't come to mean another process, and signals
//! sent to it never hit a stranger.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `$1` is the server's folder, the rest its command line. The inner `sh` tells the pid before it becomes the server, so
/// that it is the first line on stdout whatever the server prints. A line on stdin means "kill, keep the files"; end of
/// file, "kill and remove the files": whoever would have removed them is gone.
const SUPERVISOR: &str = r#"
trap : INT TERM HUP
dir=$1
shift
sh -c 'echo $$; exec "$@"' sh "$@" 2>>"$dir/console.log" &
pid=$!
exec >&-
read -r _
released=$?
kill -9 $pid
wait $pid
if [ $released -ne 0 ] && [ -z "$LAB_KEEP" ]; then
    rm -rf "$dir"
    rmdir "$(dirname "$dir")"
fi
"#;

/// A started server and its supervisor. Dropped, it kills the server and waits for it; its files stay.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Process {
    /// Starts `command` with its console output in `dir/console.log`. Returns when the process exists, not when it is ready.
    pub(crate) fn start(dir: &Path, command: &[OsString]) -> io::Result<Self> {
        let mut supervisor = Command::new("sh")
            .arg("-c")
            .arg(SUPERVISOR)
            .arg("supervisor")
            .arg(dir)
            .args(command)
            .current_dir("/") // so that it never stands in a folder that it removes
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let lifeline = supervisor.stdin.take();
        let stdout = supervisor.stdout.take().ok_or_else(|| io::Error::other("the supervisor has no stdout"))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let pid = line.trim().parse().map_err(|_| io::Error::other(format!("no pid but {line:?}")))?;

        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let tell = Arc::clone(&ended);
        std::thread::Builder::new().name(format!("lab-{pid}")).spawn(move || {
            let mut buffer = [0; 4096];
            while !matches!(stdout.read(&mut buffer), Ok(0) | Err(_)) {}
            *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            tell.1.notify_all();
        })?;
        Ok(Process { pid: Pid::from_raw(pid), supervisor, lifeline, ended })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(self.pid, signal)
    }

    /// Whether the server has ended, by itself or by a signal.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended_within(Duration::ZERO)
    }

    /// Waits for the server's end; false when it still runs after `limit`.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.ended.1.wait_timeout_while(ended, limit, |ended| !*ended);
        *wait.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            // If the supervisor has ended already, there is nothing to wait for.
            let _ = lifeline.write_all(b"keep\n");
        }
        let _ = self.supervisor.wait();
    }
}
