//! Our copier and the original one, side by side in one run on real servers.
//!
//! ```sh
//! cargo bench --bench against_the_original                              # all cases at full size
//! cargo bench --bench against_the_original -- --case A --rows 400000 --runs 1   # a quick look
//! cargo bench --bench against_the_original -- --case A --profile        # ours alone: where the time goes
//! TMPDIR=/dev/shm UPDATE_DOCS=1 cargo bench --bench against_the_original        # and the table of docs/performance.md
//! ```
//!
//! Each case has a laboratory of its own. Both copiers get the same task file, one after the other by turns; the target is
//! dropped in between, and after every run its rows are compared with the source's. What is measured: the time from the
//! start of the first worker to the end of the last one, the processor time that the servers, the workers and ZooKeeper
//! used meanwhile, and the most memory that a worker had.
//!
//! The servers' files lie in the folder that `TMPDIR` names. Dropped tables trouble a disk for long after (minutes, with many
//! small files where the file system discards blocks at once), so a folder in memory such as `/dev/shm` is best: 4 GB.
//!
//! Seconds depend on the machine; what can be compared is the ratio of ours to the original's.

mod arguments;
mod case;
mod compare;
mod copier;
mod data;
mod ground;
mod plot;
mod profile;
mod results;
mod table;
mod task;
mod usage;
mod verify;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use self::arguments::Arguments;
use self::results::Results;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("against_the_original: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    if arguments.profile {
        return arguments.cases()?.into_iter().try_for_each(|case| profile::profile(case, arguments));
    }
    let mut results = Results::read()?;
    for case in arguments.cases()? {
        results.add(compare::compare(case, arguments)?);
        // After each case: what was measured is not lost when a later case fails.
        results.write()?;
    }
    if arguments.measures_verification() {
        results.verification = Some(verify::measure(arguments)?);
        results.write()?;
    }
    println!("{}", table::markdown(&results));
    println!("Written: {}", results::folder().display());
    Ok(())
}
