//! The speed and the times of a copy. They come from the records of pieces and batches, so they cover all workers and
//! earlier runs. Moments are by the clocks of the workers that recorded them.

use serde::Serialize;

use crate::plan::TablePlan;
use crate::protocol::{BatchState, TableRecords};
use crate::report::moment::Moment;

/// The highest number of equal stretches of time that a copy is cut into.
const MAX_STRETCHES: u64 = 60;

/// The time that workers spent on each activity, in milliseconds of all jobs together: four pieces at once take four
/// seconds per second. Only successful attempts count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Waiting for servers to be free for another piece.
    pub waiting: u64,
    /// Creating staging tables and moving rows into them.
    pub transferring: u64,
    /// Counting and comparing staged rows and published rows.
    pub verifying: u64,
    /// Gathering staged rows and publishing them.
    pub publishing: u64,
}

/// The copied bytes over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throughput {
    /// When the first copied piece began.
    pub began: Moment,
    /// When the last copied piece ended.
    pub ended: Moment,
    /// The length of a stretch, in milliseconds.
    pub stretch: u64,
    /// The uncompressed bytes that were copied in each stretch. This is an estimate: the bytes of a piece are spread
    /// evenly over its time.
    pub bytes: Vec<u64>,
}

impl Spent {
    /// Returns the sum of all times.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, millis)| millis).sum()
    }

    /// Returns each time with its name.
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
    /// Returns `None` if nothing was copied or no times were recorded.
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

    /// Computes the throughput of pieces, each with its beginning, its milliseconds and its bytes.
    fn of_pieces(pieces: &[(u64, u64, u64)]) -> Option<Self> {
        let began = pieces.iter().map(|(began, ..)| *began).min()?;
        let ended = pieces.iter().map(|(began, millis, _)| began + millis).max()?;
        let stretch = (ended - began).div_ceil(MAX_STRETCHES).max(1);
        let count = (ended - began).div_ceil(stretch).max(1);
        let mut bytes = vec![0; count as usize];
        for (from, millis, piece_bytes) in pieces {
            // Returns the bytes of the piece that were copied by then. The parts add up to all bytes of the piece.
            let copied_by = |moment: u64| {
                let passed = moment.saturating_sub(*from).min(*millis);
                (u128::from(*piece_bytes) * u128::from(passed) / u128::from(*millis)) as u64
            };
            let (first, last) = ((from - began) / stretch, (from + millis - began).div_ceil(stretch));
            for index in first..last.min(count) {
                bytes[index as usize] += copied_by(began + (index + 1) * stretch) - copied_by(began + index * stretch);
            }
        }
        Some(Self { began: Moment(began), ended: Moment(ended), stretch, bytes })
    }

    /// Returns the uncompressed bytes per second in each stretch.
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
