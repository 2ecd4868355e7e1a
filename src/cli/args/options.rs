//! What each verb was told, as plain values.

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

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Invocation {
    /// Copy what a task says.
    Run(RunOptions),
    /// Print how far a task has come.
    Status(StatusOptions),
    /// List what a dead task left, and remove it when told so.
    Cleanup(CleanupOptions),
    /// Tell all workers of a task something.
    Command(CommandOptions),
    /// Show how far a task is.
    Look(LookOptions),
    /// Show a task as a page.
    Dashboard(DashboardOptions),
    /// Show what a run would do.
    Plan(PlanOptions),
    /// Say what would keep a task from being copied.
    Check(CheckOptions),
    /// Compare what a task has copied with its source.
    Verify(VerifyOptions),
    /// Write a task file from what servers say.
    Init(InitOptions),
    /// Write the task that restores what a task has copied.
    Reverse(ReverseOptions),
}

/// Everything that `plan` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    /// See [`CheckOptions::place`].
    pub place: Option<Address>,
    /// The task file. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// For people or for programs.
    pub format: LogFormat,
    /// Where the plan is kept; it did not exist when the command line was read.
    pub output: Option<PathBuf>,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `status` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct LookOptions {
    /// Where the task lives.
    pub address: Address,
    /// For people or for programs.
    pub format: LogFormat,
    /// Look again after so long, until the task ends.
    pub watch: Option<Duration>,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `dashboard` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct DashboardOptions {
    /// Where the task lives.
    pub address: Address,
    /// Where the page is served, and to whom.
    pub serving: Serving,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `pause`, `resume` and `cancel` were told.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandOptions {
    /// Where the task lives.
    pub address: Address,
    /// What its workers are to do.
    pub order: Order,
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that a run was told on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOptions {
    /// Where the task lives.
    pub address: Address,
    /// A task file to take, where the path has no task. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// Put it there even if there is a task already.
    pub upload_force: bool,
    /// A plan to be held to. Existed when the command line was read.
    pub plan: Option<PathBuf>,
    /// Begin a finished task anew, to copy what has changed since.
    pub incremental: Option<Incremental>,
    /// Go on in the background once work has begun.
    pub daemon: bool,
    /// The background process's file mode mask.
    pub umask: Option<u32>,
    /// Where our process id goes.
    pub pid_file: Option<PathBuf>,
    /// What is logged, and where.
    pub log: LogOptions,
    /// Never drop a partition.
    pub safe_mode: bool,
    /// How often each step is tried.
    pub tries: Tries,
    /// The pause between two tries, at least 100 ms as in the original.
    pub retry_delay: Duration,
    /// The probability, 0 to 1, that copying a piece is made to fail.
    pub copy_fault_probability: f64,
    /// The probability, 0 to 1, that attaching a piece is made to fail.
    pub move_fault_probability: f64,
    /// How many pieces are copied at a time.
    pub jobs: Jobs,
    /// The form of the report on standard output.
    pub format: LogFormat,
    /// How progress is shown.
    pub progress: Progress,
    /// The pause between two lines of progress.
    pub progress_every: Duration,
    /// Where its metrics are served, and to whom.
    pub metrics: Option<Serving>,
    /// Where reports go at the end. Their folders existed when the command line was read.
    pub report: Vec<PathBuf>,
    /// What is run when the task is finished.
    pub on_finish: Option<String>,
    /// What is run when the launch ends with another code than 0.
    pub on_failure: Option<String>,
    /// What the person should be told about these flags; warnings, none of them fatal.
    pub notices: Vec<&'static str>,
}

/// Everything that `--status` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusOptions {
    /// Where the task lives.
    pub address: Address,
    /// What is logged. To standard error only: asking for the status leaves no folder behind.
    pub log: LogOptions,
}

/// Everything that `cleanup` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanupOptions {
    /// Where the task lives.
    pub address: Address,
    /// A task file that says which servers to look at. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// Remove what may go.
    pub remove: bool,
    /// Then remove the task's state.
    pub forget: bool,
    /// Take this task instead of the one at the path.
    pub task_id: Option<TaskId>,
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `check` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckOptions {
    /// Where the task lives, if it was ever run there; else there is a task file.
    pub place: Option<Address>,
    /// The task file. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// The form of what is printed.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `verify` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyOptions {
    /// See [`CheckOptions::place`].
    pub place: Option<Address>,
    /// The task file. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// What is compared.
    pub by: By,
    /// Which partitions; without, all.
    pub sample: Option<Sample>,
    /// Copy again what differs.
    pub repair: bool,
    /// So many differing keys of a partition are printed.
    pub keys: usize,
    /// The form of what is printed.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `init` was told. Passwords are to be read from the environment yet.
#[derive(Debug, Clone, PartialEq)]
pub struct InitOptions {
    /// What is to be copied.
    pub copy: FirstCopy,
    /// The XML file that says whom to trust over TLS. Existed when the command line was read.
    pub config: Option<PathBuf>,
    /// Where the file goes; it did not exist when the command line was read. Without: standard output.
    pub output: Option<PathBuf>,
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// Everything that `reverse` was told.
#[derive(Debug, Clone, PartialEq)]
pub struct ReverseOptions {
    /// See [`CheckOptions::place`].
    pub place: Option<Address>,
    /// The task file. Existed when the command line was read; may be a pipe.
    pub task_file: Option<PathBuf>,
    /// Where to, if not to where the task copied from. Its password is to be read from the environment yet.
    pub to: Option<Side>,
    /// The database to restore into, where it is another one.
    pub database: Option<String>,
    /// The sharding key of the way back.
    pub sharding_key: Option<String>,
    /// See [`InitOptions::output`].
    pub output: Option<PathBuf>,
    /// For people or for programs.
    pub format: LogFormat,
    /// What is logged. To standard error only.
    pub log: LogOptions,
}

/// How often each step is tried before it counts as failed; each at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// A whole table.
    pub table: u32,
    /// A partition of a shard.
    pub partition: u32,
    /// Attaching a copied piece to the target table.
    pub attach: u32,
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// How much.
    pub level: Level,
    /// In which form.
    pub format: LogFormat,
    /// Where the launch's folder is made; need not exist.
    pub base_dir: PathBuf,
    /// A file of the user's choice instead of `log.log` in the launch's folder.
    pub file: Option<PathBuf>,
    /// A file of the user's choice instead of `log.err.log` in the launch's folder.
    pub error_file: Option<PathBuf>,
}
