//! The workers of a task: at most `max_workers` have a place at once, the others wait for one.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;

use crate::keeper::{Change, Error, Op, Session, create_if_absent};
use crate::task::{SecretSource, Task};

use super::interrupt::Interrupt;
use super::ledger::{Ledger, LedgerError};

const PLACES: &str = "task_active_workers";
/// Its version changes whenever a place is taken: two workers cannot both take the last one.
const VERSION: &str = "task_active_workers_version";

/// What came of waiting for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// There it is.
    Taken,
    /// The run is to end.
    Interrupted,
}

/// Waits for a place. Gives up only when told to, or when the session is lost.
pub async fn take_seat(
    ledger: &Ledger,
    worker: &str,
    secrets: &dyn SecretSource,
    interrupt: &Interrupt,
) -> Result<Seat, LedgerError> {
    let session = ledger.session();
    create_if_absent(session.as_ref(), &ledger.path(VERSION), Vec::new()).await?;
    let mut told = false;
    loop {
        let (places, places_change) = session.watch_children(&ledger.path(PLACES)).await?;
        let (description, description_change) = ledger.watch_description().await?;
        let places = places.unwrap_or_default();
        let limit = description.as_deref().map_or(u32::MAX, |text| max_workers(text, secrets)) as usize;
        if places.len() < limit {
            let version = session.get(&ledger.path(VERSION)).await?.map(|stored| stored.version);
            let own = ledger.path(&format!("{PLACES}/{worker}"));
            let now = session.children(&ledger.path(PLACES)).await?.unwrap_or_default();
            if now.len() >= limit {
                continue;
            }
            let ops = vec![Op::set(ledger.path(VERSION), Vec::new(), version), Op::ephemeral(own.clone(), worker)];
            match session.commit(ops).await {
                Ok(()) => return Ok(Seat::Taken),
                Err(Error::Unknown { .. }) if session.get(&own).await?.is_some() => return Ok(Seat::Taken),
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        if !told {
            tracing::info!("{} workers are active, and max_workers is {limit}: waiting for a place", places.len());
            told = true;
        }
        tokio::select! {
            () = any(vec![places_change, description_change]) => {}
            lost = session.lost() => return Err(lost.into()),
            () = interrupt.finish() => return Ok(Seat::Interrupted),
        }
    }
}

/// Gives the place back.
pub async fn leave_seat(ledger: &Ledger, worker: &str) {
    let op = Op::delete(ledger.path(&format!("{PLACES}/{worker}")), None);
    if let Err(error) = ledger.session().commit(vec![op]).await {
        tracing::debug!("cannot give the place back: {error}");
    }
}

/// The workers that have a place, in the order of their names.
pub async fn places(ledger: &Ledger) -> Result<Vec<String>, LedgerError> {
    Ok(ledger.session().children(&ledger.path(PLACES)).await?.unwrap_or_default())
}

/// Whether there are more workers than `limit`, and this one is of those that should leave.
pub fn is_surplus(places: &[String], worker: &str, limit: u32) -> bool {
    places.iter().position(|place| place == worker).is_some_and(|rank| rank >= limit as usize)
}

/// Returns when one of some changes has come, or cannot come any more.
pub async fn any(changes: Vec<Change>) {
    // A change that can no longer come means that the session is over, which its waiter sees by itself.
    let _ = select_all(changes.into_iter().map(|change| change.fired().boxed())).await;
}

fn max_workers(description: &str, secrets: &dyn SecretSource) -> u32 {
    Task::parse(description, secrets).map_or(u32::MAX, |parsed| parsed.task.max_workers)
}

/// The session of a ledger, for waiting on its end.
pub fn session(ledger: &Ledger) -> Arc<dyn Session> {
    ledger.session().clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_beyond_the_limit_leave_and_nobody_else() {
        let places = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let leaving = |limit| places.iter().filter(|place| is_surplus(&places, place, limit)).count();
        assert_eq!((leaving(3), leaving(2), leaving(0)), (0, 1, 3));
        assert!(!is_surplus(&places, "not there", 0));
    }
}
