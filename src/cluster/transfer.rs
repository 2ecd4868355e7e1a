//! What is to move, and by whom.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{Node, TableName, Way};
use crate::sql::{Selection, SlotFilter, SlotKey};

use super::Settings;

/// The transfer of some rows from a source node to a table of target nodes.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Who carries them.
    pub way: Way,
    /// The node that has the rows.
    pub from: Arc<Node>,
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
    /// Settings of the statement that runs on the source node (push, relay), for an account and a server that know them.
    pub at_source: Settings,
    /// Whether a relay asks the source to compress the rows; it does so where both servers can.
    pub compress: bool,
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

    /// The id of the statement of a relay that reads. Both may run on one server, where ids must differ; it begins like the
    /// other, so that who looks for one finds both.
    pub fn reading_id(&self) -> String {
        format!("{}:read", self.query_id())
    }

    /// Where its statements run, with what their ids begin with.
    pub fn statements(&self) -> Vec<(&Arc<Node>, &str)> {
        let sent = self.to.iter().map(|to| (&self.from, to.query_id.as_str()));
        let taken = self.to.iter().map(|to| (&to.node, to.query_id.as_str()));
        match self.way {
            Way::Push => sent.collect(),
            Way::Pull => taken.collect(),
            Way::Relay => taken.chain([(&self.from, self.query_id())]).collect(),
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

    /// What could not be done, for an error.
    pub(super) fn doing(&self) -> String {
        let nodes: Vec<String> = self.to.iter().map(|to| to.node.to_string()).collect();
        format!(
            "cannot {} rows of {} of {} to {} of {}",
            self.way,
            self.rows.relation.table,
            self.from,
            self.into,
            nodes.join(", ")
        )
    }
}
