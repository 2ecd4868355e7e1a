//! What a person told all workers: a node that they watch.

use crate::coordinator::{Change, Conflict, Error, Op, Stored};
use crate::protocol::Order;

use super::{Ledger, LedgerError, encoded, parsed};

pub(super) const ORDER: &str = "order";

impl Ledger {
    /// What the workers are to do, and when that changes.
    pub async fn watch_order(&self) -> Result<(Order, Change), LedgerError> {
        let path = self.path(ORDER);
        let (stored, change) = self.session.watch(&path).await?;
        Ok((order(&path, stored)?, change))
    }

    /// What the workers are to do.
    pub async fn order(&self) -> Result<Order, LedgerError> {
        let path = self.path(ORDER);
        let stored = self.session.get(&path).await?;
        order(&path, stored)
    }

    /// Gives another order, unless `change` says that the one there is to stay. Gives the one that was there before.
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
                // Somebody else was faster; or it is done, and doing it again changes nothing.
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn order(path: &str, stored: Option<Stored>) -> Result<Order, LedgerError> {
    stored.map_or(Ok(Order::default()), |stored| parsed(path, &stored.data))
}
