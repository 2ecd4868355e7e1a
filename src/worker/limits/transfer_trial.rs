//! The choice between two methods to split rows among target shards, by measurement of both.
//!
//! Where rows go to several target shards, a server that filters them reads all rows once for each shard. A relay reads them once
//! and deals them, but all rows pass through the worker. Which method is faster depends on the disks and processors of the servers, on
//! the number of shards and on the network to the worker, and no query tells these. So the first pieces are relayed. Where the relay
//! is slow, or the table is large, the servers filter one piece; the other pieces take the method that moved more bytes per second.
//! From time to time a piece tries the other method again. In all measurements near the servers, the relay was faster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A relay with this rate for one piece, in uncompressed bytes per second, is about as fast as a server can write. A trial on a small
/// table gains nothing then.
const FAST_RELAY: f64 = 64e6;
/// A table with this many pieces is worth a trial in any case.
const MIN_TRIAL_PIECES: usize = 16;
/// The slower method is tried again each time after this many pieces.
const RETRIAL_INTERVAL: u32 = 64;

/// The two methods to split rows among target shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitMethod {
    /// The worker reads the rows once and deals them to the shards.
    Dealt,
    /// The servers send the rows to each other, and filter them for each shard.
    Filtered,
}

/// The measurements, by index of the table job.
#[derive(Debug, Default)]
pub(crate) struct TransferTrials(Mutex<HashMap<usize, Trial>>);

#[derive(Debug, Default)]
struct Trial {
    /// The number of pieces begun since both methods were measured.
    begun: u32,
    /// Whether a piece that tries the other method has begun.
    trying: bool,
    /// Bytes per second for one piece that the worker deals.
    dealt: Option<f64>,
    /// Bytes per second for one piece that servers filter.
    filtered: Option<f64>,
    /// The method that was last logged as the faster one.
    reported: Option<SplitMethod>,
}

impl TransferTrials {
    fn with_trial<T>(&self, table: usize, action: impl FnOnce(&mut Trial) -> T) -> T {
        action(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default())
    }

    /// Returns the method for the next piece of a table with this number of pieces.
    pub(crate) fn next(&self, table: usize, pieces: usize) -> SplitMethod {
        self.with_trial(table, |trial| match (trial.dealt, trial.filtered) {
            (Some(dealt), Some(filtered)) => {
                trial.begun += 1;
                match (dealt >= filtered) == (trial.begun % RETRIAL_INTERVAL != 0) {
                    true => SplitMethod::Dealt,
                    false => SplitMethod::Filtered,
                }
            }
            (Some(dealt), None) if !trial.trying && (pieces >= MIN_TRIAL_PIECES || dealt < FAST_RELAY) => {
                trial.trying = true;
                SplitMethod::Filtered
            }
            _ => SplitMethod::Dealt,
        })
    }

    /// Records a copied piece, with its uncompressed bytes. Returns a sentence for the log when that shows for the first time which
    /// method is faster, or that the other one is faster now.
    pub(crate) fn note(&self, table: usize, method: SplitMethod, bytes: u64, took: Duration) -> Option<String> {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-3);
        self.with_trial(table, |trial| {
            let known = match method {
                SplitMethod::Dealt => &mut trial.dealt,
                SplitMethod::Filtered => &mut trial.filtered,
            };
            // Old measurements count less and less.
            *known = Some(known.map_or(rate, |known| (known + rate) / 2.0));
            let (dealt, filtered) = (trial.dealt?, trial.filtered?);
            let (faster, what, times) = match dealt >= filtered {
                true => {
                    (SplitMethod::Dealt, "rows that the worker deals to the target shards travel", dealt / filtered)
                }
                false => (
                    SplitMethod::Filtered,
                    "rows that the servers filter for each target shard travel",
                    filtered / dealt,
                ),
            };
            let news = trial.reported.replace(faster) != Some(faster);
            news.then(|| format!("{what} {times:.1} times as fast as the other way"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMethod::{Dealt, Filtered};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MB: u64 = 1_000_000;

    fn methods(trials: &TransferTrials, count: usize, pieces: usize) -> Vec<SplitMethod> {
        (0..count).map(|_| trials.next(0, pieces)).collect()
    }

    #[test]
    fn both_split_methods_are_tried_and_the_faster_is_used() {
        let trials = TransferTrials::default();
        assert_eq!(methods(&trials, 3, 1000), [Dealt; 3]);
        assert_eq!(trials.note(0, Dealt, 100 * MB, SECOND), None);
        assert_eq!(methods(&trials, 3, 1000), [Filtered, Dealt, Dealt], "one is enough");
        let message = trials.note(0, Filtered, 300 * MB, SECOND).unwrap();
        assert!(message.contains("filter for each target shard travel 3.0 times as fast"), "{message}");
        assert_eq!(methods(&trials, 3, 1000), [Filtered; 3]);
        // A piece that tries the other method notices that the network has become faster.
        assert_eq!(methods(&trials, 64, 1000).iter().filter(|method| **method == Dealt).count(), 1);
        assert!(trials.note(0, Dealt, 2000 * MB, SECOND).unwrap().contains("deals to the target shards"));
        assert_eq!(trials.note(0, Dealt, 2000 * MB, SECOND), None, "the method did not change");
        assert_eq!(methods(&trials, 3, 1000), [Dealt; 3]);
        assert_eq!(methods(&trials, 64, 1000).iter().filter(|method| **method == Filtered).count(), 1);
    }

    #[test]
    fn a_small_table_tries_both_split_methods_only_if_its_relay_is_slow() {
        let trials = TransferTrials::default();
        trials.note(0, Dealt, 100 * MB, SECOND);
        assert_eq!(methods(&trials, 9, 8), [Dealt; 9]);
        assert_eq!(trials.next(1, 8), Dealt);
        trials.note(1, Dealt, 10 * MB, SECOND);
        assert_eq!(trials.next(1, 8), Filtered);
    }
}
