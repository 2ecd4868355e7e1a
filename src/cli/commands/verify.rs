//! `verify`: both sides are compared, and what differs is told.

use crate::operations::verify::{Request, compare};
use crate::report::verify::{Outcome, VerifyReport};

use super::super::args::address::{doors_of, own, secrets_at, servers};
use super::super::args::flags::LogFormat;
use super::super::args::options::VerifyOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::{Exit, Failure, Interrupt};
use super::repair::Repair;
use crate::cli::args::input::{name, text};

/// Compares what the task has copied with its source. Changes nothing unless told to repair; either signal ends a comparison
/// at once, and a repair as it ends a run.
pub(crate) async fn verify(options: VerifyOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description =
        options.task_file.as_deref().map(|file| Ok::<_, Failure>((text(file)?, name(file)))).transpose()?;
    let (client, coordinator) = match &options.place {
        Some(address) => {
            let doors = doors_of(address)?;
            (doors.client, Some((doors.coordinator, address.task_path().to_owned())))
        }
        None => (servers(None)?, None),
    };
    let mut request = Request {
        coordinator,
        client,
        secrets: secrets_at(options.place.as_ref(), own(&description)),
        description,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        by: options.by,
        sample: options.sample,
        only: None,
        keys: options.keys,
    };
    // What cannot be repaired is told before hours are spent on the comparison.
    let repair = if options.repair { Some(Repair::of(&request, options.place.as_ref()).await?) } else { None };
    let Some(report) = look(&request, &options, &interrupt).await? else { return Ok(Exit::Interrupted) };
    let Some(repair) = repair else { return Ok(exit(&report)) };
    let chosen = repair.chosen(&report);
    if chosen.is_empty() {
        return Ok(exit(&report));
    }
    if let Some(exit) = repair.run(&request, &chosen, &interrupt).await? {
        return Ok(exit);
    }
    let unmended = report.different() > chosen.iter().map(|(_, partitions)| partitions.len()).sum();
    request.only = Some(chosen);
    let Some(mended) = look(&request, &options, &interrupt).await? else { return Ok(Exit::Interrupted) };
    Ok(match exit(&mended) {
        Exit::Done if unmended => {
            tracing::warn!("partitions without rows at the source still differ: there is nothing to copy into them");
            Exit::Different
        }
        Exit::Done if report.is_incomplete() => Exit::Failed,
        other => other,
    })
}

/// Compares, and prints what was found; `None` where it was told to stop.
async fn look(
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
        Outcome::Equal | Outcome::Expected => Exit::Done,
        Outcome::Unknown => Exit::Failed,
        Outcome::Different => Exit::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, VerifyReport, exit};

    #[test]
    fn each_verdict_of_a_comparison_has_its_exit_code() {
        for (verdict, code) in
            [(Outcome::Equal, 0), (Outcome::Expected, 0), (Outcome::Unknown, 1), (Outcome::Different, 4)]
        {
            let (by, remarks, tables) = ("count", Vec::new(), Vec::new());
            let report = VerifyReport { verdict, by, sample: None, remarks, tables };
            assert_eq!(exit(&report) as u8, code, "{verdict:?}");
        }
    }
}
