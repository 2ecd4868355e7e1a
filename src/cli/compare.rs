//! `verify`: both sides are compared, and what differs is told.

use std::sync::Arc;

use crate::report::verify::{Outcome, VerifyReport};
use crate::task::SystemSecrets;
use crate::worker::compare::{Request, compare};

use super::address::{doors_of, servers};
use super::meant::{LogFormat, VerifyOptions};
use super::work::{failure, name, print, text};
use super::{Exit, Failure, Interrupt};

/// Compares what the task has copied with its source. Changes nothing; either signal ends it at once.
pub(super) async fn verify(options: VerifyOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description =
        options.task_file.as_deref().map(|file| Ok::<_, Failure>((text(file)?, name(file)))).transpose()?;
    let (warehouse, coordinator) = match &options.place {
        Some(address) => {
            let doors = doors_of(address)?;
            (doors.warehouse, Some((doors.coordinator, address.task_path().to_owned())))
        }
        None => (servers(None)?, None),
    };
    let request = Request {
        coordinator,
        warehouse,
        secrets: Arc::new(SystemSecrets),
        description,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        by: options.by,
        sample: options.sample,
        keys: options.keys,
    };
    let found = tokio::select! {
        found = compare(&request) => found.map_err(failure)?,
        () = interrupt.finish() => return Ok(Exit::Interrupted),
    };
    let report = VerifyReport::of(&found, options.by, options.sample);
    match options.format {
        LogFormat::Text => print(&report.to_string()),
        LogFormat::Json => print(&serde_json::to_string_pretty(&report)?),
    }
    Ok(match report.verdict {
        Outcome::Equal | Outcome::Expected => Exit::Done,
        Outcome::Unknown => Exit::Failed,
        Outcome::Different => Exit::Different,
    })
}
