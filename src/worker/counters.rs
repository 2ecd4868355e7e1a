//! What a worker has done since it was started, for whoever measures it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts, by many jobs at once. They only grow.
#[derive(Debug, Default)]
pub struct Tally {
    pieces: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    failures: AtomicU64,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Pieces that were copied and recorded so.
    pub pieces: u64,
    /// Rows of them, counted in staging.
    pub rows: u64,
    /// Uncompressed bytes of them, estimated.
    pub bytes: u64,
    /// Batches that were published and recorded so.
    pub batches: u64,
    /// Attempts that failed, at pieces and at publishing.
    pub failures: u64,
}

impl Tally {
    /// A piece was copied.
    pub fn copied(&self, rows: u64, bytes: u64) {
        add(&self.pieces, 1);
        add(&self.rows, rows);
        add(&self.bytes, bytes);
    }

    /// A batch was published.
    pub fn published(&self) {
        add(&self.batches, 1);
    }

    /// An attempt failed.
    pub fn failed(&self) {
        add(&self.failures, 1);
    }

    /// So far.
    pub fn done(&self) -> Done {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Done {
            pieces: read(&self.pieces),
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            batches: read(&self.batches),
            failures: read(&self.failures),
        }
    }
}

/// Nothing else depends on the order in which these are seen.
fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
