//! The description of a transfer: which rows move, and who carries them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Course, Error, Kind, Settings, Throttle};
use crate::model::{Node, TableName, Way};
use crate::sql::{self, Selection, SlotFilter, SlotKey};

/// A transfer of rows from source nodes to a table on target nodes.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Who carries the rows.
    pub way: Way,
    /// The nodes that have the rows. More than one only with a relay, which reads them one after the other.
    pub from: Vec<Origin>,
    /// The nodes that get the rows. More than one only if the rows are dealt.
    pub to: Vec<Destination>,
    /// How rows are dealt to the nodes, with each row read once. `None`: one node gets all rows.
    pub dealt: Option<SlotKey>,
    /// The target table.
    pub into: TableName,
    /// All columns of the target table, in its order.
    pub columns: Vec<String>,
    /// The values of the columns, as expressions over the rows.
    pub values: Vec<String>,
    /// The rows, for all nodes together.
    pub rows: Selection,
    /// Whether a relay asks the source to compress the rows; it does so if both servers support it.
    pub compress: bool,
    /// The bandwidth limits of a relay. Other transfers ignore them.
    pub throttles: Vec<Arc<Throttle>>,
    /// This process's knowledge about the transfer while it runs.
    pub course: Arc<Course>,
}

/// A node that rows are read from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The node.
    pub node: Arc<Node>,
    /// Settings of the statement that runs there (push, relay), which the account and the server know.
    pub settings: Settings,
}

impl Origin {
    /// Returns a source node without settings.
    pub fn of(node: &Arc<Node>) -> Self {
        Self { node: node.clone(), settings: Settings::new() }
    }
}

/// A node that gets rows.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The node.
    pub node: Arc<Node>,
    /// The slots whose rows it gets, if rows are dealt.
    pub slots: Range<u64>,
    /// The id of the statement that writes there. A push writes to all nodes by one statement, and the id of the
    /// first node counts. The reading statement of a relay has the id [`Transfer::reading_id`].
    pub query_id: String,
    /// Settings of the statement that runs on this node (pull, relay).
    pub settings: Settings,
}

impl Destination {
    /// Returns a target node that gets all rows.
    pub fn of_all(node: &Arc<Node>, query_id: impl Into<String>) -> Self {
        Self { node: node.clone(), slots: 0..0, query_id: query_id.into(), settings: Settings::new() }
    }
}

impl Transfer {
    /// Returns the id by which all statements of the transfer are found: those on other nodes start with it or have
    /// ids of their own.
    pub(crate) fn query_id(&self) -> &str {
        self.to.first().map_or("", |first| &first.query_id)
    }

    /// Returns the id of a relay's statement that reads from one of the origins. All statements may run on one
    /// server, where ids must differ. The id starts like the others, so that a search by prefix finds all of them.
    pub(crate) fn reading_id(&self, origin: usize) -> String {
        format!("{}:read{}", self.query_id(), if origin > 0 { origin.to_string() } else { String::new() })
    }

    /// Returns the table function that a push of dealt rows inserts into; `None` if one statement cannot express it.
    pub(crate) fn dealt_into(&self) -> Option<String> {
        let to: Vec<(&Node, Range<u64>)> = self.to.iter().map(|to| (to.node.as_ref(), to.slots.clone())).collect();
        sql::remote_dealt(&to, &self.into, self.dealt.as_ref()?)
    }

    /// Returns each pair of a source node and a target node.
    pub fn pairs(&self) -> Vec<(&Origin, &Destination)> {
        self.from.iter().flat_map(|from| self.to.iter().map(move |to| (from, to))).collect()
    }

    /// Returns the nodes where its statements run, with the prefixes of their ids.
    pub(crate) fn statements(&self) -> Vec<(&Arc<Node>, &str)> {
        let sent = self.pairs().into_iter().map(|(from, to)| (&from.node, to.query_id.as_str()));
        let read = self.from.iter().map(|from| (&from.node, self.query_id()));
        let taken = self.to.iter().map(|to| (&to.node, to.query_id.as_str()));
        match self.way {
            // One statement serves all of them.
            Way::Push if self.dealt.is_some() => read.collect(),
            Way::Push => sent.collect(),
            Way::Pull | Way::Clone => taken.collect(),
            Way::Relay => taken.chain(read).collect(),
        }
    }

    /// Returns the rows for a target node.
    pub fn rows_for(&self, to: &Destination) -> Selection {
        let slots = self.dealt.clone().map(|key| SlotFilter { key, slots: to.slots.clone() });
        match slots {
            Some(slots) => Selection { slots: Some(slots), ..self.rows.clone() },
            None => self.rows.clone(),
        }
    }

    /// Waits until this many bytes of rows, uncompressed, may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        self.course.passed(bytes);
        let _waits = self.course.wait();
        for throttle in &self.throttles {
            throttle.pass(bytes).await;
        }
    }

    /// Returns the error for a transfer of rows by [`Way::Clone`]:
    /// [`ServerClient::fetch`](super::ServerClient::fetch) moves parts.
    pub(super) fn parts_do_not(&self) -> Error {
        let node = self.to.first().map(|to| to.node.to_string()).unwrap_or_default();
        Error { node, doing: self.doing(), kind: Kind::Answer("parts are fetched, not transferred".into()) }
    }

    /// Returns the error of a transfer that has moved nothing for too long. It names the node that carries the rows.
    pub(crate) fn stalled(&self, still: Duration) -> Error {
        let node = self.statements().first().map(|(node, _)| node.to_string()).unwrap_or_default();
        Error { node, doing: self.doing(), kind: Kind::Stalled(still) }
    }

    /// Returns what could not be done, for an error.
    pub(super) fn doing(&self) -> String {
        let list = |nodes: Vec<String>| nodes.join(", ");
        format!(
            "cannot {} rows of {} of {} to {} of {}",
            self.way,
            self.rows.relation.table,
            list(self.from.iter().map(|from| from.node.to_string()).collect()),
            self.into,
            list(self.to.iter().map(|to| to.node.to_string()).collect())
        )
    }
}
