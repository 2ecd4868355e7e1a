//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::Outcome;
use crate::case::{CASES, Case, VERIFICATION};

/// Compares our copier with the original one on real servers.
#[derive(Debug, Parser)]
#[command(name = "against_the_original")]
pub struct Arguments {
    /// Only this case; may be given several times [A, B, C, P, D, E, and H: what verification costs]
    #[arg(long = "case", value_name = "CASE")]
    names: Vec<String>,
    /// Rows of the source table (case D always has 300 partitions: a row in forty of these, at most)
    #[arg(long, default_value_t = 8_000_000)]
    pub rows: u64,
    /// How often each copier runs; medians are taken
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Workers of the original, instead of trying 1 to 4 once and taking the best
    #[arg(long, value_name = "NUMBER")]
    pub original_workers: Option<u32>,
    /// Workers of ours
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub workers: u32,
    /// An element for the root of our task file, such as <transfer>relay</transfer>; may be given several times
    #[arg(long, value_name = "XML")]
    task_element: Vec<String>,
    /// Our program, instead of the one that was built with this benchmark
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_clickhouse-copier"))]
    pub binary: PathBuf,
    /// Runs ours alone, and tells which statements took how long on which servers
    #[arg(long)]
    pub profile: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// The cases that were asked for.
    pub fn cases(&self) -> Outcome<Vec<&'static Case>> {
        if let Some(name) = self.names.iter().find(|name| *name != VERIFICATION && find(name).is_none()) {
            let known: Vec<&str> = CASES.iter().map(|case| case.name).chain([VERIFICATION]).collect();
            return Err(format!("there is no case {name:?}, but {}", known.join(", ")).into());
        }
        if self.names.is_empty() {
            return Ok(CASES.iter().collect());
        }
        Ok(self.names.iter().filter_map(|name| find(name)).collect())
    }

    /// Whether the cost of verification is to be measured too.
    pub fn measures_verification(&self) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == VERIFICATION)
    }

    pub fn runs(&self) -> usize {
        usize::try_from(self.runs).unwrap_or(usize::MAX)
    }

    /// Elements for the root of our task file.
    pub fn elements(&self) -> String {
        self.task_element.concat()
    }
}

fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}
