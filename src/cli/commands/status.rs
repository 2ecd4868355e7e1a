//! `status`: how far a task is, once or again and again.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

use crate::operations::status::TaskReader;
use crate::report::status::{Speedometer, Status, TaskState};

use super::super::args::address::doors_of;
use super::super::args::flags::LogFormat;
use super::super::args::options::LookOptions;
use super::super::exit::failure;
use super::super::output::{Reader, print_again, print_next, print_object};
use super::super::{Exit, Failure, Interrupt};

/// Shows how the task stands. Ends with [`Exit::Partial`] where partitions have failed for good.
pub(crate) async fn look(options: LookOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let doors = doors_of(&options.address)?;
    let path = options.address.task_path();
    let opened = TaskReader::open(doors.coordinator.as_ref(), doors.client, options.address.secrets(None), path).await;
    let mut reader = opened.map_err(failure)?;
    let outcome = tokio::select! {
        biased;
        // Looking leaves nothing behind.
        () = interrupt.finish() => Ok(Exit::Interrupted),
        outcome = watch(&mut reader, &options) => outcome,
    };
    reader.close().await;
    outcome
}

async fn watch(reader: &mut TaskReader, options: &LookOptions) -> Result<Exit, Failure> {
    let mut speed = Speedometer::default();
    loop {
        let overview = reader.look().await.map_err(failure)?;
        let mut status = Status::of(&overview, options.address.task_path());
        speed.note(&mut status, Instant::now());
        let reader = show(&status, options)?;
        let ended = matches!(status.state, TaskState::Finished | TaskState::Cancelled | TaskState::Failed);
        // Nobody watches any more.
        let ended = ended || reader == Reader::Left;
        match options.watch {
            Some(pause) if !ended => tokio::time::sleep(pause).await,
            _ => return Ok(exit(status.state)),
        }
    }
}

fn show(status: &Status, options: &LookOptions) -> Result<Reader, Failure> {
    Ok(match options.format {
        // One object a line where there are many.
        LogFormat::Json if options.watch.is_some() => print_next(status)?,
        LogFormat::Json => print_object(status).map(|()| Reader::Reads)?,
        LogFormat::Text => {
            let anew = options.watch.is_some() && stdout().is_terminal();
            print_again(status.to_string().trim_end(), anew)?
        }
    })
}

/// Returns the code with which a look ends.
fn exit(state: TaskState) -> Exit {
    if state == TaskState::Failed { Exit::Partial } else { Exit::Done }
}

#[cfg(test)]
mod tests {
    use super::{TaskState, exit};

    #[test]
    fn a_look_at_a_task_with_failed_partitions_has_its_exit_code() {
        assert_eq!(exit(TaskState::Failed) as u8, 3);
        for state in [TaskState::Planning, TaskState::Idle, TaskState::Cancelled, TaskState::Finished] {
            assert_eq!(exit(state) as u8, 0, "{state:?}");
        }
    }
}
