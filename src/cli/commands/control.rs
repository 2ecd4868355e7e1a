//! `pause`, `resume`, `cancel`: what all workers of a task are told, wherever they are.

use std::time::Duration;

use crate::operations::cleanup::{Cleaner, Findings, Removal, Request, Standing};
use crate::operations::control::{Awaited, Orders};
use crate::operations::status::TaskReader;
use crate::protocol::Order;
use crate::report::leftovers::CleanupReport;
use crate::report::order::{Obeyed, OrderReport};

use super::super::args::address::{Coordination, coordinator_of, doors_of};
use super::super::args::flags::LogFormat;
use super::super::args::options::CommandOptions;
use super::super::exit::failure;
use super::super::output::say;
use super::super::output::{print, print_object};
use super::super::{Exit, Failure, Interrupt, PROGRAM};

/// How often servers are asked for statements that are to end.
const LOOK: Duration = Duration::from_millis(500);

/// Gives the order, and waits until it has come true.
pub(crate) async fn command(options: CommandOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let coordinator = coordinator_of(&options.address)?;
    let orders = Orders::open(coordinator.as_ref(), options.address.task_path()).await.map_err(failure)?;
    let came = carry_out(&orders, &options, &interrupt).await;
    orders.close().await;
    let came = came?;
    match options.format {
        LogFormat::Text => print(&came.text(&options))?,
        LogFormat::Json => print_object(&came.report(&options))?,
    }
    Ok(came.exit())
}

/// What became of an order.
enum Came {
    Resumed,
    WasNotPaused,
    /// With what servers said that did not answer.
    Paused(Vec<String>),
    Cancelled(Box<Findings>, Removal),
    Overruled,
    Interrupted,
}

async fn carry_out(orders: &Orders, options: &CommandOptions, interrupt: &Interrupt) -> Result<Came, Failure> {
    let before = orders.give(options.order).await.map_err(failure)?;
    match (options.order, before) {
        (Order::Run, Order::Run) => return Ok(Came::WasNotPaused),
        (Order::Run, _) => return Ok(Came::Resumed),
        _ => {}
    }
    let mut said = Ok(());
    let in_hand = |workers: &[String]| {
        let verb = if options.order == Order::Pause {
            "finish what they have in hand"
        } else {
            "give up what they have in hand"
        };
        let line = format!("Waiting until these workers {verb}: {}", workers.join(", "));
        // The order is given, and what is staged is to be removed: that nobody reads this is told when that is done.
        if said.is_ok() {
            said = say(options.format, &line);
        }
    };
    let awaited = orders.quiet(interrupt, in_hand).await.map_err(failure)?;
    let came = await_servers(awaited, options, interrupt).await?;
    said?;
    Ok(came)
}

async fn await_servers(awaited: Awaited, options: &CommandOptions, interrupt: &Interrupt) -> Result<Came, Failure> {
    match awaited {
        Awaited::Quiet if options.order == Order::Cancel => clean(options, interrupt).await,
        Awaited::Quiet => tokio::select! {
            biased;
            () = interrupt.finish() => Ok(Came::Interrupted),
            silent = statements_ended(options) => Ok(Came::Paused(silent?)),
        },
        Awaited::Overruled(_) => Ok(Came::Overruled),
        Awaited::Interrupted => Ok(Came::Interrupted),
    }
}

/// Waits until servers have ended what was given up: a killed statement goes on until it notices. Gives the servers that did not
/// answer.
async fn statements_ended(options: &CommandOptions) -> Result<Vec<String>, Failure> {
    let doors = doors_of(&options.address)?;
    let path = options.address.task_path();
    let opened = TaskReader::open(doors.coordinator.as_ref(), doors.client, options.address.secrets(None), path).await;
    let mut reader = opened.map_err(failure)?;
    let mut told = false;
    let ended = loop {
        let overview = match reader.look().await {
            Ok(overview) => overview,
            Err(error) => break Err(failure(error)),
        };
        if overview.statements.is_empty() {
            break Ok(overview.silent);
        }
        if !told {
            told = true;
            let running: Vec<String> = overview
                .statements
                .iter()
                .map(|(node, _, running)| format!("{} on {node}", running.query_id))
                .collect();
            if let Err(error) =
                say(options.format, &format!("Waiting until these statements end: {}", running.join(", ")))
            {
                break Err(error.into());
            }
        }
        // Servers tell nobody when a statement ends.
        tokio::time::sleep(LOOK).await;
    };
    reader.close().await;
    ended
}

/// Removes what a cancelled task had staged.
async fn clean(options: &CommandOptions, interrupt: &Interrupt) -> Result<Came, Failure> {
    let doors = doors_of(&options.address)?;
    let request = Request {
        client: doors.client,
        coordinator: doors.coordinator,
        secrets: options.address.secrets(None),
        task_path: options.address.task_path().to_owned(),
        description: None,
        task_id: None,
        remove: true,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let mut cleaner = Cleaner::open(request).await.map_err(failure)?;
    let outcome = async {
        let found = cleaner.look().await?;
        let removal = cleaner.remove(&found, interrupt).await?;
        Ok::<_, crate::planning::errors::RunError>((found, removal))
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome.map_err(failure),
        () = interrupt.stop() => return Ok(Came::Interrupted),
    };
    cleaner.close().await;
    outcome.map(|(found, removal)| Came::Cancelled(Box::new(found), removal))
}

impl Came {
    fn exit(&self) -> Exit {
        match self {
            Self::Resumed | Self::WasNotPaused => Exit::Done,
            Self::Paused(silent) if silent.is_empty() => Exit::Done,
            Self::Paused(_) => Exit::Partial,
            Self::Cancelled(_, removal) if removal.interrupted => Exit::Interrupted,
            Self::Cancelled(found, removal) if found.are_gone(removal) => Exit::Done,
            Self::Cancelled(..) => Exit::Partial,
            Self::Overruled => Exit::Failed,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    fn report(&self, options: &CommandOptions) -> OrderReport {
        let (outcome, not_looked_at, cleanup) = match self {
            Self::Resumed => (Obeyed::Resumed, Vec::new(), None),
            Self::WasNotPaused => (Obeyed::WasNotPaused, Vec::new(), None),
            Self::Paused(silent) => (Obeyed::Paused, silent.clone(), None),
            Self::Cancelled(found, removal) => {
                let cleanup = CleanupReport::of(found, Some(removal), false);
                (Obeyed::Cancelled, found.silent.clone(), Some(cleanup))
            }
            Self::Overruled => (Obeyed::Overruled, Vec::new(), None),
            Self::Interrupted => (Obeyed::Interrupted, Vec::new(), None),
        };
        OrderReport { path: options.address.task_path().to_owned(), outcome, not_looked_at, cleanup }
    }

    fn text(&self, options: &CommandOptions) -> String {
        let flags = options.address.flags();
        match self {
            Self::Resumed => "The task goes on: workers that waited begin again.".to_owned(),
            Self::WasNotPaused => "The task was not paused.".to_owned(),
            Self::Paused(silent) if silent.is_empty() => {
                format!("The task is paused: nothing of it runs on any server. To go on:\n  {PROGRAM} resume {flags}")
            }
            Self::Paused(silent) => {
                let silent: String = silent.iter().map(|line| format!("No answer: {line}\n")).collect();
                format!(
                    "{silent}The task is paused, but these servers did not say whether something of it runs. To go on:\n  \
                     {PROGRAM} resume {flags}"
                )
            }
            Self::Cancelled(found, removal) => cancelled(found, removal, options),
            Self::Overruled => "Somebody resumed the task meanwhile.".to_owned(),
            Self::Interrupted => "Not waiting any more; the order stays.".to_owned(),
        }
    }
}

fn cancelled(found: &Findings, removal: &Removal, options: &CommandOptions) -> String {
    let published = match found.standing {
        Standing::Unfinished { done, batches, .. } => {
            format!(" {done} of {batches} batches were published; they stay.")
        }
        Standing::Finished => " It had finished before the order came; what it published stays.".to_owned(),
        _ => " Nothing was published.".to_owned(),
    };
    let (removed, flags) = (removal.to_string(), options.address.flags());
    if !found.are_gone(removal) {
        let silent: String = found.silent.iter().map(|line| format!("Not looked at: {line}\n")).collect();
        return format!(
            "{removed}{silent}The task is cancelled.{published} Not everything of it is removed; try again:\n  {PROGRAM} cancel {flags}"
        );
    }
    let state = match options.address.coordinator {
        Coordination::Keeper(_) => "ZooKeeper",
        Coordination::Local(_) => "the state directory",
    };
    format!(
        "{removed}The task is cancelled.{published} Its record stays in {state}; to remove that too:\n  \
         {PROGRAM} cleanup {flags} --remove --forget"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Came, Findings, Removal, Standing};

    fn cancelled(removal: Removal) -> Came {
        let found = Findings {
            id: None,
            task_path: "/task".into(),
            standing: Standing::Finished,
            holders: Vec::new(),
            things: Vec::new(),
            silent: Vec::new(),
            neighbours: BTreeMap::new(),
        };
        Came::Cancelled(Box::new(found), removal)
    }

    #[test]
    fn each_end_of_an_order_has_its_exit_code() {
        let failed = Removal { failed: vec!["that one".into()], ..Removal::default() };
        let interrupted = Removal { interrupted: true, ..Removal::default() };
        for (came, code) in [
            (Came::Resumed, 0),
            (Came::WasNotPaused, 0),
            (Came::Paused(Vec::new()), 0),
            (Came::Paused(vec!["no answer".into()]), 3),
            (cancelled(Removal::default()), 0),
            (cancelled(failed), 3),
            (cancelled(interrupted), 130),
            (Came::Overruled, 1),
            (Came::Interrupted, 130),
        ] {
            assert_eq!(came.exit() as u8, code);
        }
    }
}
