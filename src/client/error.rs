//! Errors of servers and of the connection to them.

use std::time::Duration;

/// The code of an error of the server's own ZooKeeper, also of a path that does not exist.
pub const KEEPER_EXCEPTION: u32 = 999;

/// A request to a node that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{node}: {doing}: {}", self.reason())]
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
pub enum Remedy {
    /// Repeat the request a little later.
    Retry,
    /// Repeat it with fewer rows at once.
    Smaller,
    /// Repeat it on another replica: data on this one is damaged or missing.
    Elsewhere,
    /// No automatic remedy: a person must act.
    GiveUp,
}

impl Error {
    /// Returns the server's error code, if the server answered.
    pub fn code(&self) -> Option<u32> {
        match &self.kind {
            Kind::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Returns whether the node could not be reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Network(_) | Kind::Tls(_) | Kind::Timeout(_) | Kind::Stalled(_))
    }

    /// Returns whether the account may not do this (wrong password, database denied, read-only, no grant).
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(164 | 192 | 193 | 194 | 195 | 291 | 452 | 497 | 516))
    }

    /// Returns whether the server is overloaded: too many statements run there (code 202), or its merges must catch
    /// up first (code 252). An INSERT of more partitions than `max_partitions_per_insert_block` allows has code 252
    /// too, but waiting does not help it; only the message text distinguishes the two.
    pub fn is_overload(&self) -> bool {
        match &self.kind {
            Kind::Server { code: 202, .. } => true,
            Kind::Server { code: 252, message } => !message.contains("INSERT block"),
            _ => false,
        }
    }

    /// Returns the remedy, by the server's code and not by its message.
    pub fn remedy(&self) -> Remedy {
        match &self.kind {
            Kind::Network(_) | Kind::Timeout(_) | Kind::Stalled(_) => Remedy::Retry,
            // A certificate does not become valid by itself; another replica's may be valid.
            Kind::Tls(_) => Remedy::Elsewhere,
            Kind::Answer(_) => Remedy::GiveUp,
            Kind::Server { code, .. } => match *code {
                // network, time-outs, too many queries, too many parts, locks, concurrent ALTER, the server's own ZooKeeper
                3
                | 32
                | 33
                | 74
                | 75
                | 95
                | 96
                | 99..=102
                | 159
                | 198
                | 202
                | 203
                | 209
                | 210
                | 225
                | 236
                | 242
                | 243
                | 252
                | 279
                | 285
                | 286
                | 319
                | 335
                | 394
                | 473
                | 517
                | KEEPER_EXCEPTION => Remedy::Retry,
                // A staging table that no longer exists: the next attempt creates it again.
                60 | 218 | 219 => Remedy::Retry,
                241 => Remedy::Smaller,
                // Files that cannot be opened or are missing, and wrong checksums or data: a fault of this replica.
                40 | 76 | 88 | 107 | 117 | 226 | 246 | 271 => Remedy::Elsewhere,
                _ => Remedy::GiveUp,
            },
        }
    }

    /// Returns the cause, with what the user can do about it.
    pub fn reason(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{} ({advice})", self.kind),
            None => self.kind.to_string(),
        }
    }

    /// Returns what the user can do about it.
    fn advice(&self) -> Option<&'static str> {
        Some(match self.code()? {
            46 if self.kind.to_string().contains("remoteSecure") => {
                "servers before 19.1 cannot speak TLS to others: leave <secure> out on the other side, or write another \
                 <transfer>"
            }
            192..=194 | 516 => "check user and password of this replica in the task",
            291 | 497 => "the account needs access to this database",
            164 => "the account may only read",
            359 => "raise max_partition_size_to_drop and max_table_size_to_drop on this server",
            75 | 243 => "if its disk is full, free space there",
            225 | 242 | KEEPER_EXCEPTION => "is this server's own ZooKeeper in order? See system.replicas there",
            40 | 76 | 88 | 107 | 117 | 226 | 246 | 271 => "CHECK TABLE on this server tells which part is damaged",
            252 if self.is_overload() => "its merges must catch up first",
            202 => "lower --max-statements-per-server, or raise max_concurrent_queries there",
            241 => "lower batch_bytes, or raise max_memory_usage in the settings of the task",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classed_by_the_servers_code() {
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
    fn a_server_that_asks_for_time_is_told_from_a_limit_of_one_insert() {
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
