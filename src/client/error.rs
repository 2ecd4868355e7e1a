//! Errors of servers and of the connection to them.

use std::time::Duration;

use super::codes::*;

/// A request to a node that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{node}: {}", self.without_node())]
pub struct Error {
    /// The node that got the request.
    pub node: String,
    /// The request, as "cannot read the partitions of d.t".
    pub doing: String,
    /// The kind of error.
    pub kind: Kind,
}

/// The kind of error of a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Kind {
    /// The server answered with an error.
    #[error("code {code}: {message}")]
    Server {
        /// ClickHouse's error code.
        code: u32,
        /// The first line of the server's message.
        message: String,
    },
    /// No connection, or the connection broke.
    #[error("no answer: {0}")]
    Network(String),
    /// TLS failed: the text says why, and what to do.
    #[error("no answer: {0}")]
    Tls(String),
    /// No answer within the time limit.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Nothing has moved for this long.
    #[error(
        "nothing has moved for {} s: no row was read or written, and no byte arrived. Look at the network between the servers, at their \
         disks, and at system.processes there. --stall-timeout says how long that may take", .0.as_secs()
    )]
    Stalled(Duration),
    /// An answer that cannot be parsed.
    #[error("answer not understood: {0}")]
    Answer(String),
}

/// The remedy for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Repeat the request a little later.
    Retry,
    /// Repeat it with fewer rows at once.
    Smaller,
    /// Repeat it on another replica: data on this one is damaged or missing.
    Elsewhere,
    /// No automatic remedy: a person must act.
    GiveUp,
}

/// The account may not do this: wrong password, database denied, read-only, no grant.
const DENIED: &[u32] = &[
    READONLY,
    UNKNOWN_USER,
    WRONG_PASSWORD,
    REQUIRED_PASSWORD,
    IP_ADDRESS_NOT_ALLOWED,
    DATABASE_ACCESS_DENIED,
    SETTING_CONSTRAINT_VIOLATION,
    ACCESS_DENIED,
    AUTHENTICATION_FAILED,
];

/// Network, time-outs, too many queries, too many parts, locks, concurrent ALTER, the server's own ZooKeeper.
const TRANSIENT: &[u32] = &[
    UNEXPECTED_END_OF_FILE,
    ATTEMPT_TO_READ_AFTER_EOF,
    CANNOT_READ_ALL_DATA,
    CANNOT_READ_FROM_FILE_DESCRIPTOR,
    CANNOT_WRITE_TO_FILE_DESCRIPTOR,
    CANNOT_READ_FROM_SOCKET,
    CANNOT_WRITE_TO_SOCKET,
    UNKNOWN_PACKET_FROM_CLIENT,
    UNKNOWN_PACKET_FROM_SERVER,
    UNEXPECTED_PACKET_FROM_CLIENT,
    UNEXPECTED_PACKET_FROM_SERVER,
    TIMEOUT_EXCEEDED,
    DNS_ERROR,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    NO_FREE_CONNECTION,
    SOCKET_TIMEOUT,
    NETWORK_ERROR,
    NO_ZOOKEEPER,
    ABORTED,
    TABLE_IS_READ_ONLY,
    NOT_ENOUGH_SPACE,
    TOO_MANY_PARTS,
    ALL_CONNECTION_TRIES_FAILED,
    TOO_FEW_LIVE_REPLICAS,
    UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE,
    UNKNOWN_STATUS_OF_INSERT,
    BARRIER_TIMEOUT,
    QUERY_WAS_CANCELLED,
    DEADLOCK_AVOIDED,
    CANNOT_ASSIGN_ALTER,
    KEEPER_EXCEPTION,
];

/// Files that cannot be opened or are missing, and wrong checksums or data: a fault of this replica.
const DAMAGED: &[u32] = &[
    CHECKSUM_DOESNT_MATCH,
    CANNOT_OPEN_FILE,
    CANNOT_TRUNCATE_FILE,
    FILE_DOESNT_EXIST,
    INCORRECT_DATA,
    NO_FILE_IN_DATA_PART,
    CORRUPTED_DATA,
    CANNOT_DECOMPRESS,
];

impl Error {
    /// Returns the server's error code, if the server answered.
    pub fn code(&self) -> Option<u32> {
        match &self.kind {
            Kind::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns whether the node could not be reached at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Network(_) | Kind::Tls(_) | Kind::Timeout(_) | Kind::Stalled(_))
    }

    /// Returns whether the account may not do this (wrong password, database denied, read-only, no grant).
    pub(crate) fn is_denied(&self) -> bool {
        self.code().is_some_and(|code| DENIED.contains(&code))
    }

    /// Returns whether the server is overloaded: too many statements run there (code 202), or its merges must catch
    /// up first (code 252). An INSERT of more partitions than `max_partitions_per_insert_block` allows has code 252
    /// too, but waiting does not help it; only the message text distinguishes the two.
    pub(crate) fn is_overload(&self) -> bool {
        match &self.kind {
            Kind::Server { code: TOO_MANY_SIMULTANEOUS_QUERIES, .. } => true,
            Kind::Server { code: TOO_MANY_PARTS, message } => !message.contains("INSERT block"),
            _ => false,
        }
    }

    /// Returns the remedy, by the server's code and not by its message.
    pub(crate) fn remedy(&self) -> Remedy {
        match &self.kind {
            Kind::Network(_) | Kind::Timeout(_) | Kind::Stalled(_) => Remedy::Retry,
            // A certificate does not become valid by itself; another replica's may be valid.
            Kind::Tls(_) => Remedy::Elsewhere,
            Kind::Answer(_) => Remedy::GiveUp,
            Kind::Server { code, .. } => match *code {
                code if TRANSIENT.contains(&code) => Remedy::Retry,
                // A staging table that no longer exists: the next attempt creates it again.
                UNKNOWN_TABLE | TABLE_IS_DROPPED | DATABASE_NOT_EMPTY => Remedy::Retry,
                MEMORY_LIMIT_EXCEEDED => Remedy::Smaller,
                code if DAMAGED.contains(&code) => Remedy::Elsewhere,
                _ => Remedy::GiveUp,
            },
        }
    }

    /// Returns the error as text without its node, for a message that names the node by itself.
    pub(crate) fn without_node(&self) -> String {
        format!("{}: {}", self.doing, self.reason())
    }

    /// Returns the cause, with what the user can do about it.
    pub(crate) fn reason(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{} ({advice})", self.kind),
            None => self.kind.to_string(),
        }
    }

    /// Returns what the user can do about it.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.code()? {
            UNKNOWN_FUNCTION if self.kind.to_string().contains("remoteSecure") => {
                "servers before 19.1 cannot speak TLS to others: leave <secure> out on the other side, or write another \
                 <transfer>"
            }
            UNKNOWN_USER | WRONG_PASSWORD | REQUIRED_PASSWORD | AUTHENTICATION_FAILED => {
                "check user and password of this replica in the task"
            }
            DATABASE_ACCESS_DENIED | ACCESS_DENIED => "the account needs access to this database",
            READONLY => "the account may only read",
            TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT => {
                "raise max_partition_size_to_drop and max_table_size_to_drop on this server"
            }
            CANNOT_WRITE_TO_FILE_DESCRIPTOR | NOT_ENOUGH_SPACE => "if its disk is full, free space there",
            NO_ZOOKEEPER | TABLE_IS_READ_ONLY | KEEPER_EXCEPTION => {
                "is this server's own ZooKeeper in order? See system.replicas there"
            }
            code if DAMAGED.contains(&code) => "CHECK TABLE on this server tells which part is damaged",
            TOO_MANY_PARTS if self.is_overload() => "its merges must catch up first",
            TOO_MANY_SIMULTANEOUS_QUERIES => "lower --max-statements-per-server, or raise max_concurrent_queries there",
            MEMORY_LIMIT_EXCEEDED => "lower batch_bytes, or raise max_memory_usage in the settings of the task",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_decides_its_remedy() {
        let error = |code| Error {
            node: "n".into(),
            doing: "cannot".into(),
            kind: Kind::Server { code, message: "words that say nothing".into() },
        };
        // network and time-outs, too busy, too many parts, locks, the server's own ZooKeeper
        for code in [159, 209, 210, 279, 202, 252, 473, 517, 999, 242, 225] {
            assert_eq!(error(code).remedy(), Remedy::Retry, "{code}");
        }
        assert_eq!(error(241).remedy(), Remedy::Smaller);
        for code in [40, 107, 246] {
            assert_eq!(error(code).remedy(), Remedy::Elsewhere, "{code}");
        }
        // an unknown column, a syntax error, a wrong password, a setting that is not known, a limit of the task
        for code in [47, 62, 193, 516, 115, 158] {
            assert_eq!(error(code).remedy(), Remedy::GiveUp, "{code}");
        }
    }

    #[test]
    fn an_overloaded_server_is_distinguished_from_a_limit_of_one_insert() {
        let is_overload = |code, message: &str| {
            let kind = Kind::Server { code, message: message.into() };
            Error { node: "n".into(), doing: "cannot".into(), kind }.is_overload()
        };
        assert!(is_overload(252, "Too many parts (300). Merges are processing significantly slower than inserts."));
        assert!(is_overload(202, "Too many simultaneous queries. Maximum: 100"));
        assert!(!is_overload(252, "Too many partitions for single INSERT block (more than 100)."));
        assert!(!is_overload(241, "Memory limit exceeded"));
    }

    #[test]
    fn an_error_reads_as_one_sentence() {
        let error = Error {
            node: "10.0.0.1:9000".into(),
            doing: "cannot read table d.t".into(),
            kind: Kind::Server { code: 193, message: "Wrong password for user u".into() },
        };
        assert_eq!(
            error.to_string(),
            "10.0.0.1:9000: cannot read table d.t: code 193: Wrong password for user u \
             (check user and password of this replica in the task)"
        );
    }
}
