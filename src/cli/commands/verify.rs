//! `verify`: compares the target with the source.

use super::super::args::address::{clients_of, own, secrets_at, servers};
use super::super::args::flags::LogFormat;
use super::super::args::options::VerifyOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::{Exit, Failure, Interrupt};
use super::repair::Repair;
use crate::cli::args::input::task_text;
use crate::operations::location::TaskLocation;
use crate::operations::verify::{Request, compare};
use crate::report::verify::{ComparisonResult, VerifyReport};

/// Compares the copied rows with their source. Changes nothing without `--repair`. A signal ends a comparison at once,
/// and a repair in the same way as a run.
pub(crate) async fn verify(options: VerifyOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description = options.task_file.as_deref().map(task_text).transpose()?;
    let (client, location) = match &options.place {
        Some(address) => {
            let clients = clients_of(address)?;
            let task_path = address.task_path().to_owned();
            (clients.client, Some(TaskLocation { coordinator: clients.coordinator, task_path }))
        }
        None => (servers(None)?, None),
    };
    let mut request = Request {
        location,
        client,
        secrets: secrets_at(options.place.as_ref(), own(&description)),
        description,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        by: options.by,
        sample: options.sample,
        only: None,
        keys: options.keys,
    };
    // A repair that is impossible is reported before hours are spent on the comparison.
    let repair = if options.repair { Some(Repair::of(&request, options.place.as_ref()).await?) } else { None };
    let Some(report) = compare_and_print(&request, &options, &interrupt).await? else { return Ok(Exit::Interrupted) };
    let Some(repair) = repair else { return Ok(exit(&report)) };
    let chosen = repair.chosen(&report);
    if chosen.is_empty() {
        return Ok(exit(&report));
    }
    if let Some(exit) = repair.run(&request, &chosen, &interrupt).await? {
        return Ok(exit);
    }
    let has_unrepairable = report.different() > chosen.iter().map(|chosen| chosen.partitions.len()).sum();
    request.only = Some(chosen);
    let Some(repaired) = compare_and_print(&request, &options, &interrupt).await? else { return Ok(Exit::Interrupted) };
    Ok(match exit(&repaired) {
        Exit::Done if has_unrepairable => {
            tracing::warn!("partitions without rows at the source still differ: there is nothing to copy into them");
            Exit::Different
        }
        Exit::Done if report.is_incomplete() => Exit::Failed,
        other => other,
    })
}

/// Compares, and prints the report. Returns `None` if a signal ended it.
async fn compare_and_print(
    request: &Request,
    options: &VerifyOptions,
    interrupt: &Interrupt,
) -> Result<Option<VerifyReport>, Failure> {
    let found = tokio::select! {
        found = compare(request) => found.map_err(failure)?,
        () = interrupt.finish() => return Ok(None),
    };
    let report = VerifyReport::of(&found, options.by, options.sample);
    match options.format {
        LogFormat::Text => print(&report.to_string())?,
        LogFormat::Json => print_object(&report)?,
    }
    Ok(Some(report))
}

fn exit(report: &VerifyReport) -> Exit {
    match report.verdict {
        ComparisonResult::Equal | ComparisonResult::Expected => Exit::Done,
        ComparisonResult::Unknown => Exit::Failed,
        ComparisonResult::Different => Exit::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::{ComparisonResult, VerifyReport, exit};

    #[test]
    fn each_verdict_of_a_comparison_has_its_exit_code() {
        for (verdict, code) in [
            (ComparisonResult::Equal, 0),
            (ComparisonResult::Expected, 0),
            (ComparisonResult::Unknown, 1),
            (ComparisonResult::Different, 4),
        ] {
            let (by, remarks, tables) = ("count", Vec::new(), Vec::new());
            let report = VerifyReport { verdict, by, sample: None, remarks, tables };
            assert_eq!(exit(&report) as u8, code, "{verdict:?}");
        }
    }
}
