//! The client of the coordinator: a small tree of nodes that workers share.
//!
//! [`Coordinator`] opens [`Session`]s; all reads and writes go through a session. Implementations:
//! [`ZooKeeperCoordinator`] (ZooKeeper, ClickHouse Keeper), [`LocalCoordinator`] (a file on one machine, no server)
//! and [`MemoryCoordinator`] (a double for simulations). One suite, [`conformance`], runs on all of them.
//!
//! # Guarantees
//! - A commit applies all its steps or none, and compares a [`Version`] at the instant of writing.
//! - Reads never return [`Error::Unknown`]: the session repeats them while it lives. After a broken connection it
//!   sends a `sync` before the first read, so the read sees every earlier write of this session.
//! - Writes are never repeated. A write whose connection broke returns [`Error::Unknown`]: read again, through the
//!   same session, to find out whether it was applied.
//! - A watch reports at least every change after the read that it came with. It may also fire without a change.
//! - Once a session has ended, each of its operations returns [`Error::SessionLost`] at once. While the servers are
//!   away, no operation waits much longer than the session timeout (at most 1.4 times).
//!
//! # Assumptions
//! - A request is sent when the operation is first polled. Dropping the future afterwards does **not** undo a write.
//! - An ephemeral node is not a mutex: its session can end on the servers before its owner knows. If an action must
//!   not happen twice, a compared version must decide.

#[doc(hidden)]
#[cfg(any(test, feature = "doubles"))]
pub mod conformance;
mod error;
pub(crate) mod local;
#[cfg(any(test, feature = "doubles"))]
mod memory;
mod path;
mod tree;
mod zookeeper;

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;

pub use error::{Conflict, Error};
pub use local::LocalCoordinator;
#[cfg(any(test, feature = "doubles"))]
pub use memory::MemoryCoordinator;
pub use tree::delete_tree;
pub(crate) use tree::{create_if_absent, ensure_path};
pub use zookeeper::{ZooKeeperCoordinator, ZooKeeperOptions};

/// How often a node's data was set since its creation; the first data has version 0.
pub(crate) type Version = i32;

/// Advice for a ZooKeeper that everybody may change.
pub(crate) const CLOSE_ZOOKEEPER: &str =
    "<identity>user:password</identity> in <zookeeper> of the file of --config closes it to others";

/// The largest size of a commit in bytes, names and data together. ZooKeeper closes the connection on a request of
/// `jute.maxbuffer` (1 MiB − 1 by default) or more. Some room is left for the request's own fields.
pub(crate) const COMMIT_LIMIT: usize = 0xf_ffff - 4096;

/// A node as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The data of the node.
    pub data: Vec<u8>,
    /// The version of the data.
    pub(crate) version: Version,
    /// The [`Session::id`] that an ephemeral node belongs to; `None` for a persistent one.
    pub ephemeral_owner: Option<String>,
}

/// The lifetime of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Until it is deleted.
    Persistent,
    /// Until it is deleted or its session ends. It can have no children.
    Ephemeral,
}

/// A step of a commit. A version of `None` matches any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates a node. Its parent must exist; the node itself must not.
    Create {
        /// Absolute path.
        path: String,
        /// First data.
        data: Vec<u8>,
        /// Lifetime of the node.
        kind: NodeKind,
    },
    /// Replaces the data of a node.
    Set {
        /// Absolute path.
        path: String,
        /// New data.
        data: Vec<u8>,
        /// The version that the node must have before.
        version: Option<Version>,
    },
    /// Deletes a node without children.
    Delete {
        /// Absolute path.
        path: String,
        /// The version that the node must have.
        version: Option<Version>,
    },
    /// Changes nothing, but fails the commit unless the node exists (with that version).
    Check {
        /// Absolute path.
        path: String,
        /// The version that the node must have.
        version: Option<Version>,
    },
}

impl Op {
    /// Returns a step that creates a persistent node.
    pub fn create(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), kind: NodeKind::Persistent }
    }

    /// Returns a step that creates a node that lives as long as the session.
    pub fn ephemeral(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), kind: NodeKind::Ephemeral }
    }

    /// Returns a step that replaces the data of a node.
    pub fn set(path: impl Into<String>, data: impl Into<Vec<u8>>, version: impl Into<Option<Version>>) -> Self {
        Self::Set { path: path.into(), data: data.into(), version: version.into() }
    }

    /// Returns a step that deletes a node.
    pub(crate) fn delete(path: impl Into<String>, version: impl Into<Option<Version>>) -> Self {
        Self::Delete { path: path.into(), version: version.into() }
    }

    /// Returns a step that checks that a node exists (with that version).
    pub fn check(path: impl Into<String>, version: impl Into<Option<Version>>) -> Self {
        Self::Check { path: path.into(), version: version.into() }
    }

    /// Returns the path of the step's node.
    pub fn path(&self) -> &str {
        match self {
            Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. }
            | Self::Check { path, .. } => path,
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Create { data, .. } | Self::Set { data, .. } => data.len(),
            Self::Delete { .. } | Self::Check { .. } => 0,
        }
    }
}

/// A future change, from [`Session::watch`] or [`Session::watch_children`].
pub struct Change(BoxFuture<'static, Result<(), Error>>);

impl Change {
    /// Returns a change that happens when `future` resolves.
    pub fn new(future: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Self(future.boxed())
    }

    /// Waits for the change, without a time limit: it resolves with the change or with the end of the session.
    /// Dropping it is free.
    ///
    /// # Errors
    /// [`Error::SessionLost`] if the session ends first.
    pub async fn fired(self) -> Result<(), Error> {
        self.0.await
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

/// A coordinator, which opens sessions.
#[async_trait]
pub trait Coordinator: Send + Sync {
    /// Opens a session, within ten seconds or the session timeout, whichever is shorter.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no server opens a session, [`Error::Refused`] if the servers do not accept our
    /// identity or the root.
    async fn session(&self) -> Result<Arc<dyn Session>, Error>;

    /// Returns the location for messages: hosts and root, no secrets.
    fn place(&self) -> String;

    /// Returns whether everybody who reaches it may change what this process writes there.
    fn is_open_to_all(&self) -> bool {
        false
    }
}

/// A session: its ephemeral nodes live as long as it. Dropping it closes it in the background.
///
/// Every operation may return [`Error::SessionLost`], and [`Error::Refused`] for a malformed path or a node that this
/// identity may not access.
#[async_trait]
pub trait Session: Send + Sync {
    /// Returns the session's name, unique at its coordinator. It equals [`Stored::ephemeral_owner`] of its nodes.
    fn id(&self) -> String;

    /// Returns a node, or `None` if it does not exist.
    async fn get(&self, path: &str) -> Result<Option<Stored>, Error>;

    /// Returns many nodes, in the order of the paths. The requests run at the same time, so the nodes need not be of
    /// one instant.
    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error>;

    /// Returns the names of a node's children, sorted, or `None` if the node does not exist.
    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error>;

    /// Returns a node, and a change that fires when it is next created, set or deleted.
    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error>;

    /// Returns the names of a node's children, and a change that fires when a child or the node itself is next
    /// created or deleted.
    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error>;

    /// Applies all steps in order, or none. Later steps see the effects of earlier ones. Without steps, nothing is
    /// sent.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the first step that does not fit. After [`Error::Unknown`], or
    /// [`Error::SessionLost`] before the answer came, the commit may have been applied. [`Error::TooLarge`]: nothing
    /// was sent.
    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error>;

    /// Waits until this session has ended, for any reason, and returns [`Error::SessionLost`].
    async fn lost(&self) -> Error;

    /// Returns whether this session is known to have ended.
    fn is_lost(&self) -> bool;

    /// Ends the session and removes its ephemeral nodes. Returns when the servers have done so. If they do not
    /// answer, it returns after a few seconds, and the nodes disappear when the session times out.
    async fn close(&self);
}

/// Refuses a commit that no implementation accepts, before anything is sent.
fn check_commit(place: &str, ops: &[Op], root_len: usize) -> Result<(), Error> {
    /// Bytes of a request for each step besides path and data: headers, version, ACL (generously).
    const PER_OP: usize = 128;
    let mut total = 0;
    for op in ops {
        path::check(place, op.path())?;
        total += op.data_len() + op.path().len() + root_len + PER_OP;
    }
    if total > COMMIT_LIMIT
        && let Some(largest) = ops.iter().max_by_key(|op| op.data_len())
    {
        let path = largest.path().to_owned();
        return Err(Error::TooLarge { path, size: total, limit: COMMIT_LIMIT });
    }
    Ok(())
}
