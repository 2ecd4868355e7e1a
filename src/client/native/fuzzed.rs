//! Properties of dealing rows, for fuzzing; see [`crate::fuzzed`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;

use bytes::Bytes;

use super::shape::Shape;
use super::window::{Varint, varint};
use super::{Dealer, Inlet, Outlet, has_dictionary_in_array, is_dealable};

/// The slots of the two receivers.
const SLOTS: [Range<u64>; 2] = [0..1, 1..3];
/// The largest number of columns of an input.
const MOST_COLUMNS: u8 = 16;

/// Checks whether the values of a type can be dealt, given its name.
pub(crate) fn type_name(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    assert!(is_dealable(&text) || !has_dictionary_in_array(&text), "{text:?}");
    if let Some(shape) = Shape::of(&text) {
        assert!(takes_bytes(&shape), "values of {text:?} take no bytes, so that a stream can hold any number of them");
    }
}

/// Returns whether each value takes at least one byte.
fn takes_bytes(shape: &Shape) -> bool {
    match shape {
        Shape::Fixed(width) => *width > 0,
        Shape::Text | Shape::Nullable(_) => true,
        Shape::Array(inner) | Shape::Dictionary(inner) => takes_bytes(inner),
        Shape::Tuple(inner) => !inner.is_empty() && inner.iter().all(takes_bytes),
    }
}

/// Deals rows to two receivers: accepted rows arrive once each, in their order, at the right receiver.
pub(crate) fn native_stream(input: &[u8]) {
    let [how, columns, stream @ ..] = input else { return };
    let is_old = how & 1 == 1;
    let pieces = stream.chunks(usize::from(how >> 1) + 1).map(Bytes::copy_from_slice).collect();
    let columns: Vec<String> = (0..columns % MOST_COLUMNS).map(|number| format!("c{number}")).collect();
    let mut received = Received(vec![Vec::new(); SLOTS.len()]);
    let dealer = Dealer::new(Pieces(pieces, is_old), &mut received, &columns, &SLOTS);
    if futures::executor::block_on(dealer.deal()).is_err() {
        return;
    }
    let sent = Reader { rest: stream, is_old }.rows(&columns, true).unwrap_or_else(|| panic!("{input:?} was dealt"));
    for (slots, received) in SLOTS.iter().zip(received.0) {
        let wanted: Vec<Row> = sent
            .iter()
            .filter(|row| slots.contains(&u64::from(row.slot)))
            .map(|row| Row { slot: 0, ..row.clone() })
            .collect();
        let found = Reader { rest: &received, is_old: false }.rows(&columns, false);
        assert_eq!(found, Some(wanted), "{input:?}");
    }
}

/// A stream in pieces, and whether an old server wrote it.
pub(super) struct Pieces(pub(super) VecDeque<Bytes>, pub(super) bool);

impl Inlet for Pieces {
    type Error = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.pop_front())
    }

    async fn writes_empty_dictionaries(&mut self) -> Result<bool, Infallible> {
        Ok(self.1)
    }
}

/// The bytes that each receiver got.
pub(super) struct Received(pub(super) Vec<Vec<u8>>);

impl Outlet for Received {
    type Error = Infallible;

    async fn send(&mut self, to: usize, bytes: Bytes) -> Result<(), Infallible> {
        self.0[to].extend(bytes);
        Ok(())
    }
}

/// A row for comparison: for each column its type and its value, with keys in place of their numbers.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    slot: u32,
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An independent reader: it decodes values, which dealing does not.
struct Reader<'a> {
    rest: &'a [u8],
    is_old: bool,
}

impl<'a> Reader<'a> {
    fn rows(&mut self, columns: &[String], has_slots: bool) -> Option<Vec<Row>> {
        let mut rows = Vec::new();
        while !self.rest.is_empty() {
            let expected = columns.len() + usize::from(has_slots);
            (self.varint()? == expected as u64).then_some(())?;
            let count = usize::try_from(self.varint()?).ok()?;
            let mut block = vec![Row { slot: 0, values: Vec::new() }; count];
            if has_slots {
                self.text()?;
                (self.text()? == b"UInt32").then_some(())?;
                for row in &mut block {
                    row.slot = u32::from_le_bytes(*self.bytes(4)?.first_chunk()?);
                }
            }
            for column in columns {
                (self.text()? == column.as_bytes()).then_some(())?;
                let type_name = self.text()?;
                let shape = Shape::of(&String::from_utf8_lossy(type_name))?;
                // A block without rows has no values, not even an empty dictionary.
                if count == 0 {
                    continue;
                }
                self.bytes(8 * shape.dictionaries())?;
                for (row, value) in block.iter_mut().zip(self.values(&shape, count)?) {
                    row.values.push((type_name.to_vec(), value));
                }
            }
            rows.extend(block);
        }
        Some(rows)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(8)?.first_chunk()?))
    }

    fn varint(&mut self) -> Option<u64> {
        let Varint::Is(number, length) = varint(self.rest) else { return None };
        self.bytes(length)?;
        Some(number)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// Reads a number of values, in a form in which they can be compared.
    fn values(&mut self, shape: &Shape, count: usize) -> Option<Vec<Vec<u8>>> {
        match shape {
            Shape::Fixed(width) => (0..count).map(|_| self.bytes(*width).map(<[u8]>::to_vec)).collect(),
            Shape::Text => (0..count).map(|_| self.text().map(<[u8]>::to_vec)).collect(),
            Shape::Nullable(inner) => {
                let nulls = self.bytes(count)?;
                let values = self.values(inner, count)?;
                Some(nulls.iter().zip(values).map(|(null, value)| [&[*null], value.as_slice()].concat()).collect())
            }
            Shape::Array(inner) => {
                let ends: Vec<u64> = (0..count).map(|_| self.number()).collect::<Option<_>>()?;
                let all = self.values(inner, usize::try_from(ends.last().copied().unwrap_or(0)).ok()?)?;
                let mut last = 0;
                let array = |end: u64| Some(framed(all.get(std::mem::replace(&mut last, end as usize)..end as usize)?));
                ends.into_iter().map(array).collect()
            }
            Shape::Tuple(inner) => {
                let columns: Vec<_> = inner.iter().map(|shape| self.values(shape, count)).collect::<Option<_>>()?;
                let row = |row: usize| framed(&columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>());
                Some((0..count).map(row).collect())
            }
            Shape::Dictionary(_) if count == 0 && !self.is_old => Some(Vec::new()),
            Shape::Dictionary(keys) => self.dictionary(keys, count),
        }
    }

    fn dictionary(&mut self, keys: &Shape, count: usize) -> Option<Vec<Vec<u8>>> {
        let width = 1 << (self.number()? & 0xff);
        let number = usize::try_from(self.number()?).ok()?;
        let keys = self.values(keys, number)?;
        (self.number()? == count as u64).then_some(())?;
        let value = |_| {
            let number = self.bytes(width)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
            // NULL is the key with number 0.
            Some([&[u8::from(number == 0)], keys.get(number)?.as_slice()].concat())
        };
        (0..count).map(value).collect()
    }
}

/// Joins values with their lengths into one.
fn framed(values: &[Vec<u8>]) -> Vec<u8> {
    let mut all = values.len().to_le_bytes().to_vec();
    for value in values {
        all.extend(value.len().to_le_bytes());
        all.extend(value);
    }
    all
}
