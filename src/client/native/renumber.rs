//! Gives each receiver the keys of a dictionary that its values use, with new numbers. Pure, in bounded memory.
//!
//! The key with number 0 stays first for every receiver: for nullable values it means NULL.

use super::shape::Shape;
use super::values::RunPosition;
use super::window::{Varint, varint};

/// The error for a number that is larger than those of the keys.
pub(super) const NO_KEY: &str = "a value has a number that its dictionary does not have";

/// The largest number of values held, and of key numbers for all receivers together: 8 MiB each.
const MAX_VALUES: u64 = 2 << 20;

/// Returns whether sending each receiver only its own keys saves many keys and needs little memory. `counts` are the
/// numbers of values of the receivers.
pub(super) fn is_worth_it(keys: u64, counts: &[u64]) -> bool {
    let receivers = counts.iter().filter(|count| **count > 0).count() as u64;
    let values: u64 = counts.iter().sum();
    let all = keys.saturating_mul(receivers);
    receivers > 1 && all > values && all <= MAX_VALUES && values <= MAX_VALUES
}

/// The keys of a dictionary, as they were written.
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// The end of each key.
    ends: Vec<usize>,
}

impl Keys {
    /// Larger keys are not held.
    pub(super) const MOST_BYTES: usize = 8 << 20;

    /// Splits the bytes of whole keys of a shape.
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

    /// Returns the number of keys.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns a key as it was written; empty if it does not exist.
    pub(super) fn key(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let end = self.ends.get(number).copied();
        start.zip(end).and_then(|(start, end)| self.bytes.get(start..end)).unwrap_or_default()
    }
}

/// The parts of a dictionary for each receiver.
pub(super) struct Renumbering {
    keys: u64,
    parts: Vec<ReceiverPart>,
}

/// A receiver's part of a dictionary.
#[derive(Default)]
pub(super) struct ReceiverPart {
    /// The receiver's number of each key; [`UNUSED`] if it does not use the key.
    numbers: Vec<u32>,
    /// The keys of the receiver, in its order.
    pub(crate) order: Vec<u32>,
    /// The numbers of the receiver's values.
    pub(crate) values: Vec<u32>,
}

const UNUSED: u32 = u32::MAX;

impl Renumbering {
    /// Returns a renumbering for receivers with these numbers of values.
    pub(super) fn new(keys: usize, counts: &[u64]) -> Self {
        let parts = |count: &u64| match (*count, keys) {
            (0, _) | (_, 0) => ReceiverPart::default(),
            _ => {
                let mut numbers = vec![UNUSED; keys];
                numbers[0] = 0;
                ReceiverPart { numbers, order: vec![0], values: Vec::new() }
            }
        };
        Self { keys: keys as u64, parts: counts.iter().map(parts).collect() }
    }

    /// Takes numbers of values from the received bytes. Returns the number of bytes that it took.
    pub(super) fn take<const WIDTH: usize>(
        &mut self,
        bytes: &[u8],
        position: &mut RunPosition,
    ) -> Result<usize, &'static str> {
        let (values, _) = bytes.as_chunks::<WIDTH>();
        let mut at = 0usize;
        while let Some((to, count)) = position.next() {
            let run = &values[at..values.len().min(at.saturating_add(count as usize))];
            if run.is_empty() {
                break;
            }
            let parts = &mut self.parts[to];
            for value in run {
                let number = number_of(value);
                if number >= self.keys {
                    return Err(NO_KEY);
                }
                let known = &mut parts.numbers[number as usize];
                if *known == UNUSED {
                    *known = parts.order.len() as u32;
                    parts.order.push(number as u32);
                }
                parts.values.push(*known);
            }
            at += run.len();
            position.take(run.len() as u64);
        }
        Ok(at * WIDTH)
    }

    /// Returns the part of a receiver.
    pub(super) fn of(&self, to: usize) -> &ReceiverPart {
        &self.parts[to]
    }
}

impl ReceiverPart {
    /// Returns the width of the receiver's numbers: 0 to 2 for 1, 2 or 4 bytes.
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

/// Returns a number from its bytes, lowest byte first.
pub(super) fn number_of<const WIDTH: usize>(bytes: &[u8; WIDTH]) -> u64 {
    bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
}
