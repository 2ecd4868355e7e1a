//! What has come of a stream and was not used yet.

use bytes::{Buf, Bytes, BytesMut};

use super::streams::{DealError, Inlet};

/// A varint has at most so many bytes.
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

    /// Waits for more bytes, behind those that are there; `false` at the end of the stream.
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
                    // The rest is short: a value that was cut.
                    let mut both = BytesMut::with_capacity(self.bytes.len() + next.len());
                    both.extend_from_slice(&self.bytes);
                    both.extend_from_slice(&next);
                    self.bytes = both.freeze();
                    return Ok(true);
                }
            }
        }
    }

    /// Waits for more bytes; their end is an error.
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

    /// Takes a number that is written in 8 bytes.
    pub(super) async fn fixed_number(&mut self) -> Result<u64, DealError<I::Error>> {
        self.require(8).await?;
        Ok(self.bytes.get_u64_le())
    }

    /// The inlet, to ask it something.
    pub(super) fn inlet(&mut self) -> &mut I {
        &mut self.inlet
    }

    /// A number, appended to `seen` as it was written.
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

    /// A text of at most `limit` bytes, appended to `seen` as it was written.
    pub(super) async fn text(&mut self, limit: usize, seen: &mut Vec<u8>) -> Result<Bytes, DealError<I::Error>> {
        let length = self.number(seen).await?;
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let length = length.ok_or_else(|| DealError::Malformed("a name or type is too long to be one".into()))?;
        self.require(length).await?;
        let text = self.bytes.split_to(length);
        seen.extend_from_slice(&text);
        Ok(text)
    }

    /// What is left of the stream, up to `limit` bytes of it.
    pub(super) async fn rest(mut self, limit: usize) -> Vec<u8> {
        while self.bytes.len() < limit && matches!(self.more().await, Ok(true)) {}
        self.bytes.to_vec()
    }
}

/// What a text of bytes begins with.
pub(super) enum Varint {
    /// A number, and the length of what it was written in.
    Is(u64, usize),
    /// The beginning of one.
    Cut,
    /// No number.
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
