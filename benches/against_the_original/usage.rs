//! What a run cost.

use std::fs;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The kernel tells processor time to programs in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the source's servers together.
    pub source: f64,
    /// Of the target's servers together.
    pub target: f64,
    /// Of the workers together.
    pub workers: f64,
    /// Of ZooKeeper.
    pub zookeeper: f64,
}

impl Cpu {
    pub fn total(&self) -> f64 {
        self.source + self.target + self.workers + self.zookeeper
    }

    /// The four of them, in the order of the table.
    pub fn parts(&self) -> [f64; 4] {
        [self.source, self.target, self.workers, self.zookeeper]
    }

    fn by_part(self, other: Cpu, with: impl Fn(f64, f64) -> f64) -> Cpu {
        Cpu {
            source: with(self.source, other.source),
            target: with(self.target, other.target),
            workers: with(self.workers, other.workers),
            zookeeper: with(self.zookeeper, other.zookeeper),
        }
    }
}

impl Add for Cpu {
    type Output = Cpu;

    fn add(self, other: Cpu) -> Cpu {
        self.by_part(other, |a, b| a + b)
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, other: Cpu) -> Cpu {
        self.by_part(other, |a, b| a - b)
    }
}

impl Sum for Cpu {
    fn sum<I: Iterator<Item = Cpu>>(all: I) -> Cpu {
        all.fold(Cpu::default(), Add::add)
    }
}

/// What one run cost, or the medians of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds from the start of the first worker to the end of the last one.
    pub wall: f64,
    /// Processor time meanwhile.
    pub cpu: Cpu,
    /// The most resident memory that a worker had, in bytes.
    pub memory: u64,
    /// Seconds of processor time that all other programs on the machine used meanwhile: with more than a little of it, `wall`
    /// says nothing.
    #[serde(default)]
    pub others: f64,
    /// The parts of the target's tables afterwards, on all servers: what is left to be merged.
    pub parts: u64,
}

/// The median of each figure. Not of the runs: the fastest run need not be the one that used the least memory.
pub fn medians(runs: &[Usage]) -> Usage {
    let of = |figure: fn(&Usage) -> f64| median(runs.iter().map(figure).collect());
    Usage {
        wall: of(|run| run.wall),
        cpu: Cpu {
            source: of(|run| run.cpu.source),
            target: of(|run| run.cpu.target),
            workers: of(|run| run.cpu.workers),
            zookeeper: of(|run| run.cpu.zookeeper),
        },
        memory: of(|run| run.memory as f64) as u64,
        others: of(|run| run.others),
        parts: of(|run| run.parts as f64) as u64,
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match (figures.len(), figures.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => figures[middle],
        (_, middle) => (figures[middle - 1] + figures[middle]) / 2.0,
    }
}

/// The processor time that a process has used so far, threads that ended included. Also of one that has ended, until it
/// is waited for.
pub fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may hold anything; utime and stime are the 14th and 15th.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
    let ticks: Vec<f64> = fields.into_iter().flatten().map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The processor time that all programs of the machine have used so far.
pub fn machine_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|field| ticks.get(field));
    Ok(busy.sum::<f64>() / TICKS_PER_SECOND)
}

/// The most resident memory that a process has had so far, in bytes; `None` when it has ended.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}
