//! The flags of the other verbs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Address, LogFormat, date, listen, sample, table_name, task_id};
use crate::cli::Level;
use crate::model::TableName;
use crate::protocol::TaskId;

/// What follows `status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LookFlags {
    #[command(flatten)]
    pub(in crate::cli) command: CommandFlags,

    /// For people or for programs
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// Look again and again, so many seconds apart, until the task ends
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) watch: Option<u16>,
}

/// What follows `plan`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlanFlags {
    #[command(flatten)]
    pub(in crate::cli) command: CommandFlags,

    /// For people or for programs
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// Keep the plan in a file that run --plan takes; a file that is there is not overwritten
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
}

/// What follows `resume` and `cancel`.
#[derive(Debug, Args)]
pub(in crate::cli) struct OrderFlags {
    #[command(flatten)]
    pub(in crate::cli) command: CommandFlags,

    /// For people or for programs
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,
}

/// What follows most verbs on a task that is there.
#[derive(Debug, Args)]
pub(in crate::cli) struct CommandFlags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task's file: says where the state is without ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,

    /// The form of a log line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) log_format: LogFormat,
}

/// What follows `dashboard`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DashboardFlags {
    #[command(flatten)]
    pub(in crate::cli) command: CommandFlags,

    /// Where the page is served; with port 0 the system chooses one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub(in crate::cli) listen: SocketAddr,

    /// The environment variable with the token that opens it; needed where other machines can reach the address
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_file")]
    pub(in crate::cli) token_env: Option<String>,

    /// The file with that token
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
}

/// What follows `pause`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PauseFlags {
    #[command(flatten)]
    pub(in crate::cli) order: OrderFlags,

    /// Give up what is in hand instead of finishing it: it is copied again later
    #[arg(long)]
    pub(in crate::cli) now: bool,
}

/// What follows `cleanup`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CleanupFlags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task, where its description is lost: it says which servers to look at
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// Remove what may go
    #[arg(long)]
    pub(in crate::cli) remove: bool,

    /// Then remove the task's state too
    #[arg(long, requires = "remove")]
    pub(in crate::cli) forget: bool,

    /// Take this task instead of the one at the path: one whose state is lost
    #[arg(long, value_name = "ID", value_parser = task_id, conflicts_with = "forget")]
    pub(in crate::cli) task_id: Option<TaskId>,

    /// For people or for programs
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,

    /// The form of a log line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) log_format: LogFormat,
}

/// What follows `check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckFlags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task; without it, the one in ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// The form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "error", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,
}

/// What follows `verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyFlags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task; without it, the one in ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// What is compared: how many rows there are, or what is in them too
    #[arg(long, value_name = "WHAT", default_value = "checksum")]
    pub(in crate::cli) by: Measured,

    /// Only a part of the partitions, as in 1/7: that of today; on seven days in a row it is each one's turn
    #[arg(long, value_name = "N/M", value_parser = sample)]
    pub(in crate::cli) sample: Option<(u64, u64)>,

    /// The sample of this day, as in 2026-01-31 [default: today, in UTC]
    #[arg(long, value_name = "DATE", value_parser = date, requires = "sample")]
    pub(in crate::cli) date: Option<time::Date>,

    /// Then copy again the partitions that differ, in the place of what the target holds, and compare them once more
    #[arg(long)]
    pub(in crate::cli) repair: bool,

    /// So many differing keys are printed for a partition, at the most
    #[arg(long, value_name = "N", default_value = "20")]
    pub(in crate::cli) keys: u16,

    /// The form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Measured {
    /// How many rows there are.
    Count,
    /// That, and what is in them: reads every column.
    Checksum,
}

/// What follows `init`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InitFlags {
    /// A server to copy from
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) from: Option<String>,

    /// A server to copy to
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) to: Option<String>,

    /// A table to copy; may be given several times
    #[arg(long = "table", value_name = "DATABASE.TABLE", value_parser = table_name)]
    pub(in crate::cli) tables: Vec<TableName>,

    /// The database on the target, where it is another one
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) database: Option<String>,

    /// The cluster to copy from, as the server knows it [default: one that it is in and that has the tables]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) from_cluster: Option<String>,

    /// The user there
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(in crate::cli) from_user: String,

    /// The environment variable that has the user's password
    #[arg(long, value_name = "VARIABLE")]
    pub(in crate::cli) from_password_env: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) to_more: ToFlags,

    #[command(flatten)]
    pub(in crate::cli) written: WrittenFlags,

    /// The file whose section openSSL says whom to trust over TLS, as with run
    #[arg(short = 'C', long = "config-file", visible_alias = "config", value_name = "FILE")]
    pub(in crate::cli) config_file: Option<PathBuf>,
}

/// What follows `reverse`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReverseFlags {
    #[command(flatten)]
    pub(in crate::cli) address: Address,

    /// The task; without it, the one in ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) task_file: Option<PathBuf>,

    /// The database to restore into, where it is another one
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) database: Option<String>,

    /// By which key rows are placed, where no Distributed table tells
    #[arg(long, value_name = "EXPRESSION")]
    pub(in crate::cli) sharding_key: Option<String>,

    /// A server to restore to [default: where the task copied from]
    #[arg(long, value_name = "HOST")]
    pub(in crate::cli) to: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) to_more: ToFlags,

    #[command(flatten)]
    pub(in crate::cli) written: WrittenFlags,
}

/// More about the server to copy to.
#[derive(Debug, Args)]
pub(in crate::cli) struct ToFlags {
    /// The cluster to copy to, as the server knows it [default: the only one that it is in]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(in crate::cli) to_cluster: Option<String>,

    /// The user there [default: default]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(in crate::cli) to_user: Option<String>,

    /// The environment variable that has the user's password
    #[arg(long, value_name = "VARIABLE", requires = "to")]
    pub(in crate::cli) to_password_env: Option<String>,
}

/// What becomes of a task file that is made.
#[derive(Debug, Args)]
pub(in crate::cli) struct WrittenFlags {
    /// Write it to this file, which must not be there [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// For people, or for programs: then what the file says and why, as one object
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(in crate::cli) format: LogFormat,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(in crate::cli) log_level: Level,
}
