//! Which of two ways is the faster one here, found out by taking both.
//!
//! Where rows go to several target shards, a server that filters them reads everything once for each shard; a relay reads once
//! and deals, but everything passes through the worker. Which is faster hangs on the servers' disks and processors, on the
//! number of shards and on the network between them and the worker, none of which can be asked. So the first piece of a table
//! is relayed, the second is not, and the others take the way that moved more rows a second; now and then the other one is
//! tried again. A table of few pieces is not worth a trial: it is relayed, which was the faster way in all that was measured.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A table with fewer pieces has no trial.
const FEW: usize = 4;
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
pub struct Pace(Mutex<HashMap<usize, Trial>>);

#[derive(Debug, Default)]
struct Trial {
    begun: u32,
    dealt: Option<f64>,
    filtered: Option<f64>,
    /// What was said to be faster.
    said: Option<Manner>,
}

impl Trial {
    fn faster(&self) -> Option<Manner> {
        let (dealt, filtered) = (self.dealt?, self.filtered?);
        Some(if dealt >= filtered { Manner::Dealt } else { Manner::Filtered })
    }
}

impl Pace {
    fn of<T>(&self, table: usize, ask: impl FnOnce(&mut Trial) -> T) -> T {
        ask(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default())
    }

    /// How the next piece of a table that has so many is to travel.
    pub fn next(&self, table: usize, pieces: usize) -> Manner {
        if pieces < FEW {
            return Manner::Dealt;
        }
        self.of(table, |trial| {
            trial.begun += 1;
            match (trial.begun, trial.faster()) {
                (2, _) => Manner::Filtered,
                (_, None | Some(Manner::Dealt)) if trial.begun % AGAIN != 2 => Manner::Dealt,
                (_, Some(Manner::Filtered)) if trial.begun % AGAIN == 2 => Manner::Dealt,
                _ => Manner::Filtered,
            }
        })
    }

    /// Takes note of a piece that arrived. Gives a sentence where that shows which way is faster, or that it is another one
    /// than was thought.
    pub fn note(&self, table: usize, manner: Manner, rows: u64, took: Duration) -> Option<String> {
        let rate = rows as f64 / took.as_secs_f64().max(1e-3);
        self.of(table, |trial| {
            let known = match manner {
                Manner::Dealt => &mut trial.dealt,
                Manner::Filtered => &mut trial.filtered,
            };
            // What was measured long ago counts less and less.
            *known = Some(known.map_or(rate, |known| (known + rate) / 2.0));
            let faster = trial.faster().filter(|faster| trial.said != Some(*faster))?;
            trial.said = Some(faster);
            let (dealt, filtered) = (trial.dealt.unwrap_or_default(), trial.filtered.unwrap_or_default());
            let (first, second) = match faster {
                Manner::Dealt => ("rows that the worker deals to the target shards travel", dealt / filtered),
                Manner::Filtered => ("rows that the servers filter for each target shard travel", filtered / dealt),
            };
            Some(format!("{first} {second:.1} times as fast as the other way"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(pace: &Pace, count: usize) -> Vec<Manner> {
        (0..count).map(|_| pace.next(0, 1000)).collect()
    }

    #[test]
    fn both_are_tried_and_the_faster_is_taken() {
        use Manner::{Dealt, Filtered};
        let pace = Pace::default();
        assert_eq!(taken(&pace, 4), [Dealt, Filtered, Dealt, Dealt]);
        assert_eq!(pace.note(0, Filtered, 300, SECOND), None);
        let said = pace.note(0, Dealt, 100, SECOND).unwrap();
        assert!(said.contains("filter for each target shard travel 3.0 times as fast"), "{said}");
        assert_eq!(taken(&pace, 3), [Filtered; 3]);
        // A network that gets better is noticed by the piece that tries it.
        let later = taken(&pace, 64);
        assert_eq!(later.iter().filter(|manner| **manner == Dealt).count(), 1);
        assert!(pace.note(0, Dealt, 2000, SECOND).unwrap().contains("deals to the target shards"));
        assert_eq!(pace.note(0, Dealt, 2000, SECOND), None, "it was said");
        assert_eq!(taken(&pace, 3), [Dealt; 3]);
        assert_eq!(taken(&pace, 64).iter().filter(|manner| **manner == Filtered).count(), 1);
    }

    #[test]
    fn a_table_of_few_pieces_has_no_trial_and_each_table_its_own() {
        let pace = Pace::default();
        assert_eq!([1, 2, 3].map(|_| pace.next(1, 3)), [Manner::Dealt; 3]);
        pace.note(0, Manner::Filtered, 300, SECOND);
        pace.note(0, Manner::Dealt, 100, SECOND);
        assert_eq!(
            (pace.next(2, 9), pace.next(2, 9), pace.next(2, 9)),
            (Manner::Dealt, Manner::Filtered, Manner::Dealt)
        );
    }
}
