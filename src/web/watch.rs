//! Reads the task for all viewers.
//!
//! The task is read about once a second while there is a viewer, and once when somebody asks for the current state;
//! else not at all. A longer pause follows a slow reading. A reading that fails, or takes longer than eight seconds,
//! keeps the last reading with the reason why there is no newer one. The next reading begins with a new session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::events::{About, EventLog, changes};
use crate::client::ServerClient;
use crate::coordinator::Coordinator;
use crate::ledger::overview::TaskOverview;
use crate::operations::status::TaskReader;
use crate::planning::errors::RunError;
use crate::report::status::{Speedometer, Status};
use crate::task::SecretSource;

/// How long a reading may take. Servers that do not answer are left out sooner.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a request waits for the current state before it receives the last one. Prometheus waits for ten seconds.
const CURRENT_TIMEOUT: Duration = Duration::from_secs(6);
/// The shortest pause between two readings.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The pause is at least this multiple of the time that the reading took: a large task is read less often.
const PAUSE_FACTOR: u32 = 3;
/// The age up to which a reading counts as the current state.
const MAX_CURRENT_AGE: Duration = Duration::from_millis(1500);
/// How long ending a session may take. A session that is not ended by then ends by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of rates that are kept: those of half an hour, if there is always a viewer.
const MAX_RATES: usize = 1800;

/// The task to read, and the clients for it.
pub struct WatchedTask {
    /// The coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The servers.
    pub client: Arc<dyn ServerClient>,
    /// The secrets that the task's description may refer to.
    pub secrets: Arc<dyn SecretSource>,
    /// The path of the task's node.
    pub task_path: String,
}

/// The known state at one time.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The number of the reading; 0 is before the first.
    pub number: u64,
    /// The last state that was read.
    pub seen: Option<Arc<TaskSnapshot>>,
    /// The reason why that state is old.
    pub stale: Option<String>,
    /// The events so far.
    pub events: Arc<EventLog>,
    /// The rates so far.
    pub rates: Arc<VecDeque<Rate>>,
    /// When this reading ended. `None` before the first reading.
    pub ended: Option<Instant>,
}

/// The rate of the copies at one time.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// The time, in milliseconds since 1970.
    pub unix_millis: i64,
    /// The rate.
    pub bytes_per_second: u64,
}

/// A state of the task, as it was read.
#[derive(Debug)]
pub struct TaskSnapshot {
    /// The time of the reading.
    pub at: OffsetDateTime,
    /// The task with all records.
    pub overview: TaskOverview,
    /// The status that is derived from it.
    pub status: Status,
}

impl TaskSnapshot {
    /// Returns the time of the reading, in RFC 3339.
    pub(crate) fn at_text(&self) -> String {
        rfc3339(self.at)
    }
}

/// The access to the readings. Cheap to clone.
#[derive(Clone)]
pub struct TaskWatch {
    readings: watch::Receiver<Arc<Reading>>,
    demand: Arc<Demand>,
}

/// A viewer. While there is one, the task is read again and again.
pub(crate) struct Viewer {
    readings: watch::Receiver<Arc<Reading>>,
    demand: Arc<Demand>,
}

#[derive(Default)]
struct Demand {
    viewers: AtomicUsize,
    wake: Notify,
}

impl TaskWatch {
    /// Begins to watch. The returned future must be awaited beside the server. When it is dropped, no viewer receives
    /// another reading.
    pub fn begin(task: WatchedTask) -> (Self, impl Future<Output = ()>) {
        let (sender, readings) = watch::channel(Arc::default());
        let demand = Arc::new(Demand::default());
        let read_loop = ReadLoop { task, reader: None, speed: Speedometer::default() };
        (Self { readings, demand: demand.clone() }, read_loop.read_while_watched(sender, demand))
    }

    /// Returns the current state. If it cannot be read in time, returns the last one with the reason.
    pub(crate) async fn current(&self) -> Arc<Reading> {
        let mut readings = self.readings.clone();
        let last = readings.borrow_and_update().clone();
        if last.ended.is_some_and(|ended| ended.elapsed() < MAX_CURRENT_AGE) {
            return last;
        }
        self.demand.wake.notify_one();
        match timeout(CURRENT_TIMEOUT, readings.changed()).await {
            Ok(Ok(())) => readings.borrow().clone(),
            Ok(Err(_)) => Arc::new(Reading { stale: Some("the dashboard is ending".into()), ..Reading::clone(&last) }),
            Err(_) => {
                let why = format!("no answer within {} s", CURRENT_TIMEOUT.as_secs());
                Arc::new(Reading { stale: Some(last.stale.clone().unwrap_or(why)), ..Reading::clone(&last) })
            }
        }
    }

    /// Adds a viewer.
    pub(crate) fn viewer(&self) -> Viewer {
        self.demand.viewers.fetch_add(1, Ordering::SeqCst);
        self.demand.wake.notify_one();
        Viewer { readings: self.readings.clone(), demand: self.demand.clone() }
    }

    /// Returns the last reading, without asking anybody.
    pub(crate) fn latest(&self) -> Arc<Reading> {
        self.readings.borrow().clone()
    }
}

impl Viewer {
    /// Waits for a reading that is newer than the one with this number, and returns the newest; readings in between are
    /// left out. Returns `None` if there will be no more.
    pub(crate) async fn newer(&mut self, number: u64) -> Option<Arc<Reading>> {
        self.readings.wait_for(|look| look.number > number).await.ok().map(|look| look.clone())
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

/// The loop that reads the task.
struct ReadLoop {
    task: WatchedTask,
    reader: Option<TaskReader>,
    speed: Speedometer,
}

impl ReadLoop {
    async fn read_while_watched(mut self, readings: watch::Sender<Arc<Reading>>, demand: Arc<Demand>) {
        loop {
            demand.wanted().await;
            let began = Instant::now();
            let outcome = timeout(READ_TIMEOUT, self.read()).await;
            let outcome = match outcome {
                Ok(Ok(overview)) => Ok(overview),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => {
                    let place = self.task.coordinator.place();
                    Err(format!("{place}: no answer within {} s", READ_TIMEOUT.as_secs()))
                }
            };
            if outcome.is_err()
                && let Some(reader) = self.reader.take()
            {
                // The reader may have read only a part of the task.
                let _ = timeout(CLOSE_TIMEOUT, reader.close()).await;
            }
            let last = readings.borrow().clone();
            readings.send_replace(Arc::new(self.next(&last, outcome)));
            sleep(MIN_PAUSE.max(began.elapsed() * PAUSE_FACTOR)).await;
        }
    }

    async fn read(&mut self) -> Result<TaskOverview, RunError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let WatchedTask { coordinator, client, secrets, task_path } = &self.task;
                let opened = TaskReader::open(coordinator.as_ref(), client.clone(), secrets.clone(), task_path).await?;
                none.insert(opened)
            }
        };
        reader.read().await
    }

    /// Makes the next reading from the last one and the result.
    fn next(&mut self, last: &Reading, outcome: Result<TaskOverview, String>) -> Reading {
        let now = OffsetDateTime::now_utc();
        let mut next = Reading { number: last.number + 1, ended: Some(Instant::now()), ..last.clone() };
        let mut note = |about, text| Arc::make_mut(&mut next.events).note(&rfc3339(now), about, text);
        match outcome {
            Err(why) => {
                if last.stale.as_ref() != Some(&why) {
                    note(About::Reading, format!("the task cannot be seen: {why}"));
                }
                next.stale = Some(why);
            }
            Ok(overview) => {
                if last.stale.is_some() {
                    note(About::Reading, "the task can be seen again".into());
                }
                let before = last.seen.as_deref().map(|seen| &seen.status);
                let mut status = Status::of(&overview, &self.task.task_path);
                if before.is_some_and(|before| before.task != status.task) {
                    self.speed = Speedometer::default();
                }
                self.speed.note(&mut status, Instant::now().into_std());
                for (about, text) in changes(before, &status) {
                    note(about, text);
                }
                let rates = Arc::make_mut(&mut next.rates);
                let bytes_per_second = status.bytes_per_second.unwrap_or(0);
                rates.push_back(Rate { unix_millis: unix_millis(now), bytes_per_second });
                while rates.len() > MAX_RATES {
                    rates.pop_front();
                }
                next.stale = None;
                next.seen = Some(Arc::new(TaskSnapshot { at: now, overview, status }));
            }
        }
        next
    }
}

fn unix_millis(at: OffsetDateTime) -> i64 {
    // This fits as long as years have four digits.
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(at.millisecond() as u32 * 1_000_000).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::MemoryServerClient;
    use crate::coordinator::MemoryCoordinator;
    use crate::task::SystemSecrets;

    fn watched_task(coordinator: &MemoryCoordinator) -> WatchedTask {
        WatchedTask {
            coordinator: Arc::new(coordinator.clone()),
            client: Arc::new(MemoryServerClient::default()),
            secrets: Arc::new(SystemSecrets),
            task_path: "/t".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_is_not_read_without_viewers() {
        let (watch, read_loop) = TaskWatch::begin(watched_task(&MemoryCoordinator::new()));
        tokio::select! {
            () = read_loop => unreachable!(),
            () = wait_and_view(watch.clone()) => {}
        }
        assert!(watch.viewer().newer(u64::MAX - 1).await.is_none(), "the watch has ended");
    }

    async fn wait_and_view(watch: TaskWatch) {
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(watch.latest().number, 0);
        let current = watch.current().await;
        assert_eq!(current.number, 1);
        assert!(
            current.stale.as_ref().is_some_and(|why| why.contains("there is no task at /t")),
            "{:?}",
            current.stale
        );
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(watch.latest().number, 1);

        let mut viewer = watch.viewer();
        for number in 2..5 {
            assert_eq!(viewer.newer(number - 1).await.map(|reading| reading.number), Some(number));
        }
        drop(viewer);
        sleep(Duration::from_secs(3600)).await;
        assert!(watch.latest().number <= 6);
        assert_eq!(watch.latest().events.after(0).count(), 1, "the same reason is one event");
    }
}
