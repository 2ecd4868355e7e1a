//! A coordinator in memory for simulations. It behaves like ZooKeeper, with faults on demand.
//!
//! It uses no clock and no randomness. Every operation yields to other tasks once before it acts, so that on a
//! runtime with one thread the interleaving depends on the runtime alone. No session expires by itself: a session
//! that is [cut off](MemoryCoordinator::cut) waits until the test mends or expires it.

mod connection;
mod session;
pub(super) mod tree;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use connection::{ConnectionState, SessionConnection};
use session::MemorySession;
use tokio::sync::oneshot;
use tree::{Done, Forest, Misfit, Tree};

use super::{Coordinator, Error, Session, Stored, path};

const PLACE: &str = "memory";

/// A tree in memory with its sessions. Clones share it.
#[derive(Clone)]
pub struct MemoryCoordinator {
    shared: Arc<Mutex<Shared>>,
}

/// A fault for the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InjectedFault {
    LostRequest,
    LostReply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WatchKind {
    Node,
    Children,
}

/// A waiting session and the channel that wakes it.
type Watch = (String, oneshot::Sender<()>);

struct Shared {
    tree: Box<dyn Forest>,
    reachable: bool,
    made: u64,
    commits: u64,
    connections: HashMap<String, Arc<SessionConnection>>,
    faults: HashMap<String, InjectedFault>,
    watches: HashMap<(WatchKind, String), Vec<Watch>>,
}

impl MemoryCoordinator {
    /// Returns an empty tree that is reachable.
    pub fn new() -> Self {
        Self::over(Box::new(Tree::new()))
    }

    /// Returns a coordinator over the tables and statements of [`LocalCoordinator`](super::LocalCoordinator), in
    /// memory. Simulated workers then read SQLite's answers, and its log reports the changes.
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
                connections: HashMap::new(),
                faults: HashMap::new(),
                watches: HashMap::new(),
            })),
        }
    }

    /// Sets whether new sessions can be opened. Existing sessions stay as they are.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().reachable = reachable;
    }

    /// Ends a session as servers do after its timeout: its ephemeral nodes disappear and its operations fail.
    pub fn expire(&self, session: &str) {
        self.lock().end(session);
    }

    /// Cuts a session's connection: operations and fired watches wait until it is mended or expired.
    pub fn cut(&self, session: &str) {
        self.lock().set(session, ConnectionState::Cut);
    }

    /// Restores the connection.
    pub fn mend(&self, session: &str) {
        self.lock().set(session, ConnectionState::Up);
    }

    /// Applies the session's next commit and answers it with [`Error::Unknown`].
    pub fn lose_next_reply(&self, session: &str) {
        self.lock().faults.insert(session.to_owned(), InjectedFault::LostReply);
    }

    /// Answers the session's next commit with [`Error::Unknown`] without applying it.
    pub fn lose_next_request(&self, session: &str) {
        self.lock().faults.insert(session.to_owned(), InjectedFault::LostRequest);
    }

    /// Returns the open sessions, sorted.
    pub fn sessions(&self) -> Vec<String> {
        let mut alive: Vec<_> = self.lock().connections.keys().cloned().collect();
        alive.sort_unstable();
        alive
    }

    /// Returns all nodes, for checks of invariants.
    pub fn tree(&self) -> BTreeMap<String, Stored> {
        self.lock().tree.all()
    }

    /// Returns a node, without a session.
    pub fn peek(&self, path: &str) -> Option<Stored> {
        self.lock().tree.get(path)
    }

    /// Returns the number of applied commits.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // After a panic elsewhere, a test still fails with its own message.
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
        let connection = Arc::new(SessionConnection::connected());
        shared.connections.insert(id.clone(), connection.clone());
        drop(shared);
        Ok(Arc::new(MemorySession::new(self.clone(), id, connection)))
    }

    fn place(&self) -> String {
        PLACE.into()
    }
}

impl Shared {
    fn set(&mut self, session: &str, to: ConnectionState) {
        if let Some(connection) = self.connections.get(session) {
            connection.set(to);
        }
    }

    fn end(&mut self, session: &str) {
        let Some(connection) = self.connections.remove(session) else { return };
        connection.set(ConnectionState::Over);
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
                Done::Set { path, .. } => self.fire_at(WatchKind::Node, path),
                Done::Created(path) | Done::Deleted { path, .. } => {
                    self.fire_at(WatchKind::Node, path);
                    self.fire_at(WatchKind::Children, path);
                    if let Some(parent) = path::parent(path) {
                        self.fire_at(WatchKind::Children, parent);
                    }
                }
                Done::Nothing => {}
            }
        }
    }

    fn fire_at(&mut self, what: WatchKind, path: &str) {
        for (_, watch) in self.watches.remove(&(what, path.to_owned())).unwrap_or_default() {
            // An error means that nobody waits any more.
            let _ = watch.send(());
        }
    }

    fn watch(&mut self, what: WatchKind, path: &str, session: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let watches = self.watches.entry((what, path.to_owned())).or_default();
        watches.retain(|(_, watch)| !watch.is_closed());
        watches.push((session.to_owned(), sender));
        receiver
    }
}

#[cfg(test)]
mod tests;
