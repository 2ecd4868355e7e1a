//! What a person tells all workers of a task: pause, go on, give up. The workers watch the order ([`Order`]); whoever gave it
//! waits until it has come true.

use crate::coordinator::Coordinator;
use crate::protocol::Order;

use crate::ledger::Ledger;
use crate::ledger::membership::{any, watch_places};
use crate::planning::errors::RunError;
use crate::runtime::signals::Interrupt;

/// The orders of a task.
pub struct Orders {
    ledger: Ledger,
    task_path: String,
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// Nobody has anything in hand any more.
    Quiet,
    /// Somebody took it back.
    Overruled(Order),
    /// The waiting was interrupted. The order stays.
    Interrupted,
}

impl Orders {
    /// Of a task that is there.
    ///
    /// # Errors
    /// When there is none at the path.
    pub async fn open(coordinator: &dyn Coordinator, task_path: &str) -> Result<Self, RunError> {
        let ledger = Ledger::new(coordinator.session().await?, task_path);
        let found = ledger.task().await;
        if let Ok(Some(_)) = found {
            return Ok(Self { ledger, task_path: task_path.to_owned() });
        }
        ledger.session().close().await;
        found?;
        Err(RunError::Task(vec![format!("there is no task at {task_path} in {}", coordinator.place())]))
    }

    /// Gives an order. Gives the one that was there before.
    ///
    /// # Errors
    /// When the task is finished or cancelled: there is nothing to order any more.
    pub async fn give(&self, order: Order) -> Result<Order, RunError> {
        let record = self.ledger.task().await?;
        if record.is_some_and(|record| record.finished) {
            return Err(RunError::World(vec![format!("the task at {} is finished", self.task_path)]));
        }
        let before =
            self.ledger.give_order(|before| (before != Order::Cancel && before != order).then_some(order)).await?;
        if before == Order::Cancel && order != Order::Cancel {
            return Err(RunError::World(vec![format!(
                "the task at {} is cancelled; to begin it anew, remove it: cleanup --remove --forget",
                self.task_path
            )]));
        }
        Ok(before)
    }

    /// Waits until nobody holds a claim or a place. `tell` is given the workers that still do, whenever they are others.
    ///
    /// A worker that died counts until its session ends.
    ///
    /// # Errors
    /// The coordinator.
    pub async fn quiet(&self, interrupt: &Interrupt, mut tell: impl FnMut(&[String])) -> Result<Awaited, RunError> {
        let mut told = Vec::new();
        loop {
            let (order, overruled) = self.ledger.watch_order().await?;
            if order.lets_begin() {
                return Ok(Awaited::Overruled(order));
            }
            let claims = self.ledger.watch_claims().await?;
            let (mut workers, places) = watch_places(&self.ledger).await?;
            workers.extend(self.ledger.claim_holders().await?.into_iter().map(|(_, worker)| worker));
            workers.sort();
            workers.dedup();
            if workers.is_empty() {
                return Ok(Awaited::Quiet);
            }
            if told != workers {
                tell(&workers);
                told = workers;
            }
            tokio::select! {
                biased;
                () = interrupt.finish() => return Ok(Awaited::Interrupted),
                lost = self.ledger.session().lost() => return Err(lost.into()),
                () = any(vec![overruled, claims, places]) => {}
            }
        }
    }

    /// Ends the session.
    pub async fn close(self) {
        self.ledger.session().close().await;
    }
}
