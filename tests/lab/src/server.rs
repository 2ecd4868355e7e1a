//! A server process, ZooKeeper or ClickHouse: it can be started, killed, frozen and started again.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::LabError;
use crate::process::Process;

/// How long a server may take to answer after its start, and to end after SIGTERM. Ready takes a tenth of a second here;
/// the limit is for machines that do much else at the time.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval of checks whether a starting server is ready.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// The number of bytes of each log in an error message.
const TAIL_BYTES: u64 = 6000;

type IsReady = Box<dyn Fn() -> bool + Send + Sync>;

/// A server with its files, running or stopped. It is killed when this is dropped.
pub struct Server {
    name: String,
    dir: PathBuf,
    command: Vec<OsString>,
    log: PathBuf,
    is_ready: IsReady,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// `name` is for error messages, `log` is the file with the reasons of a failed start, `is_ready` is a quick check of the server.
    pub(crate) fn new(name: String, dir: PathBuf, command: Vec<OsString>, log: PathBuf, is_ready: IsReady) -> Self {
        Server { name, dir, command, log, is_ready, process: Mutex::new(None) }
    }

    /// Starts the server on the files it has and waits until it answers. Does nothing when it runs.
    ///
    /// # Errors
    /// [`LabError::Died`] or [`LabError::NotReady`] with the end of its logs; then it does not run.
    pub fn start(&self) -> Result<(), LabError> {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|process| !process.has_ended()) {
            return Ok(());
        }
        *slot = None;
        let process = Process::start(&self.dir, &self.command)
            .map_err(|source| LabError::Supervisor { server: self.name.clone(), source })?;
        let begun = Instant::now();
        loop {
            // Asked in this order: what answers is then ours and not another server on its address.
            let ready = (self.is_ready)();
            if process.ended_within(if ready { Duration::ZERO } else { ASK_EVERY }) {
                return Err(LabError::Died { server: self.name.clone(), log: self.log_tail() });
            }
            if ready {
                *slot = Some(process);
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(LabError::NotReady {
                    server: self.name.clone(),
                    waited: begun.elapsed(),
                    log: self.log_tail(),
                });
            }
        }
    }

    /// Stops the server with SIGTERM and waits for its end. A frozen server is thawed first. Its data stay.
    ///
    /// # Errors
    /// [`LabError::NotRunning`]; [`LabError::StillRunning`], when it had to be killed in the end.
    pub fn stop(&self) -> Result<(), LabError> {
        let mut slot = self.slot();
        let process = self.running(&slot)?;
        self.send(process, Signal::SIGTERM)?;
        self.send(process, Signal::SIGCONT)?;
        let begun = Instant::now();
        let ended = process.ended_within(PATIENCE);
        *slot = None;
        if ended {
            return Ok(());
        }
        Err(LabError::StillRunning { server: self.name.clone(), waited: begun.elapsed(), log: self.log_tail() })
    }

    /// Kills the server (SIGKILL, also when it is frozen) and waits until it is gone. Its data stay.
    ///
    /// # Errors
    /// [`LabError::NotRunning`].
    pub fn kill_9(&self) -> Result<(), LabError> {
        let mut slot = self.slot();
        self.running(&slot)?;
        *slot = None;
        Ok(())
    }

    /// Freezes the server (SIGSTOP): it accepts connections and answers nothing.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Signal`].
    pub fn freeze(&self) -> Result<(), LabError> {
        self.send(self.running(&self.slot())?, Signal::SIGSTOP)
    }

    /// Continues a frozen server (SIGCONT).
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Signal`].
    pub fn thaw(&self) -> Result<(), LabError> {
        self.send(self.running(&self.slot())?, Signal::SIGCONT)
    }

    /// The pid of the server itself (not of its supervisor); `None` when it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running(&self.slot()).ok().map(Process::pid)
    }

    /// The same, with an error if the server does not run.
    pub(crate) fn running_pid(&self) -> Result<u32, LabError> {
        self.running(&self.slot()).map(Process::pid)
    }

    /// The server's folder: configuration, data, logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The ends of the server's error log and of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let console = self.dir.join("console.log");
        [&self.log, &console].map(|path| format!("--- {}\n{}", path.display(), tail(path))).join("\n")
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running<'a>(&self, slot: &'a Option<Process>) -> Result<&'a Process, LabError> {
        let process = slot.as_ref().filter(|process| !process.has_ended());
        process.ok_or_else(|| LabError::NotRunning { server: self.name.clone() })
    }

    fn send(&self, process: &Process, signal: Signal) -> Result<(), LabError> {
        let failed = |source| LabError::Signal { signal: signal.as_str(), server: self.name.clone(), source };
        process.signal(signal).map_err(failed)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// The end of a file; empty when it can't be read, since it only illustrates another error.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    // Modern servers write the stack of each error, a line for each frame.
    let is_no_frame = |line: &&str| line.split_once(". ").is_none_or(|(number, _)| number.parse::<u32>().is_err());
    text.lines().filter(is_no_frame).collect::<Vec<_>>().join("\n")
}
