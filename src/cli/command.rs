//! `pause`, `resume`, `cancel`: what all workers of a task are told, wherever they are.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::Order;
use crate::task::SystemSecrets;
use crate::worker::cleanup::{Cleaner, Request, Standing};
use crate::worker::orders::{Awaited, Orders};
use crate::worker::status::Onlooker;

use super::address::{Address, coordinator_of, doors_of};
use super::meant::CommandOptions;
use super::work::{failure, print};
use super::{Exit, Failure, Interrupt, PROGRAM};

/// How often servers are asked for statements that are to end.
const LOOK: Duration = Duration::from_millis(500);

/// Gives the order, and waits until it has come true.
pub(super) async fn command(options: CommandOptions, interrupt: Interrupt) -> Result<Exit, Failure> {
    let coordinator = coordinator_of(&options.address)?;
    let orders = Orders::open(coordinator.as_ref(), options.address.task_path()).await.map_err(failure)?;
    let outcome = carry_out(&orders, &options, &interrupt).await;
    orders.close().await;
    outcome
}

async fn carry_out(orders: &Orders, options: &CommandOptions, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let before = orders.give(options.order).await.map_err(failure)?;
    match (options.order, before) {
        (Order::Run, Order::Run) => print("The task was not paused."),
        (Order::Run, _) => print("The task goes on: workers that waited begin again."),
        _ => {}
    }
    if options.order == Order::Run {
        return Ok(Exit::Done);
    }
    let in_hand = |workers: &[String]| {
        let verb = if options.order == Order::Pause {
            "finish what they have in hand"
        } else {
            "give up what they have in hand"
        };
        print(&format!("Waiting until these workers {verb}: {}", workers.join(", ")));
    };
    match orders.quiet(interrupt, in_hand).await.map_err(failure)? {
        Awaited::Quiet if options.order == Order::Cancel => clean(options, interrupt).await,
        Awaited::Quiet => {
            let silent = tokio::select! {
                biased;
                () = interrupt.finish() => return Ok(Exit::Interrupted),
                silent = statements_ended(options) => silent?,
            };
            let flags = options.address.flags();
            if !silent.is_empty() {
                silent.iter().for_each(|line| print(&format!("No answer: {line}")));
                print(&format!(
                    "The task is paused, but these servers did not say whether something of it runs. To go on:\n  {PROGRAM} resume {flags}"
                ));
                return Ok(Exit::Partial);
            }
            print(&format!(
                "The task is paused: nothing of it runs on any server. To go on:\n  {PROGRAM} resume {flags}"
            ));
            Ok(Exit::Done)
        }
        Awaited::Overruled(_) => {
            print("Somebody resumed the task meanwhile.");
            Ok(Exit::Failed)
        }
        Awaited::Interrupted => {
            print("Not waiting any more; the order stays.");
            Ok(Exit::Interrupted)
        }
    }
}

/// Waits until servers have ended what was given up: a killed statement goes on until it notices. Gives the servers that did not
/// answer.
async fn statements_ended(options: &CommandOptions) -> Result<Vec<String>, Failure> {
    let doors = doors_of(&options.address)?;
    let path = options.address.task_path();
    let opened = Onlooker::open(doors.coordinator.as_ref(), doors.warehouse, Arc::new(SystemSecrets), path).await;
    let mut onlooker = opened.map_err(failure)?;
    let mut told = false;
    let ended = loop {
        let sight = match onlooker.look().await {
            Ok(sight) => sight,
            Err(error) => break Err(failure(error)),
        };
        if sight.statements.is_empty() {
            break Ok(sight.silent);
        }
        if !told {
            told = true;
            let running: Vec<String> =
                sight.statements.iter().map(|(node, _, running)| format!("{} on {node}", running.query_id)).collect();
            print(&format!("Waiting until these statements end: {}", running.join(", ")));
        }
        // Servers tell nobody when a statement ends.
        tokio::time::sleep(LOOK).await;
    };
    onlooker.close().await;
    ended
}

/// Removes what a cancelled task had staged.
async fn clean(options: &CommandOptions, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let doors = doors_of(&options.address)?;
    let request = Request {
        warehouse: doors.warehouse,
        coordinator: doors.coordinator,
        secrets: Arc::new(SystemSecrets),
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
        Ok::<_, crate::worker::RunError>((found, removal))
    };
    let outcome = tokio::select! {
        outcome = outcome => outcome.map_err(failure),
        () = interrupt.stop() => return Ok(Exit::Interrupted),
    };
    cleaner.close().await;
    let (found, removal) = outcome?;
    print(removal.to_string().trim_end());
    let published = match found.standing {
        Standing::Unfinished { done, batches, .. } => {
            format!(" {done} of {batches} batches were published; they stay.")
        }
        Standing::Finished => " It had finished before the order came; what it published stays.".to_owned(),
        _ => " Nothing was published.".to_owned(),
    };
    let flags = options.address.flags();
    if removal.interrupted || !removal.failed.is_empty() || !found.silent.is_empty() {
        for silent in &found.silent {
            print(&format!("Not looked at: {silent}"));
        }
        print(&format!(
            "The task is cancelled.{published} Not everything of it is removed; try again:\n  {PROGRAM} cancel {flags}"
        ));
        return Ok(if removal.interrupted { Exit::Interrupted } else { Exit::Partial });
    }
    let state = match options.address {
        Address::Keeper { .. } => "ZooKeeper",
        Address::Local { .. } => "the state directory",
    };
    print(&format!(
        "The task is cancelled.{published} Its record stays in {state}; to remove that too:\n  {PROGRAM} cleanup {flags} --remove --forget"
    ));
    Ok(Exit::Done)
}
