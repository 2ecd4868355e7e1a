//! Turns flags into options: plain values, each checked, with absolute paths. Reads the file system, creates nothing.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use super::super::output::progress::Progress;
use super::super::process::serving::{Serving, TokenSource};
use super::address::{Address, addressed};
use super::fault::ArgumentFault;
use super::files::{absent_file, existing_file, folder_or_nothing, new_file};
use super::flags;

pub(crate) use super::flags::LogFormat;
use super::flags::{
    CheckFlags, CleanupFlags, DashboardFlags, Flags, InitFlags, Measured, OrderFlags, PlanFlags, ProgressWish,
    ReverseFlags, StatusFlags, ToFlags, Verb, VerifyFlags,
};
use super::level::Level;
pub(crate) use super::options::{
    CheckOptions, CleanupOptions, CommandOptions, CountsOptions, DashboardOptions, InitOptions, Invocation, LogOptions,
    PlanOptions, ReverseOptions, RunOptions, StatusOptions, Tries, VerifyOptions,
};
use crate::model::Node;
use crate::operations::init::{FirstCopy, Side};
use crate::operations::verify::{By, Sample};
use crate::protocol::Order;
use crate::worker::launch::Incremental;

/// Checks the flags of a verb and returns its options. The first fault ends the check.
pub(crate) fn checked(verb: Verb) -> Result<Invocation, ArgumentFault> {
    match verb {
        Verb::Run(flags) => run(flags),
        Verb::Cleanup(flags) => cleanup(flags).map(Invocation::Cleanup),
        // The parser has answered these two verbs already.
        Verb::Completions { .. } | Verb::Man => {
            Err(ArgumentFault::Missing { flag: "a verb", purpose: "say what to do" })
        }
        Verb::Plan(flags) => plan(flags).map(Invocation::Plan),
        Verb::Status(flags) => status(flags),
        Verb::Dashboard(flags) => dashboard(flags).map(Invocation::Dashboard),
        Verb::Pause(flags) => order(flags.order, if flags.now { Order::PauseNow } else { Order::Pause }),
        Verb::Resume(flags) => order(flags, Order::Run),
        Verb::Cancel(flags) => order(flags, Order::Cancel),
        Verb::Check(flags) => check(flags).map(Invocation::Check),
        Verb::Verify(flags) => verify(flags).map(Invocation::Verify),
        Verb::Init(flags) => init(flags).map(Invocation::Init),
        Verb::Reverse(flags) => reverse(flags).map(Invocation::Reverse),
    }
}

fn plan(PlanFlags { command: flags, format, output }: PlanFlags) -> Result<PlanOptions, ArgumentFault> {
    let task_file = flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?;
    Ok(PlanOptions {
        place: address_if_any(flags.address, task_file.as_deref())?,
        task_file,
        format,
        output: output.map(|path| absent_file("--output", &path)).transpose()?,
        log: log_to_standard_error(flags.log_level, flags.log_format)?,
    })
}

fn status(StatusFlags { command: flags, format, watch }: StatusFlags) -> Result<Invocation, ArgumentFault> {
    let address = addressed(flags.address, flags.task_file.as_deref())?.existing()?;
    let watch = watch.map(|seconds| Duration::from_secs(seconds.into()));
    let log = log_to_standard_error(flags.log_level, flags.log_format)?;
    Ok(Invocation::Status(StatusOptions { address, format, watch, log }))
}

fn dashboard(flags: DashboardFlags) -> Result<DashboardOptions, ArgumentFault> {
    let DashboardFlags { command: flags, listen, token_env, token_file } = flags;
    Ok(DashboardOptions {
        address: addressed(flags.address, flags.task_file.as_deref())?.existing()?,
        serving: Serving { listen, token: token("--token-file", token_env, token_file.as_deref())? },
        log: log_to_standard_error(flags.log_level, flags.log_format)?,
    })
}

fn token(flag: &'static str, env: Option<String>, file: Option<&Path>) -> Result<Option<TokenSource>, ArgumentFault> {
    let file = file.map(|path| existing_file(flag, path)).transpose()?;
    Ok(env.map(TokenSource::Env).or(file.map(TokenSource::File)))
}

fn order(OrderFlags { command: flags, format }: OrderFlags, order: Order) -> Result<Invocation, ArgumentFault> {
    let address = addressed(flags.address, flags.task_file.as_deref())?.existing()?;
    Ok(Invocation::Command(CommandOptions {
        address,
        order,
        format,
        log: log_to_standard_error(flags.log_level, flags.log_format)?,
    }))
}

/// Returns the log options of a verb that creates no log folder.
fn log_to_standard_error(level: Level, format: LogFormat) -> Result<LogOptions, ArgumentFault> {
    let base_dir = folder_or_nothing("--base-dir", Path::new("."))?;
    Ok(LogOptions { level, format, base_dir, file: None, error_file: None })
}

fn cleanup(flags: CleanupFlags) -> Result<CleanupOptions, ArgumentFault> {
    let address = addressed(flags.address, flags.task_file.as_deref())?;
    Ok(CleanupOptions {
        // A task that is named by its tables may have lost its state.
        address: if flags.task_id.is_some() { address } else { address.existing()? },
        task_file: flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?,
        remove: flags.remove,
        forget: flags.forget,
        task_id: flags.task_id,
        format: flags.format,
        log: log_to_standard_error(flags.log_level, flags.log_format)?,
    })
}

fn check(flags: CheckFlags) -> Result<CheckOptions, ArgumentFault> {
    let task_file = flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?;
    let place = address_if_any(flags.address, task_file.as_deref())?;
    Ok(CheckOptions {
        place,
        task_file,
        format: flags.format,
        log: log_to_standard_error(flags.log_level, LogFormat::Text)?,
    })
}

fn verify(flags: VerifyFlags) -> Result<VerifyOptions, ArgumentFault> {
    let task_file = flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?;
    let day = |date: Option<time::Date>| {
        let date = date.unwrap_or_else(|| time::OffsetDateTime::now_utc().date());
        u64::try_from(date.to_julian_day()).unwrap_or_default()
    };
    Ok(VerifyOptions {
        place: address_if_any(flags.address, task_file.as_deref())?,
        task_file,
        by: match flags.by {
            Measured::Count => By::Count,
            Measured::Checksum => By::Checksum,
        },
        sample: flags.sample.map(|(take, parts)| Sample { take, classes: parts, day: day(flags.date) }),
        repair: flags.repair,
        keys: usize::from(flags.keys),
        format: flags.format,
        log: log_to_standard_error(flags.log_level, LogFormat::Text)?,
    })
}

/// Returns the address of the task. Returns `None` if the task has no state there: then its file says everything.
fn address_if_any(address: flags::Address, task_file: Option<&Path>) -> Result<Option<Address>, ArgumentFault> {
    let named = address.config_file.is_some() || address.state_dir.is_some() || address.task_path.is_some();
    let place = match addressed(address, task_file) {
        // A pipe has no folder for the state.
        Err(_) if !named && task_file.is_some() => return Ok(None),
        place => place?,
    };
    match place.existing() {
        Err(_) if task_file.is_some() => Ok(None),
        place => place.map(Some),
    }
}

fn init(flags: InitFlags) -> Result<InitOptions, ArgumentFault> {
    let missing = |flag, purpose| ArgumentFault::Missing { flag, purpose };
    let from = flags.from.ok_or(missing("--from", "name a server to copy from"))?;
    let to = flags.to.ok_or(missing("--to", "name a server to copy to"))?;
    if flags.tables.is_empty() {
        return Err(missing("--table", "name a table to copy, as in web.hits"));
    }
    let from = Side {
        node: Node { user: flags.from_user, ..server("--from", &from)? },
        password_env: flags.from_password_env,
        cluster: flags.from_cluster,
    };
    Ok(InitOptions {
        copy: FirstCopy { from, to: side(&to, flags.to_more)?, tables: flags.tables, database: flags.database },
        config: flags.config_file.map(|path| existing_file("--config-file", &path)).transpose()?,
        output: flags.written.output.map(|path| absent_file("--output", &path)).transpose()?,
        format: flags.written.format,
        log: log_to_standard_error(flags.written.log_level, LogFormat::Text)?,
    })
}

fn reverse(flags: ReverseFlags) -> Result<ReverseOptions, ArgumentFault> {
    let task_file = flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?;
    Ok(ReverseOptions {
        place: address_if_any(flags.address, task_file.as_deref())?,
        task_file,
        to: flags.to.map(|to| side(&to, flags.to_more)).transpose()?,
        database: flags.database,
        sharding_key: flags.sharding_key,
        output: flags.written.output.map(|path| absent_file("--output", &path)).transpose()?,
        format: flags.written.format,
        log: log_to_standard_error(flags.written.log_level, LogFormat::Text)?,
    })
}

fn side(to: &str, details: ToFlags) -> Result<Side, ArgumentFault> {
    let mut node = server("--to", to)?;
    node.user = details.to_user.unwrap_or(node.user);
    Ok(Side { node, password_env: details.to_password_env, cluster: details.to_cluster })
}

/// Reads a server: `host`, `host:8123`, `[::1]:8123`, `http://host`, `https://host:8443`.
fn server(flag: &'static str, text: &str) -> Result<Node, ArgumentFault> {
    let fault = || ArgumentFault::Host { flag, text: text.to_owned() };
    let (rest, secure) = match text.split_once("://") {
        Some(("http", rest)) => (rest, false),
        Some(("https", rest)) => (rest, true),
        Some(_) => return Err(fault()),
        None => (text, false),
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        // An IPv6 address without a port ends with a bracket, or has no brackets.
        Some((host, port)) if !port.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => {
            (host, Some(port.parse::<u16>().map_err(|_| fault())?))
        }
        _ => (rest, None),
    };
    if host.is_empty() || port == Some(0) || !host.chars().all(|c| c.is_alphanumeric() || "-._:[]".contains(c)) {
        return Err(fault());
    }
    let default_ports = if secure { (9440, 8443) } else { (9000, 8123) };
    Ok(Node { port: default_ports.0, http_port: port.unwrap_or(default_ports.1), secure, ..Node::new(host) })
}

fn run(flags: Flags) -> Result<Invocation, ArgumentFault> {
    let address = addressed(flags.address, flags.task_file.as_deref())?;
    let log = LogOptions {
        level: flags.log_level,
        format: flags.log_format,
        base_dir: folder_or_nothing("--base-dir", flags.base_dir.as_deref().unwrap_or(Path::new(".")))?,
        file: flags.log_file.map(|path| new_file("--log-file", &path)).transpose()?,
        error_file: flags.errorlog_file.map(|path| new_file("--errorlog-file", &path)).transpose()?,
    };
    if flags.status {
        return Ok(Invocation::Counts(CountsOptions { address: address.existing()?, log }));
    }

    let progress = progress(flags.progress, flags.daemon, log.format)?;
    let mut notices = Vec::new();
    if flags.experimental_use_sample_offset {
        notices.push("--experimental-use-sample-offset is no longer needed: rows are read once either way");
    }
    if flags.task_upload_force && flags.task_file.is_none() {
        notices.push("--task-upload-force does nothing without --task-file");
    }
    Ok(Invocation::Run(RunOptions {
        address,
        task_file: flags.task_file.map(|path| existing_file("--task-file", &path)).transpose()?,
        upload_force: flags.task_upload_force,
        incremental: flags.incremental.then_some(Incremental { drop_vanished: flags.drop_vanished }),
        plan: flags.plan.map(|path| existing_file("--plan", &path)).transpose()?,
        daemon: flags.daemon,
        umask: flags.umask,
        pid_file: flags.pid_file.map(|path| new_file("--pid-file", &path)).transpose()?,
        log,
        safe_mode: flags.safe_mode,
        tries: Tries {
            table: flags.max_table_tries,
            partition: flags.max_shard_partition_tries,
            attach: flags.max_shard_partition_piece_tries_for_alter,
        },
        retry_delay: Duration::from_millis(flags.retry_delay_ms.max(100)),
        copy_fault_probability: flags.copy_fault_probability,
        move_fault_probability: flags.move_fault_probability,
        jobs: flags.jobs,
        format: flags.format,
        progress,
        progress_every: Duration::from_secs(flags.progress_every.into()),
        metrics: match flags.metrics_listen {
            Some(listen) => {
                let file = flags.metrics_token_file.as_deref();
                Some(Serving { listen, token: token("--metrics-token-file", flags.metrics_token_env, file)? })
            }
            None => None,
        },
        report: flags.report.iter().map(|path| new_file("--report", path)).collect::<Result<_, _>>()?,
        on_finish: flags.on_finish,
        on_failure: flags.on_failure,
        notices,
    }))
}

fn progress(wish: ProgressWish, daemon: bool, format: LogFormat) -> Result<Progress, ArgumentFault> {
    // The bars move the cursor, which needs a terminal.
    let has_cursor = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    match wish {
        ProgressWish::Bars if daemon || !has_cursor => Err(ArgumentFault::NoTerminal),
        ProgressWish::Auto if has_cursor && !daemon && format == LogFormat::Text => Ok(Progress::Bars),
        ProgressWish::Bars => Ok(Progress::Bars),
        ProgressWish::Auto | ProgressWish::Lines => Ok(Progress::Lines),
        ProgressWish::None => Ok(Progress::None),
    }
}

#[cfg(test)]
#[path = "meaning_tests.rs"]
mod tests;
