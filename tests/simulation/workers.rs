//! One worker of a simulation, and how its requests are delivered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::coordinator::Session;
use clickhouse_copier::model::TableName;
use clickhouse_copier::runtime::signals::InterruptSender;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::world::lock;

/// A worker process.
pub struct SimulatedWorker {
    pub name: String,
    pub task: usize,
    pub paused_until: Mutex<Instant>,
    pub crashed: watch::Sender<bool>,
    pub sessions: Mutex<Vec<Arc<dyn Session>>>,
    pub sender: Mutex<InterruptSender>,
    /// Tables that it created after its task was finished.
    pub made_late: Mutex<BTreeSet<TableName>>,
}

/// How a request is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Good,
    LostRequest,
    LostReply,
    Refused(u32),
    Late(Duration),
    CrashAfter,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Asks a server.
    ReadServer,
    /// Changes something on a server.
    ChangeServer,
    /// Reads from the coordinator.
    ReadCoordinator,
    /// Writes to the coordinator.
    WriteCoordinator,
}

impl SimulatedWorker {
    pub fn new(name: String, task: usize, sender: InterruptSender) -> Arc<Self> {
        Arc::new(Self {
            name,
            task,
            paused_until: Mutex::new(Instant::now()),
            crashed: watch::channel(false).0,
            sessions: Mutex::default(),
            sender: Mutex::new(sender),
            made_late: Mutex::default(),
        })
    }

    pub fn keep(&self, session: Arc<dyn Session>) {
        lock(&self.sessions).push(session);
    }

    /// Waits until this worker is not paused.
    pub async fn wait_while_paused(&self) {
        loop {
            let until = *lock(&self.paused_until);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    pub async fn crashed(&self) {
        let _ = self.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    pub async fn crash(&self) -> ! {
        self.crashed.send_replace(true);
        std::future::pending().await
    }

    pub fn session_ids(&self) -> Vec<String> {
        lock(&self.sessions).iter().map(|session| session.id()).collect()
    }

    pub fn forget_sessions(&self) {
        lock(&self.sessions).clear();
    }

    pub fn pause(&self, pause: Duration) {
        *lock(&self.paused_until) = Instant::now() + pause;
    }
}
