//! Coordination without a server: an SQLite file in a folder that several processes of one machine share.
//!
//! What stands in the folder, the state directory:
//!
//! - `coordination.sqlite` (with `-wal` and `-shm` while it is open): the tree, the sessions, and a log of what changed;
//! - `sessions/<number>`: a file for each session, locked by its process.
//!
//! It must be on a local disk: SQLite's and our own locks don't hold on network file systems, and a folder on NFS or SMB
//! is refused. Folder and file are readable by their owner only, since a task may hold passwords.
//!
//! # When a session ends
//! The kernel releases a session's lock when its process dies, however it dies. Whoever holds a session looks for free
//! locks ten times a second and removes such sessions with their ephemeral nodes. A process that is frozen keeps its
//! lock; its file shows no pulse then, and after half a minute without one its session is ended by others too. How
//! long that is, each measures by its own clock that stands still while the machine sleeps, so neither a suspended
//! machine nor a clock that is set ends a session. Each write looks for its own session in the transaction that it is
//! part of: a thawed process can write nothing and learns [`Error::SessionLost`].
//!
//! # How changes are told
//! Each commit appends what it changed to a log in the file. A session reads on in the log after each write of its own,
//! and when SQLite's `data_version` says that somebody else has written, which it asks twenty times a second:
//! some microseconds of reading shared memory. Being told by inotify was not chosen: SQLite writes its log file ahead of
//! the moment when a commit counts, and that moment is a store into mapped memory, which tells nobody.
//!
//! # What a power failure does
//! Commits are on the disk when they are answered (`synchronous=FULL`). Less would keep the file in order, but could
//! forget the last commits: an attempt's number would be given out again while statements of the first still run.

mod desk;
mod home;
mod session;
pub(super) mod simulated;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Coordinator, Error, Session};
use home::Home;
use home::Mark;
use session::LocalSession;

/// How often a session asks whether others have written.
const TICK: Duration = Duration::from_millis(50);

/// How often it looks whether other sessions' processes are dead.
const LOOK: Duration = Duration::from_millis(100);

/// How long a session may show no pulse while its process holds its lock.
const FROZEN: Duration = Duration::from_secs(30);

/// How long to wait for others who write: a process that was frozen in the middle of a write keeps the file locked, and
/// nobody can break that.
const PATIENCE: Duration = Duration::from_secs(8);

/// The longest that making a session may take.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// A state directory. See the [module](self) for what is in it and what it must stand on.
#[derive(Debug, Clone)]
pub struct LocalCoordinator {
    home: Home,
    frozen: Duration,
    /// The file that the first session found: a worker does not go on with another one that took its place.
    known: Arc<Mutex<Option<Mark>>>,
}

impl LocalCoordinator {
    /// The file in the state directory.
    pub const FILE: &'static str = "coordination.sqlite";

    /// Remembers where it is; the folder and what is in it are made by the first session.
    pub fn new(state_dir: impl AsRef<Path>) -> Self {
        Self { home: Home::new(state_dir.as_ref()), frozen: FROZEN, known: Arc::default() }
    }

    /// The file that holds everything.
    pub fn file(&self) -> PathBuf {
        self.home.file().to_owned()
    }

    /// Returns whether only the user of this process can write to the state directory. True where it does not exist yet.
    pub fn is_own(&self) -> bool {
        self.home.is_own()
    }

    /// How long others' sessions may show no pulse before they are ended by sessions from here; for tests.
    #[cfg(test)]
    fn with_frozen(mut self, frozen: Duration) -> Self {
        self.frozen = frozen;
        self
    }
}

#[async_trait]
impl Coordinator for LocalCoordinator {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, mark) = LocalSession::begin(self.home.clone(), self.frozen, known, OPEN_LIMIT).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(mark);
        Ok(Arc::new(session))
    }

    fn place(&self) -> String {
        self.home.place()
    }
}
