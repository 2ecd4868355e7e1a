//! The command line as it is typed: a verb, or none for `run`, and its flags. A verb is a variant of [`Verb`] with its
//! flags as a type of its own; what all verbs share is flattened into each. The names, forms and defaults of the original's flags are kept, so that scripts written
//! for it go on working; checks that need more than one value are in [`super::meant`].
//!
//! As with the original, a long flag may be shortened while it stays unambiguous, and takes its value after a blank
//! or after `=`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{Level, Refusal};
use crate::model::TableName;
use crate::protocol::TaskId;

#[derive(Debug, Parser)]
#[command(
    name = super::PROGRAM,
    version,
    about = "Copies and reshards ClickHouse tables between clusters: exactly once, verified, resumable",
    override_usage = "clickhouse-copier [run] --config-file <FILE> --task-path <PATH> [OPTIONS]\n       \
                      clickhouse-copier cleanup --config-file <FILE> --task-path <PATH> [--remove [--forget]]\n       \
                      clickhouse-copier check [--config-file <FILE> --task-path <PATH>] [--task-file <FILE>]\n       \
                      clickhouse-copier init --from <HOST> --to <HOST> --table <DATABASE.TABLE> [--output <FILE>]\n       \
                      clickhouse-copier reverse [--config-file <FILE> --task-path <PATH>] [--task-file <FILE>] [--output <FILE>]",
    infer_long_args = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 the command line or the task is wrong, \
                  3 finished with partitions that failed, 4 data differs, 130 interrupted."
)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    flags: Flags,
}

/// What is to be done, with the flags that belong to it.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Copy what the task says; meant when no verb is given
    // Old pages of the original's documentation show `clickhouse-copier copier --daemon …`.
    #[command(alias = "copier", infer_long_args = true)]
    Run(Flags),
    /// List what a dead task left on the servers, and remove it when told so
    #[command(infer_long_args = true, after_help = CLEANUP_HELP)]
    Cleanup(CleanupFlags),
    /// Connect everywhere, create nothing, and say all that would keep the task from being copied
    #[command(infer_long_args = true, after_help = CHECK_HELP)]
    Check(CheckFlags),
    /// Write a commented task file from what live servers say
    #[command(infer_long_args = true, after_help = INIT_HELP)]
    Init(InitFlags),
    /// Write the task that restores what a task has copied
    #[command(infer_long_args = true, after_help = REVERSE_HELP)]
    Reverse(ReverseFlags),
}

const INIT_HELP: &str = "\
Clusters come from system.clusters of the two servers, the engine and the keys from the source's table; the comments in the \
file say why. Nothing is created on any server. HOST is a name or an address, with the HTTP port where it is not 8123 \
(host:8124), and as https://host where the servers speak TLS.

Examples:
  One table, from one cluster to another:
    clickhouse-copier init --from old-1 --to new-1 --table web.hits --output task.xml
  With accounts; a password comes from an environment variable, and the file names only that variable:
    clickhouse-copier init --from old-1 --from-user copier --from-password-env OLD_PASSWORD --to new-1 --table web.hits
  Then:
    clickhouse-copier check --task-file task.xml

Exit codes: 0 written, 1 a server does not answer or a table is not there, 2 the command line is wrong, 130 interrupted.";

const REVERSE_HELP: &str = "\
What was the target is copied from, what was the source is copied to. Accounts, settings and where_condition stay as the task \
has them; partitions that hold rows are not touched unless the file is changed to say so. Nothing is created on any server.

Examples:
  Back to where it came from:
    clickhouse-copier reverse --task-file task.xml --output restore.xml
  The task that is in ZooKeeper, into a scratch database beside the original, for a drill:
    clickhouse-copier reverse --config keeper.xml --task-path /copy/hits --database scratch --output drill.xml
  To other servers:
    clickhouse-copier reverse --task-file task.xml --to spare-1 --sharding-key 'intHash64(UserID)' --output spare.xml

Exit codes: 0 written, 1 a server does not answer, 2 the command line or the task is wrong, or a sharding key is needed, \
130 interrupted.";

const CHECK_HELP: &str = "\
Each finding is a line: how bad it is (FAULT: a run would fail; warning; remark), the node, what is so, and what to do. With \
--format json all of them are one object. Sources are read as a run reads them when it plans, nothing is written anywhere.

Examples:
  Would this task run? No ZooKeeper is needed to ask:
    clickhouse-copier check --task-file task.xml
  And with ZooKeeper, where the task may be known already:
    clickhouse-copier check --config keeper.xml --task-path /copy/hits --task-file task.xml
  The task that is there:
    clickhouse-copier check --config keeper.xml --task-path /copy/hits --format json

Exit codes: 0 nothing is in the way, 1 something would make the run fail, 2 the command line or the task is wrong, \
130 interrupted.";

const CLEANUP_HELP: &str = "\
Without --remove nothing is changed. While a worker is alive in the task nothing is removed. What is removed is copied \
again when the task is run again; what is published stays.

Examples:
  What did the task leave?
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits
  Remove it; the task can be run again:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --remove
  Remove the task from ZooKeeper too:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --remove --forget
  The task is gone from ZooKeeper already; its tables are named copier_<ID>_…:
    clickhouse-copier cleanup --config keeper.xml --task-path /copy/hits --task-file task.xml --task-id 0123456789ab \
--remove

Exit codes: 0 listed, or everything removed; 1 refused or failed, nothing or only some of it is removed; \
2 the command line or the task is wrong; 3 done but for servers that did not answer or things that could not be removed, \
all named; 130 interrupted.";

/// Which task: the same for every verb.
#[derive(Debug, Args)]
pub(super) struct Address {
    /// How to reach ZooKeeper: an XML file with a section zookeeper
    #[arg(short = 'C', long = "config-file", visible_alias = "config", value_name = "FILE")]
    pub(super) config_file: Option<PathBuf>,

    /// The node in ZooKeeper where the task lives, as in /clickhouse/copytasks/task1
    #[arg(long, value_name = "PATH")]
    pub(super) task_path: Option<String>,
}

/// What follows `cleanup`.
#[derive(Debug, Args)]
pub(super) struct CleanupFlags {
    #[command(flatten)]
    pub(super) address: Address,

    /// The task, where ZooKeeper has its description no more: it says which servers to look at
    #[arg(long, value_name = "FILE")]
    pub(super) task_file: Option<PathBuf>,

    /// Remove what may go
    #[arg(long)]
    pub(super) remove: bool,

    /// Then remove the task from ZooKeeper too
    #[arg(long, requires = "remove")]
    pub(super) forget: bool,

    /// Take this task instead of the one at the path: one that ZooKeeper does not know any more
    #[arg(long, value_name = "ID", value_parser = task_id, conflicts_with = "forget")]
    pub(super) task_id: Option<TaskId>,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(super) log_level: Level,

    /// The form of a log line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(super) log_format: LogFormat,
}

/// What follows `check`.
#[derive(Debug, Args)]
pub(super) struct CheckFlags {
    #[command(flatten)]
    pub(super) address: Address,

    /// The task; without it, the one in ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(super) task_file: Option<PathBuf>,

    /// The form of what is printed
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(super) format: LogFormat,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "error", value_parser = Level::named)]
    pub(super) log_level: Level,
}

/// What follows `init`.
#[derive(Debug, Args)]
pub(super) struct InitFlags {
    /// A server to copy from
    #[arg(long, value_name = "HOST")]
    pub(super) from: Option<String>,

    /// A server to copy to
    #[arg(long, value_name = "HOST")]
    pub(super) to: Option<String>,

    /// A table to copy; may be given several times
    #[arg(long = "table", value_name = "DATABASE.TABLE", value_parser = table_name)]
    pub(super) tables: Vec<TableName>,

    /// The database on the target, where it is another one
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,

    /// The cluster to copy from, as the server knows it [default: one that it is in and that has the tables]
    #[arg(long, value_name = "NAME")]
    pub(super) from_cluster: Option<String>,

    /// The user there
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) from_user: String,

    /// The environment variable that has the user's password
    #[arg(long, value_name = "VARIABLE")]
    pub(super) from_password_env: Option<String>,

    #[command(flatten)]
    pub(super) to_more: ToFlags,

    #[command(flatten)]
    pub(super) written: WrittenFlags,

    /// The file whose section openSSL says whom to trust over TLS, as with run
    #[arg(short = 'C', long = "config-file", visible_alias = "config", value_name = "FILE")]
    pub(super) config_file: Option<PathBuf>,
}

/// What follows `reverse`.
#[derive(Debug, Args)]
pub(super) struct ReverseFlags {
    #[command(flatten)]
    pub(super) address: Address,

    /// The task; without it, the one in ZooKeeper
    #[arg(long, value_name = "FILE")]
    pub(super) task_file: Option<PathBuf>,

    /// The database to restore into, where it is another one
    #[arg(long, value_name = "NAME")]
    pub(super) database: Option<String>,

    /// By which key rows are placed, where no Distributed table tells
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) sharding_key: Option<String>,

    /// A server to restore to [default: where the task copied from]
    #[arg(long, value_name = "HOST")]
    pub(super) to: Option<String>,

    #[command(flatten)]
    pub(super) to_more: ToFlags,

    #[command(flatten)]
    pub(super) written: WrittenFlags,
}

/// More about the server to copy to.
#[derive(Debug, Args)]
pub(super) struct ToFlags {
    /// The cluster to copy to, as the server knows it [default: the only one that it is in]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(super) to_cluster: Option<String>,

    /// The user there [default: default]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(super) to_user: Option<String>,

    /// The environment variable that has the user's password
    #[arg(long, value_name = "VARIABLE", requires = "to")]
    pub(super) to_password_env: Option<String>,
}

/// What becomes of a task file that is made.
#[derive(Debug, Args)]
pub(super) struct WrittenFlags {
    /// Write it to this file, which must not be there [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// How much is said on standard error, as with run
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = Level::named)]
    pub(super) log_level: Level,
}

/// What follows `run`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    #[command(flatten)]
    pub(super) address: Address,

    /// Put this task file into ZooKeeper first, unless a task is there already
    #[arg(long, value_name = "FILE")]
    pub(super) task_file: Option<PathBuf>,

    /// … even if a task is there already
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(super) task_upload_force: bool,

    /// Where the launch puts the folder with its logs [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(super) base_dir: Option<PathBuf>,

    /// Go on in the background once work has begun; what fails before that is reported here
    #[arg(long)]
    pub(super) daemon: bool,

    /// The file mode mask of the background process, octal, as in 027
    #[arg(long, value_name = "MASK", value_parser = octal_mask)]
    pub(super) umask: Option<u32>,

    /// Write the process id to this file, and remove it at the end
    #[arg(short = 'P', long, visible_alias = "pidfile", value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,

    /// How much is logged: none, fatal, critical, error, warning, notice, information, debug, trace or test
    #[arg(long, value_name = "LEVEL", default_value = "debug", value_parser = Level::named)]
    pub(super) log_level: Level,

    /// The form of a log line
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(super) log_format: LogFormat,

    /// Log to this file instead of log.log in the launch's folder
    #[arg(short = 'L', long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,

    /// Log warnings and errors to this file instead of log.err.log in the launch's folder
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(super) errorlog_file: Option<PathBuf>,

    /// Never drop a partition, even if an earlier attempt left it half done
    #[arg(long)]
    pub(super) safe_mode: bool,

    /// Print how far the task has come, and copy nothing
    #[arg(long)]
    pub(super) status: bool,

    /// How many pieces this worker copies at a time
    #[arg(long, value_name = "N", default_value_t = 2, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: u16,

    /// Tries for a table
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_table_tries: u32,

    /// Tries for a partition of a shard
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_shard_partition_tries: u32,

    /// Tries for attaching what was copied to the target table
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_shard_partition_piece_tries_for_alter: u32,

    /// Milliseconds between tries, at most a day; less than 100 means 100
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    pub(super) retry_delay_ms: u64,

    /// For tests: copying fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(super) copy_fault_probability: f64,

    /// For tests: attaching fails with this probability, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
          value_parser = probability)]
    pub(super) move_fault_probability: f64,

    /// Accepted for the original's sake and no longer needed: rows are read once either way
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value = "false",
          hide_default_value = true, value_parser = boolean)]
    pub(super) experimental_use_sample_offset: bool,
}

/// The form of a log line, or of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: JSON, an object a log line.
    Json,
}

/// Reads a command line, its first argument being the program's name.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Verb, Refusal> {
    match Line::try_parse_from(arguments) {
        Ok(Line { verb, flags }) => Ok(verb.unwrap_or(Verb::Run(flags))),
        Err(error) if error.use_stderr() => Err(Refusal::Wrong(one_line(&error))),
        Err(help_or_version) => Err(Refusal::Shown(help_or_version.render().to_string())),
    }
}

/// clap's message without its layout: what is wrong and its tips, in one line. The usage is what `--help` is for.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    format!("{} (see {} --help)", said.trim_start_matches("error: "), super::PROGRAM)
}

fn table_name(text: &str) -> Result<TableName, String> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(TableName::new(database, table)),
        _ => Err("a table is written with its database, as in web.hits".to_owned()),
    }
}

/// The words that Poco's configuration takes for a boolean.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        number => match number.parse::<i64>() {
            Ok(number) => Ok(number != 0),
            Err(_) => Err("say true or false".to_owned()),
        },
    }
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(probability),
        _ => Err("a probability is a number from 0 to 1".to_owned()),
    }
}

fn task_id(text: &str) -> Result<TaskId, String> {
    TaskId::parse(text).ok_or_else(|| "it is twelve hexadecimal digits, as in the names copier_<ID>_…".to_owned())
}

fn octal_mask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err("a mask is octal, from 0 to 777".to_owned()),
    }
}
