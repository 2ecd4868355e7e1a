//! A session with ZooKeeper.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, Shared, try_join_all};
use futures::{FutureExt, TryFutureExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use zookeeper_client as zk;

use super::super::{Change, Error, NodeKind, Op, Session, Stored, check_commit, path};
use super::answer;

/// The largest number of concurrent reads.
const MAX_CONCURRENT_READS: usize = 500;

/// The pause before a read is repeated. The client holds the read back until it is connected again, so the pause
/// matters only if servers answer with a transient error.
const READ_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The longest wait for the servers' answer when a session is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A watch that is set. True: it fired; false: the session ended.
type Armed = Shared<BoxFuture<'static, bool>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum WatchKind {
    Node,
    Children,
}

pub(super) struct ZooKeeperSession {
    place: String,
    id: String,
    acl: zk::Acls<'static>,
    root: Option<String>,
    /// Whether the root is known to exist.
    root_exists: AtomicBool,
    /// How long without a connection the session is kept; the servers' timeout.
    disconnect_timeout: Duration,
    /// `None` once the session has ended. The client ends the session when its last clone is dropped.
    client: Arc<Mutex<Option<zk::Client>>>,
    lost: watch::Receiver<bool>,
    /// Whether a connection broke, so that the servers that we read from next may lag behind a write of ours.
    needs_sync: Mutex<bool>,
    /// Each watch that has not fired yet, shared by all that wait for it. Watches are not dropped before they fire:
    /// that would send `removeWatches`, on which ClickHouse Keeper before 25.12 closes the connection.
    armed: Mutex<HashMap<(WatchKind, String), Armed>>,
}

impl ZooKeeperSession {
    pub(super) fn new(client: zk::Client, place: String, acl: zk::Acls<'static>, root: Option<String>) -> Self {
        let (sender, lost) = watch::channel(false);
        let disconnect_timeout = client.session_timeout();
        let id = client.session_id().to_string();
        let states = client.state_watcher();
        let client = Arc::new(Mutex::new(Some(client)));
        tokio::spawn(guard(states, disconnect_timeout, client.clone(), sender));
        // A new session may be on a server that lags behind what the previous session has seen.
        let needs_sync = Mutex::new(true);
        let root_exists = AtomicBool::new(root.is_none());
        Self {
            place,
            id,
            acl,
            root,
            root_exists,
            disconnect_timeout,
            client,
            lost,
            needs_sync,
            armed: Mutex::default(),
        }
    }

    fn over(&self) -> Error {
        Error::SessionLost { place: self.place.clone() }
    }

    fn client(&self) -> Result<zk::Client, Error> {
        if self.is_lost() {
            return Err(self.over());
        }
        locked(&self.client).clone().ok_or_else(|| self.over())
    }

    /// Returns the answer, or the end of the session.
    async fn or_lost<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            lost = self.lost() => Err(lost),
        }
    }

    /// Repeats a read until there is a definite answer or the session has ended. The closure sends the request when
    /// it is called, and the client keeps the order of requests: a `sync` before the read makes it see all earlier
    /// writes.
    async fn read<T>(
        &self,
        path: &str,
        ask: impl for<'c> Fn(&'c zk::Client) -> BoxFuture<'c, Result<T, zk::Error>> + Sync,
    ) -> Result<T, Error> {
        path::check(&self.place, path)?;
        let began = Instant::now();
        loop {
            let client = self.client()?;
            let (synced, answer) = {
                let mut needs_sync = locked(&self.needs_sync);
                let synced = std::mem::take(&mut *needs_sync).then(|| client.sync("/").boxed());
                (synced, ask(&client))
            };
            let both = async {
                if let Some(synced) = synced {
                    synced.await?;
                }
                answer.await
            };
            match self.or_lost(both).await? {
                Ok(answer) => return Ok(answer),
                Err(error) if answer::is_definite(&error) => {
                    return Err(answer::definite(&self.place, 0, path, &error));
                }
                Err(error) => {
                    *locked(&self.needs_sync) = true;
                    if began.elapsed() > self.disconnect_timeout * 2 {
                        return Err(Error::Unreachable { place: self.place.clone(), why: error.to_string() });
                    }
                    sleep(READ_RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn read_node(&self, path: &str) -> Result<Option<Stored>, Error> {
        self.read(path, |client| or_none(client.get_data(path)).map_ok(|found| found.map(stored)).boxed()).await
    }

    /// Returns the watch of a path, if it is set and has not fired.
    fn armed(&self, what: WatchKind, path: &str) -> Option<Armed> {
        let armed = locked(&self.armed).get(&(what, path.to_owned())).cloned()?;
        (armed.clone().now_or_never().is_none()).then_some(armed)
    }

    fn arm(&self, what: WatchKind, path: &str, watcher: zk::OneshotWatcher) -> Change {
        let fired = watcher.changed().map(|event| event.event_type != zk::EventType::Session).boxed().shared();
        let mut all = locked(&self.armed);
        // Fired watches that nobody asked for again are removed when the table has grown.
        if all.len() >= 64 && all.len().is_power_of_two() {
            all.retain(|_, armed| armed.clone().now_or_never().is_none());
        }
        let key = (what, path.to_owned());
        // Two callers may have set the same watch at once: the first is kept while it lives, together with the
        // second.
        let fired = match all.remove(&key) {
            Some(other) if other.clone().now_or_never().is_none() => {
                futures::future::select(other, fired).map(|first| first.factor_first().0).boxed().shared()
            }
            _ => fired,
        };
        all.insert(key, fired.clone());
        self.change(fired)
    }

    fn change(&self, armed: Armed) -> Change {
        let (mut lost, over) = (self.lost.clone(), self.over());
        Change::new(async move {
            tokio::select! {
                biased;
                fired = armed => if fired { Ok(()) } else { Err(over) },
                _ = lost.wait_for(|lost| *lost) => Err(over),
            }
        })
    }

    /// Creates the root if it is missing.
    async fn make_root(&self, client: &zk::Client) -> Result<(), zk::Error> {
        let Some(root) = self.root.as_deref().filter(|_| !self.root_exists.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let top = client.clone().chroot("/").map_err(|_| zk::Error::BadArguments(&"not a path"))?;
        // Reads first: creating an existing node is refused if we may not create.
        if top.check_stat(root).await?.is_none() {
            top.mkdir(root, &zk::CreateMode::Persistent.with_acls(self.acl)).await?;
        }
        self.root_exists.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn send(&self, client: &zk::Client, ops: &[Op]) -> Result<(), (usize, zk::Error)> {
        let at_0 = |error| (0, error);
        if ops.iter().any(|op| matches!(op, Op::Create { .. })) {
            self.make_root(client).await.map_err(at_0)?;
        }
        match ops {
            [Op::Create { path, data, kind }] => {
                client.create(path, data, &mode(*kind).with_acls(self.acl)).await.map(drop).map_err(at_0)
            }
            [Op::Set { path, data, version }] => client.set_data(path, data, *version).await.map(drop).map_err(at_0),
            [Op::Delete { path, version }] => client.delete(path, *version).await.map_err(at_0),
            several => {
                let mut writer = client.new_multi_writer();
                for (at, op) in several.iter().enumerate() {
                    match op {
                        Op::Create { path, data, kind } => {
                            writer.add_create(path, data, &mode(*kind).with_acls(self.acl))
                        }
                        Op::Set { path, data, version } => writer.add_set_data(path, data, *version),
                        Op::Delete { path, version } => writer.add_delete(path, *version),
                        // Version -1 matches any version; the existence of the node is checked all the same.
                        Op::Check { path, version } => writer.add_check_version(path, version.unwrap_or(-1)),
                    }
                    .map_err(|error| (at, error))?;
                }
                match writer.commit().await {
                    Ok(_) => Ok(()),
                    Err(zk::MultiWriteError::OperationFailed { index, source }) => Err((index, source)),
                    Err(zk::MultiWriteError::RequestFailed { source }) => Err((0, source)),
                }
            }
        }
    }
}

#[async_trait]
impl Session for ZooKeeperSession {
    fn id(&self) -> String {
        self.id.clone()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, Error> {
        self.read_node(path).await
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        let mut found = Vec::with_capacity(paths.len());
        for some in paths.chunks(MAX_CONCURRENT_READS) {
            found.extend(try_join_all(some.iter().map(|path| self.read_node(path))).await?);
        }
        Ok(found)
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        let names = self.read(path, |client| or_none(client.list_children(path)).boxed()).await?;
        Ok(names.map(sorted))
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error> {
        if let Some(armed) = self.armed(WatchKind::Node, path) {
            let node = self.read_node(path).await?;
            // A change that this read may have missed would have been reported before its answer.
            if armed.clone().now_or_never().is_none() {
                return Ok((node, self.change(armed)));
            }
        }
        // Sets the watch first, then reads: a change in between fires the watch. `exists` can watch a missing node.
        let (watcher, node) = self
            .read(path, |client| {
                let watched = client.check_and_watch_stat(path).map_ok(|(_, watcher)| watcher);
                let node = or_none(client.get_data(path)).map_ok(|found| found.map(stored));
                futures::future::try_join(watched, node).boxed()
            })
            .await?;
        Ok((node, self.arm(WatchKind::Node, path, watcher)))
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error> {
        if let Some(armed) = self.armed(WatchKind::Children, path) {
            let names = self.children(path).await?;
            if armed.clone().now_or_never().is_none()
                && let Some(names) = names
            {
                return Ok((Some(names), self.change(armed)));
            }
        }
        loop {
            let listed = self.read(path, |client| or_none(client.list_and_watch_children(path)).boxed()).await?;
            if let Some((names, watcher)) = listed {
                return Ok((Some(sorted(names)), self.arm(WatchKind::Children, path, watcher)));
            }
            // Only `exists` can watch a missing node. If the node was created between the two requests, ask again.
            let (node, created) = self.watch(path).await?;
            if node.is_none() {
                return Ok((None, created));
            }
        }
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        check_commit(&self.place, &ops, self.root.as_ref().map_or(0, String::len))?;
        let client = self.client()?;
        if ops.is_empty() {
            return Ok(());
        }
        let path_of = |at: usize| ops.get(at).map_or("", Op::path);
        match self.or_lost(self.send(&client, &ops)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((at, error))) if answer::is_definite(&error) => {
                Err(answer::definite(&self.place, at, path_of(at), &error))
            }
            Ok(Err((_, error))) => {
                *locked(&self.needs_sync) = true;
                let (place, path) = (self.place.clone(), path_of(0).to_owned());
                Err(Error::Unknown { place, path, what: error.to_string() })
            }
            Err(lost) => Err(lost),
        }
    }

    async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        // An error means that the guard is gone, which happens only with the runtime: the session has ended as well.
        let _ = lost.wait_for(|lost| *lost).await;
        self.over()
    }

    fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    async fn close(&self) {
        drop(locked(&self.client).take());
        let _ = timeout(CLOSE_TIMEOUT.min(self.disconnect_timeout), self.lost()).await;
    }
}

impl Drop for ZooKeeperSession {
    fn drop(&mut self) {
        locked(&self.client).take();
    }
}

/// Follows the state of the connection and ends the session: when the servers say so, or when they were away for
/// longer than they keep a session.
async fn guard(
    mut states: zk::StateWatcher,
    disconnect_timeout: Duration,
    client: Arc<Mutex<Option<zk::Client>>>,
    lost: watch::Sender<bool>,
) {
    let mut state = states.state();
    while !state.is_terminated() {
        let next = states.changed();
        state = match state {
            zk::SessionState::Disconnected => match timeout(disconnect_timeout, next).await {
                Ok(state) => state,
                Err(_) => break,
            },
            _ => next.await,
        };
    }
    lost.send_replace(true);
    locked(&client).take();
}

/// The data behind these locks is replaced in one step, so that a panic elsewhere cannot leave it half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn or_none<T>(
    answer: impl Future<Output = Result<T, zk::Error>>,
) -> impl Future<Output = Result<Option<T>, zk::Error>> {
    answer.map(|answer| match answer {
        Err(zk::Error::NoNode) => Ok(None),
        other => other.map(Some),
    })
}

fn stored((data, stat): (Vec<u8>, zk::Stat)) -> Stored {
    let owner = stat.ephemeral_owner;
    Stored { data, version: stat.version, ephemeral_owner: (owner != 0).then(|| zk::SessionId(owner).to_string()) }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

fn mode(kind: NodeKind) -> zk::CreateMode {
    match kind {
        NodeKind::Persistent => zk::CreateMode::Persistent,
        NodeKind::Ephemeral => zk::CreateMode::Ephemeral,
    }
}
