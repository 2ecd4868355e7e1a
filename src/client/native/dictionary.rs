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
//! "Bad cast from type DB::ColumnString to DB::ColumnLowCardinality"). The rows would be larger on their way, too. Measured on 25.8 with
//! 3,000,000 values in blocks of 65,409, as a dictionary and as a String: 1,000 distinct texts of 3 bytes: 6 and 12 MB (packed 0.3 and
//! 0.2 MB); 20,000 of 25 bytes: 32 and 79 MB (packed 22 and 60); all distinct: 85 and 79 MB (packed 66 and 60).
//!
//! # Why what is dealt is exact
//! Nothing is decoded. Where keys are few beside the values, each receiver gets all keys of the block as they were sent, and the
//! numbers of its own values as they were sent. Where keys are many, that would send most of them in vain, to each receiver: then
//! a receiver gets the keys that its values use ([`renumber`](super::renumber)), as long as they take a bounded amount of memory.
//! Keys that a receiver does not use do no harm: servers write to disk only those that are used.

use super::deal::Dealer;
use super::renumber::{Keys, NO_KEY, Renumbering, is_worth_it, number_of};
use super::shape::Shape;
use super::streams::{DealError, Inlet, Outlet};
use super::values::{Place, Run, fixed, texts, wide};

/// The only version that there is: keys stand with the numbers that use them.
const VERSION: u64 = 1;

/// The bits of the flags that give the width of the numbers: 0 to 3 for 1, 2, 4 or 8 bytes.
const WIDTH: u64 = 0xff;
/// Keys follow. Without, they would be in a dictionary that several columns share, which FORMAT Native has not.
const KEYS: u64 = 1 << 9;
/// Written by all servers along with [`KEYS`]; of no meaning without a shared dictionary.
const UPDATE: u64 = 1 << 10;
/// The most numbers of keys that are appended before they are passed on.
const PART: usize = 1 << 14;

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
        let all = [Run { to: 0, count: number }];
        let mut reader = KeyReader { shape: keys, place: Place::new(&all), body: 0 };
        let mut held = Vec::new();
        if is_worth_it(number, &counts) {
            while reader.place.next().is_some() && held.len() <= Keys::MOST_BYTES {
                self.read_keys(&mut reader, &mut held).await?;
            }
            if reader.place.next().is_none() {
                let keys = Keys::new(keys, held).map_err(|why| malformed(why.into()))?;
                return self.renumbered(keys, width, runs, &counts).await;
            }
        }
        self.tell(&receives, |_| flags);
        self.tell(&receives, |_| number);
        self.pass_to_all(&held, &receives).await?;
        while reader.place.next().is_some() {
            held.clear();
            self.read_keys(&mut reader, &mut held).await?;
            self.pass_to_all(&held, &receives).await?;
        }
        self.number_of_values(values).await?;
        self.tell(&receives, |to| counts[to]);
        match width {
            1 => self.each(runs, |bytes, place, ready| numbers::<1>(number, bytes, place, ready)).await,
            2 => self.each(runs, |bytes, place, ready| numbers::<2>(number, bytes, place, ready)).await,
            4 => self.each(runs, |bytes, place, ready| numbers::<4>(number, bytes, place, ready)).await,
            _ => self.each(runs, |bytes, place, ready| numbers::<8>(number, bytes, place, ready)).await,
        }
    }

    /// Deals a dictionary whose keys were read: each receiver gets those that its values use.
    async fn renumbered(&mut self, keys: Keys, width: u32, runs: &[Run], counts: &[u64]) -> Result<(), DealError<E>> {
        self.number_of_values(counts.iter().sum()).await?;
        let mut own = Renumbering::new(keys.count(), counts);
        match width {
            1 => self.each(runs, |bytes, place, _| own.take::<1>(bytes, place)).await?,
            2 => self.each(runs, |bytes, place, _| own.take::<2>(bytes, place)).await?,
            4 => self.each(runs, |bytes, place, _| own.take::<4>(bytes, place)).await?,
            _ => self.each(runs, |bytes, place, _| own.take::<8>(bytes, place)).await?,
        }
        for to in (0..counts.len()).filter(|to| counts[*to] > 0) {
            let own = own.of(to);
            for number in [KEYS | UPDATE | own.width(), own.order.len() as u64] {
                self.ready[to].extend_from_slice(&number.to_le_bytes());
            }
            for key in &own.order {
                self.ready[to].extend_from_slice(keys.key(*key));
                self.pass_on(to, self.enough).await?;
            }
            self.ready[to].extend_from_slice(&counts[to].to_le_bytes());
            for part in own.values.chunks(PART) {
                own.put(part, &mut self.ready[to]);
                self.pass_on(to, self.enough).await?;
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

    /// Appends a number to what is ready for some receivers.
    fn tell(&mut self, receives: &[bool], number: impl Fn(usize) -> u64) {
        for (to, ready) in self.ready.iter_mut().enumerate().filter(|(to, _)| receives[*to]) {
            ready.extend_from_slice(&number(to).to_le_bytes());
        }
    }

    /// Reads keys that have come, one read of the stream at most.
    async fn read_keys(&mut self, reader: &mut KeyReader<'_>, into: &mut Vec<u8>) -> Result<(), DealError<E>> {
        let length = reader.take(self.window.bytes(), into).map_err(|why| malformed(why.into()))?;
        self.window.advance(length);
        if reader.place.next().is_some() {
            self.window.require_more().await?;
        }
        Ok(())
    }

    /// Passes bytes on to each of some receivers.
    async fn pass_to_all(&mut self, bytes: &[u8], receives: &[bool]) -> Result<(), DealError<E>> {
        for to in (0..receives.len()).filter(|to| receives[*to]) {
            self.ready[to].extend_from_slice(bytes);
            self.pass_on(to, self.enough).await?;
        }
        Ok(())
    }
}

/// How far into the keys of a dictionary one is.
struct KeyReader<'a> {
    shape: &'a Shape,
    place: Place<'a>,
    /// How much of the text under way has not come yet.
    body: u64,
}

impl KeyReader<'_> {
    /// Takes keys from what has come. Returns the number of bytes that it took.
    fn take(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> Result<usize, &'static str> {
        let into = std::slice::from_mut(into);
        match self.shape {
            Shape::Text => texts(&mut self.body, bytes, &mut self.place, into),
            Shape::Fixed(width) => wide(*width, bytes, &mut self.place, into),
            _ => Err("a dictionary has keys of a type that it cannot have"),
        }
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
    match values.iter().all(|value| number_of(value) < keys) {
        true => Ok(taken),
        false => Err(NO_KEY),
    }
}

fn malformed<E>(why: String) -> DealError<E> {
    DealError::Malformed(why)
}
