//! What a server, or the way to it, answered instead of what was asked.

use std::time::Duration;

/// A request to a node that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{node}: {doing}: {}", self.reason())]
pub struct Error {
    /// The node that was asked.
    pub node: String,
    /// What was asked, as "cannot read the partitions of d.t".
    pub doing: String,
    /// What came of it.
    pub kind: Kind,
}

/// What came of a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Kind {
    /// The server answered with an error.
    #[error("code {code}: {message}")]
    Server {
        /// ClickHouse's error code.
        code: u32,
        /// The first line of its message.
        message: String,
    },
    /// No connection, or it broke.
    #[error("no answer: {0}")]
    Network(String),
    /// TLS came to nothing: the text says why, and what to do.
    #[error("no answer: {0}")]
    Tls(String),
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Nothing has moved for this long.
    #[error(
        "nothing has moved for {} s: no row was read or written, and no byte arrived. Look at the network between the servers, at their \
         disks, and at system.processes there. --stall-timeout says how long that may take", .0.as_secs()
    )]
    Stalled(Duration),
    /// An answer that we do not understand.
    #[error("answer not understood: {0}")]
    Answer(String),
}

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same again, a little later.
    Retry,
    /// The same with fewer rows at once.
    Smaller,
    /// The same on another replica: what this one has is damaged or missing.
    Elsewhere,
    /// Nothing that we could do: a person must.
    GiveUp,
}

impl Error {
    /// The server's code, when the server answered.
    pub fn code(&self) -> Option<u32> {
        match &self.kind {
            Kind::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the node could not be spoken to at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Network(_) | Kind::Tls(_) | Kind::Timeout(_) | Kind::Stalled(_))
    }

    /// Whether the account may not do this (wrong password, database denied, read-only, no grant).
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(164 | 192 | 193 | 194 | 195 | 291 | 452 | 497 | 516))
    }

    /// Whether the server asks for time: too many statements run there (code 202), or its merges must catch up first (code 252). An INSERT
    /// of more partitions than `max_partitions_per_insert_block` allows has code 252 too, and waiting does not help it; only the words tell.
    pub fn is_overload(&self) -> bool {
        match &self.kind {
            Kind::Server { code: 202, .. } => true,
            Kind::Server { code: 252, message } => !message.contains("INSERT block"),
            _ => false,
        }
    }

    /// What to do, by the server's code and not by its words.
    pub fn remedy(&self) -> Remedy {
        match &self.kind {
            Kind::Network(_) | Kind::Timeout(_) | Kind::Stalled(_) => Remedy::Retry,
            // A certificate does not mend by itself; that of another replica may be good.
            Kind::Tls(_) => Remedy::Elsewhere,
            Kind::Answer(_) => Remedy::GiveUp,
            Kind::Server { code, .. } => match code {
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
                | 999 => Remedy::Retry,
                // a staging table that is not there any more: made again by the next attempt
                60 | 218 | 219 => Remedy::Retry,
                241 => Remedy::Smaller,
                // files that cannot be opened or are not there, checksums and data that do not fit: this replica's own
                40 | 76 | 88 | 107 | 117 | 226 | 246 | 271 => Remedy::Elsewhere,
                _ => Remedy::GiveUp,
            },
        }
    }

    /// What came of it, with what a person can do about it.
    pub fn reason(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{} ({advice})", self.kind),
            None => self.kind.to_string(),
        }
    }

    /// What a person can do about it.
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
            225 | 242 | 999 => "is this server's own ZooKeeper in order? See system.replicas there",
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
        let of = |code| Error {
            node: "n".into(),
            doing: "cannot".into(),
            kind: Kind::Server { code, message: "words that say nothing".into() },
        };
        // network and time-outs, too busy, too many parts, locks, the server's own ZooKeeper
        for code in [159, 209, 210, 279, 202, 252, 473, 517, 999, 242, 225] {
            assert_eq!(of(code).remedy(), Remedy::Retry, "{code}");
        }
        assert_eq!(of(241).remedy(), Remedy::Smaller);
        for code in [40, 107, 246] {
            assert_eq!(of(code).remedy(), Remedy::Elsewhere, "{code}");
        }
        // an unknown column, a syntax error, a wrong password, a setting that is not known, a limit of the task
        for code in [47, 62, 193, 516, 115, 158] {
            assert_eq!(of(code).remedy(), Remedy::GiveUp, "{code}");
        }
    }

    #[test]
    fn a_server_that_asks_for_time_is_told_from_a_limit_of_one_insert() {
        let of = |code, message: &str| {
            let kind = Kind::Server { code, message: message.into() };
            Error { node: "n".into(), doing: "cannot".into(), kind }.is_overload()
        };
        assert!(of(252, "Too many parts (300). Merges are processing significantly slower than inserts."));
        assert!(of(202, "Too many simultaneous queries. Maximum: 100"));
        assert!(!of(252, "Too many partitions for single INSERT block (more than 100)."));
        assert!(!of(241, "Memory limit exceeded"));
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
