//! TLS options: which servers are trusted, and which certificate the copier presents.

use super::Secret;

/// TLS options of the copier's own connections: HTTPS to ClickHouse and, where the library allows it, ZooKeeper.
/// Connections between servers use the servers' own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities from the task, as PEM. `None` means the system's authorities.
    pub(crate) authorities: Option<String>,
    /// Whether the system's authorities are trusted in addition to `authorities`.
    pub(crate) system_too: bool,
    /// Whether server certificates are checked. If they are, host names are checked too.
    pub verify: bool,
    /// The copier's certificate, for servers that require one.
    pub identity: Option<Identity>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and its intermediate certificates, as PEM.
    pub(crate) certificates: String,
    /// The private key, as PEM without a passphrase.
    pub(crate) key: Secret,
}

impl Default for Tls {
    /// Returns options that trust the system's authorities and check certificates.
    fn default() -> Self {
        Self { authorities: None, system_too: false, verify: true, identity: None }
    }
}

impl Tls {
    /// Returns whether the system's authorities are trusted.
    pub fn trusts_system(&self) -> bool {
        self.authorities.is_none() || self.system_too
    }
}
