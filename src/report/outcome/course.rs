//! The speed of a copy over its time. It comes from what is recorded of pieces, so it covers all workers and earlier
//! runs. Moments are by the clocks of the workers that recorded them.

use serde::Serialize;

use super::super::moment::Moment;
use super::super::state::{TableModel, TaskModel};

/// The highest number of equal stretches of time that a copy is cut into.
const MAX_STRETCHES: u64 = 60;

/// The copied bytes over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Throughput {
    /// When the first copied piece began.
    pub(crate) began: Moment,
    /// When the last copied piece ended.
    pub(crate) ended: Moment,
    /// The length of a stretch, in milliseconds.
    pub(crate) stretch: u64,
    /// The uncompressed bytes that were copied in each stretch. This is an estimate: the bytes of a piece are spread
    /// evenly over its time.
    pub(crate) bytes: Vec<u64>,
}

impl Throughput {
    /// Returns `None` if nothing was copied or no times were recorded.
    pub(super) fn of(model: &TaskModel<'_>) -> Option<Self> {
        let pieces = model.tables.iter().flat_map(TableModel::pieces).filter_map(|piece| {
            let copy = piece.copy.as_ref()?;
            Some((copy.began?.0, copy.millis.max(1), piece.bytes))
        });
        Self::of_pieces(&pieces.collect::<Vec<_>>())
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
    pub(crate) fn rates(&self) -> impl Iterator<Item = f64> + '_ {
        self.bytes.iter().map(|bytes| *bytes as f64 * 1000.0 / self.stretch as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_piece_are_spread_over_its_time_and_add_up() {
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
