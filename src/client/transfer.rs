//! What is to move, and by whom.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Node, TableName, Way};
use crate::sql::{self, Selection, SlotFilter, SlotKey};

use super::{Course, Error, Kind, Settings, Throttle};

/// The transfer of some rows from source nodes to a table of target nodes.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Who carries them.
    pub way: Way,
    /// The nodes that have the rows. More than one only where the rows are relayed: they are read one after the other.
    pub from: Vec<Origin>,
    /// The nodes that get them. More than one only where the rows are dealt.
    pub to: Vec<Destination>,
    /// How rows are dealt to the nodes on their way, each row read once. `None`: one node gets them all.
    pub dealt: Option<SlotKey>,
    /// The table there.
    pub into: TableName,
    /// All its columns, in its order.
    pub columns: Vec<String>,
    /// Their values, as expressions over the rows.
    pub values: Vec<String>,
    /// The rows, for all nodes together.
    pub rows: Selection,
    /// Whether a relay asks the source to compress the rows; it does so where both servers can.
    pub compress: bool,
    /// What a relay must pass on its way; where servers carry the rows, nobody asks.
    pub throttles: Vec<Arc<Throttle>>,
    /// What this process knows of it while it is under way.
    pub course: Arc<Course>,
}

/// A node that rows are read from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The node.
    pub node: Arc<Node>,
    /// Settings of the statement that runs there (push, relay), for an account and a server that know them.
    pub settings: Settings,
}

impl Origin {
    /// A node that is read from with its own settings.
    pub fn of(node: &Arc<Node>) -> Self {
        Self { node: node.clone(), settings: Settings::new() }
    }
}

/// A node that gets rows.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The node.
    pub node: Arc<Node>,
    /// The slots whose rows it gets, where rows are dealt.
    pub slots: Range<u64>,
    /// The id of the statement that writes there; of a push, which writes by one statement to all, that of the first counts.
    /// That of a relay which reads is [`Transfer::reading_id`].
    pub query_id: String,
    /// Settings of the statement that runs on this node (pull, relay).
    pub settings: Settings,
}

impl Destination {
    /// A node that gets all rows.
    pub fn of_all(node: &Arc<Node>, query_id: impl Into<String>) -> Self {
        Self { node: node.clone(), slots: 0..0, query_id: query_id.into(), settings: Settings::new() }
    }
}

impl Transfer {
    /// The id by which all its statements are found: those of other nodes begin like it or have ids of their own.
    pub fn query_id(&self) -> &str {
        self.to.first().map_or("", |first| &first.query_id)
    }

    /// The id of the statement of a relay that reads from one of the origins. All may run on one server, where ids must differ;
    /// it begins like the others, so that who looks for one finds all.
    pub fn reading_id(&self, origin: usize) -> String {
        format!("{}:read{}", self.query_id(), if origin > 0 { origin.to_string() } else { String::new() })
    }

    /// What a push that deals the rows inserts into; `None` where that cannot be said in one statement.
    pub fn dealt_into(&self) -> Option<String> {
        let to: Vec<(&Node, Range<u64>)> = self.to.iter().map(|to| (to.node.as_ref(), to.slots.clone())).collect();
        sql::remote_dealt(&to, &self.into, self.dealt.as_ref()?)
    }

    /// Each node that rows are read from with each that gets some.
    pub fn pairs(&self) -> Vec<(&Origin, &Destination)> {
        self.from.iter().flat_map(|from| self.to.iter().map(move |to| (from, to))).collect()
    }

    /// Where its statements run, with what their ids begin with.
    pub fn statements(&self) -> Vec<(&Arc<Node>, &str)> {
        let sent = self.pairs().into_iter().map(|(from, to)| (&from.node, to.query_id.as_str()));
        let read = self.from.iter().map(|from| (&from.node, self.query_id()));
        let taken = self.to.iter().map(|to| (&to.node, to.query_id.as_str()));
        match self.way {
            // One statement serves them all.
            Way::Push if self.dealt.is_some() => read.collect(),
            Way::Push => sent.collect(),
            Way::Pull | Way::Clone => taken.collect(),
            Way::Relay => taken.chain(read).collect(),
        }
    }

    /// The rows that a destination gets.
    pub fn rows_for(&self, to: &Destination) -> Selection {
        let slots = self.dealt.clone().map(|key| SlotFilter { key, slots: to.slots.clone() });
        match slots {
            Some(slots) => Selection { slots: Some(slots), ..self.rows.clone() },
            None => self.rows.clone(),
        }
    }

    /// Waits until so many bytes of rows, uncompressed, may travel on.
    pub(super) async fn pass(&self, bytes: usize) {
        self.course.passed(bytes);
        let _waits = self.course.wait();
        for throttle in &self.throttles {
            throttle.pass(bytes).await;
        }
    }

    /// The answer to a transfer of rows by [`Way::Clone`]: parts are moved by [`ServerClient::fetch`](super::ServerClient::fetch).
    pub(super) fn parts_do_not(&self) -> Error {
        let node = self.to.first().map(|to| to.node.to_string()).unwrap_or_default();
        Error { node, doing: self.doing(), kind: Kind::Answer("parts are fetched, not transferred".into()) }
    }

    /// The error of a transfer that has moved nothing for too long. Its node is the one that carries it.
    pub fn stalled(&self, still: Duration) -> Error {
        let node = self.statements().first().map(|(node, _)| node.to_string()).unwrap_or_default();
        Error { node, doing: self.doing(), kind: Kind::Stalled(still) }
    }

    /// What could not be done, for an error.
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
