//! The double's errors.

use super::super::Kind;

/// Returns a server's error with this code.
pub(super) fn refused(code: u32, message: impl Into<String>) -> Kind {
    Kind::Server { code, message: message.into() }
}
