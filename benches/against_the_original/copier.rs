//! Workers as processes, watched until they end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::Outcome;
use crate::usage::{cpu_seconds, peak_memory};

/// How often the memory of a worker is read. The kernel keeps the maximum: what is missed is what is new in this time before
/// its end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A worker that takes longer hangs, and is killed.
const LIMIT: Duration = Duration::from_secs(3600);
/// How much of a log is shown when a worker fails.
const SHOWN: usize = 4000;

/// Whose workers are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Ours.
    Ours,
    /// The one that was part of ClickHouse.
    Original,
}

/// What is started.
pub struct Launch<'a> {
    pub program: &'a Path,
    /// All but `--base-dir`.
    pub arguments: Vec<String>,
    pub workers: u32,
    /// An empty folder for logs.
    pub dir: &'a Path,
}

/// What all workers together took.
pub struct Took {
    pub wall: Duration,
    /// Seconds of processor time.
    pub cpu: f64,
    /// The most memory that one of them had, in bytes.
    pub memory: u64,
}

/// Starts all workers and waits until all have ended well.
pub fn run(launch: &Launch<'_>) -> Outcome<Took> {
    let begun = Instant::now();
    let mut workers = Vec::new();
    for number in 0..launch.workers {
        workers.push(start(launch, number)?);
    }
    let watched: Vec<Outcome<(f64, u64)>> = thread::scope(|scope| {
        let watching: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(|| watch(worker))).collect();
        watching.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a watcher panicked".into()))).collect()
    });
    let mut took = Took { wall: begun.elapsed(), cpu: 0.0, memory: 0 };
    for one in watched {
        let (cpu, memory) = one?;
        took.cpu += cpu;
        took.memory = took.memory.max(memory);
    }
    Ok(took)
}

struct Worker {
    child: Child,
    said: PathBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(launch: &Launch<'_>, number: u32) -> Outcome<Worker> {
    let base = launch.dir.join(format!("worker-{number}"));
    fs::create_dir(&base)?;
    let said = base.join("said");
    let file = File::create(&said)?;
    let mut command = Command::new(launch.program);
    command.args(&launch.arguments).arg("--base-dir").arg(&base).current_dir(&base);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().map_err(|e| format!("start {}: {e}", launch.program.display()))?;
    Ok(Worker { child, said })
}

/// Waits for a worker's end; its processor time and its most memory.
fn watch(worker: &mut Worker) -> Outcome<(f64, u64)> {
    let pid = worker.child.id();
    let id = Pid::from_raw(i32::try_from(pid)?);
    let (ended, end) = channel::<()>();
    let memory = thread::spawn(move || sample(pid, id, &end));
    // Waits, but leaves the dead process there: its processor time can be read until it is waited for.
    waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    drop(ended);
    let memory = memory.join().map_err(|_| "the sampler panicked")?;
    let cpu = cpu_seconds(pid)?;
    let status = worker.child.wait()?;
    if !status.success() {
        return Err(failed(status, &worker.said));
    }
    Ok((cpu, memory))
}

fn sample(pid: u32, id: Pid, end: &Receiver<()>) -> u64 {
    let begun = Instant::now();
    let mut peak = 0;
    loop {
        peak = peak.max(peak_memory(pid).unwrap_or(0));
        match end.recv_timeout(LOOK_EVERY) {
            // It is not waited for before `end` tells: the pid is still its own.
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > LIMIT => _ = kill(id, Signal::SIGKILL),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return peak,
        }
    }
}

fn failed(status: ExitStatus, said: &Path) -> Box<dyn std::error::Error + Send + Sync> {
    let text = fs::read(said).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned();
    format!("a worker ended with {status}; it said:\n{text}").into()
}
