//! The questions of `run` and `check` before a copy: whether two addresses are the same server, and which values
//! conversions would lose.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{Error, Kind, Settings};
use crate::model::Node;
use crate::sql::{LossTest, Selection};

/// A server's description of itself. Two servers may have equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The name of the server's host.
    pub(crate) host: String,
    /// The second of its start, by its own clock.
    pub(crate) started: i64,
    /// `serverUUID()`; `None` if the version has none, or if it is zero.
    pub(crate) uuid: Option<String>,
    /// The server's native port; `None` if the version does not report it.
    pub(crate) port: Option<u64>,
}

/// The loss by a conversion of a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Rows whose value does not survive the conversion there and back.
    pub(crate) rows: u64,
    /// The value of one of them, as text, cut if it is long; empty if no row loses its value.
    pub(crate) example: String,
}

/// The questions before a copy. A client that does not support one answers with an error.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Runs a statement that does nothing for some seconds and by which its server can be recognised. Dropping the
    /// future does not end it.
    async fn hold_mark(&self, node: &Node, _mark: &str, _settings: &Settings) -> Result<(), Error> {
        Err(silent(node))
    }

    /// Kills the statement of a mark, without waiting for its end.
    async fn end_mark(&self, node: &Node, _mark: &str) -> Result<(), Error> {
        Err(silent(node))
    }

    /// Returns the marks with a prefix that run on the server that answers, over a new connection.
    async fn marks(&self, node: &Node, _prefix: &str) -> Result<BTreeSet<String>, Error> {
        Err(silent(node))
    }

    /// Returns the marks with a prefix that run on the server that `from` reaches at the native address of `to`.
    async fn marks_behind(&self, from: &Node, _to: &Node, _prefix: &str) -> Result<BTreeSet<String>, Error> {
        Err(silent(from))
    }

    /// Returns the server's description of itself.
    async fn fingerprint(&self, node: &Node) -> Result<Fingerprint, Error> {
        Err(silent(node))
    }

    /// Counts the rows that each test finds, in one read of the table.
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
    let kind = Kind::Answer("this client does not tell".into());
    Error { node: node.to_string(), doing: "cannot ask".into(), kind }
}
