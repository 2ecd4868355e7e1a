//! `status`: how far a task is, once or again and again.

use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

use crate::report::status::{Speedometer, Status, TaskState};
use crate::worker::status::Onlooker;

use super::address::doors_of;
use super::meant::{LogFormat, LookOptions};
use super::work::{failure, print, print_object};
use super::{Exit, Failure, Interrupt};

/// Clears a terminal from its upper left corner on.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows how the task stands. Ends with [`Exit::Partial`] where partitions have failed for good.
pub(super) async fn look(options: LookOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let doors = doors_of(&options.address)?;
    let path = options.address.task_path();
    let opened = Onlooker::open(doors.coordinator.as_ref(), doors.warehouse, options.address.secrets(None), path).await;
    let mut onlooker = opened.map_err(failure)?;
    let outcome = tokio::select! {
        biased;
        // Looking leaves nothing behind.
        () = interrupt.finish() => Ok(Exit::Interrupted),
        outcome = watch(&mut onlooker, &options) => outcome,
    };
    onlooker.close().await;
    outcome
}

async fn watch(onlooker: &mut Onlooker, options: &LookOptions) -> Result<Exit, Failure> {
    let mut speed = Speedometer::default();
    loop {
        let sight = onlooker.look().await.map_err(failure)?;
        let mut status = Status::of(&sight, options.address.task_path());
        speed.note(&mut status, Instant::now());
        show(&status, options)?;
        let ended = matches!(status.state, TaskState::Finished | TaskState::Cancelled | TaskState::Failed);
        match options.watch {
            Some(pause) if !ended => tokio::time::sleep(pause).await,
            _ => return Ok(if status.state == TaskState::Failed { Exit::Partial } else { Exit::Done }),
        }
    }
}

fn show(status: &Status, options: &LookOptions) -> Result<(), Failure> {
    match options.format {
        // One object a line where there are many.
        LogFormat::Json if options.watch.is_some() => print(&serde_json::to_string(status)?),
        LogFormat::Json => print_object(status)?,
        LogFormat::Text if options.watch.is_some() && stdout().is_terminal() => {
            print(&format!("{CLEAR}{}", status.to_string().trim_end()));
            // What is seen must not wait for the next line.
            let _ = stdout().flush();
        }
        LogFormat::Text => print(status.to_string().trim_end()),
    }
    Ok(())
}
