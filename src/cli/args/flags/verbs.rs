//! The flags of the other verbs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Address, LogFormat, date, listen, sample, table_name, task_id};
use crate::cli::Level;
use crate::model::TableName;
use crate::protocol::TaskId;

/// The flags of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    #[command(flatten)]
    pub(crate) command: CommandFlags,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Repeat every so many seconds until the task ends
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) watch: Option<u16>,
}

/// The flags of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanFlags {
    #[command(flatten)]
    pub(crate) command: CommandFlags,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Write the plan to this file, for run --plan; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The flags of `resume` and `cancel`.
#[derive(Debug, Args)]
pub(crate) struct OrderFlags {
    #[command(flatten)]
    pub(crate) command: CommandFlags,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,
}

/// The flags of most verbs that work on an existing task.
#[derive(Debug, Args)]
pub(crate) struct CommandFlags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file: without ZooKeeper it tells where the state is
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// Log level on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(crate) log_level: Level,

    /// Format of log lines
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The flags of `dashboard`.
#[derive(Debug, Args)]
pub(crate) struct DashboardFlags {
    #[command(flatten)]
    pub(crate) command: CommandFlags,

    /// Address to serve at; with port 0 the system chooses the port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", value_parser = listen)]
    pub(crate) listen: SocketAddr,

    /// Environment variable with the access token; needed where other machines can reach the address
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,

    /// File with the access token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// The flags of `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseFlags {
    #[command(flatten)]
    pub(crate) order: OrderFlags,

    /// Stop running pieces instead of finishing them: they are copied again later
    #[arg(long)]
    pub(crate) now: bool,
}

/// The flags of `cleanup`.
#[derive(Debug, Args)]
pub(crate) struct CleanupFlags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file; needed where the stored description is lost: it tells which servers to look at
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// Remove what is listed as removable
    #[arg(long)]
    pub(crate) remove: bool,

    /// Then remove the task's records too
    #[arg(long, requires = "remove")]
    pub(crate) forget: bool,

    /// Identity of the task, instead of the one at the path: for a task whose records are lost
    #[arg(long, value_name = "ID", value_parser = task_id, conflicts_with = "forget")]
    pub(crate) task_id: Option<TaskId>,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Log level on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(crate) log_level: Level,

    /// Format of log lines
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The flags of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckFlags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file [default: the description in ZooKeeper]
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Log level on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "error", value_parser = Level::named)]
    pub(crate) log_level: Level,
}

/// The flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file [default: the description in ZooKeeper]
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// What to compare: numbers of rows, or contents too
    #[arg(long, value_name = "WHAT", default_value = "checksum")]
    pub(crate) by: Measured,

    /// Verify a rotating part of the partitions: 1/7 covers all of them in seven days
    #[arg(long, value_name = "N/M", value_parser = sample)]
    pub(crate) sample: Option<(u64, u64)>,

    /// Day of the sample, such as 2026-01-31 [default: today, in UTC]
    #[arg(long, value_name = "DATE", value_parser = date, requires = "sample")]
    pub(crate) date: Option<time::Date>,

    /// Copy different partitions again, in the place of what the target holds, and compare once more
    #[arg(long)]
    pub(crate) repair: bool,

    /// Most keys to print for a partition that differs
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) keys: u16,

    /// Output format
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Log level on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(crate) log_level: Level,
}

/// The measure of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measured {
    /// How many rows there are.
    Count,
    /// That, and what is in them: reads every column.
    Checksum,
}

/// The flags of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitFlags {
    /// Server to copy from
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<String>,

    /// Server to copy to
    #[arg(long, value_name = "HOST")]
    pub(crate) to: Option<String>,

    /// Table to copy. May be repeated
    #[arg(long = "table", value_name = "DATABASE.TABLE", value_parser = table_name)]
    pub(crate) tables: Vec<TableName>,

    /// Database on the target [default: as on the source]
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,

    /// Cluster to copy from, as the server names it [default: one with the server and the tables]
    #[arg(long, value_name = "NAME")]
    pub(crate) from_cluster: Option<String>,

    /// User at the source
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) from_user: String,

    /// Environment variable with that user's password
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) from_password_env: Option<String>,

    #[command(flatten)]
    pub(crate) to_more: ToFlags,

    #[command(flatten)]
    pub(crate) written: WrittenFlags,

    /// File whose section openSSL tells which certificates to trust, as with run
    #[arg(short = 'C', long = "config-file", visible_alias = "config", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
}

/// The flags of `reverse`.
#[derive(Debug, Args)]
pub(crate) struct ReverseFlags {
    #[command(flatten)]
    pub(crate) address: Address,

    /// Task file [default: the description in ZooKeeper]
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,

    /// Database to restore into [default: the one that was copied]
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,

    /// Sharding key [default: that of the Distributed table]
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) sharding_key: Option<String>,

    /// Server to restore to [default: where the task copied from]
    #[arg(long, value_name = "HOST")]
    pub(crate) to: Option<String>,

    #[command(flatten)]
    pub(crate) to_more: ToFlags,

    #[command(flatten)]
    pub(crate) written: WrittenFlags,
}

/// Details of the server to copy to.
#[derive(Debug, Args)]
pub(crate) struct ToFlags {
    /// Cluster to copy to, as the server names it [default: the only one with the server]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(crate) to_cluster: Option<String>,

    /// User at the target [default: default]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(crate) to_user: Option<String>,

    /// Environment variable with that user's password
    #[arg(long, value_name = "VARIABLE", requires = "to")]
    pub(crate) to_password_env: Option<String>,
}

/// The output of a generated task file.
#[derive(Debug, Args)]
pub(crate) struct WrittenFlags {
    /// Write to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// text writes the file; json tells what it says and why, as one object
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: LogFormat,

    /// Log level on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(crate) log_level: Level,
}
