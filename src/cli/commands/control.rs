//! `pause`, `resume`, `cancel`: give an order to all workers of a task.

use std::time::Duration;

use super::super::args::address::{Coordination, clients_of, coordinator_of};
use super::super::args::flags::LogFormat;
use super::super::args::options::CommandOptions;
use super::super::exit::failure;
use super::super::output::{print, print_object, say};
use super::super::{Exit, Failure, Interrupt, PROGRAM};
use crate::operations::cleanup::{Cleaner, Findings, Removal, Request, Standing};
use crate::operations::control::{Awaited, Control};
use crate::operations::status::TaskReader;
use crate::protocol::Order;
use crate::report::leftovers::CleanupReport;
use crate::report::order::{Obeyed, OrderReport};

/// How often servers are asked for statements that are to end.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Gives the order, and waits until the workers have obeyed it.
pub(crate) async fn command(options: CommandOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let coordinator = coordinator_of(&options.address)?;
    let control = Control::open(coordinator.as_ref(), options.address.task_path()).await.map_err(failure)?;
    let outcome = carry_out(&control, &options, &interrupt).await;
    control.close().await;
    let outcome = outcome?;
    match options.format {
        LogFormat::Text => print(&outcome.text(&options))?,
        LogFormat::Json => print_object(&outcome.report(&options))?,
    }
    Ok(outcome.exit())
}

/// The outcome of an order.
enum OrderOutcome {
    Resumed,
    WasNotPaused,
    /// Paused. Contains the errors of servers that did not answer.
    Paused(Vec<String>),
    Cancelled(Box<Findings>, Removal),
    Overruled,
    Interrupted,
}

async fn carry_out(
    control: &Control,
    options: &CommandOptions,
    interrupt: &Interrupt,
) -> Result<OrderOutcome, Failure> {
    let before = control.give(options.order).await.map_err(failure)?;
    match (options.order, before) {
        (Order::Run, Order::Run) => return Ok(OrderOutcome::WasNotPaused),
        (Order::Run, _) => return Ok(OrderOutcome::Resumed),
        _ => {}
    }
    let mut printed = Ok(());
    let show_workers = |workers: &[String]| {
        let verb = if options.order == Order::Pause {
            "finish what they have in hand"
        } else {
            "give up what they have in hand"
        };
        let line = format!("Waiting until these workers {verb}: {}", workers.join(", "));
        // The order is given, and staging tables are still to be removed. An error of writing is therefore returned at
        // the end.
        if printed.is_ok() {
            printed = say(options.format, &line);
        }
    };
    let awaited = control.quiet(interrupt, show_workers).await.map_err(failure)?;
    let outcome = await_servers(awaited, options, interrupt).await?;
    printed?;
    Ok(outcome)
}

async fn await_servers(
    awaited: Awaited,
    options: &CommandOptions,
    interrupt: &Interrupt,
) -> Result<OrderOutcome, Failure> {
    match awaited {
        Awaited::Quiet if options.order == Order::Cancel => clean(options, interrupt).await,
        Awaited::Quiet => tokio::select! {
            biased;
            () = interrupt.finish() => Ok(OrderOutcome::Interrupted),
            silent = statements_ended(options) => Ok(OrderOutcome::Paused(silent?)),
        },
        Awaited::Overruled(_) => Ok(OrderOutcome::Overruled),
        Awaited::Interrupted => Ok(OrderOutcome::Interrupted),
    }
}

/// Waits until servers have ended the statements of the task: a killed statement runs until it notices. Returns the
/// errors of servers that did not answer.
async fn statements_ended(options: &CommandOptions) -> Result<Vec<String>, Failure> {
    let clients = clients_of(&options.address)?;
    let path = options.address.task_path();
    let opened =
        TaskReader::open(clients.coordinator.as_ref(), clients.client, options.address.secrets(None), path).await;
    let mut reader = opened.map_err(failure)?;
    let mut has_shown = false;
    let ended = loop {
        let overview = match reader.read().await {
            Ok(overview) => overview,
            Err(error) => break Err(failure(error)),
        };
        if overview.statements.is_empty() {
            break Ok(overview.silent);
        }
        if !has_shown {
            has_shown = true;
            let running: Vec<String> = overview
                .statements
                .iter()
                .map(|statement| format!("{} on {}", statement.running.query_id, statement.node))
                .collect();
            if let Err(error) =
                say(options.format, &format!("Waiting until these statements end: {}", running.join(", ")))
            {
                break Err(error.into());
            }
        }
        // Servers do not report the end of a statement.
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    reader.close().await;
    ended
}

/// Removes the staging tables of a cancelled task.
async fn clean(options: &CommandOptions, interrupt: &Interrupt) -> Result<OrderOutcome, Failure> {
    let clients = clients_of(&options.address)?;
    let request = Request {
        client: clients.client,
        coordinator: clients.coordinator,
        secrets: options.address.secrets(None),
        task_path: options.address.task_path().to_owned(),
        description: None,
        task_id: None,
        remove: true,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let mut cleaner = Cleaner::open(request).await.map_err(failure)?;
    let outcome = async {
        let found = cleaner.find().await?;
        let removal = cleaner.remove(&found, interrupt).await?;
        Ok::<_, crate::planning::errors::RunError>((found, removal))
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome.map_err(failure),
        () = interrupt.stop() => return Ok(OrderOutcome::Interrupted),
    };
    cleaner.close().await;
    outcome.map(|(found, removal)| OrderOutcome::Cancelled(Box::new(found), removal))
}

impl OrderOutcome {
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

    use super::{Findings, OrderOutcome, Removal, Standing};

    fn cancelled(removal: Removal) -> OrderOutcome {
        let found = Findings {
            id: None,
            task_path: "/task".into(),
            standing: Standing::Finished,
            holders: Vec::new(),
            leftovers: Vec::new(),
            silent: Vec::new(),
            neighbours: BTreeMap::new(),
        };
        OrderOutcome::Cancelled(Box::new(found), removal)
    }

    #[test]
    fn each_result_of_an_order_has_its_exit_code() {
        let failed = Removal { failed: vec!["that one".into()], ..Removal::default() };
        let interrupted = Removal { interrupted: true, ..Removal::default() };
        for (outcome, code) in [
            (OrderOutcome::Resumed, 0),
            (OrderOutcome::WasNotPaused, 0),
            (OrderOutcome::Paused(Vec::new()), 0),
            (OrderOutcome::Paused(vec!["no answer".into()]), 3),
            (cancelled(Removal::default()), 0),
            (cancelled(failed), 3),
            (cancelled(interrupted), 130),
            (OrderOutcome::Overruled, 1),
            (OrderOutcome::Interrupted, 130),
        ] {
            assert_eq!(outcome.exit() as u8, code);
        }
    }
}
