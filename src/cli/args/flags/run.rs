//! The flags of `run`; most of them are the original's.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Address, LogFormat, ProgressWish, boolean, jobs, listen, octal_mask, probability};
use crate::cli::Level;
use crate::worker::limits::concurrency::Jobs;

/// The flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file. An existing task at this path is resumed and must match it
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// Replace the stored description by the task file: to change settings and limits of a running task
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(crate) task_upload_force: bool,

    /// Folder for the log folders [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) base_dir: Option<PathBuf>,

    /// Run in the background once work has begun; errors before that are reported here
    #[arg(long)]
    pub(crate) daemon: bool,

    /// Umask of the background process, octal, such as 027
    #[arg(long, value_name = "MASK", value_parser = octal_mask)]
    pub(crate) umask: Option<u32>,

    /// Write the process id to this file; it is removed at the end
    #[arg(short = 'P', long, visible_alias = "pidfile", value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Log level: none, fatal, critical, error, warning, notice, information, debug, trace or test
    #[arg(long, value_name = "LEVEL", default_value = "debug", value_parser = Level::named)]
    pub(crate) log_level: Level,

    /// Format of log lines
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Format of the final report on standard output
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// How to show progress: auto means bars on a terminal (with text logs), else lines
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) progress: ProgressWish,

    /// Seconds between two progress lines; no line when nothing has changed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) progress_every: u32,

    /// Write the final report to this file, however the run ends: .html, .json, .md, or text.
    /// May be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Vec<PathBuf>,

    /// Shell command to run when the task is finished; it gets the report as JSON on standard input. Of several workers, the
    /// one that finished the task runs it
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_finish: Option<String>,

    /// Shell command to run when this process ends with an exit code other than 0; it gets the same
    #[arg(long, value_name = "COMMAND")]
    pub(crate) on_failure: Option<String>,

    /// Serve this worker's Prometheus metrics at this address, path /metrics
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub(crate) metrics_listen: Option<SocketAddr>,

    /// Environment variable with the access token; needed where other machines can reach the address
    #[arg(long, value_name = "VARIABLE", requires = "metrics_listen", conflicts_with = "metrics_token_file")]
    pub(crate) metrics_token_env: Option<String>,

    /// File with the access token
    #[arg(long, value_name = "FILE", requires = "metrics_listen")]
    pub(crate) metrics_token_file: Option<PathBuf>,

    /// Log to this file instead of log.log in the log folder
    #[arg(short = 'L', long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Log warnings and errors to this file instead of log.err.log in the log folder
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(crate) errorlog_file: Option<PathBuf>,

    /// Do exactly what this plan says (a file of the verb plan), or refuse; for a task that is not planned yet
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,

    /// If the task is finished: copy the partitions that are new or have changed since, in the
    /// place of what was copied of them
    #[arg(long, conflicts_with_all = ["plan", "safe_mode", "status"])]
    pub(crate) incremental: bool,

    /// Drop copied partitions on the target that the source does not have any more
    #[arg(long, requires = "incremental")]
    pub(crate) drop_vanished: bool,

    /// Never drop a partition, even one that an earlier attempt left incomplete
    #[arg(long)]
    pub(crate) safe_mode: bool,

    /// Print the progress as the original did, and copy nothing
    #[arg(long)]
    pub(crate) status: bool,

    /// Pieces that this worker copies at a time: a number, or auto (as many as make it faster)
    #[arg(long, value_name = "N|auto", default_value = "auto", allow_negative_numbers = true, value_parser = jobs)]
    pub(crate) jobs: Jobs,

    /// Tries for a table
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_table_tries: u32,

    /// Tries for a partition of a shard
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_shard_partition_tries: u32,

    /// Tries for attaching what was copied to the target table
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_shard_partition_piece_tries_for_alter: u32,

    /// Milliseconds between tries, at most a day; less than 100 means 100
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    pub(crate) retry_delay_ms: u64,

    /// For tests: copying fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(crate) copy_fault_probability: f64,

    /// For tests: attaching fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(crate) move_fault_probability: f64,

    /// Accepted for compatibility; has no effect
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(crate) experimental_use_sample_offset: bool,
}
