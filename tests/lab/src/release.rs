//! The releases of ClickHouse that a laboratory can start, and how they differ as servers.

/// A release of ClickHouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// ClickHouse 18.16.1, from Debian's package clickhouse-server.
    V18_16,
    /// ClickHouse 24.8.4, from the PyPI package chdb 3.2.0.
    V24_8,
    /// ClickHouse 25.8.2, the LTS release that is the reference: from the PyPI package chdb 3.7.2, or the binary that
    /// `CLICKHOUSE_BIN` names.
    V25_8,
    /// ClickHouse 26.9.2, from the PyPI package chdb-core 26.9.0. Not a whole server: see [`Release::is_whole`].
    V26_9,
}

impl Release {
    /// All releases, the oldest first.
    pub const ALL: [Release; 4] = [Release::V18_16, Release::V24_8, Release::V25_8, Release::V26_9];

    /// The release as people write it: `25.8`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Release::V18_16 => "18.16",
            Release::V24_8 => "24.8",
            Release::V25_8 => "25.8",
            Release::V26_9 => "26.9",
        }
    }

    /// The release with this [`Release::name`].
    #[must_use]
    pub fn named(name: &str) -> Option<Release> {
        Release::ALL.into_iter().find(|release| release.name() == name)
    }

    /// Whether this is newer than 18.16: SQL accounts, Atomic databases, today's settings.
    #[must_use]
    pub fn is_modern(self) -> bool {
        self != Release::V18_16
    }

    /// Whether this is a whole server. 26.9 is clickhouse-local that listens on the HTTP and native ports: it has no TLS, no
    /// interserver port (so no replication), no SQL accounts, and the statement that keeps it alive is always in
    /// `system.processes`.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self != Release::V26_9
    }
}
