//! The order of a person to all workers of a task, in a node that the workers watch.

use super::{Ledger, LedgerError, encoded, parsed};
use crate::coordinator::{Change, Conflict, Error, Op, Stored};
use crate::protocol::Order;

/// The node of the order.
pub(super) const ORDER: &str = "order";

impl Ledger {
    /// Reads the order, and watches for its next change.
    pub(crate) async fn watch_order(&self) -> Result<(Order, Change), LedgerError> {
        let path = self.path(ORDER);
        let (stored, change) = self.session.watch(&path).await?;
        Ok((order(&path, stored)?, change))
    }

    /// Reads the order.
    pub(crate) async fn order(&self) -> Result<Order, LedgerError> {
        let path = self.path(ORDER);
        let stored = self.session.get(&path).await?;
        order(&path, stored)
    }

    /// Replaces the order by the one that `change` returns. Keeps the order where `change` returns `None`. Returns the previous order.
    pub async fn give_order(&self, change: impl Fn(Order) -> Option<Order> + Send) -> Result<Order, LedgerError> {
        let path = self.path(ORDER);
        loop {
            let stored = self.session.get(&path).await?;
            let version = stored.as_ref().map(|stored| stored.version);
            let before = order(&path, stored)?;
            let Some(next) = change(before) else { return Ok(before) };
            let op = match version {
                Some(version) => Op::set(path.clone(), encoded(&next), version),
                None => Op::create(path.clone(), encoded(&next)),
            };
            match self.session.commit(vec![op]).await {
                Ok(()) => return Ok(before),
                Err(Error::Conflict { why: Conflict::Missing, path, .. }) if version.is_none() => {
                    return Err(LedgerError::Damaged { path, why: "it is gone: the task was removed".into() });
                }
                // Another writer was faster, or the commit was done. In both cases the loop reads the order again.
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn order(path: &str, stored: Option<Stored>) -> Result<Order, LedgerError> {
    stored.map_or(Ok(Order::default()), |stored| parsed(path, &stored.data))
}
