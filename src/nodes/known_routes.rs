//! The known facts about the routes between two nodes.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::asked_once::AskedOnce;
use crate::model::{Node, Way};

/// The known facts about the routes between pairs of nodes. Keys are addresses with accounts.
#[derive(Default)]
pub(crate) struct KnownRoutes {
    known: Mutex<RouteFacts>,
    /// The answers of nodes that were asked to read from another node.
    pub(crate) reached: AskedOnce<Result<(), String>>,
}

/// The facts behind the lock.
#[derive(Debug, Default)]
pub(crate) struct RouteFacts {
    /// Transfers from the first node to the second that a server refused, with its answer.
    pub(crate) refused: HashMap<(String, String, Way), String>,
    /// Table jobs with source nodes from which no more pieces are cloned.
    not_cloned: HashSet<(usize, String)>,
    /// The lines that were logged already.
    logged: HashSet<String>,
}

impl KnownRoutes {
    /// Reads or changes the facts.
    pub(crate) fn known<T>(&self, action: impl FnOnce(&mut RouteFacts) -> T) -> T {
        action(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that no more pieces of a table job are cloned from a node, after one could not be cloned.
    pub(crate) fn give_up(&self, table: usize, from: &Node) {
        self.known(|known| known.not_cloned.insert((table, account(from))));
    }

    /// Returns whether that was recorded.
    pub(crate) fn is_given_up(&self, table: usize, from: &Node) -> bool {
        self.known(|known| known.not_cloned.contains(&(table, account(from))))
    }

    /// Records a log line. Returns whether it is new.
    pub(crate) fn is_news(&self, line: &str) -> bool {
        self.known(|known| known.logged.insert(line.to_owned()))
    }
}

/// Returns the key of a server with one of its accounts.
pub(crate) fn account(node: &Node) -> String {
    format!("{}@{}{}", node.user, node.address(), if node.secure { " secure" } else { "" })
}
