//! How long a request may take.
//!
//! Most have a time limit. What reads a table, or moves parts, may take as long as it needs, as long as it moves something: it is looked at
//! on its server, and ended there when it has moved nothing for the limit of [`Limits::stall`](super::Limits::stall).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::model::Node;

use super::super::{Course, Error, Kind, Look, ServerClient, Verdict, Watch, look_every};
use super::permits::Share;
use super::{HttpServerClient, QUICK, SHORT};

/// What bounds a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// This much time.
    Within(Duration),
    /// A count, whose ids begin like this: as long as it moves.
    Count(&'a str),
    /// A statement on partitions with this id: as long as it moves.
    Parts(&'a str),
    /// A statement of a transfer. The caller decides how long the transfer may take.
    Transfer {
        /// The id of the statement.
        query_id: &'a str,
        /// What this process knows of the transfer.
        course: &'a Course,
    },
}

impl Bound<'_> {
    /// The share of the permits that the request has.
    pub(super) fn share(&self) -> Share {
        match self {
            Self::Within(limit) if *limit <= QUICK => Share::Control,
            Self::Within(limit) if *limit <= SHORT => Share::Question,
            Self::Within(_) | Self::Count(_) => Share::Count,
            Self::Parts(_) | Self::Transfer { .. } => Share::Transfer,
        }
    }

    /// The id of its statement, where it has one of its own.
    pub(super) fn query_id(&self) -> Option<&str> {
        match self {
            Self::Within(_) | Self::Count(_) => None,
            Self::Parts(id) | Self::Transfer { query_id: id, .. } => Some(id),
        }
    }
}

/// How long a question may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// This much time.
    Within(Duration),
    /// As long as it moves: it reads a table.
    Moving,
}

impl From<Duration> for Limit {
    fn from(limit: Duration) -> Self {
        Self::Within(limit)
    }
}

impl Limit {
    /// The time for what is asked before the question itself.
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
    /// Does some work within its bound.
    pub(super) async fn within<T, E>(
        &self,
        (node, doing): (&Node, &str),
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

    /// Returns when statements with ids that begin like this have moved nothing for too long. They are ended then.
    async fn until_stalled(&self, node: &Node, id: &str) -> Duration {
        let mut watch = Watch::new(self.stall, Instant::now());
        loop {
            sleep(look_every(self.stall)).await;
            // A node that does not answer shows no progress.
            let running = self.running(node, id).await.ok();
            let statements: BTreeMap<_, _> = running.into_iter().map(|running| (node.address(), running)).collect();
            let look = Look { statements, bytes: 0, waits: false };
            if let Verdict::Stalled(still) = watch.judge(&look, Instant::now()) {
                if let Err(error) = self.kill(node, id).await {
                    tracing::warn!(node = error.node, "{error}; the statement {id} may go on there");
                }
                return still;
            }
        }
    }
}
