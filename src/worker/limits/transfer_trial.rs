//! Which of two ways is the faster one here, found out by taking both.
//!
//! Where rows go to several target shards, a server that filters them reads everything once for each shard; a relay reads once
//! and deals, but everything passes through the worker. Which is faster hangs on the servers' disks and processors, on the
//! number of shards and on the network between them and the worker, none of which can be asked. So pieces are relayed at first.
//! Where that is slow, or the table is large, one is not, and the others take the way that moved more bytes a second; now and
//! then the other one is tried again. In all that was measured near the servers, the relay was the faster one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A relay that moves so many bytes (uncompressed) a second for one piece is about as fast as a server can take them in: nothing
/// is to be gained by a trial on a small table.
const FAST: f64 = 64e6;
/// A table with so many pieces is worth a trial in any case.
const MANY: usize = 16;
/// After so many pieces the slower way has another chance.
const AGAIN: u32 = 64;

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Read once, dealt on the way by the worker.
    Dealt,
    /// From server to server, filtered for each shard.
    Filtered,
}

/// What was measured, by index of the table job.
#[derive(Debug, Default)]
pub struct TransferTrials(Mutex<HashMap<usize, Trial>>);

#[derive(Debug, Default)]
struct Trial {
    /// Pieces begun since both ways were measured.
    begun: u32,
    /// Whether a piece was sent to try the other way.
    trying: bool,
    /// Bytes a second for one piece.
    dealt: Option<f64>,
    filtered: Option<f64>,
    /// What was said to be faster.
    said: Option<Manner>,
}

impl TransferTrials {
    fn of<T>(&self, table: usize, ask: impl FnOnce(&mut Trial) -> T) -> T {
        ask(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default())
    }

    /// How the next piece of a table that has so many is to travel.
    pub fn next(&self, table: usize, pieces: usize) -> Manner {
        self.of(table, |trial| match (trial.dealt, trial.filtered) {
            (Some(dealt), Some(filtered)) => {
                trial.begun += 1;
                match (dealt >= filtered) == (trial.begun % AGAIN != 0) {
                    true => Manner::Dealt,
                    false => Manner::Filtered,
                }
            }
            (Some(dealt), None) if !trial.trying && (pieces >= MANY || dealt < FAST) => {
                trial.trying = true;
                Manner::Filtered
            }
            _ => Manner::Dealt,
        })
    }

    /// Takes note of a piece that arrived, of so many bytes. Gives a sentence where that shows which way is faster, or that it is
    /// another one than was thought.
    pub fn note(&self, table: usize, manner: Manner, bytes: u64, took: Duration) -> Option<String> {
        let rate = bytes as f64 / took.as_secs_f64().max(1e-3);
        self.of(table, |trial| {
            let known = match manner {
                Manner::Dealt => &mut trial.dealt,
                Manner::Filtered => &mut trial.filtered,
            };
            // What was measured long ago counts less and less.
            *known = Some(known.map_or(rate, |known| (known + rate) / 2.0));
            let (dealt, filtered) = (trial.dealt?, trial.filtered?);
            let (faster, what, times) = match dealt >= filtered {
                true => (Manner::Dealt, "rows that the worker deals to the target shards travel", dealt / filtered),
                false => {
                    (Manner::Filtered, "rows that the servers filter for each target shard travel", filtered / dealt)
                }
            };
            let news = trial.said.replace(faster) != Some(faster);
            news.then(|| format!("{what} {times:.1} times as fast as the other way"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Manner::{Dealt, Filtered};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MB: u64 = 1_000_000;

    fn taken(trials: &TransferTrials, count: usize, pieces: usize) -> Vec<Manner> {
        (0..count).map(|_| trials.next(0, pieces)).collect()
    }

    #[test]
    fn both_are_tried_and_the_faster_is_taken() {
        let trials = TransferTrials::default();
        assert_eq!(taken(&trials, 3, 1000), [Dealt; 3]);
        assert_eq!(trials.note(0, Dealt, 100 * MB, SECOND), None);
        assert_eq!(taken(&trials, 3, 1000), [Filtered, Dealt, Dealt], "one is enough");
        let said = trials.note(0, Filtered, 300 * MB, SECOND).unwrap();
        assert!(said.contains("filter for each target shard travel 3.0 times as fast"), "{said}");
        assert_eq!(taken(&trials, 3, 1000), [Filtered; 3]);
        // A network that gets better is noticed by the piece that tries it.
        assert_eq!(taken(&trials, 64, 1000).iter().filter(|manner| **manner == Dealt).count(), 1);
        assert!(trials.note(0, Dealt, 2000 * MB, SECOND).unwrap().contains("deals to the target shards"));
        assert_eq!(trials.note(0, Dealt, 2000 * MB, SECOND), None, "it was said");
        assert_eq!(taken(&trials, 3, 1000), [Dealt; 3]);
        assert_eq!(taken(&trials, 64, 1000).iter().filter(|manner| **manner == Filtered).count(), 1);
    }

    #[test]
    fn a_small_table_has_a_trial_only_where_the_relay_is_slow_and_each_table_its_own() {
        let trials = TransferTrials::default();
        trials.note(0, Dealt, 100 * MB, SECOND);
        assert_eq!(taken(&trials, 9, 8), [Dealt; 9]);
        assert_eq!(trials.next(1, 8), Dealt);
        trials.note(1, Dealt, 10 * MB, SECOND);
        assert_eq!(trials.next(1, 8), Filtered);
    }
}
