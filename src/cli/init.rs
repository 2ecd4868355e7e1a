//! `init`: a task file from what live servers say.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::Secret;
use crate::report::proposal::ProposalReport;
use crate::task::{SecretSource, Sketch, SystemSecrets, Task};
use crate::worker::propose::{self, Servers, Side};

use super::address::servers;
use super::meant::{InitOptions, LogFormat};
use super::work::{failure, print, print_object};
use super::{Exit, Failure, Interrupt, PROGRAM};

/// Asks the servers and writes the file. Creates nothing else; either signal ends it at once.
pub(super) async fn init(options: InitOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let http = servers(options.config.as_deref())?;
    let servers = Servers { warehouse: http.clone(), inspector: http };
    let mut copy = options.copy;
    enter("--from-password-env", &mut copy.from)?;
    enter("--to-password-env", &mut copy.to)?;
    let sketch = tokio::select! {
        sketch = propose::init(&servers, &copy) => sketch.map_err(failure)?,
        () = interrupt.finish() => return Ok(Exit::Interrupted),
    };
    write(&sketch, options.output.as_deref(), options.format)
}

/// Reads the password of a side from where its variable says.
pub(super) fn enter(flag: &str, side: &mut Side) -> Result<(), Failure> {
    let Some(variable) = &side.password_env else { return Ok(()) };
    let Some(password) = SystemSecrets.env(variable) else {
        let line = format!("{flag} {variable}: the environment variable is not set");
        return Err(Failure::new(Exit::BadInput, line));
    };
    side.node.password = Secret::new(password);
    Ok(())
}

/// Writes a task file that is known to be one. A file of that name is not overwritten, and nobody else may read it: what is
/// kept of another task may hold passwords.
pub(super) fn write(sketch: &Sketch, output: Option<&Path>, format: LogFormat) -> Result<Exit, Failure> {
    let xml = sketch.to_xml();
    let task = Task::parse(&xml, &SystemSecrets)
        .map_err(|faults| Failure::new(Exit::BadInput, faults.in_file("the task file that would be written")))?;
    if let Some(path) = output {
        let shown = path.display();
        let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot write {shown}: {error}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(xml.as_bytes()).map_err(failed)?;
    }
    match (format, output) {
        (LogFormat::Json, _) => {
            print_object(&ProposalReport::of(sketch, &xml, &task.task, output))?;
        }
        (LogFormat::Text, None) => print(xml.trim_end()),
        (LogFormat::Text, Some(path)) => {
            let shown = path.display();
            print(&format!("{shown} is written. What would go wrong with it: {PROGRAM} check --task-file {shown}"));
        }
    }
    Ok(Exit::Done)
}
