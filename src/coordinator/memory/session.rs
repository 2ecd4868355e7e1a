//! A session of the double.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::super::{Change, Error, Op, Session, Stored, check_commit, path};
use super::connection::{ConnectionState, SessionConnection};
use super::{InjectedFault, MemoryCoordinator, Misfit, PLACE, Shared, WatchKind};

pub(super) struct MemorySession {
    coordinator: MemoryCoordinator,
    id: String,
    connection: Arc<SessionConnection>,
}

impl MemorySession {
    pub(super) fn new(coordinator: MemoryCoordinator, id: String, connection: Arc<SessionConnection>) -> Self {
        Self { coordinator, id, connection }
    }

    /// Runs a function on the shared tree while the connection is up.
    async fn act<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> Result<T, Error> {
        tokio::task::yield_now().await;
        loop {
            self.connection.wait_until(|connection| connection != ConnectionState::Cut).await;
            let mut shared = self.coordinator.lock();
            // Nobody can cut or expire the session while the lock is held.
            match self.connection.state() {
                ConnectionState::Up => return Ok(act(&mut shared)),
                ConnectionState::Over => return Err(over()),
                ConnectionState::Cut => {}
            }
        }
    }

    async fn read<T>(&self, path: &str, read: impl FnOnce(&mut Shared) -> T) -> Result<T, Error> {
        path::check(PLACE, path)?;
        self.act(read).await
    }

    fn change(&self, fired: oneshot::Receiver<()>) -> Change {
        let connection = self.connection.clone();
        Change::new(async move {
            let fired = fired.await;
            let connected =
                connection.wait_until(|connection| connection != ConnectionState::Cut).await == ConnectionState::Up;
            if fired.is_ok() && connected { Ok(()) } else { Err(over()) }
        })
    }
}

fn over() -> Error {
    Error::SessionLost { place: PLACE.into() }
}

#[async_trait]
impl Session for MemorySession {
    fn id(&self) -> String {
        self.id.clone()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, Error> {
        self.read(path, |shared| shared.tree.get(path)).await
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        paths.iter().try_for_each(|path| path::check(PLACE, path))?;
        self.act(|shared| paths.iter().map(|path| shared.tree.get(path)).collect()).await
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        self.read(path, |shared| shared.tree.children(path)).await
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error> {
        let watch = |shared: &mut Shared| (shared.tree.get(path), shared.watch(WatchKind::Node, path, &self.id));
        let (node, fired) = self.read(path, watch).await?;
        Ok((node, self.change(fired)))
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error> {
        let watch =
            |shared: &mut Shared| (shared.tree.children(path), shared.watch(WatchKind::Children, path, &self.id));
        let (names, fired) = self.read(path, watch).await?;
        Ok((names, self.change(fired)))
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        check_commit(PLACE, &ops, 0)?;
        let path_of = |at: usize| ops.get(at).map_or("", Op::path).to_owned();
        let unknown = || Error::Unknown { place: PLACE.into(), path: path_of(0), what: "lost on purpose".into() };
        self.act(|shared| {
            if ops.is_empty() {
                return Ok(());
            }
            let fault = shared.faults.remove(&self.id);
            if fault == Some(InjectedFault::LostRequest) {
                return Err(unknown());
            }
            let outcome = match shared.tree.apply(&self.id, &ops) {
                Ok(done) => {
                    shared.commits += 1;
                    shared.fire(&done);
                    Ok(())
                }
                Err((op, Misfit::Conflict(why))) => Err(Error::Conflict { op, path: path_of(op), why }),
                Err((op, Misfit::Refused(what))) => {
                    Err(Error::Refused { place: PLACE.into(), path: path_of(op), what: what.into() })
                }
            };
            if fault == Some(InjectedFault::LostReply) { Err(unknown()) } else { outcome }
        })
        .await?
    }

    async fn lost(&self) -> Error {
        self.connection.wait_until(|connection| connection == ConnectionState::Over).await;
        over()
    }

    fn is_lost(&self) -> bool {
        self.connection.state() == ConnectionState::Over
    }

    async fn close(&self) {
        tokio::task::yield_now().await;
        self.coordinator.expire(&self.id);
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.coordinator.expire(&self.id);
    }
}
