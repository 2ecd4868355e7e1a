//! Coordination without a server: an SQLite file in a folder that several processes of one machine share.
//!
//! The folder, called the state directory, contains:
//!
//! - `coordination.sqlite` (with `-wal` and `-shm` while it is open): the tree, the sessions, and a log of what changed;
//! - `sessions/<number>`: a file for each session, locked by its process.
//!
//! It must be on a local disk: SQLite's and our own locks don't hold on network file systems, and a folder on NFS or SMB
//! is refused. Folder and file are readable by their owner only, since a task may hold passwords.
//!
//! # When a session ends
//! The kernel releases a session's lock when its process dies, for any reason. Every session looks for free locks ten
//! times a second and removes such sessions with their ephemeral nodes. A frozen process keeps its lock, but its file
//! shows no pulse; after half a minute without one, others end its session too. Each process measures this time by a
//! clock that stops while the machine sleeps, so neither a suspended machine nor a clock change ends a session. Each
//! write checks for its own session within its transaction: a process that continues after a freeze can write nothing
//! and gets [`Error::SessionLost`].
//!
//! # How changes are reported
//! Each commit appends its changes to a log in the file. A session reads the log after each of its own writes, and
//! when SQLite's `data_version` shows that another session has written. It checks that twenty times a second, which
//! costs some microseconds of reading shared memory. inotify is not used: SQLite writes its log file before a commit
//! counts, and the commit itself is a store into mapped memory, which inotify does not report.
//!
//! # What a power failure does
//! Commits are on disk when they are answered (`synchronous=FULL`). A weaker setting would keep the file consistent
//! but could lose the last commits: an attempt's number would then be given out again while statements of the first
//! attempt still run.

mod session;
mod session_thread;
#[cfg(any(test, feature = "doubles"))]
pub(super) mod simulated;
mod state_dir;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session::LocalSession;
use state_dir::{FileMark, StateDir};

use super::{Coordinator, Error, Session};

/// How often a session checks whether others have written.
const CHANGE_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a session checks whether other sessions' processes are dead.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a session may show no pulse while its process holds its lock.
const FROZEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for a lock on the file. A process that was frozen in the middle of a write keeps the file locked,
/// and nobody can break that lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(8);

/// The longest time that opening a session may take.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// A state directory. The [module](self) describes its content and its requirements.
#[derive(Debug, Clone)]
pub struct LocalCoordinator {
    state_dir: StateDir,
    frozen: Duration,
    /// The mark of the file that the first session found. A worker refuses another file that took its place.
    known: Arc<Mutex<Option<FileMark>>>,
}

impl LocalCoordinator {
    /// The file in the state directory.
    pub const FILE: &'static str = "coordination.sqlite";

    /// Returns a coordinator for the folder. The first session creates the folder and its content.
    pub fn new(state_dir: impl AsRef<Path>) -> Self {
        Self { state_dir: StateDir::new(state_dir.as_ref()), frozen: FROZEN_TIMEOUT, known: Arc::default() }
    }

    /// Returns the path of the database file.
    pub(crate) fn file(&self) -> PathBuf {
        self.state_dir.file().to_owned()
    }

    /// Returns whether only the user of this process can write to the state directory. A missing directory counts as
    /// true.
    pub(crate) fn is_own(&self) -> bool {
        self.state_dir.is_own()
    }

    /// Sets how long other sessions may show no pulse before sessions of this coordinator end them; for tests.
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
        let (session, mark) = LocalSession::begin(self.state_dir.clone(), self.frozen, known, OPEN_LIMIT).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(mark);
        Ok(Arc::new(session))
    }

    fn place(&self) -> String {
        self.state_dir.place()
    }
}
