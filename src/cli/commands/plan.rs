//! `plan`: shows what a run would do, and writes the plan to a file on request.

use std::path::Path;

use super::super::args::address::{TaskInput, read_task};
use super::super::args::flags::LogFormat;
use super::super::args::options::PlanOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object};
use super::super::process::files;
use super::super::{Exit, Failure, Interrupt, PROGRAM};
use crate::cli::args::input::text;
use crate::operations::plan::make_plan;
use crate::plan::Document;
use crate::planning::plan_all::fit;
use crate::report::plan::PlanText;
use crate::task::{Task, differences};

/// Plans as a run would. Creates nothing on any server. The first signal ends it at once.
pub(crate) async fn plan(options: PlanOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    tokio::select! {
        outcome = planned(options) => outcome,
        () = interrupt.finish() => Ok(Exit::Interrupted),
    }
}

async fn planned(options: PlanOptions) -> Result<Exit, Failure> {
    let TaskInput { http, text, secrets } = read_task(options.place, options.task_file.as_deref()).await?;
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let document = make_plan(http, secrets.as_ref(), text, host).await.map_err(failure)?;
    match options.format {
        LogFormat::Text => print(&PlanText(&document).to_string())?,
        LogFormat::Json => print_object(&document)?,
    }
    if let Some(path) = &options.output {
        let shown = path.display();
        files::make(path, &serde_json::to_string_pretty(&document)?, files::Readers::AsUsual)?;
        if options.format == LogFormat::Text {
            print(&format!("{shown} is written. To run exactly this: {PROGRAM} run --plan {shown} …"))?;
        }
    }
    Ok(Exit::Done)
}

/// Reads a plan that a run must follow. The plan must be one of this task.
pub(crate) fn read_plan(path: &Path, task: Option<&Task>) -> Result<Document, Failure> {
    let wrong = |why: String| Failure::new(Exit::BadInput, format!("--plan {}: {why}", path.display()));
    let document: Document = serde_json::from_str(&text(path)?)
        .map_err(|error| wrong(format!("this is no plan that the verb plan wrote: {error}")))?;
    if document.schema != Document::SCHEMA {
        return Err(wrong(format!("it was written by another version of this program (schema {})", document.schema)));
    }
    document.check().map_err(&wrong)?;
    if let Some(task) = task {
        fit(document.tables.iter().map(|planned| &planned.plan), task).map_err(&wrong)?;
    }
    let changed_inputs = task.map(|task| differences(&document.inputs, &task.plan_inputs())).unwrap_or_default();
    if !changed_inputs.is_empty() {
        return Err(wrong(format!("it is of another task: {}", changed_inputs.join("; "))));
    }
    Ok(document)
}
