//! The end of a relayed stream of rows: whether the stream is complete, and the error text of a server that failed in
//! the middle.
//!
//! Old servers end a failed stream like a good one, with the error text after the rows (docs/clickhouse-behaviour.md,
//! T8), inside the last compressed frame or after it. Text after Native rows is never taken for rows: the target
//! refuses it. This module finds the text, which says why.

use bytes::{Bytes, BytesMut};

use super::frame::{self, FrameError, HEAD, Head};

/// Bytes that are kept of the end of a stream.
const MAX_KEPT_BYTES: usize = 16 << 10;

/// Takes rows out of frames as they arrive, one frame at a time. It holds one frame and one read of the connection.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    /// The bytes after the last unpacked frame.
    rest: BytesMut,
    /// Whether these bytes are no frame.
    broken: bool,
}

impl Unpacker {
    /// Adds received bytes. If they are no frame, it keeps only their beginning.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = if self.broken { MAX_KEPT_BYTES.saturating_sub(self.rest.len()) } else { bytes.len() };
        self.rest.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Returns the content of the next frame; `None` until it is complete, and if no frame follows.
    pub(super) fn unpack(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.broken {
            return Ok(None);
        }
        match frame::head(&self.rest) {
            Head::Frame { length, .. } if length <= self.rest.len() => {
                Ok(Some(frame::unpack(&self.rest.split_to(length))?.into()))
            }
            Head::Frame { .. } | Head::Cut => Ok(None),
            Head::Absurd => Err(FrameError::Size),
            Head::Other => {
                self.broken = true;
                Ok(None)
            }
        }
    }

    /// Returns the bytes after the last whole frame.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest).freeze()
    }
}

/// Watches a stream in constant memory: its end, or its last frame.
#[derive(Debug)]
pub(super) struct Watch {
    framed: bool,
    /// The last [`MAX_KEPT_BYTES`] bytes of a plain stream; the incomplete frame of a framed one.
    under_way: Vec<u8>,
    /// The last complete frame.
    last: Vec<u8>,
    /// Whether the stream holds something other than frames.
    broken: bool,
}

impl Watch {
    pub(super) fn new(framed: bool) -> Self {
        Self { framed, under_way: Vec::new(), last: Vec::new(), broken: false }
    }

    /// Watches bytes that pass. Returns the number of bytes of rows in them: for a compressed stream, the unpacked
    /// bytes of the frames that end in them.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> usize {
        if !self.framed || self.broken {
            self.keep(bytes);
            return bytes.len();
        }
        let mut unpacked = 0;
        while !bytes.is_empty() {
            let wanted = match frame::head(&self.under_way) {
                Head::Frame { length, .. } => length,
                Head::Cut => HEAD,
                Head::Absurd | Head::Other => {
                    self.broken = true;
                    self.keep(bytes);
                    return unpacked;
                }
            };
            let (now, rest) = bytes.split_at(bytes.len().min(wanted - self.under_way.len()));
            self.under_way.extend_from_slice(now);
            bytes = rest;
            if let Head::Frame { length, size } = frame::head(&self.under_way)
                && length == self.under_way.len()
            {
                std::mem::swap(&mut self.last, &mut self.under_way);
                self.under_way.clear();
                unpacked += size;
            }
        }
        unpacked
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.under_way.extend_from_slice(bytes);
        if self.under_way.len() > 2 * MAX_KEPT_BYTES {
            self.under_way.drain(..self.under_way.len() - MAX_KEPT_BYTES);
        }
    }

    /// Returns whether a stream that ends here is complete, as far as its frames show.
    pub(super) fn is_whole(&self) -> bool {
        !self.framed || (!self.broken && self.under_way.is_empty())
    }

    /// Returns whether [`Unpacker`] supports the last frame.
    pub(super) fn can_be_unpacked(&self) -> bool {
        frame::can_be_unpacked(&self.last)
    }

    /// Returns the error that the stream ends with, if it looks like one.
    pub(super) fn error(&self) -> Option<String> {
        let end = if self.framed && !self.broken && self.under_way.is_empty() {
            frame::unpack_any(&self.last)?
        } else {
            self.under_way.clone()
        };
        let end = String::from_utf8_lossy(&end[end.len().saturating_sub(MAX_KEPT_BYTES)..]).into_owned();
        let text = &end[end.rfind("Code: ")?..];
        text.contains("DB::").then(|| text.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::{METHODS, frame};
    use super::*;

    const NONE: u8 = METHODS[0];
    const LZ4: u8 = METHODS[1];
    const ZSTD: u8 = METHODS[2];
    const TEXT: &str = "Code: 395, e.displayText() = DB::Exception: no, e.what() = DB::Exception\n";

    /// Returns the watch of a stream that arrives in pieces of some length.
    fn watched(framed: bool, stream: &[u8], piece: usize) -> Watch {
        let mut watch = Watch::new(framed);
        stream.chunks(piece).for_each(|bytes| {
            watch.see(bytes);
        });
        watch
    }

    #[test]
    fn an_error_after_the_rows_is_found_inside_and_after_frames() {
        let (rows, failed) = (vec![b'x'; 100_000], [&[b'x'; 1000], TEXT.as_bytes()].concat());
        let plain = [rows.clone(), TEXT.into()].concat();
        let lz4 = [frame(LZ4, &rows), frame(LZ4, &failed)].concat();
        let none = [frame(LZ4, &rows), frame(NONE, &failed)].concat();
        let zstd = [frame(ZSTD, &rows), frame(ZSTD, &failed)].concat();
        // Newer servers write it after the frames.
        let after_frames = [frame(LZ4, &rows), TEXT.into()].concat();
        for (framed, stream, whole) in [
            (false, plain, true),
            (true, lz4, true),
            (true, none, true),
            (true, zstd, true),
            (true, after_frames, false),
        ] {
            for piece in [1, 24, 25, 4096, 1 << 20] {
                let watch = watched(framed, &stream, piece);
                assert_eq!(watch.error().as_deref(), Some(TEXT.trim_end()), "{framed} {piece}");
                assert_eq!(watch.is_whole(), whole, "{framed} {piece}");
            }
        }
    }

    #[test]
    fn rows_are_unpacked_from_frames_and_other_bytes_are_kept() {
        let rows = [vec![b'x'; 100_000], vec![b'y'; 3000]];
        let stream = [frame(LZ4, &rows[0]), frame(NONE, &rows[1]), TEXT.into()].concat();
        for piece in [1, 24, 25, 4096, 1 << 20] {
            let mut unpacker = Unpacker::default();
            let mut out = Vec::new();
            for bytes in stream.chunks(piece) {
                unpacker.take(bytes);
                while let Some(rows) = unpacker.unpack().unwrap() {
                    out.extend(rows);
                }
            }
            assert_eq!(out, rows.concat(), "{piece}");
            assert_eq!(unpacker.rest(), TEXT, "{piece}");
        }
        // A flipped bit of the values: without the checksum, other values would arrive.
        let mut damaged = frame(NONE, &rows[1]);
        *damaged.last_mut().unwrap() ^= 1;
        let mut unpacker = Unpacker::default();
        unpacker.take(&damaged);
        assert_eq!(unpacker.unpack(), Err(FrameError::Checksum));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_not_complete() {
        let stream = [frame(LZ4, &[b'x'; 5000]), frame(ZSTD, b"opaque")].concat();
        assert!(watched(true, &stream, 7).is_whole());
        assert_eq!(watched(true, &stream, 7).error(), None);
        for cut in [1, 10, stream.len() - 20] {
            assert!(!watched(true, &stream[..stream.len() - cut], 7).is_whole(), "{cut}");
        }
    }

    #[test]
    fn bytes_are_counted_after_unpacking() {
        let stream = [frame(LZ4, &[b'x'; 50_000]), frame(NONE, &[b'x'; 700])].concat();
        for piece in [1, 24, 25, 1 << 20] {
            let mut watch = Watch::new(true);
            assert_eq!(stream.chunks(piece).map(|bytes| watch.see(bytes)).sum::<usize>(), 50_700, "{piece}");
        }
        assert_eq!(Watch::new(false).see(&stream), stream.len());
    }

    #[test]
    fn a_long_stream_is_not_kept_in_memory() {
        let watch = watched(false, &vec![b'x'; 10 << 20], 1 << 16);
        assert!(watch.under_way.capacity() < 1 << 18, "{}", watch.under_way.capacity());
    }
}
