//! One worker of a simulation, and what may happen to a request of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::coordinator::Session;
use clickhouse_copier::model::TableName;
use clickhouse_copier::runtime::signals::Hand;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::stage::lock;

/// A worker process.
pub struct Actor {
    pub name: String,
    pub task: usize,
    pub awake_at: Mutex<Instant>,
    pub crashed: watch::Sender<bool>,
    pub sessions: Mutex<Vec<Arc<dyn Session>>>,
    pub hand: Mutex<Hand>,
    /// Tables that it made when its task was finished already.
    pub made_late: Mutex<BTreeSet<TableName>>,
}

/// What a request is about to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    LostRequest,
    LostReply,
    Refused(u32),
    Late(Duration),
    CrashAfter,
}

/// What a worker is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Asks a server.
    Question,
    /// Changes something on a server.
    Deed,
    /// Reads from the coordinator.
    Read,
    /// Writes to it.
    Commit,
}

impl Actor {
    pub fn new(name: String, task: usize, hand: Hand) -> Arc<Self> {
        Arc::new(Self {
            name,
            task,
            awake_at: Mutex::new(Instant::now()),
            crashed: watch::channel(false).0,
            sessions: Mutex::default(),
            hand: Mutex::new(hand),
            made_late: Mutex::default(),
        })
    }

    pub fn keep(&self, session: Arc<dyn Session>) {
        lock(&self.sessions).push(session);
    }

    /// Returns when this worker is not standing still.
    pub async fn awake(&self) {
        loop {
            let until = *lock(&self.awake_at);
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

    pub fn stand_still(&self, pause: Duration) {
        *lock(&self.awake_at) = Instant::now() + pause;
    }
}
