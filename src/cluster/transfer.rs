//! What is to move, and by whom.

use std::sync::Arc;

use crate::model::{Node, TableName, Way};
use crate::sql::Selection;

use super::Settings;

/// The transfer of some rows from a source node to a table of one target node.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Who carries them.
    pub way: Way,
    /// The node that has the rows.
    pub from: Arc<Node>,
    /// The node that gets them.
    pub to: Arc<Node>,
    /// The table there.
    pub into: TableName,
    /// All its columns, in its order.
    pub columns: Vec<String>,
    /// Their values, as expressions over the rows.
    pub values: Vec<String>,
    /// The rows.
    pub rows: Selection,
    /// The id of the statement that writes; that of a relay which reads is [`Transfer::reading_id`].
    pub query_id: String,
    /// Settings of the statement that runs on the source node (push, relay), for an account and a server that know them.
    pub at_source: Settings,
    /// Settings of the statement that runs on the target node (pull, relay).
    pub at_target: Settings,
    /// Whether a relay asks the source to compress the rows; it does so where both servers can.
    pub compress: bool,
}

impl Transfer {
    /// The id of the statement of a relay that reads. Both may run on one server, where ids must differ; it begins like the
    /// other, so that who looks for one finds both.
    pub fn reading_id(&self) -> String {
        format!("{}:read", self.query_id)
    }

    /// The nodes on which its statements run.
    pub fn nodes(&self) -> Vec<&Arc<Node>> {
        match self.way {
            Way::Push => vec![&self.from],
            Way::Pull => vec![&self.to],
            Way::Relay => vec![&self.to, &self.from],
        }
    }

    /// What could not be done, for an error.
    pub(super) fn doing(&self) -> String {
        format!(
            "cannot {} rows of {} of {} to {} of {}",
            self.way, self.rows.relation.table, self.from, self.into, self.to
        )
    }
}
