//! What a copy took: how fast, how long, and with what. From the records of pieces and batches, so it is the work of all workers
//! and of earlier runs too. Moments are by the clocks of the workers that recorded them.

use crate::report::moment::Moment;

use serde::Serialize;

use crate::plan::TablePlan;
use crate::protocol::{BatchState, TableRecords};

/// Into so many equal stretches of time a copy is cut.
const STRETCHES: u64 = 60;

/// How long the workers did what, in milliseconds of all jobs together: with four pieces in hand, four seconds a second. Only of
/// attempts that succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Waiting until servers were free for another piece.
    pub waiting: u64,
    /// Moving rows into staging tables, and making those.
    pub transferring: u64,
    /// Counting and comparing: what was staged, and what was published.
    pub verifying: u64,
    /// Gathering staged rows, and putting them in place.
    pub publishing: u64,
}

/// How much was copied when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throughput {
    /// When the first piece began that was copied.
    pub began: Moment,
    /// When the last one ended.
    pub ended: Moment,
    /// Milliseconds of each stretch.
    pub stretch: u64,
    /// Uncompressed bytes that were copied in each stretch, estimated: the bytes of a piece are spread over its time.
    pub bytes: Vec<u64>,
}

impl Spent {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, millis)| millis).sum()
    }

    /// With a name for each.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("transferring", self.transferring),
            ("verifying", self.verifying),
            ("publishing", self.publishing),
            ("waiting for servers", self.waiting),
        ]
    }

    pub(super) fn of(by_table: &[TableRecords]) -> Self {
        let mut spent = Self::default();
        for copied in by_table.iter().flat_map(|records| &records.pieces).filter_map(|piece| piece.copied()) {
            spent.waiting += copied.waiting;
            spent.verifying += copied.verifying;
            spent.transferring += copied.millis.saturating_sub(copied.verifying);
        }
        for batch in by_table.iter().flat_map(|records| &records.batches) {
            if let BatchState::Done(published) = &batch.state {
                spent.verifying += published.verifying;
                spent.publishing += published.gathering + published.millis.saturating_sub(published.verifying);
            }
        }
        spent
    }
}

impl Throughput {
    /// `None` where nothing was copied, or no times were recorded.
    pub(super) fn of(plans: &[TablePlan], by_table: &[TableRecords]) -> Option<Self> {
        let mut pieces = Vec::new();
        for (plan, records) in plans.iter().zip(by_table) {
            for (piece, record) in records.pieces.iter().enumerate() {
                if let Some(copied) = record.copied().filter(|copied| copied.began > 0) {
                    pieces.push((copied.began, copied.millis.max(1), plan.bytes_of(piece)));
                }
            }
        }
        Self::of_pieces(&pieces)
    }

    /// Of pieces, each with its beginning, its milliseconds and its bytes.
    fn of_pieces(pieces: &[(u64, u64, u64)]) -> Option<Self> {
        let began = pieces.iter().map(|(began, ..)| *began).min()?;
        let ended = pieces.iter().map(|(began, millis, _)| began + millis).max()?;
        let stretch = (ended - began).div_ceil(STRETCHES).max(1);
        let count = (ended - began).div_ceil(stretch).max(1);
        let mut bytes = vec![0; count as usize];
        for (from, millis, of_piece) in pieces {
            // What was copied of it by then: cut like this the parts add up to the whole.
            let by = |moment: u64| {
                let passed = moment.saturating_sub(*from).min(*millis);
                (u128::from(*of_piece) * u128::from(passed) / u128::from(*millis)) as u64
            };
            let (first, last) = ((from - began) / stretch, (from + millis - began).div_ceil(stretch));
            for at in first..last.min(count) {
                bytes[at as usize] += by(began + (at + 1) * stretch) - by(began + at * stretch);
            }
        }
        Some(Self { began: Moment(began), ended: Moment(ended), stretch, bytes })
    }

    /// Uncompressed bytes a second in each stretch.
    pub fn rates(&self) -> impl Iterator<Item = f64> + '_ {
        self.bytes.iter().map(|bytes| *bytes as f64 * 1000.0 / self.stretch as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_piece_are_spread_over_its_time_and_none_is_lost() {
        let pieces = [(1000, 6000, 600), (4000, 3000, 301), (1000, 1, 7)];
        let throughput = Throughput::of_pieces(&pieces).unwrap();
        assert_eq!((throughput.stretch, throughput.bytes.len()), (100, 60));
        assert_eq!(throughput.bytes.iter().sum::<u64>(), 908);
        assert_eq!((throughput.bytes[0], throughput.bytes[1]), (17, 10));
        assert!((19..=21).contains(&throughput.bytes[40]), "{throughput:?}");
        assert_eq!(throughput.began.to_string(), "1970-01-01T00:00:01.000Z");
        assert_eq!(Throughput::of_pieces(&[]), None);
        assert_eq!(Throughput::of_pieces(&[(5, 1, 9)]).unwrap().bytes, [9]);
    }
}
