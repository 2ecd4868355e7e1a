//! `check`: reports what would keep a task from being copied.

use super::super::args::address::{clients_of, own, secrets_at, servers};
use super::super::args::flags::LogFormat;
use super::super::args::options::CheckOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::{Exit, Failure, Interrupt};
use crate::cli::args::input::task_text;
use crate::operations::check::{Request, observe};
use crate::operations::location::TaskLocation;
use crate::report::check::{CheckReport, CheckResult, judge};

/// Checks everything that a run needs. Creates nothing. The first signal ends it at once.
pub(crate) async fn check(options: CheckOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description = options.task_file.as_deref().map(task_text).transpose()?;
    let (servers, location) = match &options.place {
        Some(address) => {
            let clients = clients_of(address)?;
            let task_path = address.task_path().to_owned();
            (clients.client, Some(TaskLocation { coordinator: clients.coordinator, task_path }))
        }
        None => (servers(None)?, None),
    };
    let request = Request {
        location,
        client: servers.clone(),
        inspector: servers,
        secrets: secrets_at(options.place.as_ref(), own(&description)),
        description,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let observed = tokio::select! {
        observed = observe(&request) => observed.map_err(failure)?,
        () = interrupt.finish() => return Ok(Exit::Interrupted),
    };
    print_report(&judge(&observed), options.format)
}

fn print_report(report: &CheckReport, format: LogFormat) -> Result<Exit, Failure> {
    match format {
        LogFormat::Text => print(&report.to_string())?,
        LogFormat::Json => print_object(report)?,
    }
    Ok(exit(report))
}

fn exit(report: &CheckReport) -> Exit {
    match report.verdict {
        CheckResult::Clear => Exit::Done,
        CheckResult::WouldFail => Exit::Failed,
        CheckResult::TaskWrong => Exit::BadInput,
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckReport, CheckResult, Exit};

    #[test]
    fn each_verdict_of_a_check_has_its_exit_code() {
        for (verdict, code) in [(CheckResult::Clear, 0), (CheckResult::WouldFail, 1), (CheckResult::TaskWrong, 2)] {
            let exit: Exit = super::exit(&CheckReport { verdict, findings: Vec::new() });
            assert_eq!(exit as u8, code, "{verdict:?}");
        }
    }
}
