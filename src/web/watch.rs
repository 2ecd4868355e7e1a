//! One who looks at the task for all viewers.
//!
//! It looks about once a second while there is a viewer, and once when somebody asks for the state of now; else not at all. A
//! look that took long is followed by a longer pause. A look that fails, or takes longer than eight seconds, leaves the last
//! sight in place with the reason why there is no newer one; the next look begins with a new session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::ledger::overview::TaskOverview;
use crate::operations::status::TaskReader;
use crate::planning::errors::RunError;
use crate::report::status::{Speedometer, Status};
use crate::task::SecretSource;

use super::events::{About, EventLog, changes};

/// A look is given up after so long; servers that do not answer are done without sooner.
const PATIENCE: Duration = Duration::from_secs(8);
/// Somebody who asks for the state of now waits for it so long, and is given the last one then: Prometheus waits for ten seconds.
const ANSWER: Duration = Duration::from_secs(6);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// … is at least so many times what the look took: a large task is looked at less often.
const SHARE: u32 = 3;
/// What was seen so recently is the state of now.
const FRESH: Duration = Duration::from_millis(1500);
/// A session is ended in so long, or left to end by itself.
const FAREWELL: Duration = Duration::from_secs(1);
/// So many rates are kept: half an hour's, with a viewer all the time.
const RATES: usize = 1800;

/// Where the task is.
pub struct Place {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// What the task's description may refer to.
    pub secrets: Arc<dyn SecretSource>,
    /// The task's node.
    pub task_path: String,
}

/// What is known, at some time.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// They are numbered; 0 is before the first.
    pub number: u64,
    /// What was seen last.
    pub seen: Option<Arc<Seen>>,
    /// Why that is not from now.
    pub stale: Option<String>,
    /// What happened so far.
    pub events: Arc<EventLog>,
    /// The rates so far: Unix time in milliseconds, bytes in a second.
    pub rates: Arc<VecDeque<(i64, u64)>>,
    /// When this look ended. `None`: it is the one before the first.
    pub ended: Option<Instant>,
}

/// A task as it was seen.
#[derive(Debug)]
pub struct Seen {
    /// When.
    pub at: OffsetDateTime,
    /// With all records.
    pub overview: TaskOverview,
    /// How it stands.
    pub status: Status,
}

impl Seen {
    /// When it was seen, as RFC 3339 writes it.
    pub fn at_text(&self) -> String {
        written(self.at)
    }
}

/// The way to the one who looks. Cheap to clone.
#[derive(Clone)]
pub struct TaskWatch {
    looks: watch::Receiver<Arc<Look>>,
    demand: Arc<Demand>,
}

/// Somebody who looks on; while there is one, there are new looks.
pub struct Viewer {
    looks: watch::Receiver<Arc<Look>>,
    demand: Arc<Demand>,
}

#[derive(Default)]
struct Demand {
    viewers: AtomicUsize,
    wake: Notify,
}

impl TaskWatch {
    /// Begins to look out. What is given besides is to be awaited beside the server; when it is dropped, no viewer gets
    /// another look.
    pub fn begin(place: Place) -> (Self, impl Future<Output = ()>) {
        let (sender, looks) = watch::channel(Arc::default());
        let demand = Arc::new(Demand::default());
        let guard = Guard { place, reader: None, speed: Speedometer::default() };
        (Self { looks, demand: demand.clone() }, guard.look_out(sender, demand))
    }

    /// The state of now. Where it cannot be had in time, the last one, with the reason.
    pub async fn now(&self) -> Arc<Look> {
        let mut looks = self.looks.clone();
        let last = looks.borrow_and_update().clone();
        if last.ended.is_some_and(|ended| ended.elapsed() < FRESH) {
            return last;
        }
        self.demand.wake.notify_one();
        match timeout(ANSWER, looks.changed()).await {
            Ok(Ok(())) => looks.borrow().clone(),
            Ok(Err(_)) => Arc::new(Look { stale: Some("the dashboard is ending".into()), ..Look::clone(&last) }),
            Err(_) => {
                let why = format!("no answer within {} s", ANSWER.as_secs());
                Arc::new(Look { stale: Some(last.stale.clone().unwrap_or(why)), ..Look::clone(&last) })
            }
        }
    }

    /// Somebody who looks on from now on.
    pub fn viewer(&self) -> Viewer {
        self.demand.viewers.fetch_add(1, Ordering::SeqCst);
        self.demand.wake.notify_one();
        Viewer { looks: self.looks.clone(), demand: self.demand.clone() }
    }

    /// What is known already; nobody is asked.
    pub fn last(&self) -> Arc<Look> {
        self.looks.borrow().clone()
    }
}

impl Viewer {
    /// The newest look, when it is newer than the one with this number; those in between are left out. `None`: there will be
    /// no more.
    pub async fn newer(&mut self, number: u64) -> Option<Arc<Look>> {
        self.looks.wait_for(|look| look.number > number).await.ok().map(|look| look.clone())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.demand.viewers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Demand {
    async fn wanted(&self) {
        if self.viewers.load(Ordering::SeqCst) == 0 {
            self.wake.notified().await;
        }
    }
}

/// Who looks.
struct Guard {
    place: Place,
    reader: Option<TaskReader>,
    speed: Speedometer,
}

impl Guard {
    async fn look_out(mut self, looks: watch::Sender<Arc<Look>>, demand: Arc<Demand>) {
        loop {
            demand.wanted().await;
            let began = Instant::now();
            let outcome = timeout(PATIENCE, self.look()).await;
            let outcome = match outcome {
                Ok(Ok(overview)) => Ok(overview),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => {
                    let place = self.place.coordinator.place();
                    Err(format!("{place}: no answer within {} s", PATIENCE.as_secs()))
                }
            };
            if outcome.is_err()
                && let Some(reader) = self.reader.take()
            {
                // What it has read may be half of what is there.
                let _ = timeout(FAREWELL, reader.close()).await;
            }
            let last = looks.borrow().clone();
            looks.send_replace(Arc::new(self.next(&last, outcome)));
            sleep(PAUSE.max(began.elapsed() * SHARE)).await;
        }
    }

    async fn look(&mut self) -> Result<TaskOverview, RunError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let Place { coordinator, client, secrets, task_path } = &self.place;
                let opened = TaskReader::open(coordinator.as_ref(), client.clone(), secrets.clone(), task_path).await?;
                none.insert(opened)
            }
        };
        reader.look().await
    }

    /// The next look after the last one, from what came of looking.
    fn next(&mut self, last: &Look, outcome: Result<TaskOverview, String>) -> Look {
        let now = OffsetDateTime::now_utc();
        let mut next = Look { number: last.number + 1, ended: Some(Instant::now()), ..last.clone() };
        let mut note = |about, text| Arc::make_mut(&mut next.events).note(&written(now), about, text);
        match outcome {
            Err(why) => {
                if last.stale.as_ref() != Some(&why) {
                    note(About::TaskOverview, format!("the task cannot be seen: {why}"));
                }
                next.stale = Some(why);
            }
            Ok(overview) => {
                if last.stale.is_some() {
                    note(About::TaskOverview, "the task can be seen again".into());
                }
                let before = last.seen.as_deref().map(|seen| &seen.status);
                let mut status = Status::of(&overview, &self.place.task_path);
                if before.is_some_and(|before| before.task != status.task) {
                    self.speed = Speedometer::default();
                }
                self.speed.note(&mut status, Instant::now().into_std());
                for (about, text) in changes(before, &status) {
                    note(about, text);
                }
                let rates = Arc::make_mut(&mut next.rates);
                rates.push_back((unix_millis(now), status.bytes_per_second.unwrap_or(0)));
                while rates.len() > RATES {
                    rates.pop_front();
                }
                next.stale = None;
                next.seen = Some(Arc::new(Seen { at: now, overview, status }));
            }
        }
        next
    }
}

fn unix_millis(at: OffsetDateTime) -> i64 {
    // Fits for as long as there are years of four digits.
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

fn written(at: OffsetDateTime) -> String {
    at.replace_nanosecond(at.millisecond() as u32 * 1_000_000).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::MemoryServerClient;
    use crate::coordinator::MemoryCoordinator;
    use crate::task::SystemSecrets;

    fn place(coordinator: &MemoryCoordinator) -> Place {
        Place {
            coordinator: Arc::new(coordinator.clone()),
            client: Arc::new(MemoryServerClient::default()),
            secrets: Arc::new(SystemSecrets),
            task_path: "/t".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_while_nobody_looks_on() {
        let (watch, guard) = TaskWatch::begin(place(&MemoryCoordinator::new()));
        tokio::select! {
            () = guard => unreachable!(),
            () = look_on(watch.clone()) => {}
        }
        assert!(watch.viewer().newer(u64::MAX - 1).await.is_none(), "who looked is gone");
    }

    async fn look_on(watch: TaskWatch) {
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(watch.last().number, 0);
        let asked = watch.now().await;
        assert_eq!(asked.number, 1);
        assert!(asked.stale.as_ref().is_some_and(|why| why.contains("there is no task at /t")), "{:?}", asked.stale);
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(watch.last().number, 1);

        let mut viewer = watch.viewer();
        for number in 2..5 {
            assert_eq!(viewer.newer(number - 1).await.map(|look| look.number), Some(number));
        }
        drop(viewer);
        sleep(Duration::from_secs(3600)).await;
        assert!(watch.last().number <= 6);
        assert_eq!(watch.last().events.after(0).count(), 1, "the same reason is told once");
    }
}
