//! Limits the time of requests.
//!
//! Most requests have a time limit. A statement that reads a table or moves parts may take as long as it needs, as
//! long as it makes progress. The client watches it on its server, and kills it after it has moved nothing for the
//! time of [`Limits::stall`](super::Limits::stall).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::{Course, Error, Kind, ServerClient, StallVerdict, TransferObservation, Watch, observation_pause};
use super::permits::Share;
use super::{HttpServerClient, QUICK, SHORT};
use crate::model::Node;

/// The limit of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// A time limit.
    Within(Duration),
    /// A count, whose ids begin with this prefix: no limit while it makes progress.
    Count(&'a str),
    /// A statement on partitions with this id: no limit while it makes progress.
    Parts(&'a str),
    /// A statement of a transfer. The caller decides how long the transfer may take.
    Transfer {
        /// The id of the statement.
        query_id: &'a str,
        /// What this process knows about the transfer.
        course: &'a Course,
    },
}

impl Bound<'_> {
    /// Returns the share of permits that the request uses.
    pub(super) fn share(&self) -> Share {
        match self {
            Self::Within(limit) if *limit <= QUICK => Share::Control,
            Self::Within(limit) if *limit <= SHORT => Share::Question,
            Self::Within(_) | Self::Count(_) => Share::Count,
            Self::Parts(_) | Self::Transfer { .. } => Share::Transfer,
        }
    }

    /// Returns the id of its statement, if it has one of its own.
    pub(super) fn query_id(&self) -> Option<&str> {
        match self {
            Self::Within(_) | Self::Count(_) => None,
            Self::Parts(id) | Self::Transfer { query_id: id, .. } => Some(id),
        }
    }
}

/// The time limit of a question.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// A time limit.
    Within(Duration),
    /// No limit while it makes progress: it reads a table.
    Moving,
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        Self::Within(limit)
    }
}

impl Limit {
    /// Returns the time limit for requests that must precede the question.
    pub(super) fn before(self) -> Duration {
        match self {
            Self::Within(limit) => limit,
            Self::Moving => SHORT,
        }
    }
}

/// Returns an id for a statement that no record names.
pub(super) fn own_id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("clickhouse-copier-{:016x}-{number}", rand::random::<u64>())
}

impl HttpServerClient {
    /// Runs a future within its limit.
    pub(super) async fn within<T, E>(
        &self,
        node: &Node,
        doing: &str,
        bound: Bound<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, Error> {
        let failed = |kind| Error { node: node.to_string(), doing: doing.to_owned(), kind };
        match bound {
            Bound::Transfer { .. } => Ok(work.await),
            Bound::Within(limit) => timeout(limit, work).await.map_err(|_| failed(Kind::Timeout(limit))),
            Bound::Count(id) | Bound::Parts(id) => tokio::select! {
                done = work => Ok(done),
                still = self.until_stalled(node, id) => Err(failed(Kind::Stalled(still))),
            },
        }
    }

    /// Returns after statements whose ids begin with a prefix have moved nothing for too long. It has killed them
    /// then.
    async fn until_stalled(&self, node: &Node, id: &str) -> Duration {
        let mut watch = Watch::new(self.stall, Instant::now());
        loop {
            sleep(observation_pause(self.stall)).await;
            // A node that does not answer shows no progress.
            let running = self.running(node, id).await.ok();
            let statements: BTreeMap<_, _> = running.into_iter().map(|running| (node.address(), running)).collect();
            let observation = TransferObservation { statements, bytes: 0, waits: false };
            if let StallVerdict::Stalled(still) = watch.judge(&observation, Instant::now()) {
                if let Err(error) = self.kill(node, id).await {
                    tracing::warn!(node = error.node, "{error}; the statement {id} may go on there");
                }
                return still;
            }
        }
    }
}
