//! The program as a process: starts it, reads its output, kills it, waits for its end.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Scene;

/// How long a worker may take unless a test gives another limit. Ten times what any worker needs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Flags of a run that gives up soon: one round over the tables, two attempts at a piece.
pub const FEW_TRIES: [&str; 3] = ["--max-table-tries=1", "--max-shard-partition-tries=2", "--retry-delay-ms=1"];
/// Lines and columns of a terminal, large enough that no line is wrapped or scrolls away.
pub const SCREEN: (u16, u16) = (400, 500);
/// How many bytes of a worker's output are shown when a test fails.
const SHOWN: usize = 6000;

/// A command line that is not started yet.
pub struct Launch<'a> {
    scene: &'a Scene,
    command: Command,
    task_path: String,
    task_file: Option<PathBuf>,
    /// Whether it gets `--config` and `--task-path`.
    keeper: bool,
    /// Whether it is a run, which gets `--base-dir` for its logs.
    runs: bool,
    /// Whether its standard error is a terminal.
    on_terminal: bool,
    /// Shell code that runs before the program in the same process, and ends with `exec`.
    before: Option<String>,
}

impl<'a> Launch<'a> {
    pub(super) fn new(scene: &'a Scene, task_file: PathBuf) -> Launch<'a> {
        let command = Command::new(env!("CARGO_BIN_EXE_clickhouse-copier"));
        Launch {
            scene,
            command,
            task_path: scene.task_path(),
            task_file: Some(task_file),
            keeper: true,
            runs: true,
            on_terminal: false,
            before: None,
        }
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Does not ignore SIGHUP, even if the tests were started by `nohup`.
    pub fn heeding_hang_ups(mut self) -> Self {
        self.before = Some("exec env --default-signal=HUP".to_owned());
        self
    }

    /// Another verb than `run`. Call this before [`Launch::args`].
    pub fn verb(mut self, verb: &str) -> Self {
        self.command.arg(verb);
        self.runs = false;
        self
    }

    pub fn task_path(mut self, path: &str) -> Self {
        self.task_path = path.to_owned();
        self
    }

    /// Without ZooKeeper: the state directory comes from the task file and the arguments.
    pub fn without_keeper(mut self) -> Self {
        self.keeper = false;
        self
    }

    /// Without `--task-file`: the task must be in ZooKeeper already.
    pub fn without_task_file(mut self) -> Self {
        self.task_file = None;
        self
    }

    /// Limits the number of open files (`ulimit -n`).
    pub fn files(mut self, number: u32) -> Self {
        self.before = Some(format!("ulimit -n {number} && exec"));
        self
    }

    /// Ignores SIGHUP from its start, as under `nohup`.
    pub fn ignoring_hang_ups(mut self) -> Self {
        self.before = Some("trap '' HUP && exec".to_owned());
        self
    }

    /// The standard error of the program is a terminal of the size [`SCREEN`].
    pub fn on_terminal(mut self) -> Self {
        self.on_terminal = true;
        self.command.env("TERM", "xterm");
        self
    }

    /// The worker waits at this fault point for ever; see [`Worker::reaches`].
    pub fn stop_at(mut self, point: &str) -> Self {
        self.command.env("CLICKHOUSE_COPIER_STOP_AT", point);
        self
    }

    /// The process stops as by SIGSTOP when it first reaches this fault point; see [`Worker::freezes_at`].
    pub fn freeze_at(mut self, point: &str) -> Self {
        self.command.env("CLICKHOUSE_COPIER_FREEZE_AT", point);
        self
    }

    pub fn start(mut self) -> Worker {
        let dir = self.scene.dir();
        self.command.current_dir(dir);
        if self.keeper {
            self.command.arg("--config").arg(self.scene.keeper_xml()).arg("--task-path").arg(&self.task_path);
        }
        if self.runs {
            self.command.arg("--base-dir").arg(dir.join("logs"));
        }
        if let Some(file) = &self.task_file {
            self.command.arg("--task-file").arg(file);
        }
        if let Some(before) = &self.before {
            self.command = after(before, &self.command);
        }
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let screen = self.on_terminal.then(|| {
            let (ws_row, ws_col) = SCREEN;
            let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
            let ends = openpty(Some(&size), None).unwrap();
            self.command.stderr(Stdio::from(ends.slave));
            File::from(ends.master)
        });
        let mut child = self.command.spawn().unwrap();
        // Only the process may hold its end of the terminal: then the output ends when the process ends.
        drop(self.command);
        let out = CapturedStream::listen(child.stdout.take().unwrap());
        let err = match screen {
            Some(screen) => CapturedStream::listen(screen),
            None => CapturedStream::listen(child.stderr.take().unwrap()),
        };
        Worker { child, out, err, begun: Instant::now() }
    }

    pub fn run(self) -> Ended {
        self.start().ends()
    }
}

/// Returns a command that runs shell code first and then this command in the same process.
fn after(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{before} \"$0\" \"$@\"")).arg(command.get_program());
    shell.args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell
}

/// A process of the program. Dropped, it is killed.
pub struct Worker {
    child: Child,
    out: Arc<CapturedStream>,
    err: Arc<CapturedStream>,
    begun: Instant,
}

impl Worker {
    /// Waits until the worker has written these words to standard error.
    pub fn says(&self, words: &str) {
        if let Err(why) = self.err.wait(PATIENCE, |text| text.contains(words)) {
            panic!("{why} {words:?}; it said:\n{}", tail(&self.err.text()));
        }
    }

    /// Waits until these words are on standard output. Returns the rest of their line.
    pub fn prints(&self, words: &str) -> String {
        let rest = |text: &str| {
            let (line, _) = text.split_once(words)?.1.split_once('\n')?;
            Some(line.to_owned())
        };
        if let Err(why) = self.out.wait(PATIENCE, |text| rest(text).is_some()) {
            panic!("{why} {words:?}; it said:\n{}", tail(&self.err.text()));
        }
        rest(&self.out.text()).unwrap()
    }

    /// Waits until the worker waits at a fault point.
    pub fn reaches(&self, point: &str) {
        self.says(&format!("fault point {point} reached"));
    }

    /// Waits until the process is frozen at a fault point.
    pub fn freezes_at(&self, point: &str) {
        self.reaches(point);
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?} at {point}:\n{}", tail(&self.err.text()));
    }

    /// Continues a frozen worker (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Returns the standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.err.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it. Returns what it had written to both streams.
    pub fn killed(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.err.text() + &self.out.text()
    }

    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the peak memory of the worker so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub fn ends(self) -> Ended {
        self.ends_within(PATIENCE)
    }

    /// Waits for the end. Fails with the output of the worker if it does not end in time.
    pub fn ends_within(mut self, limit: Duration) -> Ended {
        // The pipes are closed when the process ends in any way.
        for stream in [&self.err, &self.out] {
            let left = limit.saturating_sub(self.begun.elapsed());
            if stream.wait_for_end(left).is_err() {
                panic!("still running after {limit:?}; it said:\n{}", tail(&self.err.text()));
            }
        }
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.out.text(), stderr: self.err.text(), took: self.begun.elapsed() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit status and the output of a worker.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// Fails unless it ended with this exit code.
    #[track_caller]
    pub fn with(self, code: i32) -> Ended {
        assert!(
            self.status.code() == Some(code),
            "ended with {} instead of {code}; it said:\n{}\n--- and on standard output:\n{}",
            self.status,
            tail(&self.stderr),
            tail(&self.stdout)
        );
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("internal error"), "{}", tail(&self.stderr));
        self
    }

    /// Fails unless one line of standard error has all these words.
    #[track_caller]
    pub fn tells(self, words: &[&str]) -> Ended {
        let line = self.stderr.lines().find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "no line has all of {words:?}; it said:\n{}", tail(&self.stderr));
        self
    }

    /// Fails unless standard output has all these words.
    #[track_caller]
    pub fn reports(self, words: &[&str]) -> Ended {
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in the report:\n{}", tail(&self.stdout));
        }
        self
    }
}

/// The output of a pipe so far.
#[derive(Default)]
struct CapturedStream {
    captured: Mutex<Captured>,
    more: Condvar,
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl CapturedStream {
    fn listen(mut pipe: impl Read + Send + 'static) -> Arc<CapturedStream> {
        let stream = Arc::new(CapturedStream::default());
        let writer = Arc::clone(&stream);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let length = pipe.read(&mut bytes).unwrap_or(0);
                let mut captured = writer.captured();
                captured.bytes.extend_from_slice(&bytes[..length]);
                captured.ended = length == 0;
                writer.more.notify_all();
                if captured.ended {
                    return;
                }
            }
        });
        stream
    }

    fn captured(&self) -> MutexGuard<'_, Captured> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.captured().bytes).into_owned()
    }

    fn wait(&self, limit: Duration, condition: impl Fn(&str) -> bool) -> Result<(), &'static str> {
        let done = |captured: &Captured| captured.ended || condition(&String::from_utf8_lossy(&captured.bytes));
        let (captured, _) = self
            .more
            .wait_timeout_while(self.captured(), limit, |captured| !done(captured))
            .unwrap_or_else(PoisonError::into_inner);
        match () {
            () if condition(&String::from_utf8_lossy(&captured.bytes)) => Ok(()),
            () if captured.ended => Err("the worker ended without saying"),
            () => Err("the worker did not say in time"),
        }
    }

    fn wait_for_end(&self, limit: Duration) -> Result<(), ()> {
        let (captured, _) = self
            .more
            .wait_timeout_while(self.captured(), limit, |captured| !captured.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if captured.ended { Ok(()) } else { Err(()) }
    }
}

pub(super) fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
