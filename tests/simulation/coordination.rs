//! The coordinator as one worker sees it: every request goes through the stage, where its fate is drawn.

use std::sync::Arc;

use clickhouse_copier::coordinator::{Change, Coordinator, Error as CoordinatorError, Op, Session, Stored};

use crate::actor::{Actor, Fate, Request};
use crate::stage::{Broken, Stage};

/// The coordinator of one worker.
pub struct Coordination {
    pub stage: Arc<Stage>,
    pub actor: Arc<Actor>,
}

#[async_trait::async_trait]
impl Coordinator for Coordination {
    async fn session(&self) -> Result<Arc<dyn Session>, CoordinatorError> {
        self.stage.pass(&self.actor, Request::Read, "session", "").await;
        let inner = self.stage.coordinator.session().await?;
        self.actor.keep(inner.clone());
        self.actor.awake().await;
        Ok(Arc::new(Sitting { stage: self.stage.clone(), actor: self.actor.clone(), inner }))
    }

    fn place(&self) -> String {
        self.stage.coordinator.place()
    }
}

struct Sitting {
    stage: Arc<Stage>,
    actor: Arc<Actor>,
    inner: Arc<dyn Session>,
}

impl Sitting {
    async fn read<T>(&self, what: &str, path: &str, read: impl Future<Output = T>) -> T {
        self.stage.pass(&self.actor, Request::Read, what, path).await;
        let answer = read.await;
        self.actor.awake().await;
        answer
    }

    fn change(&self, change: Change) -> Change {
        let actor = self.actor.clone();
        Change::new(async move {
            let fired = change.fired().await;
            actor.awake().await;
            fired
        })
    }
}

#[async_trait::async_trait]
impl Session for Sitting {
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
        let fate = self.stage.pass(&self.actor, Request::Commit, "commit", &path).await;
        if self.stage.broken == Some(Broken::Comparing) {
            for op in &mut ops {
                if let Op::Set { version, .. } = op {
                    *version = None;
                }
            }
        }
        match fate {
            Fate::LostReply => self.stage.coordinator.lose_next_reply(&self.inner.id()),
            Fate::LostRequest => self.stage.coordinator.lose_next_request(&self.inner.id()),
            _ => {}
        }
        let done = self.inner.commit(ops).await;
        if fate == Fate::CrashAfter {
            self.actor.crash().await;
        }
        self.stage.leave(&self.actor).await;
        done
    }

    async fn lost(&self) -> CoordinatorError {
        let lost = self.inner.lost().await;
        self.actor.awake().await;
        lost
    }

    fn is_lost(&self) -> bool {
        self.inner.is_lost()
    }

    async fn close(&self) {
        self.read("close", "", self.inner.close()).await;
    }
}
