//! Deals LowCardinality columns. Such a column consists of its distinct values, the keys, and the number of a key for
//! each value.
//!
//! # The format
//! Before the values of a column comes a version for each dictionary in its type (8 bytes, always 1). A dictionary
//! then consists of: flags (8 bytes: the width of the numbers, and that keys follow), the number of keys (8 bytes),
//! the keys as values of their ordinary type, the number of values (8 bytes), and for each value the number of its
//! key in 1, 2, 4 or 8 bytes. NULL is the key with number 0. 18.16 and 25.8 use the same format, except for a column
//! of arrays that are all empty: modern servers write nothing, and 18.16 writes a dictionary for no values, which
//! neither 18.16 nor 25.8 can read again.
//!
//! # Why dictionaries are dealt and not cast
//! The SELECT could cast each column to its ordinary type. 25.8 casts back when it inserts such rows; 18.16 does not
//! (code 368, "Bad cast from type DB::ColumnString to DB::ColumnLowCardinality"). The rows would also be larger in
//! transit. Measured on 25.8 with 3,000,000 values in blocks of 65,409, as a dictionary and as a String: 1,000
//! distinct texts of 3 bytes: 6 and 12 MB (compressed 0.3 and 0.2 MB); 20,000 of 25 bytes: 32 and 79 MB (compressed
//! 22 and 60); all distinct: 85 and 79 MB (compressed 66 and 60).
//!
//! # Why the dealt rows are exact
//! Nothing is decoded. If there are few keys per value, each receiver gets all keys of the block and the numbers of
//! its own values, both unchanged. If there are many keys, each receiver would get many that it does not use: then a
//! receiver gets only the keys that its values use ([`renumber`](super::renumber)), as long as they take a bounded
//! amount of memory. Unused keys do no harm: servers write to disk only the keys in use.

use super::deal::Dealer;
use super::renumber::{Keys, NO_KEY, Renumbering, is_worth_it, number_of};
use super::shape::Shape;
use super::streams::{DealError, Inlet, Outlet};
use super::values::{Run, RunPosition, fixed, texts, wide};

/// The only version: the keys come with the numbers that use them.
const VERSION: u64 = 1;

/// The bits of the flags with the width of the numbers: 0 to 3 for 1, 2, 4 or 8 bytes.
const WIDTH: u64 = 0xff;
/// Keys follow. Otherwise they would be in a dictionary shared by several columns, which FORMAT Native does not have.
const KEYS: u64 = 1 << 9;
/// All servers write it together with [`KEYS`]; it has no meaning without a shared dictionary.
const UPDATE: u64 = 1 << 10;
/// The largest number of key numbers that are collected before they are sent.
const MAX_NUMBERS: usize = 1 << 14;

impl<I, O, E> Dealer<'_, I, O>
where
    I: Inlet<Error = E>,
    O: Outlet<Error = E>,
    E: Send,
{
    /// Sends the versions of a column's dictionaries to all receivers with rows in the block.
    pub(super) async fn versions_of_dictionaries(
        &mut self,
        shape: &Shape,
        receives: &[bool],
    ) -> Result<(), DealError<E>> {
        for _ in 0..shape.dictionaries() {
            let version = self.window.fixed_number().await?;
            if version != VERSION {
                return Err(malformed(format!("a dictionary has version {version}, which is not known")));
            }
            self.append_number(receives, |_| VERSION);
        }
        Ok(())
    }

    /// Deals a dictionary and its numbers. Receivers without values get nothing.
    pub(super) async fn dictionary(&mut self, keys: &Shape, runs: &[Run]) -> Result<(), DealError<E>> {
        let mut counts = vec![0u64; self.ready.len()];
        runs.iter().for_each(|run| counts[run.to] += run.count);
        let values: u64 = counts.iter().sum();
        if values == 0 && !self.window.inlet().writes_empty_dictionaries().await.map_err(DealError::Stream)? {
            return Ok(());
        }
        let flags = self.window.fixed_number().await?;
        let width = match flags & WIDTH {
            width @ 0..=3 if flags & !WIDTH & !UPDATE == KEYS => 1 << width,
            _ => return Err(malformed(format!("a dictionary has the flags {flags:#x}, which are not known"))),
        };
        let number = self.window.fixed_number().await?;
        let receives: Vec<bool> = counts.iter().map(|count| *count > 0).collect();
        let all = [Run { to: 0, count: number }];
        let mut reader = KeyReader { shape: keys, position: RunPosition::new(&all), body: 0 };
        let mut held = Vec::new();
        if is_worth_it(number, &counts) {
            while reader.position.next().is_some() && held.len() <= Keys::MOST_BYTES {
                self.read_keys(&mut reader, &mut held).await?;
            }
            if reader.position.next().is_none() {
                let keys = Keys::new(keys, held).map_err(|why| malformed(why.into()))?;
                return self.renumbered(keys, width, runs, &counts).await;
            }
        }
        self.append_number(&receives, |_| flags);
        self.append_number(&receives, |_| number);
        self.pass_to_all(&held, &receives).await?;
        while reader.position.next().is_some() {
            held.clear();
            self.read_keys(&mut reader, &mut held).await?;
            self.pass_to_all(&held, &receives).await?;
        }
        self.number_of_values(values).await?;
        self.append_number(&receives, |to| counts[to]);
        match width {
            1 => self.each(runs, |bytes, position, ready| numbers::<1>(number, bytes, position, ready)).await,
            2 => self.each(runs, |bytes, position, ready| numbers::<2>(number, bytes, position, ready)).await,
            4 => self.each(runs, |bytes, position, ready| numbers::<4>(number, bytes, position, ready)).await,
            _ => self.each(runs, |bytes, position, ready| numbers::<8>(number, bytes, position, ready)).await,
        }
    }

    /// Deals a dictionary whose keys were read: each receiver gets the keys that its values use.
    async fn renumbered(&mut self, keys: Keys, width: u32, runs: &[Run], counts: &[u64]) -> Result<(), DealError<E>> {
        self.number_of_values(counts.iter().sum()).await?;
        let mut own = Renumbering::new(keys.count(), counts);
        match width {
            1 => self.each(runs, |bytes, position, _| own.take::<1>(bytes, position)).await?,
            2 => self.each(runs, |bytes, position, _| own.take::<2>(bytes, position)).await?,
            4 => self.each(runs, |bytes, position, _| own.take::<4>(bytes, position)).await?,
            _ => self.each(runs, |bytes, position, _| own.take::<8>(bytes, position)).await?,
        }
        for to in (0..counts.len()).filter(|to| counts[*to] > 0) {
            let own = own.of(to);
            for number in [KEYS | UPDATE | own.width(), own.order.len() as u64] {
                self.ready[to].extend_from_slice(&number.to_le_bytes());
            }
            for key in &own.order {
                self.ready[to].extend_from_slice(keys.key(*key));
                self.pass_on(to, self.buffer_limit).await?;
            }
            self.ready[to].extend_from_slice(&counts[to].to_le_bytes());
            for part in own.values.chunks(MAX_NUMBERS) {
                own.put(part, &mut self.ready[to]);
                self.pass_on(to, self.buffer_limit).await?;
            }
        }
        Ok(())
    }

    async fn number_of_values(&mut self, values: u64) -> Result<(), DealError<E>> {
        match self.window.fixed_number().await? == values {
            true => Ok(()),
            false => Err(malformed("a dictionary is not used by as many values as there are".into())),
        }
    }

    /// Adds a number to the collected bytes of some receivers.
    fn append_number(&mut self, receives: &[bool], number: impl Fn(usize) -> u64) {
        for (to, ready) in self.ready.iter_mut().enumerate().filter(|(to, _)| receives[*to]) {
            ready.extend_from_slice(&number(to).to_le_bytes());
        }
    }

    /// Reads keys that have arrived, at most one read of the stream.
    async fn read_keys(&mut self, reader: &mut KeyReader<'_>, into: &mut Vec<u8>) -> Result<(), DealError<E>> {
        let length = reader.take(self.window.bytes(), into).map_err(|why| malformed(why.into()))?;
        self.window.advance(length);
        if reader.position.next().is_some() {
            self.window.require_more().await?;
        }
        Ok(())
    }

    /// Sends bytes to each of some receivers.
    async fn pass_to_all(&mut self, bytes: &[u8], receives: &[bool]) -> Result<(), DealError<E>> {
        for to in (0..receives.len()).filter(|to| receives[*to]) {
            self.ready[to].extend_from_slice(bytes);
            self.pass_on(to, self.buffer_limit).await?;
        }
        Ok(())
    }
}

/// A position within the keys of a dictionary.
struct KeyReader<'a> {
    shape: &'a Shape,
    position: RunPosition<'a>,
    /// Bytes of the current text that have not arrived yet.
    body: u64,
}

impl KeyReader<'_> {
    /// Takes keys from the received bytes. Returns the number of bytes that it took.
    fn take(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> Result<usize, &'static str> {
        let into = std::slice::from_mut(into);
        match self.shape {
            Shape::Text => texts(&mut self.body, bytes, &mut self.position, into),
            Shape::Fixed(width) => wide(*width, bytes, &mut self.position, into),
            _ => Err("a dictionary has keys of a type that it cannot have"),
        }
    }
}

/// Takes numbers of keys, each of which must be below the number of keys.
fn numbers<const WIDTH: usize>(
    keys: u64,
    bytes: &[u8],
    position: &mut RunPosition,
    ready: &mut [Vec<u8>],
) -> Result<usize, &'static str> {
    let taken = fixed::<WIDTH>(bytes, position, ready)?;
    let (values, _) = bytes[..taken].as_chunks::<WIDTH>();
    match values.iter().all(|value| number_of(value) < keys) {
        true => Ok(taken),
        false => Err(NO_KEY),
    }
}

fn malformed<E>(why: String) -> DealError<E> {
    DealError::Malformed(why)
}
