//! An independent reader of the receivers' bytes.

use super::*;

/// Reads blocks, and replaces numbers of keys by their values.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (taken, remaining) = self.0.split_at(count);
        self.0 = remaining;
        taken.to_vec()
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn varint(&mut self) -> u64 {
        let mut number = 0;
        for position in 0.. {
            let byte = self.bytes(1)[0];
            number |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.varint() as usize;
        self.bytes(length)
    }

    fn values(&mut self, shape: &Shape, count: usize) -> Vec<Value> {
        match shape {
            Shape::Fixed(width) => (0..count).map(|_| Value::Plain(self.bytes(*width))).collect(),
            Shape::Text => (0..count).map(|_| Value::Text(self.text())).collect(),
            Shape::Nullable(inner) => {
                let nulls = self.bytes(count);
                let nullable = |(null, value): (u8, Value)| {
                    if null > 0 { Value::Null(value.into()) } else { Value::Present(value.into()) }
                };
                nulls.into_iter().zip(self.values(inner, count)).map(nullable).collect()
            }
            Shape::Array(inner) => {
                let ends: Vec<u64> = (0..count).map(|_| self.number()).collect();
                let mut all = self.values(inner, ends.last().copied().unwrap_or(0) as usize).into_iter();
                let mut last = 0;
                ends.into_iter()
                    .map(|end| {
                        Value::Array(all.by_ref().take((end - std::mem::replace(&mut last, end)) as usize).collect())
                    })
                    .collect()
            }
            Shape::Tuple(inner) => {
                let columns: Vec<Vec<Value>> = inner.iter().map(|shape| self.values(shape, count)).collect();
                (0..count).map(|row| Value::Tuple(columns.iter().map(|column| column[row].clone()).collect())).collect()
            }
            Shape::Dictionary(_) if count == 0 => Vec::new(),
            Shape::Dictionary(keys) => {
                let flags = self.number();
                assert_eq!(flags & !0xff, 0x600);
                let number = self.number() as usize;
                let own = self.values(keys, number);
                // NULL is the key with number 0, for every receiver.
                assert_eq!(own[0], key(keys, 0));
                assert_eq!(self.number(), count as u64);
                let number_of =
                    |bytes: Vec<u8>| bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
                let numbers: Vec<usize> = (0..count).map(|_| number_of(self.bytes(1 << (flags & 0xff)))).collect();
                numbers.into_iter().map(|number| own[number].clone()).collect()
            }
        }
    }

    /// Returns the rows of all blocks.
    pub(super) fn rows(&mut self) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        while !self.0.is_empty() {
            assert_eq!(self.varint(), TYPES.len() as u64);
            let count = self.varint() as usize;
            let mut columns = Vec::new();
            for (name, type_name) in names().iter().zip(TYPES) {
                assert_eq!((self.text(), self.text()), (name.clone().into_bytes(), type_name.as_bytes().to_vec()));
                let shape = Shape::of(type_name).unwrap();
                (0..shape.dictionaries()).for_each(|_| assert_eq!(self.number(), 1));
                columns.push(self.values(&shape, count));
            }
            rows.extend((0..count).map(|row| columns.iter().map(|column| column[row].clone()).collect::<Vec<_>>()));
        }
        rows
    }
}

/// Returns a value with the keys of its dictionaries in place of their numbers.
pub(super) fn plain(shape: &Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Dictionary(keys), Value::Key(number)) => key(keys, *number),
        (Shape::Array(inner), Value::Array(elements)) => {
            Value::Array(elements.iter().map(|element| plain(inner, element)).collect())
        }
        (Shape::Tuple(inner), Value::Tuple(elements)) => {
            Value::Tuple(inner.iter().zip(elements).map(|(shape, element)| plain(shape, element)).collect())
        }
        (_, other) => other.clone(),
    }
}
