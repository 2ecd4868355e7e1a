//! The requests of one worker to the servers: [`World`] decides how each is delivered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::client::{Error, Kind};
use clickhouse_copier::model::{Node, TableName};
use clickhouse_copier::sql::Selection;

use crate::workers::{Delivery, Request, SimulatedWorker};
use crate::world::{DisabledGuard, World};

/// How long a worker waits for a statement that does not arrive.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers of one worker.
pub struct Servers {
    pub world: Arc<World>,
    pub worker: Arc<SimulatedWorker>,
    /// For [`DisabledGuard::Counting`]: what should be in each staging table.
    pub promised: Mutex<BTreeMap<(String, TableName), u64>>,
}

/// Tables that are being created. They belong to nobody if their worker has ended when they exist.
struct Making<'a> {
    world: &'a World,
    tables: Vec<TableName>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.world.orphans.lock().expect("nobody panics").extend(self.tables.drain(..));
    }
}

pub fn failed(node: &Node, what: &str, kind: Kind) -> Error {
    Error { node: node.address(), doing: format!("cannot {what}"), kind }
}

impl Servers {
    pub async fn ask<T>(
        &self,
        node: &Node,
        what: &'static str,
        ask: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let fate = self.world.send(&self.worker, Request::ReadServer, what, &node.host).await;
        if fate == Delivery::LostRequest {
            return Err(failed(node, what, Kind::Network("the request was lost".into())));
        }
        let done = ask.await;
        if fate == Delivery::CrashAfter {
            self.worker.crash().await;
        }
        self.world.answered(&self.worker).await;
        if fate == Delivery::LostReply {
            return Err(failed(node, what, Kind::Network("the reply was lost".into())));
        }
        done
    }

    /// `of`: what the double says the statement is about. `makes`: tables that the statement creates.
    pub async fn act(
        &self,
        node: &Node,
        (what, of): (&'static str, String),
        makes: Vec<TableName>,
        act: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let at = format!("{} {of}", node.host);
        let fate = self.world.send(&self.worker, Request::ChangeServer, what, &at).await;
        let mut making = Making { world: &self.world, tables: makes };
        let done = match fate {
            Delivery::LostRequest => Err(failed(node, what, Kind::Network("the request was lost".into()))),
            Delivery::LostReply => act.await.and(Err(failed(node, what, Kind::Network("the reply was lost".into())))),
            Delivery::Refused(code) => Err(failed(node, what, Kind::Server { code, message: "not now".into() })),
            Delivery::Late(delay) => {
                let address = node.address();
                let held =
                    self.world.client.hold(move |it| it.operation == what && it.subject == of && it.node == address);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    held.release();
                });
                let done = tokio::time::timeout(ANSWER_TIMEOUT, act).await;
                let done = done.unwrap_or_else(|_| Err(failed(node, what, Kind::Timeout(ANSWER_TIMEOUT))));
                // The statement is still on its way, even if its sender gave up because the connection broke.
                if matches!(&done, Err(error) if matches!(error.kind, Kind::Timeout(_) | Kind::Network(_))) {
                    drop(making);
                    making = Making { world: &self.world, tables: Vec::new() };
                }
                done
            }
            Delivery::Good | Delivery::CrashAfter => act.await,
        };
        if fate == Delivery::CrashAfter {
            self.worker.crash().await;
        }
        let made = std::mem::take(&mut making.tables);
        if self.world.is_finished(self.worker.task) {
            self.worker.made_late.lock().expect("nobody panics").extend(made);
        }
        self.world.answered(&self.worker).await;
        done
    }

    pub fn inner(&self) -> &clickhouse_copier::client::memory::MemoryServerClient {
        &self.world.client
    }

    /// Without fencing, all attempts use the same tables, and publications do not take them.
    pub fn named(&self, name: &TableName) -> TableName {
        name.beside(self.text(&name.table))
    }

    pub fn text(&self, text: &str) -> String {
        if self.world.broken != Some(DisabledGuard::Fencing) || !text.contains("copier_") {
            return text.to_owned();
        }
        let mut parts: Vec<String> = Vec::new();
        for part in text.split('_') {
            let numbered = |letter: char| {
                let rest = part.strip_prefix(letter)?;
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                (digits > 0).then(|| rest[digits..].to_owned())
            };
            match (numbered('a'), numbered('u')) {
                (Some(rest), _) => parts.push(format!("a0{rest}")),
                // Of a staging table; an assembly keeps one.
                (_, Some(_)) if parts.last().is_some_and(|last| last.starts_with("a0")) => {}
                (_, Some(rest)) => parts.push(format!("u0{rest}")),
                _ => parts.push(part.to_owned()),
            }
        }
        parts.join("_")
    }

    /// Returns the rows that a statement really reads.
    pub fn selected(&self, rows: &Selection) -> Selection {
        self.world
            .wrong_answer
            .map_or_else(|| rows.clone(), |wrong_answer| wrong_answer.selected(&self.world.scene, rows.clone()))
    }

    pub fn lies(&self, name: &TableName) -> bool {
        self.world.broken == Some(DisabledGuard::Counting) && name.table.starts_with("copier_")
    }
}
