//! `reverse`: the task that restores what a task has copied.

use crate::operations::init;
use crate::operations::init::{Servers, WayBack};
use crate::task::Task;

use super::super::args::address::{Described, described};
use super::super::args::options::ReverseOptions;
use super::super::exit::failure;
use super::super::{Exit, Failure, Interrupt};
use super::init::{enter, write};

/// Reads the task, asks the servers and writes the file. Creates nothing else; either signal ends it at once.
pub(crate) async fn reverse(options: ReverseOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
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
    let servers = Servers { client: http.clone(), inspector: http };
    let way = WayBack { task: &task, text: &text, to, database: options.database, sharding_key: options.sharding_key };
    let sketch = init::reverse(&servers, &way).await.map_err(failure)?;
    write(&sketch, options.output.as_deref(), options.format)
}
