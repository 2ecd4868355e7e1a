//! The flags of `run`, most of them the original's.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Address, LogFormat, ProgressWish, boolean, jobs, listen, octal_mask, probability};
use crate::cli::Level;
use crate::worker::Jobs;

/// What follows `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Flags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task; one that is at the path already is gone on with, and must be the same
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// Store the task file in the place of the one that is there: for settings and limits of a task that runs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(in crate::cli) task_upload_force: bool,

    /// Where the launch puts the folder with its logs [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) base_dir: Option<PathBuf>,

    /// Go on in the background once work has begun; what fails before that is reported here
    #[arg(long)]
    pub(in crate::cli) daemon: bool,

    /// The file mode mask of the background process, octal, as in 027
    #[arg(long, value_name = "MASK", value_parser = octal_mask)]
    pub(in crate::cli) umask: Option<u32>,

    /// Write the process id to this file, and remove it at the end
    #[arg(short = 'P', long, visible_alias = "pidfile", value_name = "FILE")]
    pub(in crate::cli) pid_file: Option<PathBuf>,

    /// How much is logged: none, fatal, critical, error, warning, notice, information, debug, trace or test
    #[arg(long, value_name = "LEVEL", default_value = "debug", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,

    /// The form of a log line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) log_format: LogFormat,

    /// The form of the report that a run ends with on standard output
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// How progress is shown: auto is bars where standard error is a terminal (and log lines are text), else lines
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(in crate::cli) progress: ProgressWish,

    /// Seconds between two lines of progress; there is none when nothing has changed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(in crate::cli) progress_every: u32,

    /// At the end, however it comes, write the report to this file: as a page (.html), JSON (.json), Markdown (.md) or text;
    /// may be repeated
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) report: Vec<PathBuf>,

    /// When the task is finished run this by sh, with the report as JSON on its standard input; of several workers the one that
    /// finished the task does
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) on_finish: Option<String>,

    /// When this launch ends with another exit code than 0 run this by sh, in the same way
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) on_failure: Option<String>,

    /// Serve this worker's metrics for Prometheus here, at /metrics
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub(in crate::cli) metrics_listen: Option<SocketAddr>,

    /// The environment variable with the token that opens them; needed where other machines can reach the address
    #[arg(long, value_name = "VARIABLE", requires = "metrics_listen", conflicts_with = "metrics_token_file")]
    pub(in crate::cli) metrics_token_env: Option<String>,

    /// The file with that token
    #[arg(long, value_name = "FILE", requires = "metrics_listen")]
    pub(in crate::cli) metrics_token_file: Option<PathBuf>,

    /// Log to this file instead of log.log in the launch's folder
    #[arg(short = 'L', long, value_name = "FILE")]
    pub(in crate::cli) log_file: Option<PathBuf>,

    /// Log warnings and errors to this file instead of log.err.log in the launch's folder
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(in crate::cli) errorlog_file: Option<PathBuf>,

    /// Do exactly what this plan says, as the verb plan wrote it, or refuse; for a task that is not planned yet
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) plan: Option<PathBuf>,

    /// When the task is finished already, begin it anew: copy the partitions that are new at the source or have changed since, in the
    /// place of what was copied of them, and leave all others alone
    #[arg(long, conflicts_with_all = ["plan", "safe_mode", "status"])]
    pub(in crate::cli) incremental: bool,

    /// Drop on the target the partitions that were copied before and that the source does not have any more
    #[arg(long, requires = "incremental")]
    pub(in crate::cli) drop_vanished: bool,

    /// Never drop a partition, even if an earlier attempt left it half done
    #[arg(long)]
    pub(in crate::cli) safe_mode: bool,

    /// Print how far the task has come, and copy nothing
    #[arg(long)]
    pub(in crate::cli) status: bool,

    /// How many pieces this worker copies at a time: a number, or auto: as many as make it faster
    #[arg(long, value_name = "N|auto", default_value = "auto", allow_negative_numbers = true, value_parser = jobs)]
    pub(in crate::cli) jobs: Jobs,

    /// Tries for a table
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_table_tries: u32,

    /// Tries for a partition of a shard
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_shard_partition_tries: u32,

    /// Tries for attaching what was copied to the target table
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_shard_partition_piece_tries_for_alter: u32,

    /// Milliseconds between tries, at most a day; less than 100 means 100
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    pub(in crate::cli) retry_delay_ms: u64,

    /// For tests: copying fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(in crate::cli) copy_fault_probability: f64,

    /// For tests: attaching fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(in crate::cli) move_fault_probability: f64,

    /// Accepted for the original's sake and no longer needed: rows are read once either way
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(in crate::cli) experimental_use_sample_offset: bool,
}
