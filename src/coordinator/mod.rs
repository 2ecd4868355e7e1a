//! The door to coordination: a small tree of nodes that several workers share.
//!
//! [`Coordinator`] makes [`Session`]s; all reading and writing goes through a session. Implementations:
//! [`ZooKeeperCoordinator`] (ZooKeeper, ClickHouse Keeper), [`LocalCoordinator`] (a file on one machine, no server) and
//! [`MemoryCoordinator`] (a double for simulations). One suite, [`conformance`], runs on all of them.
//!
//! # Guarantees
//! - A commit is all or nothing, and a [`Version`] compared in it is compared at the instant of writing.
//! - Reads never answer [`Error::Unknown`]: they are repeated inside while the session lives. After a connection broke,
//!   the first read is preceded by a `sync`, so it sees every write that this session had sent before.
//! - Writes are never repeated inside. A write whose connection broke answers [`Error::Unknown`]: read again, through
//!   the same session, to learn what became of it.
//! - A watch reports at least every change after the read it came with; it may fire once for nothing.
//! - Once a session is over, each operation of it answers [`Error::SessionLost`] at once; while the servers are away,
//!   nobody waits much longer than the session timeout (at most 1.4 times).
//!
//! # Assumptions
//! - A request is sent when the operation is first polled. Dropping the future then does **not** undo a write.
//! - An ephemeral node is not a mutex: its session can be over on the servers before its owner knows. Whatever must not
//!   happen twice is decided by a compared version.

#[doc(hidden)]
pub mod conformance;
mod error;
pub mod local;
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
pub use memory::MemoryCoordinator;
pub use tree::{create_if_absent, delete_tree, ensure_path};
pub use zookeeper::{ZooKeeperCoordinator, ZooKeeperOptions};

/// How often a node's data has been set since it was created; the first data has version 0.
pub type Version = i32;

/// What to do about a ZooKeeper that everybody may change.
pub const CLOSE_ZOOKEEPER: &str =
    "<identity>user:password</identity> in <zookeeper> of the file of --config closes it to others";

/// What one commit may carry in bytes, names and data together: ZooKeeper closes the connection on a request of
/// `jute.maxbuffer` (1 MiB − 1 by default) or more. Some room is left for the request's own fields.
pub const COMMIT_LIMIT: usize = 0xf_ffff - 4096;

/// A node as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its data.
    pub data: Vec<u8>,
    /// The version of the data.
    pub version: Version,
    /// The [`Session::id`] that an ephemeral node belongs to; `None` for a persistent one.
    pub ephemeral_owner: Option<String>,
}

/// How long a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Until it is deleted.
    Persistent,
    /// Until it is deleted or its session is over. It can have no children.
    Ephemeral,
}

/// One step of a commit. A version of `None` means whatever it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes a node; its parent must exist, it must not.
    Create {
        /// Absolute path.
        path: String,
        /// First data.
        data: Vec<u8>,
        /// How long it lives.
        kind: NodeKind,
    },
    /// Replaces the data of a node.
    Set {
        /// Absolute path.
        path: String,
        /// New data.
        data: Vec<u8>,
        /// The version it must have before.
        version: Option<Version>,
    },
    /// Deletes a node without children.
    Delete {
        /// Absolute path.
        path: String,
        /// The version it must have.
        version: Option<Version>,
    },
    /// Changes nothing, and fails the commit unless the node exists (with that version).
    Check {
        /// Absolute path.
        path: String,
        /// The version it must have.
        version: Option<Version>,
    },
}

impl Op {
    /// Makes a persistent node.
    pub fn create(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), kind: NodeKind::Persistent }
    }

    /// Makes a node that lives as long as the session.
    pub fn ephemeral(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Create { path: path.into(), data: data.into(), kind: NodeKind::Ephemeral }
    }

    /// Replaces the data of a node.
    pub fn set(path: impl Into<String>, data: impl Into<Vec<u8>>, version: impl Into<Option<Version>>) -> Self {
        Self::Set { path: path.into(), data: data.into(), version: version.into() }
    }

    /// Deletes a node.
    pub fn delete(path: impl Into<String>, version: impl Into<Option<Version>>) -> Self {
        Self::Delete { path: path.into(), version: version.into() }
    }

    /// Checks that a node exists (with that version).
    pub fn check(path: impl Into<String>, version: impl Into<Option<Version>>) -> Self {
        Self::Check { path: path.into(), version: version.into() }
    }

    /// The node this step is about.
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

/// A change that has yet to happen, from [`Session::watch`] or [`Session::watch_children`].
pub struct Change(BoxFuture<'static, Result<(), Error>>);

impl Change {
    /// A change that is there when `future` is.
    pub fn new(future: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Self(future.boxed())
    }

    /// Waits for the change, without a limit of time: it resolves with the change or with the end of the session.
    /// Dropping it is free.
    ///
    /// # Errors
    /// [`Error::SessionLost`] when the session is over first.
    pub async fn fired(self) -> Result<(), Error> {
        self.0.await
    }
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

/// Makes sessions, and outlives them.
#[async_trait]
pub trait Coordinator: Send + Sync {
    /// A new session, after at most ten seconds or the session timeout, whichever is shorter.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no server gives one, [`Error::Refused`] when they don't accept who we are or where
    /// we want to work.
    async fn session(&self) -> Result<Arc<dyn Session>, Error>;

    /// Where this is, for messages: hosts and root, no secrets.
    fn place(&self) -> String;

    /// Whether everybody who reaches it may change what this process writes there.
    fn is_open_to_all(&self) -> bool {
        false
    }
}

/// One connection's worth of identity: what its ephemeral nodes hang on. Dropping it closes it in the background.
///
/// Every operation may answer [`Error::SessionLost`], and [`Error::Refused`] for a malformed path or a node that this
/// identity may not touch.
#[async_trait]
pub trait Session: Send + Sync {
    /// Its name, unique at its coordinator; equals [`Stored::ephemeral_owner`] of its nodes.
    fn id(&self) -> String;

    /// A node, or `None` when there is none of that path.
    async fn get(&self, path: &str) -> Result<Option<Stored>, Error>;

    /// Many nodes, in the order asked; asked together, not one after the other. Not one instant's view of them.
    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error>;

    /// The names of a node's children, sorted, or `None` when there is no such node.
    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error>;

    /// A node, and its next creation, setting or deletion.
    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error>;

    /// The names of a node's children, and the next time that one comes or goes or the node itself does.
    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error>;

    /// Applies all steps in order, or none. Later steps see what earlier ones did. No steps: nothing is sent.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the first step that does not fit. [`Error::Unknown`], and [`Error::SessionLost`] if it
    /// came while the answer was awaited: the commit may have been applied. [`Error::TooLarge`]: nothing was sent.
    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error>;

    /// Resolves when this session is over for good, however it ended, to [`Error::SessionLost`].
    async fn lost(&self) -> Error;

    /// Whether this session is known to be over.
    fn is_lost(&self) -> bool;

    /// Ends the session and gives its ephemeral nodes back. Returns when the servers have done it, or, when they don't
    /// answer, after a few seconds; then they will when the session times out.
    async fn close(&self);
}

/// Refuses what no implementation could take, before anything is sent.
fn check_commit(place: &str, ops: &[Op], root_len: usize) -> Result<(), Error> {
    /// What a request holds for each step besides path and data: headers, version, ACL (generously).
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
