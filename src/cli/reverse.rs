//! `reverse`: the task that restores what a task has copied.

use crate::task::Task;
use crate::worker::propose::{self, Servers, WayBack};

use super::address::{Described, described};
use super::exit::failure;
use super::init::{enter, write};
use super::options::ReverseOptions;
use super::{Exit, Failure, Interrupt};

/// Reads the task, asks the servers and writes the file. Creates nothing else; either signal ends it at once.
pub(super) async fn reverse(options: ReverseOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    tokio::select! {
        outcome = turn(options) => outcome,
        () = interrupt.finish() => Ok(Exit::Interrupted),
    }
}

async fn turn(options: ReverseOptions) -> Result<Exit, Failure> {
    let Described { http, text, file, secrets } = described(options.place, options.task_file.as_deref()).await?;
    let parsed = Task::parse(&text, secrets.as_ref());
    let task = parsed.map_err(|faults| Failure::new(Exit::BadInput, faults.in_file(file)))?.task;
    let mut to = options.to;
    if let Some(side) = &mut to {
        enter("--to-password-env", side)?;
    }
    let servers = Servers { warehouse: http.clone(), inspector: http };
    let way = WayBack { task: &task, text: &text, to, database: options.database, sharding_key: options.sharding_key };
    let sketch = propose::reverse(&servers, &way).await.map_err(failure)?;
    write(&sketch, options.output.as_deref(), options.format)
}
