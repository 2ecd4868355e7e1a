//! Repeats requests that a full server refuses before it starts them.
//!
//! A server reports that by code 202 (`max_concurrent_queries` and similar limits), or closes the connection before
//! it answers (`max_connections`). After a closed connection only a question may be repeated, because a statement may
//! have started. A request that this process could not send because it has too many open files has not started
//! either.
//!
//! A request keeps its permits while it waits: this process sends a full server no more requests than may run there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::super::codes::TOO_MANY_SIMULTANEOUS_QUERIES;
use super::super::{Error, Kind};
use super::answers::{is_connection_gone, is_out_of_descriptors};
use super::permits::Share;
use crate::model::Node;

/// The first and the longest pause; each pause is twice as long as the one before.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long a request waits for a full server.
const FULL_SERVER_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a read of running statements waits. It must be quick, and servers do not limit such reads.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may close connections without an answer before it counts as unreachable.
const CLOSED_TIMEOUT: Duration = Duration::from_secs(6);
/// The shortest time between two log lines about one server.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many statements run there.
    Full,
    /// The connection was closed before an answer.
    Closed,
    /// This process has too many open files.
    NoDescriptor,
}

impl Refusal {
    /// Returns why a request was refused, by the error of its connection.
    pub(super) fn of(error: &clickhouse::error::Error, is_question: bool) -> Option<Self> {
        if is_out_of_descriptors(error) {
            return Some(Self::NoDescriptor);
        }
        (is_question && is_connection_gone(error)).then_some(Self::Closed)
    }

    /// Returns why a request was refused, by the answer of the server.
    pub(super) fn of_answer(answer: &Error, is_question: bool) -> Option<Self> {
        let Kind::Server { code: TOO_MANY_SIMULTANEOUS_QUERIES, message } = &answer.kind else { return None };
        // The limit of a table applies when its rows are read. If another server refused the statement, this one has
        // already started it.
        let may_have_begun = message.contains("for table") || message.contains("eceived from");
        (is_question || !may_have_begun).then_some(Self::Full)
    }

    fn told(self, node: &Node) -> String {
        match self {
            Self::Full => format!(
                "{node}: too many statements run there (code 202); waiting. If that lasts, lower --max-statements-per-server, or \
                 raise max_concurrent_queries there"
            ),
            Self::Closed => {
                format!(
                    "{node}: the server closes connections without an answer; waiting. Has it reached its max_connections?"
                )
            }
            Self::NoDescriptor => {
                "this process has too many files open; waiting. Raise its limit (ulimit -n)".to_owned()
            }
        }
    }
}

/// The waiting time of one request.
pub(super) struct Waiting {
    begun: Option<Instant>,
    pause: Duration,
    share: Share,
}

impl Waiting {
    pub(super) fn new(share: Share) -> Self {
        Self { begun: None, pause: PAUSES[0], share }
    }

    /// Returns how long to wait before the request is repeated; `None` if it has waited long enough.
    pub(super) fn next(&mut self, refusal: Refusal) -> Option<Duration> {
        let patience = match (refusal, self.share) {
            (_, Share::Control) => CONTROL_TIMEOUT,
            (Refusal::Closed, _) => CLOSED_TIMEOUT,
            _ => FULL_SERVER_TIMEOUT,
        };
        if self.begun.get_or_insert_with(Instant::now).elapsed() >= patience {
            return None;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.0));
        self.pause = (self.pause * 2).min(PAUSES[1]);
        Some(pause)
    }
}

/// The time of the last log line about each server.
#[derive(Clone, Default)]
pub(super) struct RefusalLog(Arc<Mutex<HashMap<String, Instant>>>);

impl RefusalLog {
    /// Logs a refusal, unless a line about this server was logged recently.
    pub(super) fn log(&self, node: &Node, refusal: Refusal) {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = told.get(&node.address()).is_some_and(|at| now.duration_since(*at) < LOG_INTERVAL);
        if !recent {
            told.insert(node.address(), now);
            tracing::warn!(node = node.address(), "{}", refusal.told(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use clickhouse::error::Error as ClientError;

    use super::super::answers::Answers;
    use super::*;

    #[test]
    fn a_statement_is_sent_again_only_if_it_has_not_begun() {
        let refusal = |text: &str, is_question| {
            let error = || ClientError::BadResponse(text.to_owned());
            let answered = Answers::default().translated(&Node::new("h"), "cannot", error());
            Refusal::of(&error(), is_question).or_else(|| Refusal::of_answer(&answered, is_question))
        };
        let full = "Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 20";
        assert_eq!(refusal(full, true), Some(Refusal::Full));
        assert_eq!(refusal(full, false), Some(Refusal::Full));
        let remote = "Code: 202. DB::Exception: Received from h:9000. DB::Exception: Too many simultaneous queries";
        assert_eq!(refusal(remote, true), Some(Refusal::Full));
        assert_eq!(refusal(remote, false), None, "the statement had begun");
        let table = "Code: 202. DB::Exception: Too many simultaneous queries for table d.t. Maximum is: 1";
        assert_eq!(refusal(table, false), None);
        assert_eq!(refusal("Code: 60. DB::Exception: no table", true), None);
        let reset = || ClientError::Network(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(Refusal::of(&reset(), true), Some(Refusal::Closed));
        assert_eq!(Refusal::of(&reset(), false), None, "it may have begun");
        let many = ClientError::Network(Box::new(std::io::Error::from_raw_os_error(nix::libc::EMFILE)));
        assert_eq!(Refusal::of(&many, false), Some(Refusal::NoDescriptor));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_server_is_retried_longer_than_one_that_closes_connections() {
        let waits = async |share, refusal| {
            let (mut waiting, begun) = (Waiting::new(share), Instant::now());
            while let Some(pause) = waiting.next(refusal) {
                assert!(pause <= PAUSES[1]);
                tokio::time::sleep(pause).await;
            }
            begun.elapsed()
        };
        assert!(waits(Share::Question, Refusal::Full).await >= FULL_SERVER_TIMEOUT);
        let closed = waits(Share::Question, Refusal::Closed).await;
        assert!(closed >= CLOSED_TIMEOUT && closed < CLOSED_TIMEOUT + PAUSES[1]);
        assert!(waits(Share::Control, Refusal::Full).await < CONTROL_TIMEOUT + PAUSES[1]);
    }
}
