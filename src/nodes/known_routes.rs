//! What is known of the ways between two nodes.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::model::{Node, Way};

use super::asked_once::AskedOnce;

/// What is known of pairs of nodes. Keys are addresses with accounts.
#[derive(Default)]
pub struct KnownRoutes {
    known: Mutex<Known>,
    /// What a node answered when it was told to read from another one.
    pub(crate) reached: AskedOnce<Result<(), String>>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// KnownRoutes from the first to the second that a server refused, and what it said.
    pub refused: HashMap<(String, String, Way), String>,
    /// Table jobs with source nodes from which no piece is cloned any more.
    not_cloned: HashSet<(usize, String)>,
    /// What was said already.
    said: HashSet<String>,
}

impl KnownRoutes {
    pub(crate) fn known<T>(&self, ask: impl FnOnce(&mut Known) -> T) -> T {
        ask(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Clones no more pieces of a table job from a node, after one could not be.
    pub fn give_up(&self, table: usize, from: &Node) {
        self.known(|known| known.not_cloned.insert((table, account(from))));
    }

    /// Whether that was said.
    pub fn is_given_up(&self, table: usize, from: &Node) -> bool {
        self.known(|known| known.not_cloned.contains(&(table, account(from))))
    }

    /// Whether a line is new.
    pub fn is_news(&self, line: &str) -> bool {
        self.known(|known| known.said.insert(line.to_owned()))
    }
}

/// A server with one of its accounts, as other servers know it.
pub(crate) fn account(node: &Node) -> String {
    format!("{}@{}{}", node.user, node.address(), if node.secure { " secure" } else { "" })
}
