//! A coordinator in memory, for simulations: as ZooKeeper behaves, with faults on demand.
//!
//! It uses no clock and no chance. Every operation gives way to other tasks once before it acts, so that on a runtime of
//! one thread the interleaving is the runtime's alone. Nothing expires by itself: a session that is [cut
//! off](MemoryCoordinator::cut) waits until the test mends or expires it.

mod line;
mod session;
pub(super) mod tree;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Coordinator, Error, Session, Stored, path};
use line::{Line, State};
use session::MemorySession;
use tree::Tree;
use tree::{Done, Forest, Misfit};

const PLACE: &str = "memory";

/// A tree in memory and its sessions. Clones share it.
#[derive(Clone)]
pub struct MemoryCoordinator {
    shared: Arc<Mutex<Shared>>,
}

/// A fault waiting for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LostRequest,
    LostReply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Watched {
    Node,
    Children,
}

/// A session that waits, and how to tell it.
type Watch = (String, oneshot::Sender<()>);

struct Shared {
    tree: Box<dyn Forest>,
    reachable: bool,
    made: u64,
    commits: u64,
    lines: HashMap<String, Arc<Line>>,
    faults: HashMap<String, Fault>,
    watches: HashMap<(Watched, String), Vec<Watch>>,
}

impl MemoryCoordinator {
    /// An empty tree, reachable.
    pub fn new() -> Self {
        Self::over(Box::new(Tree::new()))
    }

    /// The same over the tables and statements of [`LocalCoordinator`](super::LocalCoordinator), in memory: what simulated
    /// workers read is what SQLite says, and changes are told as its log tells them.
    pub fn over_sqlite() -> Self {
        Self::over(Box::new(super::local::simulated::SqliteForest::new()))
    }

    fn over(tree: Box<dyn Forest>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                tree,
                reachable: true,
                made: 0,
                commits: 0,
                lines: HashMap::new(),
                faults: HashMap::new(),
                watches: HashMap::new(),
            })),
        }
    }

    /// Whether new sessions are given; existing ones are not touched.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().reachable = reachable;
    }

    /// Ends a session as the servers do when they hear nothing from it: its ephemeral nodes go, its operations fail.
    pub fn expire(&self, session: &str) {
        self.lock().end(session);
    }

    /// Cuts a session's connection: operations, and watches that fire, wait until it is mended or expired.
    pub fn cut(&self, session: &str) {
        self.lock().turn(session, State::Cut);
    }

    /// Brings the connection back.
    pub fn mend(&self, session: &str) {
        self.lock().turn(session, State::Up);
    }

    /// The session's next commit is applied and answers [`Error::Unknown`].
    pub fn lose_next_reply(&self, session: &str) {
        self.lock().faults.insert(session.to_owned(), Fault::LostReply);
    }

    /// The session's next commit is not applied and answers [`Error::Unknown`].
    pub fn lose_next_request(&self, session: &str) {
        self.lock().faults.insert(session.to_owned(), Fault::LostRequest);
    }

    /// The sessions that are not over, sorted.
    pub fn sessions(&self) -> Vec<String> {
        let mut alive: Vec<_> = self.lock().lines.keys().cloned().collect();
        alive.sort_unstable();
        alive
    }

    /// Everything there is, for checking invariants.
    pub fn tree(&self) -> BTreeMap<String, Stored> {
        self.lock().tree.all()
    }

    /// A node as it is, without a session.
    pub fn peek(&self, path: &str) -> Option<Stored> {
        self.lock().tree.get(path)
    }

    /// How many commits were applied so far.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A test that panicked elsewhere is to fail with its own message.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryCoordinator {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Coordinator for MemoryCoordinator {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        tokio::task::yield_now().await;
        let mut shared = self.lock();
        if !shared.reachable {
            return Err(Error::Unreachable { place: PLACE.into(), why: "it was made unreachable".into() });
        }
        shared.made += 1;
        let id = format!("{:#x}", shared.made);
        let line = Arc::new(Line::up());
        shared.lines.insert(id.clone(), line.clone());
        drop(shared);
        Ok(Arc::new(MemorySession::new(self.clone(), id, line)))
    }

    fn place(&self) -> String {
        PLACE.into()
    }
}

impl Shared {
    fn turn(&mut self, session: &str, to: State) {
        if let Some(line) = self.lines.get(session) {
            line.turn(to);
        }
    }

    fn end(&mut self, session: &str) {
        let Some(line) = self.lines.remove(session) else { return };
        line.turn(State::Over);
        self.faults.remove(session);
        for watches in self.watches.values_mut() {
            watches.retain(|(owner, _)| owner != session);
        }
        let done = self.tree.end(session);
        self.fire(&done);
    }

    fn fire(&mut self, done: &[Done]) {
        for one in done {
            match one {
                Done::Set { path, .. } => self.fire_at(Watched::Node, path),
                Done::Created(path) | Done::Deleted { path, .. } => {
                    self.fire_at(Watched::Node, path);
                    self.fire_at(Watched::Children, path);
                    if let Some(parent) = path::parent(path) {
                        self.fire_at(Watched::Children, parent);
                    }
                }
                Done::Nothing => {}
            }
        }
    }

    fn fire_at(&mut self, what: Watched, path: &str) {
        for (_, watch) in self.watches.remove(&(what, path.to_owned())).unwrap_or_default() {
            // Nobody waits any more: as good as told.
            let _ = watch.send(());
        }
    }

    fn watch(&mut self, what: Watched, path: &str, session: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let watches = self.watches.entry((what, path.to_owned())).or_default();
        watches.retain(|(_, watch)| !watch.is_closed());
        watches.push((session.to_owned(), sender));
        receiver
    }
}

#[cfg(test)]
mod tests;
