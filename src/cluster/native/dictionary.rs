//! LowCardinality on its way: a column that is written as its distinct values, the keys, and the number of a key for each value.
//!
//! # The form
//! Before the values of a column stands a version for each dictionary in its type (8 bytes, always 1). A dictionary is then:
//! flags (8 bytes: the width of the numbers, and that keys follow), the number of keys (8 bytes), the keys as values of their
//! ordinary type, the number of values (8 bytes), and for each value the number of its key in 1, 2, 4 or 8 bytes. NULL is the
//! key with number 0. The same on 18.16 and 25.8, but for a column of arrays that are all empty: modern servers write nothing,
//! 18.16 writes a dictionary for no values, which neither 18.16 nor 25.8 reads again.
//!
//! # Why dictionaries are dealt and not cast away
//! The SELECT could cast each column to its ordinary type. 25.8 casts back when it takes such rows in; 18.16 does not (code 368,
//! "Bad cast from type DB::ColumnString to DB::ColumnLowCardinality"), and the rows would be larger on their way.
//!
//! # Why what is dealt is exact
//! Each receiver gets all keys of the block as they were sent, and the numbers of its own values as they were sent. Nothing is
//! decoded. A key that a receiver does not use costs bytes on the way and nothing in the table: servers write to disk only the
//! keys that are used.

use super::deal::{DealError, Dealer, Inlet, Outlet};
use super::shape::Shape;
use super::values::{Place, Run, fixed, texts, wide};

/// The only version that there is: keys stand with the numbers that use them.
const VERSION: u64 = 1;

/// The bits of the flags that give the width of the numbers: 0 to 3 for 1, 2, 4 or 8 bytes.
const WIDTH: u64 = 0xff;
/// Keys follow. Without, they would be in a dictionary that several columns share, which FORMAT Native has not.
const KEYS: u64 = 1 << 9;
/// Written by all servers along with [`KEYS`]; of no meaning without a shared dictionary.
const UPDATE: u64 = 1 << 10;

impl<I, O, E> Dealer<'_, I, O>
where
    I: Inlet<Error = E>,
    O: Outlet<Error = E>,
    E: Send,
{
    /// Passes on the versions of the dictionaries in a column to all who receive rows of the block.
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
            self.tell(receives, |_| VERSION);
        }
        Ok(())
    }

    /// Deals a dictionary and the numbers that use it. The receivers of no value get nothing.
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
        self.tell(&receives, |_| flags);
        self.tell(&receives, |_| number);
        self.keys(keys, number, &receives).await?;
        if self.window.fixed_number().await? != values {
            return Err(malformed("a dictionary is not used by as many values as there are".into()));
        }
        self.tell(&receives, |to| counts[to]);
        match width {
            1 => self.each(runs, |bytes, place, ready| numbers::<1>(number, bytes, place, ready)).await,
            2 => self.each(runs, |bytes, place, ready| numbers::<2>(number, bytes, place, ready)).await,
            4 => self.each(runs, |bytes, place, ready| numbers::<4>(number, bytes, place, ready)).await,
            _ => self.each(runs, |bytes, place, ready| numbers::<8>(number, bytes, place, ready)).await,
        }
    }

    /// Appends a number to what is ready for some receivers.
    fn tell(&mut self, receives: &[bool], number: impl Fn(usize) -> u64) {
        for (to, ready) in self.ready.iter_mut().enumerate().filter(|(to, _)| receives[*to]) {
            ready.extend_from_slice(&number(to).to_le_bytes());
        }
    }

    /// Passes so many keys on to each of some receivers.
    async fn keys(&mut self, shape: &Shape, number: u64, receives: &[bool]) -> Result<(), DealError<E>> {
        let all = [Run { to: 0, count: number }];
        let mut place = Place::new(&all);
        let mut taken = [Vec::new()];
        let mut body = 0;
        while place.next().is_some() {
            let bytes = self.window.bytes();
            let length = match shape {
                Shape::Text => texts(&mut body, bytes, &mut place, &mut taken),
                Shape::Fixed(width) => wide(*width, bytes, &mut place, &mut taken),
                _ => Err("a dictionary has keys of a type that it cannot have"),
            };
            self.window.advance(length.map_err(|why| malformed(why.into()))?);
            for to in (0..receives.len()).filter(|to| receives[*to]) {
                self.ready[to].extend_from_slice(&taken[0]);
                self.pass_on(to, self.enough).await?;
            }
            taken[0].clear();
            if place.next().is_some() {
                self.window.require_more().await?;
            }
        }
        Ok(())
    }
}

/// Numbers of keys, each of which must be below the number of keys.
fn numbers<const WIDTH: usize>(
    keys: u64,
    bytes: &[u8],
    place: &mut Place,
    ready: &mut [Vec<u8>],
) -> Result<usize, &'static str> {
    let taken = fixed::<WIDTH>(bytes, place, ready)?;
    let (values, _) = bytes[..taken].as_chunks::<WIDTH>();
    let number = |value: &[u8; WIDTH]| value.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    match values.iter().all(|value| number(value) < keys) {
        true => Ok(taken),
        false => Err("a value has a number that its dictionary does not have"),
    }
}

fn malformed<E>(why: String) -> DealError<E> {
    DealError::Malformed(why)
}
