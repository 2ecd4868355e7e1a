//! Deals rows to receivers: block by block, column by column, as bytes arrive.

use std::ops::Range;

use bytes::Bytes;

use super::shape::Shape;
use super::values::{Ends, Run, RunPosition, fixed, texts, wide};
use super::window::{Window, put_varint};
use super::{DealError, Inlet, Outlet};

/// The type of the column that holds each row's slot.
const SLOT_TYPE: &[u8] = b"UInt32";
/// Bytes that are collected for a receiver before they are sent; fewer with many receivers.
const RECEIVER_BUFFER: usize = 256 << 10;
/// Approximate limit of the bytes collected for all receivers.
const TOTAL_BUFFER: usize = 8 << 20;
/// The largest length of a name or type in bytes.
const LONGEST_NAME: usize = 1 << 20;
/// Bytes of a stream that are kept for an error if the stream holds no rows.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// Deals a stream of rows.
pub(crate) struct Dealer<'a, I, O> {
    pub(super) window: Window<I>,
    outlet: &'a mut O,
    /// The receiver of each slot.
    receivers: Vec<Option<usize>>,
    /// The names of the columns after the slot column.
    columns: &'a [String],
    shapes: Vec<(Bytes, Shape)>,
    pub(super) ready: Vec<Vec<u8>>,
    pub(super) buffer_limit: usize,
}

impl<'a, I, O, E> Dealer<'a, I, O>
where
    I: Inlet<Error = E>,
    O: Outlet<Error = E>,
    E: Send,
{
    /// Returns a dealer for rows with these columns after the slot column. `slots` are the slots of each receiver.
    pub(crate) fn new(inlet: I, outlet: &'a mut O, columns: &'a [String], slots: &[Range<u64>]) -> Self {
        let total = slots.iter().map(|slots| slots.end).max().unwrap_or(0);
        let receiver = |slot| slots.iter().position(|slots| slots.contains(&slot));
        Self {
            window: Window::new(inlet),
            outlet,
            receivers: (0..total).map(receiver).collect(),
            columns,
            shapes: Vec::new(),
            ready: slots.iter().map(|_| Vec::new()).collect(),
            buffer_limit: RECEIVER_BUFFER.min(TOTAL_BUFFER / slots.len().max(1)),
        }
    }

    /// Deals all rows of the stream, and sends all collected bytes at the end.
    ///
    /// Back-pressure: it waits for the slowest receiver. It holds a few reads of the stream, about [`TOTAL_BUFFER`]
    /// bytes for the receivers, and the receivers of the rows of one block.
    pub(crate) async fn deal(mut self) -> Result<(), DealError<E>> {
        while !self.window.bytes().is_empty() || self.window.more().await? {
            let mut seen = Vec::new();
            match self.slots_of_block(&mut seen).await {
                Ok(runs) => self.columns_of_block(&runs).await?,
                // An old server writes its error at the beginning of a block.
                Err(DealError::Malformed(_)) => {
                    seen.extend(self.window.rest(MAX_ERROR_BYTES).await);
                    return Err(DealError::NoBlock(seen));
                }
                Err(DealError::Stream(error)) => {
                    seen.extend_from_slice(self.window.bytes());
                    return Err(DealError::CutOff(error, seen));
                }
                Err(other) => return Err(other),
            }
        }
        for to in 0..self.ready.len() {
            self.pass_on(to, 1).await?;
        }
        Ok(())
    }

    /// Reads the head of a block and its first column, and returns the receivers of its rows. Every receiver of rows
    /// gets a head of its own.
    async fn slots_of_block(&mut self, seen: &mut Vec<u8>) -> Result<Vec<Run>, DealError<E>> {
        let columns = self.window.number(seen).await?;
        let rows = self.window.number(seen).await?;
        self.window.text(LONGEST_NAME, seen).await?;
        let type_name = self.window.text(LONGEST_NAME, seen).await?;
        if columns != self.columns.len() as u64 + 1 || type_name != SLOT_TYPE {
            return Err(DealError::Malformed("a block has other columns than were asked for".into()));
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut counts = vec![0u64; self.ready.len()];
        let mut left = rows;
        while left > 0 {
            let (whole, _) = self.window.bytes().as_chunks::<4>();
            let whole = &whole[..whole.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            for slot in whole {
                let slot = u32::from_le_bytes(*slot) as usize;
                let Some(Some(to)) = self.receivers.get(slot).copied() else {
                    return Err(DealError::Malformed(format!("nobody has slot {slot}")));
                };
                counts[to] += 1;
                match runs.last_mut() {
                    Some(last) if last.to == to => last.count += 1,
                    _ => runs.push(Run { to, count: 1 }),
                }
            }
            let length = whole.len();
            left -= length as u64;
            self.window.advance(4 * length);
            if left > 0 {
                self.window.require_more().await?;
            }
        }
        for (ready, count) in self.ready.iter_mut().zip(counts).filter(|(_, count)| *count > 0) {
            put_varint(ready, self.columns.len() as u64);
            put_varint(ready, count);
        }
        Ok(runs)
    }

    async fn columns_of_block(&mut self, runs: &[Run]) -> Result<(), DealError<E>> {
        let mut receives = vec![false; self.ready.len()];
        runs.iter().for_each(|run| receives[run.to] = true);
        for (at, expected) in self.columns.iter().enumerate() {
            let mut seen = Vec::new();
            let name = self.window.text(LONGEST_NAME, &mut seen).await?;
            let type_name = self.window.text(LONGEST_NAME, &mut seen).await?;
            if name != expected.as_bytes() {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(DealError::Malformed(format!("a block has column {name} where {expected} must be")));
            }
            for (ready, _) in self.ready.iter_mut().zip(&receives).filter(|(_, receives)| **receives) {
                ready.extend_from_slice(&seen);
            }
            let shape = self.shape(at, type_name)?;
            // A block without rows has no values, and no version of a dictionary either.
            if !runs.is_empty() {
                self.versions_of_dictionaries(&shape, &receives).await?;
                self.values(&shape, runs).await?;
            }
        }
        Ok(())
    }

    /// Returns the shape of a column's values; its type is the same in each block.
    fn shape(&mut self, at: usize, type_name: Bytes) -> Result<Shape, DealError<E>> {
        if let Some((_, shape)) = self.shapes.get(at).filter(|(known, _)| *known == type_name) {
            return Ok(shape.clone());
        }
        let text = String::from_utf8_lossy(&type_name);
        let shape = Shape::of(&text)
            .ok_or_else(|| DealError::Malformed(format!("values of type {text} cannot be told apart")))?;
        self.shapes.truncate(at);
        // A copy, because a slice of the read buffer would keep the whole buffer in memory.
        self.shapes.push((Bytes::copy_from_slice(&type_name), shape.clone()));
        Ok(shape)
    }

    /// Deals the values of a column, or of the elements in it.
    async fn values(&mut self, shape: &Shape, runs: &[Run]) -> Result<(), DealError<E>> {
        match shape {
            Shape::Fixed(1) => self.each(runs, fixed::<1>).await,
            Shape::Fixed(2) => self.each(runs, fixed::<2>).await,
            Shape::Fixed(4) => self.each(runs, fixed::<4>).await,
            Shape::Fixed(8) => self.each(runs, fixed::<8>).await,
            Shape::Fixed(width) => self.each(runs, |bytes, position, ready| wide(*width, bytes, position, ready)).await,
            Shape::Text => {
                let mut body = 0;
                self.each(runs, |bytes, position, ready| texts(&mut body, bytes, position, ready)).await
            }
            Shape::Nullable(inner) => {
                self.each(runs, fixed::<1>).await?;
                Box::pin(self.values(inner, runs)).await
            }
            Shape::Array(inner) => {
                let mut ends = Ends::new(self.ready.len());
                self.each(runs, |bytes, position, ready| ends.pass(bytes, position, ready)).await?;
                Box::pin(self.values(inner, &ends.elements)).await
            }
            Shape::Tuple(inner) => {
                for shape in inner {
                    Box::pin(self.values(shape, runs)).await?;
                }
                Ok(())
            }
            Shape::Dictionary(keys) => self.dictionary(keys, runs).await,
        }
    }

    /// Calls `eat` with the received bytes until all values are taken. `eat` returns the number of bytes that it
    /// took; an incomplete value at the end stays.
    pub(super) async fn each(
        &mut self,
        runs: &[Run],
        mut eat: impl FnMut(&[u8], &mut RunPosition, &mut [Vec<u8>]) -> Result<usize, &'static str>,
    ) -> Result<(), DealError<E>> {
        let mut position = RunPosition::new(runs);
        while position.next().is_some() {
            let taken = eat(self.window.bytes(), &mut position, &mut self.ready);
            self.window.advance(taken.map_err(|why| DealError::Malformed(why.into()))?);
            for to in 0..self.ready.len() {
                self.pass_on(to, self.buffer_limit).await?;
            }
            if position.next().is_some() {
                self.window.require_more().await?;
            }
        }
        Ok(())
    }

    /// Sends a receiver's collected bytes if there are at least `least` of them.
    pub(super) async fn pass_on(&mut self, to: usize, least: usize) -> Result<(), DealError<E>> {
        if self.ready[to].len() < least {
            return Ok(());
        }
        // The next batch will be about as large.
        let next = Vec::with_capacity(self.buffer_limit + self.buffer_limit / 4);
        let ready = std::mem::replace(&mut self.ready[to], next);
        self.outlet.send(to, ready.into()).await.map_err(DealError::Stream)
    }
}
