//! The program as a process: started, listened to, killed, waited for.

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

/// How long a worker may take unless a test says else. Ten times what any of them needs.
const PATIENCE: Duration = Duration::from_secs(300);
/// Lines and columns of a terminal: no line is broken, none leaves the screen.
pub const SCREEN: (u16, u16) = (400, 500);
/// How much of what a worker said is shown when it disappoints.
const SHOWN: usize = 6000;

/// A command line in the making.
pub struct Launch<'a> {
    scene: &'a Scene,
    command: Command,
    task_path: String,
    task_file: Option<PathBuf>,
    /// Whether it is told where ZooKeeper is, and its path there.
    keeper: bool,
    /// Whether it is a run, which keeps logs in a folder.
    runs: bool,
    /// Whether its standard error is a terminal.
    on_terminal: bool,
    /// What a shell does in its process before, and how it gives its place to the program.
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

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// It heeds SIGHUP, even where the tests were started by `nohup`.
    pub fn heeding_hang_ups(mut self) -> Self {
        self.before = Some("exec env --default-signal=HUP".to_owned());
        self
    }

    /// Another verb than `run`; to be said before its arguments.
    pub fn verb(mut self, verb: &str) -> Self {
        self.command.arg(verb);
        self.runs = false;
        self
    }

    pub fn task_path(mut self, path: &str) -> Self {
        self.task_path = path.to_owned();
        self
    }

    /// Without ZooKeeper: where the task is say the task file and the arguments.
    pub fn without_keeper(mut self) -> Self {
        self.keeper = false;
        self
    }

    /// Without `--task-file`: the task must be in ZooKeeper already.
    pub fn without_task_file(mut self) -> Self {
        self.task_file = None;
        self
    }

    /// It may have so many files open (`ulimit -n`).
    pub fn files(mut self, number: u32) -> Self {
        self.before = Some(format!("ulimit -n {number} && exec"));
        self
    }

    /// It ignores SIGHUP from its start on, as below `nohup`.
    pub fn ignoring_hang_ups(mut self) -> Self {
        self.before = Some("trap '' HUP && exec".to_owned());
        self
    }

    /// Its standard error is a terminal, of [`SCREEN`].
    pub fn on_terminal(mut self) -> Self {
        self.on_terminal = true;
        self.command.env("TERM", "xterm");
        self
    }

    /// The worker stands still at this point, for ever; see [`Worker::reaches`].
    pub fn stop_at(mut self, point: &str) -> Self {
        self.command.env("CLICKHOUSE_COPIER_STOP_AT", point);
        self
    }

    /// The first time that the worker comes to this point it stops as a whole, as by SIGSTOP; see [`Worker::freezes_at`].
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
        // Its end of the terminal is its alone: what is heard ends with it.
        drop(self.command);
        let out = Heard::listen(child.stdout.take().unwrap());
        let err = match screen {
            Some(screen) => Heard::listen(screen),
            None => Heard::listen(child.stderr.take().unwrap()),
        };
        Worker { child, out, err, begun: Instant::now() }
    }

    pub fn run(self) -> Ended {
        self.start().ends()
    }
}

/// The same command after something that a shell does, which then gives its place to it.
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
    out: Arc<Heard>,
    err: Arc<Heard>,
    begun: Instant,
}

impl Worker {
    /// Waits until the worker has said this on standard error.
    pub fn says(&self, words: &str) {
        if let Err(why) = self.err.wait(PATIENCE, |text| text.contains(words)) {
            panic!("{why} {words:?}; it said:\n{}", tail(&self.err.text()));
        }
    }

    /// Waits until it has printed these words on standard output, and gives the rest of their line.
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

    /// Waits until the worker stands still at a fault point.
    pub fn reaches(&self, point: &str) {
        self.says(&format!("fault point {point} reached"));
    }

    /// Waits until the worker has stopped as a whole at a fault point.
    pub fn freezes_at(&self, point: &str) {
        self.reaches(point);
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?} at {point}:\n{}", tail(&self.err.text()));
    }

    /// Lets a frozen worker go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.err.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it; what it had said until then on both streams.
    pub fn killed(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.err.text() + &self.out.text()
    }

    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The most memory that the worker has had so far, in bytes.
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

    /// Waits for the end; fails with what the worker said when it does not come in time.
    pub fn ends_within(mut self, limit: Duration) -> Ended {
        // The pipes are closed when it ends, whatever way.
        for heard in [&self.err, &self.out] {
            let left = limit.saturating_sub(self.begun.elapsed());
            if heard.wait_for_end(left).is_err() {
                panic!("still running after {limit:?}; it said:\n{}", tail(&self.err.text()));
            }
        }
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.out.text(), stderr: self.err.text(), took: self.begun.elapsed() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended, or been killed and waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a worker ended and what it said.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ended {
    /// Fails unless it ended with this exit code. Gives itself back.
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

    /// Fails unless standard error has all these words in one of its lines.
    #[track_caller]
    pub fn tells(self, words: &[&str]) -> Ended {
        let line = self.stderr.lines().find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "no line has all of {words:?}; it said:\n{}", tail(&self.stderr));
        self
    }

    /// Fails unless the report on standard output has all these words.
    #[track_caller]
    pub fn reports(self, words: &[&str]) -> Ended {
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in the report:\n{}", tail(&self.stdout));
        }
        self
    }
}

/// What comes out of a pipe, as far as it came.
#[derive(Default)]
struct Heard {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    ended: bool,
}

impl Heard {
    fn listen(mut pipe: impl Read + Send + 'static) -> Arc<Heard> {
        let heard = Arc::new(Heard::default());
        let teller = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let length = pipe.read(&mut bytes).unwrap_or(0);
                let mut said = teller.said();
                said.bytes.extend_from_slice(&bytes[..length]);
                said.ended = length == 0;
                teller.more.notify_all();
                if said.ended {
                    return;
                }
            }
        });
        heard
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said().bytes).into_owned()
    }

    fn wait(&self, limit: Duration, is_it: impl Fn(&str) -> bool) -> Result<(), &'static str> {
        let done = |said: &Said| said.ended || is_it(&String::from_utf8_lossy(&said.bytes));
        let (said, _) = self
            .more
            .wait_timeout_while(self.said(), limit, |said| !done(said))
            .unwrap_or_else(PoisonError::into_inner);
        match () {
            () if is_it(&String::from_utf8_lossy(&said.bytes)) => Ok(()),
            () if said.ended => Err("the worker ended without saying"),
            () => Err("the worker did not say in time"),
        }
    }

    fn wait_for_end(&self, limit: Duration) -> Result<(), ()> {
        let (said, _) = self
            .more
            .wait_timeout_while(self.said(), limit, |said| !said.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if said.ended { Ok(()) } else { Err(()) }
    }
}

pub(super) fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
