//! The state that all workers of a seed share: servers, coordinator, faults, checks.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clickhouse_copier::client::memory::MemoryServerClient;
use clickhouse_copier::coordinator::{Coordinator, MemoryCoordinator, Op};
use clickhouse_copier::ledger::Ledger;
use clickhouse_copier::model::{Node, PartitionId, TableName};
use clickhouse_copier::protocol::Order;
use clickhouse_copier::worker::launch::Incremental;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::faults::{Fault, RandomFaults};
use crate::invariants::InvariantChecker;
use crate::scene::{Layout, Scene, node};
use crate::workers::{Delivery, Request, SimulatedWorker};
use crate::wrong_answers::WrongAnswer;

/// The session timeout: a session without requests ends after this time.
pub const SESSION: Duration = Duration::from_secs(10);
/// The most requests of a seed, many times what a copy with ten faults needs. With more, the workers repeat themselves without end.
const MOST_STEPS: u64 = 60_000;

/// A guard of the protocol that is disabled, to see that the simulation then finds a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledGuard {
    /// Records are written without comparing versions.
    Comparing,
    /// All attempts at a piece, and all publications of a batch, use the same tables.
    Fencing,
    /// Counts of staging tables return the expected number instead of the real one.
    Counting,
    /// Staging tables are dropped before it is recorded that their rows are published.
    StagingKept,
    /// Partitions are attached instead of replaced.
    Replacing,
    /// The counts of the account always balance.
    Accounting,
}

/// The state of a seed while it runs.
pub struct World {
    pub scene: Scene,
    pub coordinator: MemoryCoordinator,
    pub client: MemoryServerClient,
    pub broken: Option<DisabledGuard>,
    /// The wrong answer that servers give, if any.
    pub wrong_answer: Option<WrongAnswer>,
    /// For [`WrongAnswer::LostPartition`]: the partition that was published last, by host.
    pub placed: Mutex<BTreeMap<String, PartitionId>>,
    pub faults: Mutex<RandomFaults>,
    check: Mutex<InvariantChecker>,
    /// The first invariant that did not hold.
    pub violation: watch::Sender<Option<String>>,
    workers: Mutex<Vec<Arc<SimulatedWorker>>>,
    gone: Mutex<BTreeSet<&'static str>>,
    /// In the second pass: how workers look for changed partitions.
    pub incremental: Mutex<Option<Incremental>>,
    /// Tables whose creation no worker waited for. Only `cleanup` can find them.
    pub orphans: Mutex<BTreeSet<TableName>>,
    trace: Mutex<(DefaultHasher, u64)>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl World {
    pub async fn new(
        scene: Scene,
        faults: RandomFaults,
        coordinator: MemoryCoordinator,
        (broken, wrong_answer): (Option<DisabledGuard>, Option<WrongAnswer>),
    ) -> Arc<Self> {
        let client = scene.servers().await;
        Arc::new(Self {
            coordinator,
            check: Mutex::new(InvariantChecker::new(&scene)),
            scene,
            client,
            broken,
            wrong_answer,
            placed: Mutex::default(),
            faults: Mutex::new(faults),
            violation: watch::channel(None).0,
            workers: Mutex::default(),
            gone: Mutex::default(),
            incremental: Mutex::default(),
            orphans: Mutex::default(),
            trace: Mutex::default(),
        })
    }

    /// Returns the server that answers under this name.
    pub fn server_named(&self, asked: &Node) -> Node {
        self.wrong_answer.map_or_else(|| asked.clone(), |wrong_answer| wrong_answer.server_named(asked))
    }

    pub fn faults(&self) -> MutexGuard<'_, RandomFaults> {
        lock(&self.faults)
    }

    pub fn add_worker(&self, worker: &Arc<SimulatedWorker>) {
        lock(&self.workers).push(worker.clone());
    }

    pub fn gone(&self) -> BTreeSet<&'static str> {
        lock(&self.gone).clone()
    }

    /// Returns a hash of all requests in their order, and their number.
    pub fn trace(&self) -> (u64, u64) {
        let trace = lock(&self.trace);
        (trace.0.finish(), trace.1)
    }

    /// Called before a worker sends a request. Returns how the request is delivered.
    pub async fn send(
        self: &Arc<Self>,
        worker: &Arc<SimulatedWorker>,
        request: Request,
        what: &str,
        at: &str,
    ) -> Delivery {
        self.wait().await;
        worker.wait_while_paused().await;
        self.note(worker, what, at);
        let replicated = self.scene.layout == Layout::Replicated;
        let fault = self.faults().draw(|fault| match fault {
            Fault::LostReply | Fault::LostRequest => request != Request::ReadCoordinator,
            Fault::LateStatement | Fault::Refused => request == Request::ChangeServer,
            Fault::Lag => replicated,
            _ => true,
        });
        let Some(fault) = fault else { return Delivery::Good };
        if std::env::var("SIMULATION_SEED").is_ok() {
            println!("  ** {fault:?} at {} {what} {at}", worker.name);
        }
        match fault {
            Fault::Crash => worker.crash().await,
            Fault::CrashAfter => Delivery::CrashAfter,
            Fault::LostReply => Delivery::LostReply,
            Fault::LostRequest => Delivery::LostRequest,
            Fault::Refused => Delivery::Refused(*self.faults().pick(&[202, 241, 252, 473, 999])),
            Fault::LateStatement => {
                Delivery::Late(self.faults().between(Duration::from_millis(10), Duration::from_secs(90)))
            }
            other => {
                self.happen(other, worker);
                worker.wait_while_paused().await;
                Delivery::Good
            }
        }
    }

    /// Called after a request is answered, or is done without a worker that waits for it.
    pub async fn answered(&self, worker: &SimulatedWorker) {
        worker.wait_while_paused().await;
        self.check_invariants().await;
    }

    /// Checks all invariants. Ends the seed at the first violation.
    pub async fn check_invariants(&self) {
        let found = lock(&self.check).check(self);
        if let Err(found) = found {
            self.violation.send_if_modified(|first| {
                first.is_none() && {
                    *first = Some(found);
                    true
                }
            });
            std::future::pending::<()>().await;
        }
    }

    /// Waits as long as a request takes: each takes another time.
    async fn wait(&self) {
        let (turns, pause) = {
            let mut faults = self.faults();
            if faults.below(3) == 0 { (0, faults.below(15) + 1) } else { (faults.below(4), 0) }
        };
        for _ in 0..turns {
            yield_now().await;
        }
        if pause > 0 {
            sleep(Duration::from_millis(pause.into())).await;
        }
    }

    fn note(&self, worker: &SimulatedWorker, what: &str, at: &str) {
        let steps = {
            let mut trace = lock(&self.trace);
            (&worker.name, what, at).hash(&mut trace.0);
            trace.1 += 1;
            trace.1
        };
        if steps == MOST_STEPS {
            self.violation.send_replace(Some(format!("{steps} requests, and no end: the workers go in circles")));
        }
        if std::env::var("SIMULATION_STEPS").is_ok() {
            println!("{:>9.3} {} {what} {at}", lock(&self.check).elapsed().as_secs_f64(), worker.name);
        }
    }

    /// Applies a fault of a worker, of a server or of the coordinator.
    fn happen(self: &Arc<Self>, fault: Fault, worker: &Arc<SimulatedWorker>) {
        match fault {
            Fault::ShortPause => worker.pause(milliseconds(&mut self.faults(), 10, 9_000)),
            Fault::LongPause => {
                worker.pause(milliseconds(&mut self.faults(), 11_000, 600_000));
                self.expire_later(worker.session_ids(), SESSION);
            }
            Fault::SessionExpired => self.expire_later(worker.session_ids(), Duration::ZERO),
            Fault::NodeAway => self.take_node_away(false),
            Fault::NodeRestart => self.take_node_away(true),
            Fault::NodeGone => {
                let host = *self.faults().pick(&self.scene.hosts());
                lock(&self.gone).insert(host);
                self.client.set_reachable(&node(host), false);
            }
            Fault::CoordinatorAway => self.take_coordinator_away(false),
            Fault::CoordinatorAwayLong => self.take_coordinator_away(true),
            Fault::MaxWorkers => {
                let limit = self.faults().below(4);
                let text = self.scene.task(worker.task, (limit > 0).then_some(limit));
                self.describe(worker.task, text);
            }
            Fault::Paused => self.pause_for_a_while(worker.task),
            Fault::Finish => lock(&worker.sender).signal(),
            Fault::Stop => {
                lock(&worker.sender).signal();
                lock(&worker.sender).signal();
            }
            Fault::Lag => self.let_replica_lag(),
            Fault::Merge => self.merge_tables(),
            Fault::Crash
            | Fault::CrashAfter
            | Fault::LostReply
            | Fault::LostRequest
            | Fault::Refused
            | Fault::LateStatement => unreachable!("these are the request's own"),
        }
    }

    /// Cuts a server off for a while. With `restart` the server is killed and starts again.
    fn take_node_away(self: &Arc<Self>, restart: bool) {
        let hosts = self.scene.hosts();
        let (host, away) = {
            let mut faults = self.faults();
            (*faults.pick(&hosts), milliseconds(&mut faults, 10, 120_000))
        };
        self.client.set_reachable(&node(host), false);
        if restart {
            lock(&self.check).restarted(host);
            self.client.restart(&node(host));
        }
        self.later(away, move |world| {
            if !world.gone().contains(host) {
                world.client.set_reachable(&node(host), true);
            }
        });
    }

    /// Cuts the coordinator off for a while. With `expire` that lasts longer than the sessions of all workers.
    fn take_coordinator_away(self: &Arc<Self>, expire: bool) {
        let sessions = self.coordinator.sessions();
        self.coordinator.set_reachable(false);
        sessions.iter().for_each(|session| self.coordinator.cut(session));
        let away = if expire {
            self.expire_later(sessions, SESSION);
            milliseconds(&mut self.faults(), 11_000, 100_000)
        } else {
            let away = milliseconds(&mut self.faults(), 10, 9_000);
            self.later(away, move |world| {
                sessions.iter().for_each(|session| world.coordinator.mend(session));
            });
            away
        };
        self.later(away, |world| world.coordinator.set_reachable(true));
    }

    /// Pauses a task for a while.
    fn pause_for_a_while(self: &Arc<Self>, task: usize) {
        let (order, pause) = {
            let mut faults = self.faults();
            let order = *faults.pick(&[Order::Pause, Order::PauseNow]);
            (order, milliseconds(&mut faults, 10, 120_000))
        };
        self.pause(task, order, pause);
    }

    /// Makes the replicas of a target host fetch nothing for a while.
    fn let_replica_lag(self: &Arc<Self>) {
        let targets = self.scene.targets().concat();
        let (host, lag) = {
            let mut faults = self.faults();
            (*faults.pick(&targets), milliseconds(&mut faults, 10, 60_000))
        };
        self.client.set_lagging(&node(host), true);
        self.later(lag, move |world| world.client.set_lagging(&node(host), false));
    }

    /// Merges the tables of a target host.
    fn merge_tables(&self) {
        let targets = self.scene.targets().concat();
        let host = *self.faults().pick(&targets);
        for table in self.client.tables(&node(host)) {
            let _ = self.client.merge(&node(host), &table);
        }
    }

    /// Writes a task's description, as a user does with `--task-upload-force`.
    fn describe(self: &Arc<Self>, task: usize, text: String) {
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            let Ok(session) = coordinator.session().await else { return };
            let _ = session.commit(vec![Op::set(format!("{}/description", task_path(task)), text, None)]).await;
            session.close().await;
        });
    }

    /// Pauses a task for a while, as a user does who repeats the command until it succeeds.
    fn pause(self: &Arc<Self>, task: usize, order: Order, pause: Duration) {
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            for (order, then) in [(order, pause), (Order::Run, Duration::ZERO)] {
                while give(&coordinator, task, order).await.is_none() {
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(then).await;
            }
        });
    }

    pub fn expire_later(self: &Arc<Self>, sessions: Vec<String>, after: Duration) {
        let expire = move |world: &World| sessions.iter().for_each(|session| world.coordinator.expire(session));
        if after.is_zero() { expire(self) } else { self.later(after, expire) }
    }

    fn later(self: &Arc<Self>, after: Duration, what: impl FnOnce(&World) + Send + 'static) {
        let world = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            what(&world);
        });
    }

    /// Changes the source after everything is copied, and prepares the second pass.
    pub async fn change_source(&self) {
        let Some(later) = &self.scene.later else { return };
        self.scene.change(&self.client).await;
        // A dropped part would come back if its server were killed before the part is deleted on disk. That is not tested here.
        sleep(Duration::from_secs(10)).await;
        lock(&self.check).begin_pass(self);
        *lock(&self.incremental) = Some(Incremental { drop_vanished: later.drops });
        self.faults().begin_again();
    }

    /// Returns the suffix of workers' names in this pass.
    pub fn suffix(&self) -> &'static str {
        if self.is_incremental().is_some() { ".again" } else { "" }
    }

    pub fn is_incremental(&self) -> Option<Incremental> {
        *lock(&self.incremental)
    }

    /// Stops all faults, and brings back everything that can come back.
    pub async fn stop_faults(self: &Arc<Self>) {
        self.faults().end();
        self.coordinator.set_reachable(true);
        for worker in std::mem::take(&mut *lock(&self.workers)) {
            self.expire_later(worker.session_ids(), Duration::ZERO);
            worker.forget_sessions();
        }
        let gone = self.gone();
        for host in self.scene.hosts().into_iter().filter(|host| !gone.contains(host)) {
            self.client.set_reachable(&node(host), true);
            self.client.set_lagging(&node(host), false);
        }
        for task in 0..self.scene.tasks() {
            self.describe(task, self.scene.task(task, None));
        }
        // By then late statements have arrived, and servers that were cut off answer again.
        sleep(Duration::from_secs(700)).await;
    }

    /// Returns the rows that a partition of a host must have.
    pub fn promised_rows(&self, host: &str, partition: &str) -> u64 {
        lock(&self.check).promised(host, partition)
    }

    /// For [`DisabledGuard::Fencing`]: the name that all attempts use for a table.
    pub fn with_recorded_attempt(&self, task: usize, name: &str) -> String {
        lock(&self.check).with_recorded_attempt(task, name)
    }

    pub fn is_finished(&self, task: usize) -> bool {
        lock(&self.check).is_finished(task)
    }

    /// Called when a worker has died or ended. Tables that it created after its task was finished belong to nobody.
    pub fn remove_worker(&self, worker: &SimulatedWorker) {
        lock(&self.orphans).append(&mut lock(&worker.made_late));
    }

    /// Checks the end state of a task. `finished`: whether the task says that it is finished.
    pub fn check_end(&self, task: usize, finished: bool) -> Result<(), String> {
        lock(&self.check).check(self)?;
        lock(&self.check).end(self, task, finished)
    }

    /// Checks the end state of a task that says it is finished although servers gave wrong answers.
    pub fn check_accounted(&self) -> Result<(), String> {
        lock(&self.check).accounted(self)
    }

    /// Checks that a clean-up left nothing.
    pub fn check_clean(&self, task: usize) -> Result<(), String> {
        let mut check = lock(&self.check);
        check.check(self)?;
        check.nothing_left(self, task, &BTreeSet::new())
    }
}

/// Draws a duration between two numbers of milliseconds.
fn milliseconds(faults: &mut RandomFaults, least: u64, most: u64) -> Duration {
    faults.between(Duration::from_millis(least), Duration::from_millis(most))
}

async fn give(coordinator: &MemoryCoordinator, task: usize, order: Order) -> Option<Order> {
    let session = coordinator.session().await.ok()?;
    let given = Ledger::new(session.clone(), &task_path(task)).give_order(|_| Some(order)).await;
    session.close().await;
    given.ok()
}

pub fn task_path(task: usize) -> String {
    format!("/copy/hits{task}")
}
