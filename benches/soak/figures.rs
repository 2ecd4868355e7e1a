//! Memory, descriptors and threads of processes, over time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// What a long-lived process may gain between the first quarter of its life and the last one, by their medians: KiB of memory, descriptors,
/// threads. The first quarter is there to fill caches and pools.
pub const MOST_GROWTH: [u64; 3] = [64 << 10, 50, 10];
/// Shorter lives are not judged: in samples, one each second.
const LEAST_SAMPLES: usize = 120;
const NAMES: [&str; 3] = ["KiB", "descriptors", "threads"];

/// A look at a process.
pub struct Sample {
    /// `25.8 dashboard`
    pub process: String,
    pub pid: u32,
    /// Whether it lives as long as the soak.
    pub is_judged: bool,
    /// KiB of memory (VmRSS), descriptors, threads.
    pub values: [u64; 3],
}

impl Sample {
    /// `None` when the process is gone.
    pub fn take(process: &str, pid: u32, is_judged: bool) -> Option<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(proc.join("status")).ok()?;
        let number = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let files = fs::read_dir(proc.join("fd")).ok()?.count() as u64;
        let values = [number("VmRSS:")?, files, number("Threads:")?];
        Some(Self { process: process.to_owned(), pid, is_judged, values })
    }
}

/// All samples, by process.
pub struct Figures(BTreeMap<(String, u32), Vec<(f64, Sample)>>);

/// Begins to write samples to a file.
pub fn record(csv: &Path) -> (Sender<Sample>, JoinHandle<Figures>) {
    let mut file = File::create(csv).unwrap_or_else(|error| panic!("{}: {error}", csv.display()));
    writeln!(file, "seconds,process,pid,rss_kib,descriptors,threads").unwrap();
    println!("figures: {}", csv.display());
    let (sender, samples) = channel::<Sample>();
    let begun = Instant::now();
    let write = thread::spawn(move || {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for sample in samples {
            let seconds = begun.elapsed().as_secs_f64();
            let [memory, files, threads] = sample.values;
            writeln!(file, "{seconds:.1},{},{},{memory},{files},{threads}", sample.process, sample.pid).unwrap();
            all.entry((sample.process.clone(), sample.pid)).or_default().push((seconds, sample));
        }
        Figures(all)
    });
    (sender, write)
}

impl Figures {
    /// Prints what long-lived processes had, and what the others had at most. Gives those that have grown too much.
    pub fn summary(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut short: BTreeMap<&str, (usize, [u64; 3])> = BTreeMap::new();
        println!("process                      figure           first    median      last       max   per hour");
        for ((process, pid), samples) in &self.0 {
            if !samples.iter().any(|(_, sample)| sample.is_judged) {
                let (count, most) = short.entry(process).or_default();
                *count += 1;
                let highest = |at: usize| samples.iter().map(|(_, sample)| sample.values[at]).max().unwrap_or(0);
                *most = [0, 1, 2].map(|at| most[at].max(highest(at)));
                continue;
            }
            for at in 0..NAMES.len() {
                let values: Vec<u64> = samples.iter().map(|(_, sample)| sample.values[at]).collect();
                let points = samples.iter().map(|(seconds, sample)| (seconds / 3600.0, sample.values[at] as f64));
                let (first, last, most) =
                    (values[0], values[values.len() - 1], values.iter().max().copied().unwrap_or(0));
                println!(
                    "{process:<28} {:<12} {first:>9} {:>9} {last:>9} {most:>9} {:>10.1}",
                    NAMES[at],
                    median(&values),
                    slope(&points.collect::<Vec<_>>())
                );
                let (early, late) =
                    (median(&values[..values.len().div_ceil(4)]), median(&values[values.len() * 3 / 4..]));
                if values.len() >= LEAST_SAMPLES && late > early + MOST_GROWTH[at] {
                    faults.push(format!("{process} ({pid}) has grown from {early} to {late} {}", NAMES[at]));
                }
            }
        }
        for (process, (count, most)) in short {
            println!(
                "{process:<28} {count} processes, at most {} KiB, {} descriptors, {} threads",
                most[0], most[1], most[2]
            );
        }
        faults
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// The slope of the line through some points, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}
