//! Counters of the work of a worker since its start, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a worker. Many jobs add to them at once; they only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pieces: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    failures: AtomicU64,
}

/// The values of all counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Pieces that are recorded as copied.
    pub(crate) pieces: u64,
    /// Rows of these pieces, counted in staging.
    pub(crate) rows: u64,
    /// Uncompressed bytes of these pieces, estimated.
    pub(crate) bytes: u64,
    /// Batches that are recorded as published.
    pub(crate) batches: u64,
    /// Failed attempts at pieces and at publications.
    pub(crate) failures: u64,
}

impl Counters {
    /// Counts a copied piece.
    pub(crate) fn copied(&self, rows: u64, bytes: u64) {
        add(&self.pieces, 1);
        add(&self.rows, rows);
        add(&self.bytes, bytes);
    }

    /// Counts a published batch.
    pub(crate) fn published(&self) {
        add(&self.batches, 1);
    }

    /// Counts a failed attempt.
    pub(crate) fn failed(&self) {
        add(&self.failures, 1);
    }

    /// Returns the current totals.
    pub(crate) fn totals(&self) -> Totals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            pieces: read(&self.pieces),
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            batches: read(&self.batches),
            failures: read(&self.failures),
        }
    }
}

/// Adds to a counter. Nothing depends on the order in which other threads see the additions.
fn add(count: &AtomicU64, amount: u64) {
    count.fetch_add(amount, Ordering::Relaxed);
}
