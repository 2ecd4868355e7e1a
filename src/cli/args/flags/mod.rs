//! The flags as clap reads them: a verb, or none for `run`, and its flags. A verb is a variant of [`Verb`], and its
//! flags are a type of their own; flags that all verbs share are flattened into each. The original's flags keep their
//! names, forms and defaults, so scripts written for the original still work. [`super::meaning`] makes the checks that
//! need more than one value.
//!
//! As in the original, a long flag may be shortened while it stays unambiguous, and takes its value after a blank or
//! after `=`.

mod help;
mod run;
mod verbs;

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::super::Refusal;
use crate::client::STALL_SECONDS;
use crate::client::http::{FEWEST_STATEMENTS, MOST_STATEMENTS, USUAL_STATEMENTS};
use crate::model::TableName;
use crate::protocol::TaskId;
use crate::worker::limits::concurrency::Jobs;

pub(crate) use run::Flags;
pub(crate) use verbs::{
    CheckFlags, CleanupFlags, DashboardFlags, InitFlags, Measured, OrderFlags, PauseFlags, PlanFlags, ReverseFlags,
    StatusFlags, ToFlags, VerifyFlags,
};

#[derive(Debug, Parser)]
#[command(
    name = super::super::PROGRAM,
    version,
    about = "Copies and reshards ClickHouse tables between clusters: exactly once, verified, resumable",
    override_usage = "clickhouse-copier [run] --task-file <FILE> [--state-dir <DIR>] [OPTIONS]\n       \
                      clickhouse-copier [run] --config-file <FILE> --task-path <PATH> [OPTIONS]\n       \
                      clickhouse-copier <VERB> <the same address> [OPTIONS]\n       \
                      clickhouse-copier init --from <HOST> --to <HOST> --table <DATABASE.TABLE> [--output <FILE>]",
    infer_long_args = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = help::ALL
)]
struct Line {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    flags: Flags,
}

/// A verb with its flags.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a first task file from live servers
    #[command(infer_long_args = true, after_help = help::INIT)]
    Init(InitFlags),
    /// Check everything that a run needs; create nothing
    #[command(infer_long_args = true, after_help = help::CHECK)]
    Check(CheckFlags),
    /// Show what a run would do: new tables, partitions, pieces, transfers
    #[command(infer_long_args = true, after_help = help::PLAN)]
    Plan(PlanFlags),
    /// Compare the target with the source
    #[command(infer_long_args = true, after_help = help::VERIFY)]
    Verify(VerifyFlags),
    /// Copy the tables of a task (the default verb)
    // Old pages of the original's documentation show `clickhouse-copier copier --daemon …`.
    #[command(alias = "copier", infer_long_args = true, after_help = help::RUN)]
    Run(Flags),
    /// Show progress, workers, what waits and what failed
    #[command(infer_long_args = true, after_help = help::STATUS)]
    Status(StatusFlags),
    /// Serve a page and Prometheus metrics about a task
    #[command(infer_long_args = true, after_help = help::DASHBOARD)]
    Dashboard(DashboardFlags),
    /// Pause: workers start no new work until `resume`
    #[command(infer_long_args = true, after_help = help::PAUSE)]
    Pause(PauseFlags),
    /// Resume a paused task
    #[command(infer_long_args = true, after_help = help::RESUME)]
    Resume(OrderFlags),
    /// Cancel a task: stop its workers and remove its staging tables; published rows stay
    #[command(infer_long_args = true, after_help = help::CANCEL)]
    Cancel(OrderFlags),
    /// List the tables and statements that a dead task left; remove them with --remove
    #[command(infer_long_args = true, after_help = help::CLEANUP)]
    Cleanup(CleanupFlags),
    /// Write the task that copies everything back
    #[command(infer_long_args = true, after_help = help::REVERSE)]
    Reverse(ReverseFlags),
    /// Generate shell completions
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = help::MAN)]
    Man,
}

/// The address of a task, for every verb.
#[derive(Debug, Args)]
pub(crate) struct Address {
    /// XML file with a section zookeeper. Without it, all workers run on this machine
    #[arg(short = 'C', long = "config-file", visible_alias = "config", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// Without ZooKeeper: folder on a local disk that the workers share [default: clickhouse-copier-state beside the
    /// task file]
    #[arg(long, value_name = "DIR", conflicts_with = "config_file")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Node of the task in ZooKeeper, such as /clickhouse/copytasks/task1 [default without ZooKeeper: named after the task
    /// file, /task for task.xml]
    #[arg(long, value_name = "PATH")]
    pub(crate) task_path: Option<String>,

    /// Most statements of this process on a server at a time
    #[arg(long, value_name = "N", default_value_t = USUAL_STATEMENTS, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(i64::from(FEWEST_STATEMENTS)..=i64::from(MOST_STATEMENTS)))]
    pub(crate) max_statements_per_server: u16,

    /// Environment variable that a description from ZooKeeper may use by from_env; needed where the command has no
    /// --task-file. May be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_env: Vec<String>,

    /// Folder whose files a description from ZooKeeper may use, as by password_file. May be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) secrets_dir: Vec<PathBuf>,

    /// Seconds without progress after which a transfer, a count or another long statement is ended and tried again
    #[arg(long, value_name = "SECONDS", default_value_t = STALL_SECONDS, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub(crate) stall_timeout: u32,
}

/// The format of log lines or of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: JSON, an object a log line.
    Json,
}

/// The requested progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressWish {
    /// Bars on a terminal, else lines.
    Auto,
    /// A bar for each piece in hand.
    Bars,
    /// A log line now and then.
    Lines,
    /// Not at all.
    None,
}

/// Reads a command line. Its first argument is the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Verb, Refusal> {
    match Line::try_parse_from(arguments) {
        Ok(Line { verb: Some(Verb::Completions { shell }), .. }) => Err(Refusal::Shown(completions(shell))),
        Ok(Line { verb: Some(Verb::Man), .. }) => Err(Refusal::Shown(manual()?)),
        Ok(Line { verb, flags }) => Ok(verb.unwrap_or(Verb::Run(flags))),
        Err(error) if error.use_stderr() => Err(Refusal::Wrong(one_line(&error))),
        Err(help_or_version) => Err(Refusal::Shown(help_or_version.render().to_string())),
    }
}

/// Returns clap's description of all verbs and their flags.
pub(crate) fn command() -> clap::Command {
    Line::command()
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), super::super::PROGRAM, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns the manual page: all verbs on one page, in the format of `man`.
fn manual() -> Result<String, Refusal> {
    let mut text = Vec::new();
    let failed = |error: std::io::Error| Refusal::Wrong(format!("cannot make the manual page: {error}"));
    let mut line = command();
    line.build();
    clap_mangen::Man::new(line.clone()).render(&mut text).map_err(failed)?;
    for verb in line.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let man = clap_mangen::Man::new(verb.clone());
        let _ = writeln!(text, ".SH \"{}\"", verb.get_name().to_uppercase());
        man.render_description_section(&mut text).map_err(failed)?;
        man.render_options_section(&mut text).map_err(failed)?;
        man.render_extra_section(&mut text).map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Returns clap's message in one line: the error and its tips, without the usage, which `--help` shows.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text_lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let text_lines = text_lines.join(" ");
    format!("{} (see {} --help)", text_lines.trim_start_matches("error: "), super::super::PROGRAM)
}

fn table_name(text: &str) -> Result<TableName, String> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => Ok(TableName::new(database, table)),
        _ => Err("a table is written with its database, as in web.hits".to_owned()),
    }
}

/// Reads a boolean, in the words that Poco's configuration accepts.
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

fn jobs(text: &str) -> Result<Jobs, String> {
    match text.parse::<u16>() {
        Ok(number) if number > 0 => Ok(Jobs::Fixed(usize::from(number))),
        _ if text == "auto" => Ok(Jobs::Adaptive),
        _ => Err("say a number from 1 to 65535, or auto".to_owned()),
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    address.parse().map_err(|_| "say an address of this machine and a port, as in 127.0.0.1:8080".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(probability),
        _ => Err("a probability is a number from 0 to 1".to_owned()),
    }
}

/// Reads a sample such as `1/7`.
fn sample(text: &str) -> Result<(u64, u64), String> {
    let numbers = text.split_once('/').and_then(|(take, parts)| Some((take.parse().ok()?, parts.parse().ok()?)));
    match numbers {
        Some((take, of)) if take >= 1 && take <= of && of <= 100_000 => Ok((take, of)),
        _ => Err("a sample is written as a part of the whole, as in 1/7".to_owned()),
    }
}

fn date(text: &str) -> Result<time::Date, String> {
    let form = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, form).map_err(|_| "a date is written as in 2026-01-31".to_owned())
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
