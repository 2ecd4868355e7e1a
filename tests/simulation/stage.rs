//! Everything that a seed's workers share, and what faults do to it.

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

use crate::actor::{Actor, Fate, Request};
use crate::check::Check;
use crate::fates::{Fates, Fault};
use crate::lies::Lie;
use crate::scene::{Layout, Scene, node};

/// How long a session lives without a sign of life.
pub const SESSION: Duration = Duration::from_secs(10);
/// Many times as many requests as a copy with ten faults needs: more, and the workers go in circles.
const MOST_STEPS: u64 = 60_000;

/// A guard of the protocol that is taken away, to see that the simulation misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Records are set without comparing versions.
    Comparing,
    /// All attempts at a piece, and all publications of a batch, use the same tables.
    Fencing,
    /// What is counted in staging tables is what should be there.
    Counting,
    /// Staging tables are dropped when their rows are in place, before that is recorded.
    StagingKept,
    /// ATTACH where REPLACE is meant.
    Replacing,
    /// The counts of the account are what would balance.
    Accounting,
}

/// A seed's world while it runs.
pub struct Stage {
    pub scene: Scene,
    pub coordinator: MemoryCoordinator,
    pub client: MemoryServerClient,
    pub broken: Option<Broken>,
    /// What servers do without an error.
    pub lie: Option<Lie>,
    /// For [`Lie::Swallowed`]: what was put in place last, by host.
    pub placed: Mutex<BTreeMap<String, PartitionId>>,
    pub fates: Mutex<Fates>,
    check: Mutex<Check>,
    /// The first invariant that did not hold.
    pub verdict: watch::Sender<Option<String>>,
    actors: Mutex<Vec<Arc<Actor>>>,
    gone: Mutex<BTreeSet<&'static str>>,
    /// Whether workers look for what has changed since everything was copied.
    pub incremental: Mutex<Option<Incremental>>,
    /// Tables that nobody waited for when they were made: only `cleanup` can know of them.
    pub orphans: Mutex<BTreeSet<TableName>>,
    trace: Mutex<(DefaultHasher, u64)>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl Stage {
    pub async fn new(
        scene: Scene,
        fates: Fates,
        coordinator: MemoryCoordinator,
        (broken, lie): (Option<Broken>, Option<Lie>),
    ) -> Arc<Self> {
        let client = scene.servers().await;
        Arc::new(Self {
            coordinator,
            check: Mutex::new(Check::new(&scene)),
            scene,
            client,
            broken,
            lie,
            placed: Mutex::default(),
            fates: Mutex::new(fates),
            verdict: watch::channel(None).0,
            actors: Mutex::default(),
            gone: Mutex::default(),
            incremental: Mutex::default(),
            orphans: Mutex::default(),
            trace: Mutex::default(),
        })
    }

    /// The server that answers under a name.
    pub fn who(&self, asked: &Node) -> Node {
        self.lie.map_or_else(|| asked.clone(), |lie| lie.who(asked))
    }

    pub fn fates(&self) -> MutexGuard<'_, Fates> {
        lock(&self.fates)
    }

    pub fn enter(&self, actor: &Arc<Actor>) {
        lock(&self.actors).push(actor.clone());
    }

    pub fn gone(&self) -> BTreeSet<&'static str> {
        lock(&self.gone).clone()
    }

    /// A number for everything that happened, in its order.
    pub fn trace(&self) -> (u64, u64) {
        let trace = lock(&self.trace);
        (trace.0.finish(), trace.1)
    }

    /// A worker is about to send a request.
    pub async fn pass(self: &Arc<Self>, actor: &Arc<Actor>, request: Request, what: &str, at: &str) -> Fate {
        self.wait().await;
        actor.awake().await;
        self.note(actor, what, at);
        let replicated = self.scene.layout == Layout::Replicated;
        let fault = self.fates().draw(|fault| match fault {
            Fault::LostReply | Fault::LostRequest => request != Request::Read,
            Fault::LateStatement | Fault::Refused => request == Request::Deed,
            Fault::Lag => replicated,
            _ => true,
        });
        let Some(fault) = fault else { return Fate::Good };
        if std::env::var("SIMULATION_SEED").is_ok() {
            println!("  ** {fault:?} at {} {what} {at}", actor.name);
        }
        match fault {
            Fault::Crash => actor.crash().await,
            Fault::CrashAfter => Fate::CrashAfter,
            Fault::LostReply => Fate::LostReply,
            Fault::LostRequest => Fate::LostRequest,
            Fault::Refused => Fate::Refused(*self.fates().pick(&[202, 241, 252, 473, 999])),
            Fault::LateStatement => {
                Fate::Late(self.fates().between(Duration::from_millis(10), Duration::from_secs(90)))
            }
            other => {
                self.happen(other, actor);
                actor.awake().await;
                Fate::Good
            }
        }
    }

    /// A request is answered, or was done without anybody waiting for it.
    pub async fn leave(&self, actor: &Actor) {
        actor.awake().await;
        self.look().await;
    }

    /// Checks what must hold at every instant; the seed ends here when it does not.
    pub async fn look(&self) {
        let found = lock(&self.check).look(self);
        if let Err(violation) = found {
            self.verdict.send_if_modified(|verdict| {
                verdict.is_none() && {
                    *verdict = Some(violation);
                    true
                }
            });
            std::future::pending::<()>().await;
        }
    }

    /// Requests take their time, each another one.
    async fn wait(&self) {
        let (turns, pause) = {
            let mut fates = self.fates();
            if fates.below(3) == 0 { (0, fates.below(15) + 1) } else { (fates.below(4), 0) }
        };
        for _ in 0..turns {
            yield_now().await;
        }
        if pause > 0 {
            sleep(Duration::from_millis(pause.into())).await;
        }
    }

    fn note(&self, actor: &Actor, what: &str, at: &str) {
        let steps = {
            let mut trace = lock(&self.trace);
            (&actor.name, what, at).hash(&mut trace.0);
            trace.1 += 1;
            trace.1
        };
        if steps == MOST_STEPS {
            self.verdict.send_replace(Some(format!("{steps} requests, and no end: the workers go in circles")));
        }
        if std::env::var("SIMULATION_STEPS").is_ok() {
            println!("{:>9.3} {} {what} {at}", lock(&self.check).elapsed().as_secs_f64(), actor.name);
        }
    }

    /// Does what a fault of a worker, of a server or of the coordinator does.
    fn happen(self: &Arc<Self>, fault: Fault, actor: &Arc<Actor>) {
        match fault {
            Fault::ShortPause => actor.stand_still(milliseconds(&mut self.fates(), 10, 9_000)),
            Fault::LongPause => {
                actor.stand_still(milliseconds(&mut self.fates(), 11_000, 600_000));
                self.expire_later(actor.session_ids(), SESSION);
            }
            Fault::SessionExpired => self.expire_later(actor.session_ids(), Duration::ZERO),
            Fault::NodeAway => self.take_node_away(false),
            Fault::NodeRestart => self.take_node_away(true),
            Fault::NodeGone => {
                let host = *self.fates().pick(&self.scene.hosts());
                lock(&self.gone).insert(host);
                self.client.set_reachable(&node(host), false);
            }
            Fault::CoordinatorAway => self.take_coordinator_away(false),
            Fault::CoordinatorAwayLong => self.take_coordinator_away(true),
            Fault::MaxWorkers => {
                let limit = self.fates().below(4);
                let text = self.scene.task(actor.task, (limit > 0).then_some(limit));
                self.describe(actor.task, text);
            }
            Fault::Paused => self.pause_for_a_while(actor.task),
            Fault::Finish => lock(&actor.hand).signal(),
            Fault::Stop => {
                lock(&actor.hand).signal();
                lock(&actor.hand).signal();
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
            let mut fates = self.fates();
            (*fates.pick(&hosts), milliseconds(&mut fates, 10, 120_000))
        };
        self.client.set_reachable(&node(host), false);
        if restart {
            lock(&self.check).restarted(host);
            self.client.restart(&node(host));
        }
        self.later(away, move |stage| {
            if !stage.gone().contains(host) {
                stage.client.set_reachable(&node(host), true);
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
            milliseconds(&mut self.fates(), 11_000, 100_000)
        } else {
            let away = milliseconds(&mut self.fates(), 10, 9_000);
            self.later(away, move |stage| {
                sessions.iter().for_each(|session| stage.coordinator.mend(session));
            });
            away
        };
        self.later(away, |stage| stage.coordinator.set_reachable(true));
    }

    /// Pauses a task for a while.
    fn pause_for_a_while(self: &Arc<Self>, task: usize) {
        let (order, pause) = {
            let mut fates = self.fates();
            let order = *fates.pick(&[Order::Pause, Order::PauseNow]);
            (order, milliseconds(&mut fates, 10, 120_000))
        };
        self.pause(task, order, pause);
    }

    /// Makes the replicas of a target host fetch nothing for a while.
    fn let_replica_lag(self: &Arc<Self>) {
        let targets = self.scene.targets().concat();
        let (host, lag) = {
            let mut fates = self.fates();
            (*fates.pick(&targets), milliseconds(&mut fates, 10, 60_000))
        };
        self.client.set_lagging(&node(host), true);
        self.later(lag, move |stage| stage.client.set_lagging(&node(host), false));
    }

    /// Merges the tables of a target host.
    fn merge_tables(&self) {
        let targets = self.scene.targets().concat();
        let host = *self.fates().pick(&targets);
        for table in self.client.tables(&node(host)) {
            let _ = self.client.merge(&node(host), &table);
        }
    }

    /// Writes a task's description, as somebody at a console would.
    fn describe(self: &Arc<Self>, task: usize, text: String) {
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            let Ok(session) = coordinator.session().await else { return };
            let _ = session.commit(vec![Op::set(format!("{}/description", task_path(task)), text, None)]).await;
            session.close().await;
        });
    }

    /// Pauses a task for a while, as somebody at a console would who tries until it is done.
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
        let expire = move |stage: &Stage| sessions.iter().for_each(|session| stage.coordinator.expire(session));
        if after.is_zero() { expire(self) } else { self.later(after, expire) }
    }

    fn later(self: &Arc<Self>, after: Duration, what: impl FnOnce(&Stage) + Send + 'static) {
        let stage = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            what(&stage);
        });
    }

    /// The source changes after everything is copied, and the task is to be run again.
    pub async fn change_source(&self) {
        let Some(later) = &self.scene.later else { return };
        self.scene.change(&self.client).await;
        // What went would come back if its server were killed before it is gone from the disk: that is no copier's matter.
        sleep(Duration::from_secs(10)).await;
        lock(&self.check).begin_pass(self);
        *lock(&self.incremental) = Some(Incremental { drop_vanished: later.drops });
        self.fates().begin_again();
    }

    /// What tells the workers of the second pass from those of the first.
    pub fn suffix(&self) -> &'static str {
        if self.is_incremental().is_some() { ".again" } else { "" }
    }

    pub fn is_incremental(&self) -> Option<Incremental> {
        *lock(&self.incremental)
    }

    /// Nothing more happens, and what can come back does.
    pub async fn heal(self: &Arc<Self>) {
        self.fates().end();
        self.coordinator.set_reachable(true);
        for actor in std::mem::take(&mut *lock(&self.actors)) {
            self.expire_later(actor.session_ids(), Duration::ZERO);
            actor.forget_sessions();
        }
        let gone = self.gone();
        for host in self.scene.hosts().into_iter().filter(|host| !gone.contains(host)) {
            self.client.set_reachable(&node(host), true);
            self.client.set_lagging(&node(host), false);
        }
        for task in 0..self.scene.tasks() {
            self.describe(task, self.scene.task(task, None));
        }
        // What was late has arrived by then, and what was cut off is back.
        sleep(Duration::from_secs(700)).await;
    }

    /// Rows that a partition of a host is to have.
    pub fn promised_rows(&self, host: &str, partition: &str) -> u64 {
        lock(&self.check).promised(host, partition)
    }

    /// For [`Broken::Fencing`]: the name that a table would have.
    pub fn with_recorded_attempt(&self, task: usize, name: &str) -> String {
        lock(&self.check).with_recorded_attempt(task, name)
    }

    pub fn is_finished(&self, task: usize) -> bool {
        lock(&self.check).is_finished(task)
    }

    /// A worker is dead, or will end as if it was: what it made after its task was finished is nobody's.
    pub fn bury(&self, actor: &Actor) {
        lock(&self.orphans).append(&mut lock(&actor.made_late));
    }

    /// What must hold in the end, of a task that says that it is finished or not.
    pub fn check_end(&self, task: usize, finished: bool) -> Result<(), String> {
        lock(&self.check).look(self)?;
        lock(&self.check).end(self, task, finished)
    }

    /// What must hold of a task that says that it is finished over servers that lie.
    pub fn check_accounted(&self) -> Result<(), String> {
        lock(&self.check).accounted(self)
    }

    /// What must hold after a clean-up.
    pub fn check_clean(&self, task: usize) -> Result<(), String> {
        let mut check = lock(&self.check);
        check.look(self)?;
        check.nothing_left(self, task, &BTreeSet::new())
    }
}

/// Draws a duration between two numbers of milliseconds.
fn milliseconds(fates: &mut Fates, least: u64, most: u64) -> Duration {
    fates.between(Duration::from_millis(least), Duration::from_millis(most))
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
