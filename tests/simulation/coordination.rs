//! The coordinator as one worker sees it: [`World`] decides how each request is delivered.

use std::sync::Arc;

use clickhouse_copier::coordinator::{Change, Coordinator, Error as CoordinatorError, Op, Session, Stored};

use crate::workers::{Delivery, Request, SimulatedWorker};
use crate::world::{DisabledGuard, World};

/// The coordinator of one worker.
pub struct SimulatedCoordinator {
    pub world: Arc<World>,
    pub worker: Arc<SimulatedWorker>,
}

#[async_trait::async_trait]
impl Coordinator for SimulatedCoordinator {
    async fn session(&self) -> Result<Arc<dyn Session>, CoordinatorError> {
        self.world.send(&self.worker, Request::ReadCoordinator, "session", "").await;
        let inner = self.world.coordinator.session().await?;
        self.worker.keep(inner.clone());
        self.worker.wait_while_paused().await;
        Ok(Arc::new(SimulatedSession { world: self.world.clone(), worker: self.worker.clone(), inner }))
    }

    fn place(&self) -> String {
        self.world.coordinator.place()
    }
}

struct SimulatedSession {
    world: Arc<World>,
    worker: Arc<SimulatedWorker>,
    inner: Arc<dyn Session>,
}

impl SimulatedSession {
    async fn read<T>(&self, what: &str, path: &str, read: impl Future<Output = T>) -> T {
        self.world.send(&self.worker, Request::ReadCoordinator, what, path).await;
        let answer = read.await;
        self.worker.wait_while_paused().await;
        answer
    }

    fn change(&self, change: Change) -> Change {
        let worker = self.worker.clone();
        Change::new(async move {
            let fired = change.fired().await;
            worker.wait_while_paused().await;
            fired
        })
    }
}

#[async_trait::async_trait]
impl Session for SimulatedSession {
    fn id(&self) -> String {
        self.inner.id()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, CoordinatorError> {
        self.read("get", path, self.inner.get(path)).await
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, CoordinatorError> {
        self.read("get_many", "", self.inner.get_many(paths)).await
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, CoordinatorError> {
        self.read("children", path, self.inner.children(path)).await
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), CoordinatorError> {
        let (stored, change) = self.read("watch", path, self.inner.watch(path)).await?;
        Ok((stored, self.change(change)))
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), CoordinatorError> {
        let (children, change) = self.read("watch_children", path, self.inner.watch_children(path)).await?;
        Ok((children, self.change(change)))
    }

    async fn commit(&self, mut ops: Vec<Op>) -> Result<(), CoordinatorError> {
        let path = ops.first().map_or("", Op::path).to_owned();
        let fate = self.world.send(&self.worker, Request::WriteCoordinator, "commit", &path).await;
        if self.world.broken == Some(DisabledGuard::Comparing) {
            for op in &mut ops {
                if let Op::Set { version, .. } = op {
                    *version = None;
                }
            }
        }
        match fate {
            Delivery::LostReply => self.world.coordinator.lose_next_reply(&self.inner.id()),
            Delivery::LostRequest => self.world.coordinator.lose_next_request(&self.inner.id()),
            _ => {}
        }
        let done = self.inner.commit(ops).await;
        if fate == Delivery::CrashAfter {
            self.worker.crash().await;
        }
        self.world.answered(&self.worker).await;
        done
    }

    async fn lost(&self) -> CoordinatorError {
        let lost = self.inner.lost().await;
        self.worker.wait_while_paused().await;
        lost
    }

    fn is_lost(&self) -> bool {
        self.inner.is_lost()
    }

    async fn close(&self) {
        self.read("close", "", self.inner.close()).await;
    }
}
