//! `reverse`: writes the task that restores the tables that a task has copied.

use super::super::args::address::{TaskInput, read_task};
use super::super::args::options::ReverseOptions;
use super::super::exit::failure;
use super::super::{Exit, Failure, Interrupt};
use super::init::{read_password, write};
use crate::operations::init::{self, Servers, WayBack};

/// Reads the task, asks the servers and writes the file. Creates nothing else. The first signal ends it at once.
pub(crate) async fn reverse(options: ReverseOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    tokio::select! {
        outcome = write_reverse_task(options) => outcome,
        () = interrupt.finish() => Ok(Exit::Interrupted),
    }
}

async fn write_reverse_task(options: ReverseOptions) -> Result<Exit, Failure> {
    let TaskInput { http, text, secrets } = read_task(options.place, options.task_file.as_deref()).await?;
    let file = text.parse(secrets.as_ref()).map_err(|faults| Failure::new(Exit::BadInput, faults))?;
    let mut to = options.to;
    if let Some(side) = &mut to {
        read_password("--to-password-env", side)?;
    }
    let servers = Servers { client: http.clone(), inspector: http };
    let way = WayBack { file: &file, to, database: options.database, sharding_key: options.sharding_key };
    let sketch = init::reverse(&servers, &way).await.map_err(failure)?;
    write(&sketch, options.output.as_deref(), options.format)
}
