//! `status`: shows the state of a task, once or repeatedly.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

use super::super::args::address::clients_of;
use super::super::args::flags::LogFormat;
use super::super::args::options::StatusOptions;
use super::super::exit::failure;
use super::super::output::{Reader, print_again, print_next, print_object};
use super::super::{Exit, Failure, Interrupt};
use crate::operations::status::TaskReader;
use crate::report::status::{Speedometer, Status, TaskState};

/// Shows the state of the task. Ends with [`Exit::Partial`] if partitions have failed for good.
pub(crate) async fn status(options: StatusOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let clients = clients_of(&options.address)?;
    let path = options.address.task_path();
    let opened =
        TaskReader::open(clients.coordinator.as_ref(), clients.client, options.address.secrets(None), path).await;
    let mut reader = opened.map_err(failure)?;
    let outcome = tokio::select! {
        biased;
        // Reading leaves nothing behind.
        () = interrupt.finish() => Ok(Exit::Interrupted),
        outcome = watch(&mut reader, &options) => outcome,
    };
    reader.close().await;
    outcome
}

async fn watch(reader: &mut TaskReader, options: &StatusOptions) -> Result<Exit, Failure> {
    let mut speed = Speedometer::default();
    loop {
        let overview = reader.read().await.map_err(failure)?;
        let mut status = Status::of(&overview, options.address.task_path());
        speed.note(&mut status, Instant::now());
        let reader = show(&status, options)?;
        let ended = matches!(status.state, TaskState::Finished | TaskState::Cancelled | TaskState::Failed);
        // The reader of standard output has gone.
        let ended = ended || reader == Reader::Left;
        match options.watch {
            Some(pause) if !ended => tokio::time::sleep(pause).await,
            _ => return Ok(exit(status.state)),
        }
    }
}

fn show(status: &Status, options: &StatusOptions) -> Result<Reader, Failure> {
    Ok(match options.format {
        // With `--watch`, each object stands on one line.
        LogFormat::Json if options.watch.is_some() => print_next(status)?,
        LogFormat::Json => print_object(status).map(|()| Reader::Reads)?,
        LogFormat::Text => {
            let clears_screen = options.watch.is_some() && stdout().is_terminal();
            print_again(status.to_string().trim_end(), clears_screen)?
        }
    })
}

/// Returns the exit code for this state of the task.
fn exit(state: TaskState) -> Exit {
    if state == TaskState::Failed { Exit::Partial } else { Exit::Done }
}

#[cfg(test)]
mod tests {
    use super::{TaskState, exit};

    #[test]
    fn the_status_of_a_failed_task_has_its_exit_code() {
        assert_eq!(exit(TaskState::Failed) as u8, 3);
        for state in [TaskState::Planning, TaskState::Idle, TaskState::Cancelled, TaskState::Finished] {
            assert_eq!(exit(state) as u8, 0, "{state:?}");
        }
    }
}
