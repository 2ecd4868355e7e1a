//! The workers of a task. At most `max_workers` of them have a place at once; the others wait for one. A cleanup after dead
//! workers takes all places at once, and no worker gets a place until the cleanup ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;

use super::{Ledger, LedgerError, PLACES, PLACES_VERSION as VERSION};
use crate::coordinator::{Change, Conflict, Error, Op, Session, create_if_absent};
use crate::protocol::Order;
use crate::runtime::signals::Interrupt;
use crate::task::edited::usable_task;
use crate::task::{SecretSource, Task};

/// The prefix of a cleaner's place. No host, and so no worker, can have a name with this prefix.
const CLEANER: &str = "cleanup@";
/// The prefix of the place of a worker that begins the next pass of a finished task.
const BEGINNER: &str = "next-pass@";

/// The result of waiting for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerPlace {
    /// The worker has a place.
    Taken,
    /// The run was interrupted.
    Interrupted,
    /// The task was cancelled.
    Cancelled,
}

/// The limit on the number of workers, which the task's description sets.
pub(crate) struct Limit<'a> {
    /// The task as this worker knows it.
    pub(crate) task: &'a Task,
    /// The elements of the task that the plan depends on.
    pub(crate) inputs: &'a BTreeMap<String, String>,
    /// The source of secrets that a description does not contain.
    pub(crate) secrets: &'a dyn SecretSource,
}

impl Limit<'_> {
    /// Returns the limit in a description, or `None` where workers cannot use the description.
    fn of(&self, description: &str) -> Option<u32> {
        usable_task(description, self.secrets, self.inputs).ok().map(|task| task.max_workers)
    }
}

/// Waits for a place, until the run is interrupted, the task is cancelled or the session is lost.
pub(crate) async fn take_place(
    ledger: &Ledger,
    worker: &str,
    known: &Limit<'_>,
    interrupt: &Interrupt,
) -> Result<WorkerPlace, LedgerError> {
    let session = ledger.session();
    create_if_absent(session.as_ref(), &ledger.path(VERSION), Vec::new()).await?;
    let (mut is_announced, mut last_good) = (false, known.task.max_workers);
    loop {
        let (places, places_change) = session.watch_children(&ledger.path(PLACES)).await?;
        let (description, description_change) = ledger.watch_description().await?;
        let (order, order_change) = ledger.watch_order().await?;
        if order == Order::Cancel {
            return Ok(WorkerPlace::Cancelled);
        }
        let Some(places) = places else {
            let path = ledger.path(PLACES);
            return Err(LedgerError::Damaged { path, why: "it is gone: the task was deleted".into() });
        };
        last_good = description.as_deref().and_then(|text| known.of(text)).unwrap_or(last_good);
        let limit = last_good as usize;
        let taker = places.iter().find(|place| is_all(place));
        if places.len() < limit && taker.is_none() && order.lets_begin() {
            let version = session.get(&ledger.path(VERSION)).await?.map(|stored| stored.version);
            let own = ledger.path(&format!("{PLACES}/{worker}"));
            let now = session.children(&ledger.path(PLACES)).await?.unwrap_or_default();
            if now.len() >= limit || now.iter().any(|place| is_all(place)) {
                continue;
            }
            let ops = vec![Op::set(ledger.path(VERSION), Vec::new(), version), Op::ephemeral(own.clone(), worker)];
            match session.commit(ops).await {
                Ok(()) => return Ok(WorkerPlace::Taken),
                Err(Error::Unknown { .. }) if session.get(&own).await?.is_some() => return Ok(WorkerPlace::Taken),
                Err(Error::Conflict { .. } | Error::Unknown { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        if !is_announced {
            match taker {
                Some(taker) if taker.starts_with(CLEANER) => {
                    tracing::info!("{taker} is cleaning up: waiting for its end");
                }
                Some(taker) => tracing::info!("{taker} begins the next pass: waiting for that"),
                None if !order.lets_begin() => tracing::info!("the task is paused: waiting until it is resumed"),
                None => {
                    tracing::info!(
                        "{} workers are active, and max_workers is {limit}: waiting for a place",
                        places.len()
                    );
                }
            }
            is_announced = true;
        }
        tokio::select! {
            biased;
            () = interrupt.finish() => return Ok(WorkerPlace::Interrupted),
            lost = session.lost() => return Err(lost.into()),
            () = any(vec![places_change, description_change, order_change]) => {}
        }
    }
}

/// Returns the place of a cleaner, as a path below the task's path.
pub fn cleaner_place(cleaner: &str) -> String {
    format!("{PLACES}/{CLEANER}{cleaner}")
}

/// Returns the place of a worker that begins the next pass, as a path below the task's path.
pub fn beginner_place(worker: &str) -> String {
    format!("{PLACES}/{BEGINNER}{worker}")
}

/// Returns whether a place stands for all places.
fn is_all(place: &str) -> bool {
    place.starts_with(CLEANER) || place.starts_with(BEGINNER)
}

/// Takes all places, if there is no other place and no claim. Returns `false` if there is one. `place` is the result of
/// [`cleaner_place`] or [`beginner_place`] for `holder`.
pub(crate) async fn take_all(ledger: &Ledger, place: &str, holder: &str) -> Result<bool, LedgerError> {
    let session = ledger.session();
    let own = ledger.path(place);
    match create_if_absent(session.as_ref(), &ledger.path(VERSION), Vec::new()).await {
        Ok(_) | Err(Error::Unknown { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        // A worker that takes a place after this changes the version.
        let version = session.get(&ledger.path(VERSION)).await?.map(|stored| stored.version);
        let now = places(ledger).await?;
        if now.len() == 1 && session.get(&own).await?.is_some() {
            return Ok(true);
        }
        if !now.is_empty() || !ledger.claim_holders().await?.is_empty() {
            return Ok(false);
        }
        let ops = vec![Op::set(ledger.path(VERSION), Vec::new(), version), Op::ephemeral(own.clone(), holder)];
        match session.commit(ops).await {
            Ok(()) => return Ok(true),
            Err(Error::Conflict { op: 0, why: Conflict::Version, .. } | Error::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Releases the place of a worker.
pub(crate) async fn leave_place(ledger: &Ledger, worker: &str) {
    if let Err(error) = ledger.give_up(&format!("{PLACES}/{worker}")).await {
        tracing::debug!("cannot give the place back: {error}");
    }
}

/// Reads the workers that have a place, in the order of their names.
pub(crate) async fn places(ledger: &Ledger) -> Result<Vec<String>, LedgerError> {
    Ok(ledger.session().children(&ledger.path(PLACES)).await?.unwrap_or_default())
}

/// Reads the workers that have a place, and watches for their next change.
pub(crate) async fn watch_places(ledger: &Ledger) -> Result<(Vec<String>, Change), LedgerError> {
    let (places, change) = ledger.session().watch_children(&ledger.path(PLACES)).await?;
    Ok((places.unwrap_or_default(), change))
}

/// Returns whether there are more workers than `limit`, and this one is among those that should leave.
pub(crate) fn is_surplus(places: &[String], worker: &str, limit: u32) -> bool {
    places.iter().position(|place| place == worker).is_some_and(|rank| rank >= limit as usize)
}

/// Waits until one of the changes happens, or can no longer happen.
pub(crate) async fn any(changes: Vec<Change>) {
    // A change that can no longer happen means that the session is over. The caller notices that itself.
    let _ = select_all(changes.into_iter().map(|change| change.fired().boxed())).await;
}

/// Returns the session of a ledger, to wait for its end.
pub(crate) fn session(ledger: &Ledger) -> Arc<dyn Session> {
    ledger.session().clone()
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use crate::coordinator::{Coordinator, MemoryCoordinator, ensure_path};
    use crate::task::GivenSecrets;

    use super::*;

    fn text(max_workers: u32) -> String {
        let cluster = |name, host| format!("<{name}><shard><replica><host>{host}</host></replica></shard></{name}>");
        format!(
            "<clickhouse><max_workers>{max_workers}</max_workers><remote_servers>{}{}</remote_servers><tables><t>\
             <cluster_pull>s</cluster_pull><database_pull>d</database_pull><table_pull>t</table_pull>\
             <cluster_push>u</cluster_push><database_push>d</database_push><table_push>t</table_push></t></tables></clickhouse>",
            cluster("s", "a"),
            cluster("u", "b")
        )
    }

    /// The task of a worker, with the data of its limit.
    struct KnownTask {
        task: Task,
        inputs: BTreeMap<String, String>,
        secrets: GivenSecrets,
    }

    impl KnownTask {
        fn of(max_workers: u32) -> Self {
            let secrets = GivenSecrets::default();
            let task = Task::parse(&text(max_workers), &secrets).unwrap().task;
            Self { inputs: task.plan_inputs(), task, secrets }
        }

        fn limit(&self) -> Limit<'_> {
            Limit { task: &self.task, inputs: &self.inputs, secrets: &self.secrets }
        }
    }

    async fn ledger(coordinator: &MemoryCoordinator) -> Ledger {
        let ledger = Ledger::new(coordinator.session().await.unwrap(), "/t");
        for name in [PLACES, "claims"] {
            ensure_path(ledger.session().as_ref(), &ledger.path(name)).await.unwrap();
        }
        ledger
    }

    #[tokio::test]
    async fn a_cleaner_never_waits_and_workers_wait_for_a_cleaner() {
        let coordinator = MemoryCoordinator::new();
        let (worker, cleaner) = (ledger(&coordinator).await, ledger(&coordinator).await);
        let (_sender, interrupt) = Interrupt::manual();
        let known = KnownTask::of(2);
        let limit = known.limit();
        let take = || take_place(&worker, "w", &limit, &interrupt);

        assert_eq!(take().await.unwrap(), WorkerPlace::Taken);
        assert!(!take_all(&cleaner, &cleaner_place("c"), "c").await.unwrap());
        leave_place(&worker, "w").await;
        worker.claim("planning", "w").await.unwrap();
        assert!(!take_all(&cleaner, &cleaner_place("c"), "c").await.unwrap(), "a claim is a worker too");
        worker.release("planning").await.unwrap();

        assert!(take_all(&cleaner, &cleaner_place("c"), "c").await.unwrap());
        let other = ledger(&coordinator).await;
        assert!(!take_all(&other, &cleaner_place("d"), "d").await.unwrap(), "one cleaner at a time");
        let mut waiting = std::pin::pin!(take());
        assert!(futures::poll!(&mut waiting).is_pending());
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        cleaner.session().close().await;
        assert_eq!(waiting.await.unwrap(), WorkerPlace::Taken);
    }

    /// A description that workers cannot use does not change the limit. The last good description sets it, also for waiting workers.
    #[tokio::test]
    async fn a_waiting_worker_uses_the_limit_of_the_last_valid_description() {
        let coordinator = MemoryCoordinator::new();
        let (first, second) = (ledger(&coordinator).await, ledger(&coordinator).await);
        let (_sender, interrupt) = Interrupt::manual();
        let known = KnownTask::of(1);
        let limit = known.limit();
        assert_eq!(take_place(&first, "a", &limit, &interrupt).await.unwrap(), WorkerPlace::Taken);
        let path = first.path("description");
        create_if_absent(first.session().as_ref(), &path, text(1).into_bytes()).await.unwrap();
        let mut waiting = std::pin::pin!(take_place(&second, "b", &limit, &interrupt));
        let other = text(9).replace("<table_push>t<", "<table_push>u<");
        for useless in ["<clickhouse".to_owned(), other] {
            first.upload(&useless).await.unwrap();
            for _ in 0..100 {
                tokio::task::yield_now().await;
                assert!(futures::poll!(&mut waiting).is_pending(), "{useless}");
            }
        }
        first.upload(&text(2)).await.unwrap();
        assert_eq!(waiting.await.unwrap(), WorkerPlace::Taken);
    }

    /// Only the faster one gets places, although both read the places before either takes one.
    #[tokio::test]
    async fn a_worker_and_a_cleaner_never_both_have_places() {
        let (mut workers, mut cleaners) = (0, 0);
        for lead in 0..24 {
            let coordinator = MemoryCoordinator::new();
            let (worker, cleaner) = (ledger(&coordinator).await, ledger(&coordinator).await);
            let (_sender, interrupt) = Interrupt::manual();
            let known = KnownTask::of(2);
            let limit = known.limit();
            let mut worker_place = std::pin::pin!(take_place(&worker, "w", &limit, &interrupt));
            let place = cleaner_place("c");
            let mut all = std::pin::pin!(take_all(&cleaner, &place, "c"));
            // One of them is `lead` steps ahead of the other; both then continue in turn.
            let (mut has_place, mut cleaned) = (None, None);
            for step in 0..200 {
                let worker_first = lead % 2 == 0;
                if (worker_first || step > lead / 2)
                    && has_place.is_none()
                    && let Poll::Ready(done) = futures::poll!(&mut worker_place)
                {
                    has_place = Some(done.unwrap());
                }
                if (!worker_first || step > lead / 2)
                    && cleaned.is_none()
                    && let Poll::Ready(done) = futures::poll!(&mut all)
                {
                    cleaned = Some(done.unwrap());
                }
            }
            let (has_place, cleaned) = (has_place.is_some(), cleaned.expect("a cleaner never waits"));
            assert!(has_place != cleaned, "lead {lead}: worker {has_place}, cleaner {cleaned}");
            workers += u32::from(has_place);
            cleaners += u32::from(cleaned);
        }
        assert!(workers > 0 && cleaners > 0, "{workers} {cleaners}");
    }

    #[test]
    fn only_workers_beyond_the_limit_leave() {
        let places = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let leaving = |limit| places.iter().filter(|place| is_surplus(&places, place, limit)).count();
        assert_eq!((leaving(3), leaving(2), leaving(0)), (0, 1, 3));
        assert!(!is_surplus(&places, "not there", 0));
    }
}
