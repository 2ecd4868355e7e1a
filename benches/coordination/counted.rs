//! A coordinator that counts what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use clickhouse_copier::coordinator::{Change, Coordinator, Error, Op, Session, Stored};

/// What was asked.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sessions that were made: one for each worker, unless some were lost.
    pub sessions: AtomicU64,
    /// Nodes and lists of children that were read.
    pub reads: AtomicU64,
    /// Bytes of the nodes that were read.
    pub read_bytes: AtomicU64,
    /// Commits, whatever came of them.
    pub commits: AtomicU64,
    /// Those that somebody else was faster than.
    pub conflicts: AtomicU64,
    /// Their steps.
    pub steps: AtomicU64,
    /// Bytes of data and names in them.
    pub bytes: AtomicU64,
    /// Microseconds that their answers took.
    pub micros: AtomicU64,
    /// Microseconds after the start when the first piece was claimed.
    pub first_claim: AtomicU64,
}

impl Counts {
    fn read(&self, nodes: usize, bytes: usize) {
        self.reads.fetch_add(nodes as u64, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counts for all workers together.
pub struct Counted {
    /// The coordinator itself.
    pub inner: Arc<dyn Coordinator>,
    /// What was asked of it.
    pub counts: Arc<Counts>,
    /// When all began.
    pub started: Instant,
}

struct CountedSession {
    inner: Arc<dyn Session>,
    counts: Arc<Counts>,
    started: Instant,
}

#[async_trait]
impl Coordinator for Counted {
    async fn session(&self) -> Result<Arc<dyn Session>, Error> {
        let inner = self.inner.session().await?;
        self.counts.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(CountedSession { inner, counts: self.counts.clone(), started: self.started }))
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

fn size(stored: &Option<Stored>) -> usize {
    stored.as_ref().map_or(0, |stored| stored.data.len())
}

#[async_trait]
impl Session for CountedSession {
    fn id(&self) -> String {
        self.inner.id()
    }

    async fn get(&self, path: &str) -> Result<Option<Stored>, Error> {
        let found = self.inner.get(path).await?;
        self.counts.read(1, size(&found));
        Ok(found)
    }

    async fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Stored>>, Error> {
        let found = self.inner.get_many(paths).await?;
        self.counts.read(paths.len(), found.iter().map(size).sum());
        Ok(found)
    }

    async fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        self.counts.read(1, 0);
        self.inner.children(path).await
    }

    async fn watch(&self, path: &str) -> Result<(Option<Stored>, Change), Error> {
        self.counts.read(1, 0);
        self.inner.watch(path).await
    }

    async fn watch_children(&self, path: &str) -> Result<(Option<Vec<String>>, Change), Error> {
        self.counts.read(1, 0);
        self.inner.watch_children(path).await
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        let counts = &self.counts;
        let size = |op: &Op| match op {
            Op::Create { path, data, .. } | Op::Set { path, data, .. } => path.len() + data.len(),
            Op::Delete { path, .. } | Op::Check { path, .. } => path.len(),
        };
        counts.commits.fetch_add(1, Ordering::Relaxed);
        counts.steps.fetch_add(ops.len() as u64, Ordering::Relaxed);
        counts.bytes.fetch_add(ops.iter().map(size).sum::<usize>() as u64, Ordering::Relaxed);
        if ops.iter().any(|op| matches!(op, Op::Create { path, .. } if path.contains("/claims/t"))) {
            let now = self.started.elapsed().as_micros() as u64;
            let _ = counts.first_claim.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
        let asked = Instant::now();
        let answer = self.inner.commit(ops).await;
        counts.micros.fetch_add(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
        if matches!(answer, Err(Error::Conflict { .. })) {
            counts.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn lost(&self) -> Error {
        self.inner.lost().await
    }

    fn is_lost(&self) -> bool {
        self.inner.is_lost()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
