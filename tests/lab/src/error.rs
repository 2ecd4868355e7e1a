//! Errors of a laboratory.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error: which step failed, where, and why.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or folder of the laboratory could not be made, read or written.
    #[error("{action} {}", path.display())]
    File {
        /// The operation, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// Every block of loopback addresses is leased, or has a foreign listener.
    #[error("no free block of loopback addresses in 127.0.{first}.* … 127.0.{last}.*; the last one tried: {reason}")]
    NoFreeBlock {
        /// First block tried.
        first: u8,
        /// Last block tried.
        last: u8,
        /// Why the last one tried was not free.
        reason: String,
    },
    /// More servers were asked for than a block has addresses.
    #[error("{asked} ClickHouse servers asked for, a block of addresses holds {most}")]
    TooManyServers {
        /// The requested number.
        asked: usize,
        /// The possible number.
        most: usize,
    },
    /// A program is not installed.
    #[error("{program} is not installed: {advice}")]
    Missing {
        /// The program or file.
        program: String,
        /// Advice.
        advice: String,
    },
    /// The packages could not be installed.
    #[error("`{command}` failed:\n{output}")]
    Install {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A server's supervising shell could not be started or did not answer.
    #[error("start the supervisor of {server}")]
    Supervisor {
        /// The server's name.
        server: String,
        /// The cause.
        source: io::Error,
    },
    /// A server ended while it was being started.
    #[error("{server} ended while starting; its logs end with:\n{log}")]
    Died {
        /// The server's name.
        server: String,
        /// The tail of its logs.
        log: String,
    },
    /// A server did not answer in time.
    #[error("{server} did not answer within {waited:?}; its logs end with:\n{log}")]
    NotReady {
        /// The server's name.
        server: String,
        /// The time limit.
        waited: Duration,
        /// The tail of its logs.
        log: String,
    },
    /// A server did not end after SIGTERM; it has been killed.
    #[error("{server} did not end within {waited:?} of SIGTERM and was killed; its logs end with:\n{log}")]
    StillRunning {
        /// The server's name.
        server: String,
        /// The time limit.
        waited: Duration,
        /// The tail of its logs.
        log: String,
    },
    /// A signal was to be sent to a server that does not run.
    #[error("{server} is not running")]
    NotRunning {
        /// The server's name.
        server: String,
    },
    /// A signal could not be sent.
    #[error("send {signal} to {server}")]
    Signal {
        /// The signal's name.
        signal: &'static str,
        /// The server's name.
        server: String,
        /// The cause.
        source: nix::Error,
    },
    /// The server answered a query with an error.
    #[error("{host} answered {status}: {text} to: {sql}")]
    Query {
        /// The server's address.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The server's text, `Code: N, …`.
        text: String,
        /// The statement, shortened.
        sql: String,
    },
    /// A query had no answer, or half of one.
    #[error("ask {host}: {sql}")]
    Http {
        /// The server's address.
        host: String,
        /// The statement, shortened.
        sql: String,
        /// The cause.
        source: Box<ureq::Error>,
    },
}

impl LabError {
    /// ClickHouse's error code, when the server answered with one (`Code: 291, …` → 291).
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let LabError::Query { text, .. } = self else { return None };
        let digits = text.strip_prefix("Code: ")?;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}
