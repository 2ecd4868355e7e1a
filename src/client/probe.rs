//! What is asked of a server before a copy, by `run` and by `check` alike: whether it is another server than the others, and
//! what conversions would lose.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::model::Node;
use crate::sql::{LossTest, Selection};

use super::{Error, Kind, Settings};

/// What servers say of themselves. Two servers may agree in all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The name of the server's host.
    pub host: String,
    /// The second of its start, by its own clock.
    pub started: i64,
    /// `serverUUID()`; `None` where the version has none, or where it is zero.
    pub uuid: Option<String>,
    /// The server's native port; `None` where the version does not tell.
    pub port: Option<u64>,
}

/// What a conversion of a column loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Rows whose value does not survive the conversion there and back.
    pub rows: u64,
    /// The value of one of them, as text, cut off if it is long; empty without such rows.
    pub example: String,
}

/// What is asked of a server before a copy. A door that cannot tell answers with an error.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Runs a statement that does nothing for some seconds and by which its server can be told. Dropping the future does not
    /// end it.
    async fn hold_mark(&self, node: &Node, _mark: &str, _settings: &Settings) -> Result<(), Error> {
        Err(silent(node))
    }

    /// Ends the statement of a mark, without waiting for its end.
    async fn end_mark(&self, node: &Node, _mark: &str) -> Result<(), Error> {
        Err(silent(node))
    }

    /// Returns the marks with a prefix that run on the server that answers, over a connection that nobody used before.
    async fn marks(&self, node: &Node, _prefix: &str) -> Result<BTreeSet<String>, Error> {
        Err(silent(node))
    }

    /// Returns the marks with a prefix that run on the server that `from` reaches at the native address of `to`.
    async fn marks_behind(&self, from: &Node, _to: &Node, _prefix: &str) -> Result<BTreeSet<String>, Error> {
        Err(silent(from))
    }

    /// Returns what the server says of itself.
    async fn fingerprint(&self, node: &Node) -> Result<Fingerprint, Error> {
        Err(silent(node))
    }

    /// Counts the rows that each test finds, in one reading of the table.
    async fn losses(
        &self,
        node: &Node,
        _rows: &Selection,
        _tests: &[LossTest],
        _settings: &Settings,
    ) -> Result<Vec<Loss>, Error> {
        Err(silent(node))
    }
}

fn silent(node: &Node) -> Error {
    let kind = Kind::Answer("this door does not tell".into());
    Error { node: node.to_string(), doing: "cannot ask".into(), kind }
}
