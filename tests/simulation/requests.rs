//! The requests of one worker to the servers: each goes through the stage, which draws its fate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickhouse_copier::client::{Error, Kind};
use clickhouse_copier::model::{Node, TableName};
use clickhouse_copier::sql::Selection;

use crate::actor::{Actor, Fate, Request};
use crate::stage::{Broken, Stage};

/// How long a worker waits for a statement that does not arrive.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The servers of one worker.
pub struct Servers {
    pub stage: Arc<Stage>,
    pub actor: Arc<Actor>,
    /// For [`Broken::Counting`]: what should be in each staging table.
    pub promised: Mutex<BTreeMap<(String, TableName), u64>>,
}

/// Tables that are being made: nobody's, when their maker is not there any more when they are.
struct Making<'a> {
    stage: &'a Stage,
    tables: Vec<TableName>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.stage.orphans.lock().expect("nobody panics").extend(self.tables.drain(..));
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
        let fate = self.stage.pass(&self.actor, Request::Question, what, &node.host).await;
        if fate == Fate::LostRequest {
            return Err(failed(node, what, Kind::Network("the request was lost".into())));
        }
        let done = ask.await;
        if fate == Fate::CrashAfter {
            self.actor.crash().await;
        }
        self.stage.leave(&self.actor).await;
        if fate == Fate::LostReply {
            return Err(failed(node, what, Kind::Network("the reply was lost".into())));
        }
        done
    }

    /// `of`: what the double says the statement is about. `makes`: tables that are there afterwards and were not before.
    pub async fn act(
        &self,
        node: &Node,
        (what, of): (&'static str, String),
        makes: Vec<TableName>,
        act: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let at = format!("{} {of}", node.host);
        let fate = self.stage.pass(&self.actor, Request::Deed, what, &at).await;
        let mut making = Making { stage: &self.stage, tables: makes };
        let done = match fate {
            Fate::LostRequest => Err(failed(node, what, Kind::Network("the request was lost".into()))),
            Fate::LostReply => act.await.and(Err(failed(node, what, Kind::Network("the reply was lost".into())))),
            Fate::Refused(code) => Err(failed(node, what, Kind::Server { code, message: "not now".into() })),
            Fate::Late(delay) => {
                let address = node.address();
                let held = self.stage.client.hold(move |it| it.deed == what && it.of == of && it.node == address);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    held.release();
                });
                let done = tokio::time::timeout(ANSWER_TIMEOUT, act).await;
                let done = done.unwrap_or_else(|_| Err(failed(node, what, Kind::Timeout(ANSWER_TIMEOUT))));
                // It is still on its way, also when its sender gave up because the connection broke.
                if matches!(&done, Err(error) if matches!(error.kind, Kind::Timeout(_) | Kind::Network(_))) {
                    drop(making);
                    making = Making { stage: &self.stage, tables: Vec::new() };
                }
                done
            }
            Fate::Good | Fate::CrashAfter => act.await,
        };
        if fate == Fate::CrashAfter {
            self.actor.crash().await;
        }
        let made = std::mem::take(&mut making.tables);
        if self.stage.is_finished(self.actor.task) {
            self.actor.made_late.lock().expect("nobody panics").extend(made);
        }
        self.stage.leave(&self.actor).await;
        done
    }

    pub fn inner(&self) -> &clickhouse_copier::client::memory::MemoryServerClient {
        &self.stage.client
    }

    /// Without fencing, all attempts use the same tables, and publications do not take them.
    pub fn named(&self, name: &TableName) -> TableName {
        name.beside(self.text(&name.table))
    }

    pub fn text(&self, text: &str) -> String {
        if self.stage.broken != Some(Broken::Fencing) || !text.contains("copier_") {
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

    /// The rows that a statement gets.
    pub fn selected(&self, rows: &Selection) -> Selection {
        self.stage.lie.map_or_else(|| rows.clone(), |lie| lie.selected(&self.stage.scene, rows.clone()))
    }

    pub fn lies(&self, name: &TableName) -> bool {
        self.stage.broken == Some(Broken::Counting) && name.table.starts_with("copier_")
    }
}
