//! How we trust servers over TLS, and who we are there.

use super::Secret;

/// TLS of our own connections: HTTPS to ClickHouse and, where the library allows it, ZooKeeper. The servers among
/// themselves have a configuration of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities of our own, as PEM; none: those of the system.
    pub authorities: Option<String>,
    /// The system's authorities count beside those.
    pub system_too: bool,
    /// Whether a server's certificate is checked at all. Its host name is, whenever the certificate is.
    pub verify: bool,
    /// Our own certificate, for servers that ask for one.
    pub identity: Option<Identity>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those between it and the authority, as PEM.
    pub certificates: String,
    /// Its key, as PEM without a passphrase.
    pub key: Secret,
}

impl Default for Tls {
    /// The system's authorities, checked.
    fn default() -> Self {
        Self { authorities: None, system_too: false, verify: true, identity: None }
    }
}

impl Tls {
    /// Whether the system's authorities are trusted.
    pub fn trusts_system(&self) -> bool {
        self.authorities.is_none() || self.system_too
    }
}
