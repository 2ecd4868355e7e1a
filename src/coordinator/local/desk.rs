//! What a session does on its thread: it alone has the connection, answers what is asked, and looks around in between.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::super::{Error, Op, Stored, path};
use super::home::Mark;
use super::home::{Home, Identity, Number, Seat, Sign};
use super::store::{Broken, Fault, Kind, Store};
use super::{LOOK, PATIENCE, TICK};

/// What is asked of a desk. It answers by itself; an error is the end of the session.
pub(super) type Request = Box<dyn FnOnce(&mut Desk) -> Result<(), Fault> + Send>;

/// What reaches a desk.
pub(super) enum Call {
    Do(Request),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    Node,
    Children,
}

/// Somebody who waits for changes after one that was seen.
struct Watch {
    after: i64,
    told: oneshot::Sender<()>,
}

/// A session at work.
pub(super) struct Desk {
    home: Home,
    store: Store,
    identity: Identity,
    mark: Mark,
    number: Number,
    seat: Seat,
    frozen: Duration,
    watches: HashMap<(Watched, String), Vec<Watch>>,
    /// The last change that was told.
    told: i64,
    /// What SQLite said when the log was read last.
    data_version: i64,
    /// The pulse of others, and since when it has been that.
    pulses: HashMap<Number, (SystemTime, Instant)>,
}

impl Desk {
    /// Opens the file, makes it where it is missing unless another one was `known` there, and begins a session.
    pub fn open(home: Home, frozen: Duration, known: Option<Mark>) -> Result<Self, Error> {
        let place = home.place();
        let unreachable = |io: std::io::Error| Error::Unreachable { place: place.clone(), why: io.to_string() };
        let failed = |fault| error(&place, "/", fault);
        if known.is_some() && home.identity().is_err() {
            return Err(failed(Broken::Gone("the file was removed while this worker ran".into()).into()));
        }
        let opening = home.open().map_err(unreachable)?;
        refuse_lost_records(&home).map_err(failed)?;
        let identity = home.identity().map_err(unreachable)?;
        let mut store = Store::open(home.file(), PATIENCE).map_err(failed)?;
        let mark = store.mark().map_err(failed)?;
        if known.or(home.mark()).is_some_and(|known| known != mark) {
            return Err(failed(Broken::Replaced.into()));
        }
        home.keep_mark(mark).map_err(unreachable)?;
        drop(opening);
        let (number, seat) = store
            .begin(|number, known| {
                // Nobody else begins a session now: a file without a session is one that was left behind.
                for left in home.seats().into_iter().filter(|seat| !known.contains(seat)) {
                    home.clear(left);
                }
                home.sit(number)
            })
            .map_err(failed)?;
        let mut desk = Self {
            data_version: store.data_version().map_err(failed)?,
            told: store.read(number, |tree| tree.last_change()).map_err(failed)?,
            home: home.clone(),
            store,
            identity,
            mark,
            number,
            seat,
            frozen,
            watches: HashMap::new(),
            pulses: HashMap::new(),
        };
        // A worker that is started after another was killed begins with a clean table.
        desk.end_the_dead().map_err(failed)?;
        Ok(desk)
    }

    pub fn number(&self) -> Number {
        self.number
    }

    /// What the file is known by.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Answers until the session is over. Says why, when nobody asked for it.
    pub fn work(mut self, calls: &Receiver<Call>) -> Result<(), Fault> {
        let (mut tick, mut look, mut pulse) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            match calls.recv_timeout(tick.saturating_duration_since(Instant::now())) {
                Ok(Call::Do(request)) => request(&mut self)?,
                Ok(Call::Close) | Err(RecvTimeoutError::Disconnected) => {
                    self.leave();
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= tick {
                tick = now + TICK;
                unless_passing(self.hear())?;
            }
            if now >= look {
                look = now + LOOK;
                unless_passing(self.end_the_dead())?;
            }
            if now >= pulse {
                pulse = now + self.frozen / 10;
                self.seat.pulse();
            }
        }
    }

    pub fn get(&mut self, path: &str) -> Result<Option<Stored>, Fault> {
        self.store.read(self.number, |tree| tree.get(path))
    }

    pub fn get_many(&mut self, paths: &[String]) -> Result<Vec<Option<Stored>>, Fault> {
        self.store.read(self.number, |tree| paths.iter().map(|path| tree.get(path)).collect())
    }

    pub fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, Fault> {
        self.store.read(self.number, |tree| tree.children(path))
    }

    pub fn watch(&mut self, path: &str) -> Result<(Option<Stored>, oneshot::Receiver<()>), Fault> {
        let (found, after) = self.store.read(self.number, |tree| Ok((tree.get(path)?, tree.last_change()?)))?;
        Ok((found, self.wait_for(Watched::Node, path, after)))
    }

    pub fn watch_children(&mut self, path: &str) -> Result<(Option<Vec<String>>, oneshot::Receiver<()>), Fault> {
        let (found, after) = self.store.read(self.number, |tree| Ok((tree.children(path)?, tree.last_change()?)))?;
        Ok((found, self.wait_for(Watched::Children, path, after)))
    }

    pub fn commit(&mut self, ops: &[Op]) -> Result<(), Fault> {
        self.stand_on_the_file()?;
        self.store.commit(self.number, ops)?;
        // It is done, whatever comes of telling: the next tick tells what this one could not.
        match self.tell() {
            Err(end @ (Fault::Over | Fault::Broken(_))) => Err(end),
            _ => Ok(()),
        }
    }

    /// What SQLite writes to when the file was removed or replaced, nobody else will ever read.
    fn stand_on_the_file(&self) -> Result<(), Fault> {
        match self.home.identity() {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => Err(Broken::Replaced.into()),
            Err(error) => Err(Broken::Gone(format!("the file is gone: {error}")).into()),
        }
    }

    /// Tells what others have changed, and learns whether they have ended this session.
    fn hear(&mut self) -> Result<(), Fault> {
        self.stand_on_the_file()?;
        let version = self.store.data_version()?;
        if version == self.data_version {
            return Ok(());
        }
        self.store.read(self.number, |_| Ok(()))?;
        self.tell()?;
        self.data_version = version;
        Ok(())
    }

    fn tell(&mut self) -> Result<(), Fault> {
        match self.store.changes(self.told)? {
            Some(changes) => {
                for change in changes {
                    self.fire(Watched::Node, &change.path, change.number);
                    if change.kind != Kind::Set {
                        self.fire(Watched::Children, &change.path, change.number);
                        if let Some(parent) = path::parent(&change.path) {
                            self.fire(Watched::Children, parent, change.number);
                        }
                    }
                    self.told = change.number;
                }
            }
            None => {
                // Too late to know what it was: everybody looks again.
                self.told = self.store.read(self.number, |tree| tree.last_change())?;
                self.watches.drain().flat_map(|(_, watches)| watches).for_each(|watch| {
                    let _ = watch.told.send(());
                });
            }
        }
        Ok(())
    }

    fn fire(&mut self, what: Watched, path: &str, number: i64) {
        let key = (what, path.to_owned());
        let Some(watches) = self.watches.remove(&key) else { return };
        let mut kept = Vec::new();
        for watch in watches {
            if watch.after >= number {
                kept.push(watch);
            } else {
                // Nobody waits any more: as good as told.
                let _ = watch.told.send(());
            }
        }
        if !kept.is_empty() {
            self.watches.insert(key, kept);
        }
    }

    fn wait_for(&mut self, what: Watched, path: &str, after: i64) -> oneshot::Receiver<()> {
        let (told, waiting) = oneshot::channel();
        let watches = self.watches.entry((what, path.to_owned())).or_default();
        watches.retain(|watch| !watch.told.is_closed());
        watches.push(Watch { after, told });
        waiting
    }

    /// Ends sessions whose processes are dead, or have been frozen for too long.
    fn end_the_dead(&mut self) -> Result<(), Fault> {
        let others = self.store.sessions()?;
        self.pulses.retain(|number, _| others.contains(number));
        for other in others.into_iter().filter(|other| *other != self.number) {
            // Where a lock can't be looked at, nothing is known of its session.
            let Ok(sign) = self.home.sign(other) else { continue };
            let why = match sign {
                Sign::Free => "its process is gone",
                Sign::Held(pulse) => {
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
                tracing::debug!("session {other} in {} is over: {why}", self.home.place());
            }
            self.home.clear(other);
        }
        self.tell()
    }

    /// Gives back what is ours. Where that fails, others do it when the lock is free.
    fn leave(mut self) {
        match self.store.end(self.number) {
            Ok(_) => self.home.clear(self.number),
            Err(fault) => tracing::debug!("session {} is left to others to be ended: {fault:?}", self.number),
        }
    }
}

/// Refuses to begin anew where records were kept: a task that is begun without them would not know what it has published.
/// A file is made anew only in a folder that never had one.
fn refuse_lost_records(home: &Home) -> Result<(), Fault> {
    if home.mark().is_some() && home.is_empty() {
        return Err(Broken::Gone("the file is empty or was removed, though it held records of tasks".into()).into());
    }
    Ok(())
}

/// What failed for now is done at the next tick.
fn unless_passing(outcome: Result<(), Fault>) -> Result<(), Fault> {
    match outcome {
        Err(Fault::Busy | Fault::Full) => Ok(()),
        other => other,
    }
}

/// A fault as the one who asked is told it.
pub(super) fn error(place: &str, path: &str, fault: Fault) -> Error {
    let (place, path) = (place.to_owned(), path.to_owned());
    match fault {
        Fault::Over => Error::SessionLost { place },
        Fault::Broken(broken) => Error::Unusable { place, why: broken.why(), todo: broken.todo() },
        Fault::Conflict(op, why) => Error::Conflict { op, path, why },
        Fault::Refused(_, what) => Error::Refused { place, path, what: what.into() },
        Fault::Busy => Error::Unreachable {
            place,
            why: format!("another process has kept it locked for {} s; is it frozen?", PATIENCE.as_secs()),
        },
        Fault::Full => Error::Refused {
            place,
            path,
            what: "there is no room left on its disk; make some, and start the same command again".into(),
        },
    }
}
