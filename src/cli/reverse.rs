//! `reverse`: the task that restores what a task has copied.

use crate::keeper::Coordinator;
use crate::task::{SystemSecrets, Task};
use crate::worker::ledger::Ledger;
use crate::worker::propose::{self, Servers, WayBack};

use super::address::{doors_of, servers};
use super::init::{enter, write};
use super::meant::ReverseOptions;
use super::work::{failure, name, text};
use super::{Exit, Failure, Interrupt};

/// Reads the task, asks the servers and writes the file. Creates nothing else; either signal ends it at once.
pub(super) async fn reverse(options: ReverseOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    tokio::select! {
        outcome = turn(options) => outcome,
        () = interrupt.finish() => Ok(Exit::Interrupted),
    }
}

async fn turn(options: ReverseOptions) -> Result<Exit, Failure> {
    let doors = options.place.as_ref().map(doors_of).transpose()?;
    let http = doors.as_ref().map_or_else(|| servers(None), |doors| Ok(doors.warehouse.clone()))?;
    let (text, file) = match (&options.task_file, doors.zip(options.place)) {
        (Some(file), _) => (text(file)?, name(file)),
        (None, Some((doors, address))) => stored(doors.coordinator.as_ref(), address.task_path()).await?,
        (None, None) => return Err(Failure::new(Exit::BadInput, "give the task's file with --task-file")),
    };
    let task =
        Task::parse(&text, &SystemSecrets).map_err(|faults| Failure::new(Exit::BadInput, faults.in_file(file)))?.task;
    let mut to = options.to;
    if let Some(side) = &mut to {
        enter("--to-password-env", side)?;
    }
    let servers = Servers { warehouse: http.clone(), inspector: http };
    let way = WayBack { task: &task, text: &text, to, database: options.database, sharding_key: options.sharding_key };
    let sketch = propose::reverse(&servers, &way).await.map_err(failure)?;
    write(&sketch, options.output.as_deref())
}

/// The description of a task in the coordinator, and its place.
pub(super) async fn stored(coordinator: &dyn Coordinator, task_path: &str) -> Result<(String, String), Failure> {
    let session = coordinator.session().await?;
    let ledger = Ledger::new(session, task_path);
    let description = ledger.description().await;
    ledger.session().close().await;
    match description? {
        Some(text) => Ok((text, ledger.path("description"))),
        None => {
            let line =
                format!("there is no task at {task_path} in {}: give its file with --task-file", coordinator.place());
            Err(Failure::new(Exit::BadInput, line))
        }
    }
}
