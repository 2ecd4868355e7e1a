//! The program as a process that is measured while it runs.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How much of what it said is shown when it fails.
const SHOWN: usize = 20;
/// What a run says when the plan is stored and the first table is made.
const PLANNED: &str = ": created table ";
/// What the kernel counts processor time in.
const TICKS: u64 = 100;

/// What a run of the program cost.
pub struct Measured {
    /// Its exit code.
    pub code: i32,
    /// How long it ran.
    pub took: Duration,
    /// How long until the plan was stored.
    pub planned: Option<Duration>,
    /// Processor time.
    pub cpu: Duration,
    /// The most memory that it had, in bytes.
    pub memory: u64,
    /// The most files that it had open.
    pub files: usize,
    /// The last lines that it said.
    pub said: String,
}

/// Runs a verb of the program with `task.xml` and `keeper.xml` of a folder, and at most so many files.
pub fn measure(binary: &Path, files: u32, verb: &str, dir: &Path) -> Measured {
    let said = dir.join(format!("{verb}.txt"));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(binary.canonicalize().unwrap());
    command.args([verb, "--config", "keeper.xml", "--task-path", "/many", "--task-file", "task.xml"]);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).unwrap());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let proc = Path::new("/proc").join(child.id().to_string());
    let (mut planned, mut cpu, mut memory, mut most_files) = (None, Duration::ZERO, 0, 0);
    let status = loop {
        most_files = most_files.max(fs::read_dir(proc.join("fd")).map_or(0, Iterator::count));
        memory = memory.max(peak_memory(&proc).unwrap_or(0));
        cpu = cpu.max(processor_time(&proc).unwrap_or_default());
        if planned.is_none() && fs::read_to_string(&said).unwrap().contains(PLANNED) {
            planned = Some(begun.elapsed());
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        thread::sleep(LOOK);
    };
    let took = begun.elapsed();
    let text = fs::read_to_string(&said).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let said = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Measured { code: status.code().unwrap_or(-1), took, planned, cpu, memory, files: most_files, said }
}

fn peak_memory(proc: &Path) -> Option<u64> {
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

fn processor_time(proc: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    // Behind the name, which may hold blanks: the state, ten more fields, then the ticks of the process and of the kernel for it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS))
}
