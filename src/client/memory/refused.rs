//! What the double answers instead of a result.

use super::super::Kind;

/// Returns the error of a server with this code.
pub(super) fn refused(code: u32, message: impl Into<String>) -> Kind {
    Kind::Server { code, message: message.into() }
}
