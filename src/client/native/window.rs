//! The received bytes of a stream that were not used yet.

use bytes::{Buf, Bytes, BytesMut};

use super::streams::{DealError, Inlet};

/// The largest length of a varint in bytes.
const VARINT: usize = 10;

pub(super) struct Window<I> {
    inlet: I,
    bytes: Bytes,
}

impl<I: Inlet> Window<I> {
    pub(super) fn new(inlet: I) -> Self {
        Self { inlet, bytes: Bytes::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Waits for more bytes and appends them; returns `false` at the end of the stream.
    pub(super) async fn more(&mut self) -> Result<bool, DealError<I::Error>> {
        loop {
            match self.inlet.next().await.map_err(DealError::Stream)? {
                None => return Ok(false),
                Some(next) if next.is_empty() => {}
                Some(next) if self.bytes.is_empty() => {
                    self.bytes = next;
                    return Ok(true);
                }
                Some(next) => {
                    // The remaining bytes are few: an incomplete value.
                    let mut both = BytesMut::with_capacity(self.bytes.len() + next.len());
                    both.extend_from_slice(&self.bytes);
                    both.extend_from_slice(&next);
                    self.bytes = both.freeze();
                    return Ok(true);
                }
            }
        }
    }

    /// Waits for more bytes; the end of the stream is an error.
    pub(super) async fn require_more(&mut self) -> Result<(), DealError<I::Error>> {
        match self.more().await? {
            true => Ok(()),
            false => Err(DealError::Malformed("the rows end in the middle of a block".into())),
        }
    }

    async fn require(&mut self, count: usize) -> Result<(), DealError<I::Error>> {
        while self.bytes.len() < count {
            self.require_more().await?;
        }
        Ok(())
    }

    /// Takes a number of 8 bytes.
    pub(super) async fn fixed_number(&mut self) -> Result<u64, DealError<I::Error>> {
        self.require(8).await?;
        Ok(self.bytes.get_u64_le())
    }

    /// Returns the inlet, for a question to it.
    pub(super) fn inlet(&mut self) -> &mut I {
        &mut self.inlet
    }

    /// Takes a varint, and appends its bytes to `seen`.
    pub(super) async fn number(&mut self, seen: &mut Vec<u8>) -> Result<u64, DealError<I::Error>> {
        loop {
            match varint(&self.bytes) {
                Varint::Is(number, length) => {
                    seen.extend_from_slice(&self.bytes[..length]);
                    self.bytes.advance(length);
                    return Ok(number);
                }
                Varint::Cut => self.require(self.bytes.len() + 1).await?,
                Varint::None => return Err(DealError::Malformed("there is no number where one must be".into())),
            }
        }
    }

    /// Takes a text of at most `limit` bytes, and appends its bytes to `seen`.
    pub(super) async fn text(&mut self, limit: usize, seen: &mut Vec<u8>) -> Result<Bytes, DealError<I::Error>> {
        let length = self.number(seen).await?;
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let length = length.ok_or_else(|| DealError::Malformed("a name or type is too long to be one".into()))?;
        self.require(length).await?;
        let text = self.bytes.split_to(length);
        seen.extend_from_slice(&text);
        Ok(text)
    }

    /// Returns the rest of the stream, at most `limit` bytes.
    pub(super) async fn rest(mut self, limit: usize) -> Vec<u8> {
        while self.bytes.len() < limit && matches!(self.more().await, Ok(true)) {}
        self.bytes.to_vec()
    }
}

/// The varint at the beginning of some bytes.
pub(super) enum Varint {
    /// A number, and its length in bytes.
    Is(u64, usize),
    /// The beginning of a varint.
    Cut,
    /// No varint.
    None,
}

pub(super) fn varint(bytes: &[u8]) -> Varint {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(VARINT).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Varint::Is(number, at + 1);
        }
    }
    if bytes.len() < VARINT { Varint::Cut } else { Varint::None }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
