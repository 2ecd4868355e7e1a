//! Errors of coordinators.

use std::fmt;

/// Why a step of a commit does not fit the present nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// The node to create exists already.
    Exists,
    /// The node, or the parent of the node to create, does not exist.
    Missing,
    /// The node has another version.
    Version,
    /// The node to delete has children.
    NotEmpty,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "it exists already",
            Self::Missing => "it, or its parent, does not exist",
            Self::Version => "it was changed meanwhile",
            Self::NotEmpty => "it has children",
        })
    }
}

/// A failed operation on the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A step of a commit does not fit the present nodes; nothing was changed.
    #[error("node {path} can't be changed as asked: {why}")]
    Conflict {
        /// Index of the step, from 0.
        op: usize,
        /// The step's node.
        path: String,
        /// The reason.
        why: Conflict,
    },
    /// The connection broke before a commit was answered: it may or may not have been applied. Read again.
    #[error("no answer from {place} to a write of {path} ({what}): it may or may not have been done")]
    Unknown {
        /// The coordinator.
        place: String,
        /// The first node of the commit.
        path: String,
        /// The connection's error.
        what: String,
    },
    /// The session has ended; its ephemeral nodes are gone or will be soon. An unanswered commit may or may not have
    /// been applied.
    #[error("the session at {place} is over")]
    SessionLost {
        /// The coordinator.
        place: String,
    },
    /// No server could be reached, or none answered in time.
    #[error("can't reach {place}: {why}")]
    Unreachable {
        /// The coordinator.
        place: String,
        /// The error of each host.
        why: String,
    },
    /// The servers, or this client, do not support the request; a retry does not help.
    #[error("{place} refuses {path}: {what}")]
    Refused {
        /// The coordinator.
        place: String,
        /// The node.
        path: String,
        /// The reason.
        what: String,
    },
    /// The storage of the records cannot be used; a retry does not help.
    #[error("{place} cannot be used: {why}. {todo}")]
    Unusable {
        /// The coordinator.
        place: String,
        /// The cause.
        why: String,
        /// What the user can do.
        todo: &'static str,
    },
    /// The commit would be larger than the servers take; nothing was sent.
    #[error("a write of {path} needs {size} bytes, more than the {limit} that a coordinator takes at once")]
    TooLarge {
        /// The node with the most data.
        path: String,
        /// Bytes of the whole commit.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

impl Error {
    /// Returns the conflict, if the error is one.
    pub fn conflict(&self) -> Option<Conflict> {
        match self {
            Self::Conflict { why, .. } => Some(*why),
            _ => None,
        }
    }

    /// Returns whether work can continue later without a change by the user: after reading again
    /// ([`Error::Unknown`]), in a new session ([`Error::SessionLost`]), or after a pause ([`Error::Unreachable`]).
    #[cfg(any(test, feature = "doubles"))]
    pub(crate) fn is_retriable(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::SessionLost { .. } | Self::Unreachable { .. })
    }

    /// Returns whether the failed commit may have been applied nevertheless.
    pub fn may_have_applied(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::SessionLost { .. })
    }
}
