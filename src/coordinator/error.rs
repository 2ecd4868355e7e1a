//! What can go wrong at the door to coordination.

use std::fmt;

/// Why a step of a commit does not fit what is there.
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
    /// A step of a commit does not fit what is there; nothing was changed.
    #[error("node {path} can't be changed as asked: {why}")]
    Conflict {
        /// Which step, counted from 0.
        op: usize,
        /// Its node.
        path: String,
        /// What does not fit.
        why: Conflict,
    },
    /// The connection broke while a commit's answer was awaited: it may or may not have been applied. Read again.
    #[error("no answer from {place} to a write of {path} ({what}): it may or may not have been done")]
    Unknown {
        /// The coordinator.
        place: String,
        /// The first node of the commit.
        path: String,
        /// What broke.
        what: String,
    },
    /// The session is over; its ephemeral nodes are gone or will soon be. A commit whose answer was awaited at that
    /// moment may or may not have been applied.
    #[error("the session at {place} is over")]
    SessionLost {
        /// The coordinator.
        place: String,
    },
    /// No server could be reached, or none gave an answer in time.
    #[error("can't reach {place}: {why}")]
    Unreachable {
        /// The coordinator.
        place: String,
        /// What each host said.
        why: String,
    },
    /// The servers, or we on their behalf, don't do such a thing; asking again won't help.
    #[error("{place} refuses {path}: {what}")]
    Refused {
        /// The coordinator.
        place: String,
        /// The node.
        path: String,
        /// The reason.
        what: String,
    },
    /// What holds the records cannot be used; asking again won't help.
    #[error("{place} cannot be used: {why}. {todo}")]
    Unusable {
        /// The coordinator.
        place: String,
        /// The cause.
        why: String,
        /// What a person can do.
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
    /// The conflict, when it is one.
    pub fn conflict(&self) -> Option<Conflict> {
        match self {
            Self::Conflict { why, .. } => Some(*why),
            _ => None,
        }
    }

    /// Whether the work may go on after a while without anybody changing anything: after reading again
    /// ([`Error::Unknown`]), in a new session ([`Error::SessionLost`]), or later ([`Error::Unreachable`]).
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::SessionLost { .. } | Self::Unreachable { .. })
    }

    /// Whether a commit that failed so may have been applied nevertheless.
    pub fn may_have_applied(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::SessionLost { .. })
    }
}
