//! The thread of a session. It owns the connection, answers requests, and checks for changes in between.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::super::{Error, Op, Stored, path};
use super::state_dir::{FileIdentity, FileMark, LockState, Number, SessionLock, StateDir};
use super::store::{FileProblem, Kind, Store, StoreError};
use super::{CHANGE_CHECK_INTERVAL, LOCK_TIMEOUT, SESSION_CHECK_INTERVAL};

/// A request to a session thread. It sends its answer itself; an error ends the session.
pub(super) type Request = Box<dyn FnOnce(&mut SessionThread) -> Result<(), StoreError> + Send>;

/// A message to a session thread.
pub(super) enum Call {
    Do(Request),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WatchKind {
    Node,
    Children,
}

/// A caller that waits for changes after a change that it has seen.
struct Watch {
    after: i64,
    sender: oneshot::Sender<()>,
}

/// An open session.
pub(super) struct SessionThread {
    state_dir: StateDir,
    store: Store,
    identity: FileIdentity,
    mark: FileMark,
    number: Number,
    lock: SessionLock,
    frozen: Duration,
    watches: HashMap<(WatchKind, String), Vec<Watch>>,
    /// The last change that was reported.
    last_reported: i64,
    /// SQLite's `data_version` when the log was last read.
    data_version: i64,
    /// The last pulse of each other session, and when it was first seen.
    pulses: HashMap<Number, (SystemTime, Instant)>,
}

impl SessionThread {
    /// Opens the file and begins a session. If the file is missing it is created, unless a file was `expected` there.
    pub(crate) fn open(state_dir: StateDir, frozen: Duration, expected: Option<FileMark>) -> Result<Self, Error> {
        let place = state_dir.place();
        let unreachable = |io: std::io::Error| Error::Unreachable { place: place.clone(), why: io.to_string() };
        let failed = |failure| error(&place, "/", failure);
        if expected.is_some() && state_dir.identity().is_err() {
            return Err(failed(FileProblem::Gone("the file was removed while this worker ran".into()).into()));
        }
        let creation_lock = state_dir.open().map_err(unreachable)?;
        refuse_lost_records(&state_dir).map_err(failed)?;
        let identity = state_dir.identity().map_err(unreachable)?;
        let mut store = Store::open(state_dir.file(), LOCK_TIMEOUT).map_err(failed)?;
        let mark = store.mark().map_err(failed)?;
        if expected.or(state_dir.mark()).is_some_and(|expected| expected != mark) {
            return Err(failed(FileProblem::Replaced.into()));
        }
        state_dir.save_mark(mark).map_err(unreachable)?;
        drop(creation_lock);
        let (number, lock) = store
            .begin(|number, known| {
                // Nobody else begins a session now, so a file without a session is left over.
                for left in state_dir.session_files().into_iter().filter(|lock| !known.contains(lock)) {
                    state_dir.remove_session_file(left);
                }
                state_dir.lock_session(number)
            })
            .map_err(failed)?;
        let mut session_thread = Self {
            data_version: store.data_version().map_err(failed)?,
            last_reported: store.read(number, |tree| tree.last_change()).map_err(failed)?,
            state_dir: state_dir.clone(),
            store,
            identity,
            mark,
            number,
            lock,
            frozen,
            watches: HashMap::new(),
            pulses: HashMap::new(),
        };
        // A worker that replaces a killed one starts without the killed one's nodes.
        session_thread.end_dead_sessions().map_err(failed)?;
        Ok(session_thread)
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// Returns the mark that identifies the file.
    pub(crate) fn mark(&self) -> FileMark {
        self.mark
    }

    /// Answers requests until the session ends. Returns an error if the session ended without a request to close it.
    pub(crate) fn work(mut self, calls: &Receiver<Call>) -> Result<(), StoreError> {
        let (mut tick, mut session_check, mut pulse) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            match calls.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(Call::Do(request)) => request(&mut self)?,
                Ok(Call::Close) | Err(RecvTimeoutError::Disconnected) => {
                    self.close();
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= tick {
                tick = now + CHANGE_CHECK_INTERVAL;
                ignore_transient(self.check_for_changes())?;
            }
            if now >= session_check {
                session_check = now + SESSION_CHECK_INTERVAL;
                ignore_transient(self.end_dead_sessions())?;
            }
            if now >= pulse {
                pulse = now + self.frozen / 10;
                self.lock.pulse();
            }
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Option<Stored>, StoreError> {
        self.store.read(self.number, |tree| tree.get(path))
    }

    pub(crate) fn get_many(&mut self, paths: &[String]) -> Result<Vec<Option<Stored>>, StoreError> {
        self.store.read(self.number, |tree| paths.iter().map(|path| tree.get(path)).collect())
    }

    pub(crate) fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.store.read(self.number, |tree| tree.children(path))
    }

    pub(crate) fn watch(&mut self, path: &str) -> Result<(Option<Stored>, oneshot::Receiver<()>), StoreError> {
        let (found, after) = self.store.read(self.number, |tree| Ok((tree.get(path)?, tree.last_change()?)))?;
        Ok((found, self.wait_for(WatchKind::Node, path, after)))
    }

    pub(crate) fn watch_children(
        &mut self,
        path: &str,
    ) -> Result<(Option<Vec<String>>, oneshot::Receiver<()>), StoreError> {
        let (found, after) = self.store.read(self.number, |tree| Ok((tree.children(path)?, tree.last_change()?)))?;
        Ok((found, self.wait_for(WatchKind::Children, path, after)))
    }

    pub(crate) fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        self.check_file()?;
        self.store.commit(self.number, ops)?;
        // The commit is done even if reporting fails: the next tick reports the changes.
        match self.report_changes() {
            Err(end @ (StoreError::Over | StoreError::FileProblem(_))) => Err(end),
            _ => Ok(()),
        }
    }

    /// Checks that the file is still in place. If it was removed or replaced, nobody would ever read what SQLite
    /// writes.
    fn check_file(&self) -> Result<(), StoreError> {
        match self.state_dir.identity() {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => Err(FileProblem::Replaced.into()),
            Err(error) => Err(FileProblem::Gone(format!("the file is gone: {error}")).into()),
        }
    }

    /// Reports changes by others, and finds out whether they have ended this session.
    fn check_for_changes(&mut self) -> Result<(), StoreError> {
        self.check_file()?;
        let version = self.store.data_version()?;
        if version == self.data_version {
            return Ok(());
        }
        self.store.read(self.number, |_| Ok(()))?;
        self.report_changes()?;
        self.data_version = version;
        Ok(())
    }

    fn report_changes(&mut self) -> Result<(), StoreError> {
        match self.store.changes(self.last_reported)? {
            Some(changes) => {
                for change in changes {
                    self.fire(WatchKind::Node, &change.path, change.number);
                    if change.kind != Kind::Set {
                        self.fire(WatchKind::Children, &change.path, change.number);
                        if let Some(parent) = path::parent(&change.path) {
                            self.fire(WatchKind::Children, parent, change.number);
                        }
                    }
                    self.last_reported = change.number;
                }
            }
            None => {
                // The change is no longer in the log: all watches fire, and all callers read again.
                self.last_reported = self.store.read(self.number, |tree| tree.last_change())?;
                self.watches.drain().flat_map(|(_, watches)| watches).for_each(|watch| {
                    let _ = watch.sender.send(());
                });
            }
        }
        Ok(())
    }

    fn fire(&mut self, what: WatchKind, path: &str, number: i64) {
        let key = (what, path.to_owned());
        let Some(watches) = self.watches.remove(&key) else { return };
        let mut kept = Vec::new();
        for watch in watches {
            if watch.after >= number {
                kept.push(watch);
            } else {
                // An error means that nobody waits any more.
                let _ = watch.sender.send(());
            }
        }
        if !kept.is_empty() {
            self.watches.insert(key, kept);
        }
    }

    fn wait_for(&mut self, what: WatchKind, path: &str, after: i64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let watches = self.watches.entry((what, path.to_owned())).or_default();
        watches.retain(|watch| !watch.sender.is_closed());
        watches.push(Watch { after, sender });
        receiver
    }

    /// Ends sessions whose processes are dead, or have been frozen for too long.
    fn end_dead_sessions(&mut self) -> Result<(), StoreError> {
        let others = self.store.sessions()?;
        self.pulses.retain(|number, _| others.contains(number));
        for other in others.into_iter().filter(|other| *other != self.number) {
            // If a lock cannot be checked, nothing is known about its session.
            let Ok(lock_state) = self.state_dir.lock_state(other) else { continue };
            let why = match lock_state {
                LockState::Free => "its process is gone",
                LockState::Held(pulse) => {
                    let seen = self.pulses.entry(other).or_insert((pulse, Instant::now()));
                    if seen.0 != pulse {
                        *seen = (pulse, Instant::now());
                    }
                    if seen.1.elapsed() < self.frozen {
                        continue;
                    }
                    "its process shows no sign of life"
                }
            };
            if self.store.end(other)? {
                tracing::debug!("session {other} in {} is over: {why}", self.state_dir.place());
            }
            self.state_dir.remove_session_file(other);
        }
        self.report_changes()
    }

    /// Ends this session. If that fails, other sessions end it when its lock is free.
    fn close(mut self) {
        match self.store.end(self.number) {
            Ok(_) => self.state_dir.remove_session_file(self.number),
            Err(failure) => tracing::debug!("session {} is left to others to be ended: {failure:?}", self.number),
        }
    }
}

/// Refuses to start from nothing where records were kept: a new task without them would not know what it has
/// published. A new file is created only in a folder that never had one.
fn refuse_lost_records(state_dir: &StateDir) -> Result<(), StoreError> {
    if state_dir.mark().is_some() && state_dir.is_empty() {
        return Err(
            FileProblem::Gone("the file is empty or was removed, though it held records of tasks".into()).into()
        );
    }
    Ok(())
}

/// Ignores errors that pass: the next tick repeats the work.
fn ignore_transient(outcome: Result<(), StoreError>) -> Result<(), StoreError> {
    match outcome {
        Err(StoreError::Busy | StoreError::Full) => Ok(()),
        other => other,
    }
}

/// Returns the error that a caller gets.
pub(super) fn error(place: &str, path: &str, failure: StoreError) -> Error {
    let (place, path) = (place.to_owned(), path.to_owned());
    match failure {
        StoreError::Over => Error::SessionLost { place },
        StoreError::FileProblem(problem) => Error::Unusable { place, why: problem.why(), todo: problem.todo() },
        StoreError::Conflict(op, why) => Error::Conflict { op, path, why },
        StoreError::Refused(_, what) => Error::Refused { place, path, what: what.into() },
        StoreError::Busy => Error::Unreachable {
            place,
            why: format!("another process has kept it locked for {} s; is it frozen?", LOCK_TIMEOUT.as_secs()),
        },
        StoreError::Full => Error::Refused {
            place,
            path,
            what: "there is no room left on its disk; make some, and start the same command again".into(),
        },
    }
}
