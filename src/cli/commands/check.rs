//! `check`: everything is asked, and each finding is a line.

use crate::operations::check::{Request, observe};
use crate::report::check::{CheckReport, Verdict, judge};

use super::super::args::address::{doors_of, own, secrets_at, servers};
use super::super::args::flags::LogFormat;
use super::super::args::options::CheckOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::{Exit, Failure, Interrupt};
use crate::cli::args::input::{name, text};

/// Looks at everything that a run would need. Creates nothing; either signal ends it at once.
pub(crate) async fn check(options: CheckOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description =
        options.task_file.as_deref().map(|file| Ok::<_, Failure>((text(file)?, name(file)))).transpose()?;
    let (servers, coordinator) = match &options.place {
        Some(address) => {
            let doors = doors_of(address)?;
            (doors.client, Some((doors.coordinator, address.task_path().to_owned())))
        }
        None => (servers(None)?, None),
    };
    let request = Request {
        coordinator,
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
    tell(&judge(&observed), options.format)
}

fn tell(report: &CheckReport, format: LogFormat) -> Result<Exit, Failure> {
    match format {
        LogFormat::Text => print(&report.to_string())?,
        LogFormat::Json => print_object(report)?,
    }
    Ok(exit(report))
}

fn exit(report: &CheckReport) -> Exit {
    match report.verdict {
        Verdict::Clear => Exit::Done,
        Verdict::WouldFail => Exit::Failed,
        Verdict::TaskWrong => Exit::BadInput,
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckReport, Exit, Verdict};

    #[test]
    fn each_verdict_of_a_check_has_its_exit_code() {
        for (verdict, code) in [(Verdict::Clear, 0), (Verdict::WouldFail, 1), (Verdict::TaskWrong, 2)] {
            let exit: Exit = super::exit(&CheckReport { verdict, findings: Vec::new() });
            assert_eq!(exit as u8, code, "{verdict:?}");
        }
    }
}
