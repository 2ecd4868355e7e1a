//! The options of each verb, as plain values.

use std::path::PathBuf;
use std::time::Duration;

use super::super::output::progress::Progress;
use super::super::process::serving::Serving;
use super::address::Address;
use super::flags::LogFormat;
use super::level::Level;
use crate::operations::init::{FirstCopy, Side};
use crate::operations::verify::{By, Sample};
use crate::protocol::{Order, TaskId};
use crate::worker::launch::Incremental;
use crate::worker::limits::concurrency::Jobs;

/// The verb to perform, with its options.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Invocation {
    /// Copy the tables of a task.
    Run(RunOptions),
    /// Print the counts of `--status`.
    Counts(CountsOptions),
    /// List the tables and statements that a dead task left, and remove them on request.
    Cleanup(CleanupOptions),
    /// Pause, resume or cancel a task.
    Command(CommandOptions),
    /// Show the progress of a task.
    Status(StatusOptions),
    /// Serve a page about a task.
    Dashboard(DashboardOptions),
    /// Show what a run would do.
    Plan(PlanOptions),
    /// Report what would keep a task from being copied.
    Check(CheckOptions),
    /// Compare the copied rows of a task with its source.
    Verify(VerifyOptions),
    /// Write a task file from live servers.
    Init(InitOptions),
    /// Write the task that copies everything back.
    Reverse(ReverseOptions),
}

/// The options of `plan`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlanOptions {
    /// See [`CheckOptions::place`].
    pub(crate) place: Option<Address>,
    /// The task file. It existed when the command line was read; it may be a pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The file for the plan. It did not exist when the command line was read.
    pub(crate) output: Option<PathBuf>,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatusOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The pause between two outputs, which repeat until the task ends. `None`: one output.
    pub(crate) watch: Option<Duration>,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `dashboard`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DashboardOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// Where the page is served, and to whom.
    pub(crate) serving: Serving,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `pause`, `resume` and `cancel`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// The order for the task's workers.
    pub(crate) order: Order,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `run`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// The task file, which is stored if the path has no task. It existed when the command line was read; it may be a
    /// pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// Whether the task file replaces the stored description.
    pub(crate) upload_force: bool,
    /// The file of the plan that the run must follow. It existed when the command line was read.
    pub(crate) plan: Option<PathBuf>,
    /// Set to begin a finished task again and copy the changes since.
    pub(crate) incremental: Option<Incremental>,
    /// Whether the process continues in the background once work has begun.
    pub(crate) daemon: bool,
    /// The file mode mask of the background process.
    pub(crate) umask: Option<u32>,
    /// The file for the process id.
    pub(crate) pid_file: Option<PathBuf>,
    /// The log: its level and its files.
    pub(crate) log: LogOptions,
    /// Whether the run never drops a partition.
    pub(crate) safe_mode: bool,
    /// The highest number of tries of each step.
    pub(crate) tries: Tries,
    /// The pause between two tries: at least 100 ms, as in the original.
    pub(crate) retry_delay: Duration,
    /// The probability, 0 to 1, that copying a piece fails on purpose.
    pub(crate) copy_fault_probability: f64,
    /// The probability, 0 to 1, that attaching a piece fails on purpose.
    pub(crate) move_fault_probability: f64,
    /// How many pieces are copied at once.
    pub(crate) jobs: Jobs,
    /// The format of the report on standard output.
    pub(crate) format: LogFormat,
    /// How progress is shown.
    pub(crate) progress: Progress,
    /// The pause between two lines of progress.
    pub(crate) progress_every: Duration,
    /// Where the worker's metrics are served, and to whom.
    pub(crate) metrics: Option<Serving>,
    /// The files for the final report. Their folders existed when the command line was read.
    pub(crate) report: Vec<PathBuf>,
    /// The shell command for a finished task.
    pub(crate) on_finish: Option<String>,
    /// The shell command for an exit code other than 0.
    pub(crate) on_failure: Option<String>,
    /// Warnings about these flags.
    pub(crate) notices: Vec<&'static str>,
}

/// The options of `--status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CountsOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// The log: standard error only. The command creates no log folder.
    pub(crate) log: LogOptions,
}

/// The options of `cleanup`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CleanupOptions {
    /// The address of the task.
    pub(crate) address: Address,
    /// A task file that names the servers to search. It existed when the command line was read; it may be a pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// Whether the removable tables and statements are removed.
    pub(crate) remove: bool,
    /// Whether the task's records are removed afterwards.
    pub(crate) forget: bool,
    /// The identity of the task, instead of that of the task at the path.
    pub(crate) task_id: Option<TaskId>,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `check`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckOptions {
    /// The address of the task, if the task has state there. Without it there is a task file.
    pub(crate) place: Option<Address>,
    /// The task file. It existed when the command line was read; it may be a pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `verify`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VerifyOptions {
    /// See [`CheckOptions::place`].
    pub(crate) place: Option<Address>,
    /// The task file. It existed when the command line was read; it may be a pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// The measure of the comparison.
    pub(crate) by: By,
    /// The partitions to compare; `None` means all.
    pub(crate) sample: Option<Sample>,
    /// Whether partitions that differ are copied again.
    pub(crate) repair: bool,
    /// The highest number of differing keys to print for a partition.
    pub(crate) keys: usize,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `init`. The passwords are not read from the environment yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InitOptions {
    /// The tables to copy, and the two sides.
    pub(crate) copy: FirstCopy,
    /// The XML file that names the trusted TLS certificates. It existed when the command line was read.
    pub(crate) config: Option<PathBuf>,
    /// The new task file, which did not exist when the command line was read. `None`: standard output.
    pub(crate) output: Option<PathBuf>,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The options of `reverse`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReverseOptions {
    /// See [`CheckOptions::place`].
    pub(crate) place: Option<Address>,
    /// The task file. It existed when the command line was read; it may be a pipe.
    pub(crate) task_file: Option<PathBuf>,
    /// The side to restore to, if it is not the one that the task copied from. Its password is not read from the
    /// environment yet.
    pub(crate) to: Option<Side>,
    /// The database to restore into, if it is another one.
    pub(crate) database: Option<String>,
    /// The sharding key of the reverse task.
    pub(crate) sharding_key: Option<String>,
    /// See [`InitOptions::output`].
    pub(crate) output: Option<PathBuf>,
    /// The output format.
    pub(crate) format: LogFormat,
    /// The log: standard error only.
    pub(crate) log: LogOptions,
}

/// The highest number of tries of each step before it counts as failed; each is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Tries of a whole table.
    pub(crate) table: u32,
    /// Tries of a partition of a shard.
    pub(crate) partition: u32,
    /// Tries of attaching a copied piece to the target table.
    pub(crate) attach: u32,
}

/// The options of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// The level.
    pub(crate) level: Level,
    /// The format of a line.
    pub(crate) format: LogFormat,
    /// The folder for the launch's log folder; it need not exist.
    pub(crate) base_dir: PathBuf,
    /// A file instead of `log.log` in the launch's folder.
    pub(crate) file: Option<PathBuf>,
    /// A file instead of `log.err.log` in the launch's folder.
    pub(crate) error_file: Option<PathBuf>,
}
