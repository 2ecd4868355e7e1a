//! The verbs `pause`, `resume` and `cancel`: give an order to all workers of a task. The workers watch the order ([`Order`]). The
//! verb waits until they have followed it.

use crate::coordinator::Coordinator;
use crate::ledger::Ledger;
use crate::ledger::membership::{any, watch_places};
use crate::planning::errors::RunError;
use crate::protocol::Order;
use crate::runtime::signals::Interrupt;

/// The control of a task.
pub(crate) struct Control {
    ledger: Ledger,
    task_path: String,
}

/// The result of waiting for the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// No worker works on the task any more.
    Quiet,
    /// Another person replaced the order.
    Overruled(Order),
    /// The waiting was interrupted. The order stays.
    Interrupted,
}

impl Control {
    /// Opens the control of an existing task.
    ///
    /// # Errors
    /// When there is no task at the path.
    pub(crate) async fn open(coordinator: &dyn Coordinator, task_path: &str) -> Result<Self, RunError> {
        let ledger = Ledger::new(coordinator.session().await?, task_path);
        let found = ledger.task().await;
        if let Ok(Some(_)) = found {
            return Ok(Self { ledger, task_path: task_path.to_owned() });
        }
        ledger.session().close().await;
        found?;
        Err(RunError::task(format!("there is no task at {task_path} in {}", coordinator.place())))
    }

    /// Gives an order. Returns the previous one.
    ///
    /// # Errors
    /// When the task is finished or cancelled, so that no order is possible.
    pub(crate) async fn give(&self, order: Order) -> Result<Order, RunError> {
        let record = self.ledger.task().await?;
        if record.is_some_and(|record| record.finished) {
            return Err(RunError::servers(format!("the task at {} is finished", self.task_path)));
        }
        let before =
            self.ledger.give_order(|before| (before != Order::Cancel && before != order).then_some(order)).await?;
        if before == Order::Cancel && order != Order::Cancel {
            return Err(RunError::servers(format!(
                "the task at {} is cancelled; to begin it anew, remove it: cleanup --remove --forget",
                self.task_path
            )));
        }
        Ok(before)
    }

    /// Waits until no worker holds a claim or a place. Calls `tell` with the workers that still do, each time they change.
    ///
    /// A dead worker counts until its session ends.
    ///
    /// # Errors
    /// When the coordinator fails.
    pub(crate) async fn quiet(
        &self,
        interrupt: &Interrupt,
        mut tell: impl FnMut(&[String]),
    ) -> Result<Awaited, RunError> {
        let mut reported = Vec::new();
        loop {
            let (order, overruled) = self.ledger.watch_order().await?;
            if order.lets_begin() {
                return Ok(Awaited::Overruled(order));
            }
            let claims = self.ledger.watch_claims().await?;
            let (mut workers, places) = watch_places(&self.ledger).await?;
            workers.extend(self.ledger.claim_holders().await?.into_iter().map(|held| held.worker));
            workers.sort();
            workers.dedup();
            if workers.is_empty() {
                return Ok(Awaited::Quiet);
            }
            if reported != workers {
                tell(&workers);
                reported = workers;
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
    pub(crate) async fn close(self) {
        self.ledger.session().close().await;
    }
}
