//! `check`: everything is asked, and each finding is a line.

use std::sync::Arc;

use crate::cluster::http::HttpWarehouse;
use crate::keeper::Coordinator;
use crate::model::Tls;
use crate::report::check::{CheckReport, Verdict, judge};
use crate::task::SystemSecrets;
use crate::worker::check::{Request, observe};

use super::meant::{CheckOptions, LogFormat};
use super::work::{coordinator, failure, keeper_config, name, print, text, warehouse};
use super::{Exit, Failure, Interrupt};

/// Looks at everything that a run would need. Creates nothing; either signal ends it at once.
pub(super) async fn check(options: CheckOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let description =
        options.task_file.as_deref().map(|file| Ok::<_, Failure>((text(file)?, name(file)))).transpose()?;
    let (servers, place) = match &options.place {
        Some((file, task_path)) => {
            let keeper = keeper_config(file)?;
            let servers = warehouse(&keeper)?;
            let coordinator: Arc<dyn Coordinator> = Arc::new(coordinator(keeper));
            (servers, Some((coordinator, task_path.clone())))
        }
        None => (HttpWarehouse::new(&Tls::default()).map_err(|error| Failure::new(Exit::BadInput, error))?, None),
    };
    let request = Request {
        coordinator: place,
        warehouse: Arc::new(servers.clone()),
        inspector: Arc::new(servers),
        secrets: Arc::new(SystemSecrets),
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
        LogFormat::Text => print(&report.to_string()),
        LogFormat::Json => print(&serde_json::to_string_pretty(report)?),
    }
    Ok(match report.verdict {
        Verdict::Clear => Exit::Done,
        Verdict::WouldFail => Exit::Failed,
        Verdict::TaskWrong => Exit::BadInput,
    })
}
