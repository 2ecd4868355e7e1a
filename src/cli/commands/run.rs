//! `run` and `--status`: makes the clients from the configuration, starts a worker, and reports the result.

use super::super::args::address::{Coordination, clients_of, coordinator_of};
use super::super::args::flags::LogFormat;
use super::super::args::options::{CountsOptions, RunOptions};
use super::super::output::logs::Logs;
use super::super::output::{print, print_json, progress};
use super::super::process::after_run::{AfterRun, RunFacts};
use super::super::process::daemon::Readiness;
use super::super::process::pid_file::PidFile;
use super::super::process::systemd;
use super::super::{Exit, Failure, Interrupt};
use super::plan::read_plan;
use crate::cli::args::input::task_text;
use crate::cli::exit::failure;
use crate::client::http::served_connections;
use crate::coordinator::CLOSE_ZOOKEEPER;
use crate::model::counted;
use crate::planning::errors::RunError;
use crate::report::Report;
use crate::runtime::random::Randomness;
use crate::task::SystemSecrets;
use crate::worker::context::WorkerOptions;
use crate::worker::ending::{Ending, Summary};
use crate::worker::launch::Launch;
use crate::worker::retry_policy::RetryPolicy;
use crate::{web, worker};

/// Copies the tables of the task.
///
/// Until `readiness.ready(…)` the launcher of a daemon receives the text of an error. The run ends at a safe point
/// after `interrupt.finish()` and at once after `interrupt.stop()`.
pub(crate) async fn run(
    options: RunOptions,
    logs: &Logs,
    interrupt: Interrupt,
    readiness: &mut Readiness,
) -> Result<Exit, Failure> {
    let (after_run, mut facts) = (AfterRun::of(&options), RunFacts::default());
    // The pid file is held until the end.
    let pid_file = options.pid_file.as_deref().map(PidFile::claim).transpose();
    let ended = match &pid_file {
        Ok(_) => copy(options, logs, &interrupt, readiness, &mut facts).await,
        Err(error) => Err(Failure::new(Exit::Failed, super::super::exit::chain(error))),
    };
    if let Ok(Exit::Done) = ended {
        // systemd takes a process that ends before it was ready for a failure, even when there was nothing to do.
        systemd::report_ready();
    }
    systemd::report_stopping();
    after_run.finish(ended, facts, logs, &interrupt).await
}

async fn copy(
    options: RunOptions,
    logs: &Logs,
    interrupt: &Interrupt,
    readiness: &mut Readiness,
    facts: &mut RunFacts,
) -> Result<Exit, Failure> {
    let clients = clients_of(&options.address)?;
    if let Coordination::Local(_) = &options.address.coordinator {
        let task_path = options.address.task_path();
        tracing::info!("task {task_path} in {}, for workers on this machine", clients.coordinator.place());
    }
    if clients.coordinator.is_open_to_all() {
        let place = clients.coordinator.place();
        tracing::warn!("everybody who reaches {place} can change this task there: {CLOSE_ZOOKEEPER}");
    }
    // A wrong task is reported before any server or coordinator is asked.
    let description = options.task_file.as_deref().map(|file| {
        let parsed = task_text(file)?.parse(&SystemSecrets);
        parsed.map_err(|faults| Failure::new(Exit::BadInput, faults))
    });
    let description = description.transpose()?;
    let task = description.as_ref().map(|file| file.task.as_ref());
    let agreed = options.plan.as_deref().map(|path| read_plan(path, task)).transpose()?;
    let (host, randomness) = (gethostname::gethostname().to_string_lossy().into_owned(), Randomness::fair());
    let launch = Launch {
        client: clients.client,
        coordinator: clients.coordinator,
        secrets: options.address.secrets(description.as_ref().map(|file| file.text.as_str())),
        task_path: options.address.task_path().to_owned(),
        description,
        upload_force: options.upload_force,
        agreed,
        incremental: options.incremental,
        worker_options: WorkerOptions {
            retry: RetryPolicy {
                piece_attempts: options.tries.partition,
                publication_attempts: options.tries.attach,
                rounds: options.tries.table,
                first_pause: options.retry_delay,
            },
            stall_timeout: options.address.servers.stall,
            copy_fault_probability: options.copy_fault_probability,
            move_fault_probability: options.move_fault_probability,
            jobs: options.jobs,
            safe_mode: options.safe_mode,
        },
        worker: format!("{host}-{}-{}", std::process::id(), randomness.unique(4)),
        host,
        randomness,
    };
    let started = async || {
        let places = logs.start(clients.rotation).map_err(as_world)?;
        readiness.ready(&places).map_err(as_world)?;
        systemd::report_ready();
        Ok(())
    };
    (facts.worker, facts.client) = (launch.worker.clone(), Some(launch.client.clone()));
    let (view, task_path) = (&facts.view, options.address.task_path());
    let metrics = match &options.metrics {
        Some(serving) => {
            let (listener, address, access) = serving.begin().await?;
            tracing::info!("metrics of this worker are at http://{address}/metrics");
            let router = web::server::worker(view.clone(), launch.worker.clone(), task_path.to_owned(), access);
            // The metrics are served as long as this worker works.
            let max_connections = served_connections(web::server::METRICS_CONNECTIONS);
            Some(web::serve::serve(listener, router, max_connections, std::future::pending()))
        }
        None => None,
    };
    let progress_display = progress::begin(options.progress, options.progress_every, view, task_path, logs.terminal());
    let ended = beside(metrics, worker::run_seen(launch, interrupt, view, started)).await;
    drop(progress_display);
    let summary = facts.summary.insert(ended.map_err(failure)?);
    report_result(summary, options.format, readiness.is_background())
}

/// Does the work, and serves HTTP beside it.
async fn beside<T>(served: Option<impl Future<Output = ()>>, work: impl Future<Output = T>) -> T {
    let Some(served) = served else { return work.await };
    let served = async {
        served.await;
        std::future::pending::<T>().await
    };
    tokio::select! {
        done = work => done,
        never = served => never,
    }
}

/// Prints the progress of the task on standard output, as the original wrote it.
pub(crate) async fn status(options: CountsOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    tokio::select! {
        outcome = print_counts(options) => outcome,
        () = interrupt.finish() => Ok(Exit::Interrupted),
    }
}

async fn print_counts(options: CountsOptions) -> Result<Exit, Failure> {
    let coordinator = coordinator_of(&options.address)?;
    let task_path = options.address.task_path();
    let session = coordinator.session().await?;
    let path = format!("{task_path}/status");
    let stored = session.get(&path).await?;
    session.close().await;
    let stored = stored.ok_or_else(|| {
        Failure::new(Exit::BadInput, format!("there is no task at {task_path} in {}", coordinator.place()))
    })?;
    print_json(&String::from_utf8_lossy(&stored.data))?;
    Ok(Exit::Done)
}

fn report_result(summary: &Summary, format: LogFormat, in_background: bool) -> Result<Exit, Failure> {
    if summary.ending == Ending::Interrupted {
        tracing::warn!("interrupted; the task goes on where it stands when a worker is started again");
        return Ok(Exit::Interrupted);
    }
    if summary.ending == Ending::Cancelled {
        return Err(Failure::new(
            Exit::Failed,
            "the task was cancelled; what it had published stays. To begin it anew, remove its record first: cleanup --remove --forget",
        ));
    }
    let account = &summary.record.account;
    let report = Report::of(&summary.plans, &summary.by_table).with_account(account);
    if summary.ending == Ending::WasFinished {
        let line = format!(
            "the task is finished already: {} rows in {}; nothing to do",
            report.rows(),
            counted(report.tables.len(), "table")
        );
        tracing::info!("{line}");
        return Ok(Exit::Done);
    }
    let mut printed = Ok(());
    if in_background {
        tracing::info!("\n{report}");
    } else {
        tracing::debug!("\n{report}");
        // With JSON, the report is printed at the very end.
        if format == LogFormat::Text {
            printed = print(&report.to_string()).map_err(Failure::from);
        }
    }
    for line in &summary.left {
        tracing::error!("not everything is cleaned up: {line}");
    }
    for line in account.lines() {
        tracing::error!("{line}");
    }
    // A report that cannot be printed is no success.
    let exit = conclusion(summary.ending, report.missing());
    match printed {
        Err(error) if exit != Exit::Done => {
            // The worse of the two results decides the exit code.
            tracing::error!("{error}");
            Ok(exit)
        }
        printed => printed.map(|()| exit),
    }
}

/// Logs how a task ended, and returns the exit code.
fn conclusion(ending: Ending, missing: usize) -> Exit {
    match ending {
        Ending::Different => {
            tracing::error!(
                "every partition is published, and source and target DIFFER: see the report. verify says which rows, verify --repair \
                 copies them again"
            );
            Exit::Different
        }
        Ending::Unaccounted => {
            tracing::error!("every partition is published, and some rows are not accounted for: see the report");
            Exit::Partial
        }
        Ending::Uncleaned => {
            tracing::error!(
                "every partition is published and accounted for, and tables of the task are left on servers: see above. The same command, \
                 or cleanup --remove, removes them when that is mended"
            );
            Exit::Partial
        }
        Ending::Partial => {
            tracing::error!(
                "{missing} partitions are not published: see the report. The same command tries them again"
            );
            Exit::Partial
        }
        _ => {
            tracing::info!("the task is finished");
            Exit::Done
        }
    }
}

fn as_world(error: impl std::error::Error) -> RunError {
    RunError::servers(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{Ending, Exit, LogFormat, RunError, Summary, failure, report_result};
    use crate::protocol::account::Findings;
    use crate::protocol::{TaskId, TaskRecord};
    use crate::task::{GivenSecrets, Task};

    const TASK: &str = "<clickhouse><remote_servers><c><shard><replica><host>h</host></replica></shard></c></remote_servers>
        <tables><t><cluster_pull>c</cluster_pull><database_pull>a</database_pull><table_pull>t</table_pull>
        <cluster_push>c</cluster_push><database_push>b</database_push><table_push>t</table_push></t></tables></clickhouse>";

    fn summary(ending: Ending) -> Summary {
        Summary {
            ending,
            record: TaskRecord {
                format: TaskRecord::FORMAT,
                id: TaskId("0123456789ab".into()),
                inputs: BTreeMap::new(),
                planned: true,
                prepared: true,
                finished: true,
                pass: 0,
                drops_vanished: false,
                forgotten: false,
                account: Findings::default(),
            },
            plans: Arc::default(),
            by_table: Vec::new(),
            left: Vec::new(),
            task: Arc::new(Task::parse(TASK, &GivenSecrets::default()).expect("a task").task),
            ended_it: true,
        }
    }

    #[test]
    fn each_result_of_a_run_has_its_exit_code() {
        for (ending, code) in [
            (Ending::WasFinished, 0),
            (Ending::Finished, 0),
            (Ending::Different, 4),
            (Ending::Unaccounted, 3),
            (Ending::Uncleaned, 3),
            (Ending::Partial, 3),
            (Ending::Interrupted, 130),
            (Ending::Cancelled, 1),
        ] {
            let exit = report_result(&summary(ending), LogFormat::Json, false);
            let exit = exit.unwrap_or_else(|failure| failure.exit());
            assert_eq!(exit as u8, code, "{ending:?}");
        }
    }

    #[test]
    fn a_wrong_task_has_another_exit_code_than_a_wrong_server() {
        assert_eq!(failure(RunError::task("wrong")).exit(), Exit::BadInput);
        assert_eq!(failure(RunError::servers("wrong")).exit(), Exit::Failed);
    }
}
