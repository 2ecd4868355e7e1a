//! The keys of a dictionary that each receiver's values use, with numbers of their own. Pure, in bounded memory.
//!
//! The key with number 0 stays the first one for everybody: where values may be NULL, it is what tells NULL.

use super::shape::Shape;
use super::values::Place;
use super::window::{Varint, varint};

/// A number that is larger than those of the keys.
pub(super) const NO_KEY: &str = "a value has a number that its dictionary does not have";

/// At most so many values are held, and so many numbers of keys for all receivers together: 8 MiB each.
const MOST: u64 = 2 << 20;

/// Returns whether receivers of so many values each are sent far fewer keys where each is sent its own, and whether that takes little
/// enough memory.
pub(super) fn is_worth_it(keys: u64, counts: &[u64]) -> bool {
    let receivers = counts.iter().filter(|count| **count > 0).count() as u64;
    let values: u64 = counts.iter().sum();
    let all = keys.saturating_mul(receivers);
    receivers > 1 && all > values && all <= MOST && values <= MOST
}

/// The keys of a dictionary, as they were written.
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Keys {
    /// What takes more is not held.
    pub(super) const MOST_BYTES: usize = 8 << 20;

    /// Takes whole keys of a shape apart.
    pub(super) fn new(shape: &Shape, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let mut ends = Vec::new();
        let mut end = 0;
        while end < bytes.len() {
            end += match shape {
                Shape::Fixed(width) => *width,
                _ => match varint(&bytes[end..]) {
                    Varint::Is(length, written) => {
                        usize::try_from(length).unwrap_or(usize::MAX).saturating_add(written)
                    }
                    Varint::Cut | Varint::None => return Err("a key of a dictionary is not whole"),
                },
            };
            if end > bytes.len() {
                return Err("a key of a dictionary is not whole");
            }
            ends.push(end);
        }
        Ok(Self { bytes, ends })
    }

    /// The number of keys.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// A key as it was written; nothing where there is no such key.
    pub(super) fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let end = self.ends.get(number).copied();
        start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

/// What each receiver gets of a dictionary.
pub(super) struct Renumbering {
    keys: u64,
    own: Vec<Own>,
}

/// What a receiver gets.
#[derive(Default)]
pub(super) struct Own {
    /// The receiver's number of each key, [`UNUSED`] where it has none.
    numbers: Vec<u32>,
    /// The keys of the receiver, in its order.
    pub order: Vec<u32>,
    /// The numbers of the receiver's values.
    pub values: Vec<u32>,
}

const UNUSED: u32 = u32::MAX;

impl Renumbering {
    /// For receivers of so many values each.
    pub(super) fn new(keys: usize, counts: &[u64]) -> Self {
        let own = |count: &u64| match (*count, keys) {
            (0, _) | (_, 0) => Own::default(),
            _ => {
                let mut numbers = vec![UNUSED; keys];
                numbers[0] = 0;
                Own { numbers, order: vec![0], values: Vec::new() }
            }
        };
        Self { keys: keys as u64, own: counts.iter().map(own).collect() }
    }

    /// Takes numbers of values from what has come. Returns the number of bytes that it took.
    pub(super) fn take<const WIDTH: usize>(&mut self, bytes: &[u8], place: &mut Place) -> Result<usize, &'static str> {
        let (values, _) = bytes.as_chunks::<WIDTH>();
        let mut at = 0usize;
        while let Some((to, count)) = place.next() {
            let run = &values[at..values.len().min(at.saturating_add(count as usize))];
            if run.is_empty() {
                break;
            }
            let own = &mut self.own[to];
            for value in run {
                let number = number_of(value);
                if number >= self.keys {
                    return Err(NO_KEY);
                }
                let known = &mut own.numbers[number as usize];
                if *known == UNUSED {
                    *known = own.order.len() as u32;
                    own.order.push(number as u32);
                }
                own.values.push(*known);
            }
            at += run.len();
            place.take(run.len() as u64);
        }
        Ok(at * WIDTH)
    }

    /// What a receiver gets.
    pub(super) fn of(&self, to: usize) -> &Own {
        &self.own[to]
    }
}

impl Own {
    /// The width of the receiver's numbers: 0 to 2 for 1, 2 or 4 bytes.
    pub(super) fn width(&self) -> u64 {
        match self.order.len() {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        }
    }

    /// Writes some of the receiver's numbers.
    pub(super) fn put(&self, values: &[u32], out: &mut Vec<u8>) {
        match self.width() {
            0 => out.extend(values.iter().map(|value| *value as u8)),
            1 => out.extend(values.iter().flat_map(|value| (*value as u16).to_le_bytes())),
            _ => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
}

/// A number as it is written, its lowest byte first.
pub(super) fn number_of<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
}
