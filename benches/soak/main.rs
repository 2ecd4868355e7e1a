//! Hours of copies on real servers while workers, servers and ZooKeeper are killed, frozen and restarted.
//!
//! ```sh
//! cargo bench --bench soak -- --hours 8 --csv soak.csv       # 18.16 and 25.8 beside each other
//! cargo bench --bench soak -- --minutes 10 --release 25.8 --seed 7
//! ```
//!
//! Each round adds rows to the source, and three workers copy what has changed (`run --incremental`) while a few of these things happen to
//! them and to the servers. Then the round is ended by a worker that nothing happens to, `verify` must find no difference, both sides must
//! hold the same rows, and nothing of the task may be left on any server. Beside the rounds, a dashboard looks at their task and a worker
//! copies a large table slowly, both from the first minute to the last.
//!
//! Memory, file descriptors and threads of every process go to the CSV once a second. It ends with 1 at a difference, a table that was
//! left, a panic, a round that cannot be ended, or where the dashboard or the slow worker grows beyond [`figures::MOST_GROWTH`].

mod events;
mod figures;
mod processes;
mod rounds;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use lab::Release;

/// Hours of copies on real servers while workers, servers and ZooKeeper are killed, frozen and restarted.
#[derive(Parser)]
struct Options {
    /// How long, in hours.
    #[arg(long, default_value_t = 0)]
    hours: u64,
    /// … and minutes; ten where neither is said.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// The servers' releases.
    #[arg(long = "release", value_delimiter = ',', default_value = "18.16,25.8",
          value_parser = |name: &str| Release::named(name).ok_or("there is no such release"))]
    releases: Vec<Release>,
    /// What happens, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the figures go.
    #[arg(long, default_value = "target/soak.csv")]
    csv: PathBuf,
    /// The program.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_clickhouse-copier"))]
    binary: PathBuf,
    /// As cargo calls it.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn duration(&self) -> Duration {
        match self.hours * 60 + self.minutes {
            0 => Duration::from_secs(600),
            minutes => Duration::from_secs(60 * minutes),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (recorder, write) = figures::record(&options.csv);
    let faults: Vec<String> = thread::scope(|scope| {
        let soaks: Vec<_> = options
            .releases
            .iter()
            .map(|release| {
                let (options, recorder) = (&options, recorder.clone());
                scope.spawn(move || rounds::soak(options, *release, &recorder))
            })
            .collect();
        // A soak that panics has found a fault of the laboratory, or a server that does not come back.
        let ended = soaks.into_iter().map(|soak| soak.join().unwrap_or_else(|_| vec!["the soak itself failed".into()]));
        ended.flatten().collect()
    });
    drop(recorder);
    let found = faults.into_iter().chain(write.join().expect("the writer of figures does not panic").summary());
    let faults: Vec<String> = found.collect();
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
