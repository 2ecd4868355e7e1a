//! The meaning of the client's errors.

use zookeeper_client as zk;

use super::super::{Conflict, Error};

/// Returns whether the servers have answered, so that the request was certainly not applied (or the session has
/// ended). Any other error is a broken connection: the client returns the error that broke it, of any kind.
pub(super) fn is_definite(error: &zk::Error) -> bool {
    use zk::Error::*;
    match error {
        NoNode
        | NoAuth
        | BadVersion
        | NoChildrenForEphemerals
        | NodeExists
        | NotEmpty
        | InvalidAcl
        | AuthFailed
        | NotReadOnly
        | QuotaExceeded
        | Unimplemented
        | BadArguments(_)
        | SessionExpired
        | ClientClosed
        | NoHosts => true,
        // Codes from -1 to -99 are system errors, such as "operation timeout": the result is not known then.
        UnexpectedErrorCode(code) => *code <= -100,
        _ => false,
    }
}

/// Returns whether it is useless to try again to open a session, with other servers or later.
pub(super) fn is_refusal(error: &zk::Error) -> bool {
    use zk::Error::*;
    is_definite(error) && !matches!(error, NoHosts | SessionExpired | ClientClosed)
}

/// Returns the error for a definite answer to a step of a commit, or to a read.
pub(super) fn definite(place: &str, op: usize, path: &str, error: &zk::Error) -> Error {
    let (place, path) = (place.to_owned(), path.to_owned());
    let conflict = |why| Error::Conflict { op, path: path.clone(), why };
    match error {
        zk::Error::NodeExists => conflict(Conflict::Exists),
        zk::Error::NoNode => conflict(Conflict::Missing),
        zk::Error::BadVersion => conflict(Conflict::Version),
        zk::Error::NotEmpty => conflict(Conflict::NotEmpty),
        zk::Error::SessionExpired | zk::Error::ClientClosed => Error::SessionLost { place },
        other => Error::Refused { place, path, what: other.to_string() },
    }
}
