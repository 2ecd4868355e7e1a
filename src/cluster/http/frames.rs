//! The end of a stream of rows that passes through: whether it is whole, and what a server that failed in the middle wrote
//! there.
//!
//! Old servers end a stream that failed like a good one, with the error's text behind the rows (facts file, T8), within the
//! last compressed frame or without any. Text behind Native rows is never taken for rows: the target refuses it. What is
//! found here says why.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use ruzstd::decoding::StreamingDecoder;

/// A compressed frame: 16 bytes of checksum, the method, both sizes, and the data. ClickHouse's own framing, since ever.
const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const NONE: u8 = 0x02;
const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;

/// How much of the end is kept.
const KEPT: usize = 16 << 10;
/// Blocks are far smaller (`max_compress_block_size` is 1 MiB); who says otherwise does not speak of a frame.
const LARGEST: usize = 1 << 30;

/// Takes the rows out of frames, as they come. Their checksums are left unread: what is not what was sent does not unpack
/// to the size that it says, or has other rows than are counted.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    /// What came behind the last whole frame.
    rest: BytesMut,
    /// Whether that is none.
    broken: bool,
}

impl Unpacker {
    /// What the frames hold that are whole now. An error says that there is no frame.
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Result<Bytes, &'static str> {
        let mut rows = Vec::new();
        if self.broken {
            let room = KEPT.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return Ok(Bytes::new());
        }
        self.rest.extend_from_slice(bytes);
        loop {
            let length = match frame_length(&self.rest) {
                Some(Some(length)) if length <= self.rest.len() => length,
                Some(_) => break,
                None => {
                    self.broken = true;
                    break;
                }
            };
            let frame = self.rest.split_to(length);
            let (header, data) = frame[CHECKSUM..].split_at(HEADER);
            let size = u32::from_le_bytes([header[5], header[6], header[7], header[8]]) as usize;
            let size = size.min(LARGEST);
            let at = rows.len();
            match header[0] {
                NONE => rows.extend_from_slice(data),
                LZ4 => {
                    rows.resize(at + size, 0);
                    let unpacked = lz4_flex::block::decompress_into(data, &mut rows[at..]);
                    if unpacked.ok() != Some(size) {
                        return Err("a compressed block of the rows is damaged");
                    }
                }
                _ => return Err("the rows are compressed by a method that was not asked for"),
            }
        }
        Ok(rows.into())
    }

    /// What came behind the last whole frame.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest).freeze()
    }
}

/// Watches a stream go by, in constant memory: its end, or its last frame.
#[derive(Debug)]
pub(super) struct Watch {
    framed: bool,
    /// The last [`KEPT`] bytes of a plain stream; of a framed one, the frame that is under way.
    under_way: Vec<u8>,
    /// The last whole frame.
    last: Vec<u8>,
    /// Whether what goes by is no frame.
    broken: bool,
}

impl Watch {
    pub(super) fn new(framed: bool) -> Self {
        Self { framed, under_way: Vec::new(), last: Vec::new(), broken: false }
    }

    /// Takes note of what goes by. Gives the bytes of rows in it: of a compressed stream those of the frames that end in it,
    /// unpacked.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> usize {
        if !self.framed || self.broken {
            self.keep(bytes);
            return bytes.len();
        }
        let mut unpacked = 0;
        while !bytes.is_empty() {
            let wanted = match frame_length(&self.under_way) {
                Some(Some(length)) => length,
                Some(None) => CHECKSUM + HEADER,
                None => {
                    self.broken = true;
                    self.keep(bytes);
                    return unpacked;
                }
            };
            let (now, rest) = bytes.split_at(bytes.len().min(wanted - self.under_way.len()));
            self.under_way.extend_from_slice(now);
            bytes = rest;
            if matches!(frame_length(&self.under_way), Some(Some(length)) if length == self.under_way.len()) {
                std::mem::swap(&mut self.last, &mut self.under_way);
                self.under_way.clear();
                unpacked += unpacked_size(&self.last);
            }
        }
        unpacked
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.under_way.extend_from_slice(bytes);
        if self.under_way.len() > 2 * KEPT {
            self.under_way.drain(..self.under_way.len() - KEPT);
        }
    }

    /// Whether a stream that ends here is whole, as far as its frames tell.
    pub(super) fn is_whole(&self) -> bool {
        !self.framed || (!self.broken && self.under_way.is_empty())
    }

    /// Whether the last frame is one that [`Unpacker`] takes.
    pub(super) fn can_be_unpacked(&self) -> bool {
        self.last.get(CHECKSUM).is_some_and(|method| matches!(*method, NONE | LZ4))
    }

    /// The error that the stream ends with, if it looks like one.
    pub(super) fn error(&self) -> Option<String> {
        let end = if self.framed && !self.broken && self.under_way.is_empty() {
            let data = &self.last.get(CHECKSUM + HEADER..)?;
            match self.last[CHECKSUM] {
                NONE => data.to_vec(),
                LZ4 => {
                    let sizes = &self.last[CHECKSUM..CHECKSUM + HEADER];
                    let size = u32::from_le_bytes([sizes[5], sizes[6], sizes[7], sizes[8]]) as usize;
                    lz4_flex::block::decompress(data, size.min(LARGEST)).ok()?
                }
                ZSTD => from_zstd(data)?,
                _ => return None,
            }
        } else {
            self.under_way.clone()
        };
        let end = String::from_utf8_lossy(&end[end.len().saturating_sub(KEPT)..]).into_owned();
        let text = &end[end.rfind("Code: ")?..];
        text.contains("DB::").then(|| text.trim_end().to_owned())
    }
}

/// What a frame compressed by ZSTD holds, as 26.9 writes its errors too. Its blocks have up to 1 MiB.
fn from_zstd(data: &[u8]) -> Option<Vec<u8>> {
    const MOST: u64 = 16 << 20;
    let mut unpacked = Vec::new();
    StreamingDecoder::new(data).ok()?.take(MOST).read_to_end(&mut unpacked).ok()?;
    Some(unpacked)
}

/// What a whole frame unpacks to, as it says.
fn unpacked_size(frame: &[u8]) -> usize {
    let size = frame.get(CHECKSUM + 5..CHECKSUM + HEADER).and_then(|size| size.try_into().ok());
    size.map_or(0, |size| u32::from_le_bytes(size) as usize).min(LARGEST)
}

/// The length of a frame that begins here; inside: `None` while too little of it is there; outside: `None` when it is none.
fn frame_length(bytes: &[u8]) -> Option<Option<usize>> {
    let Some(header) = bytes.get(CHECKSUM..CHECKSUM + HEADER) else { return Some(None) };
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let known = matches!(header[0], NONE | LZ4 | ZSTD) && (HEADER..LARGEST).contains(&length);
    known.then_some(Some(CHECKSUM + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Code: 395, e.displayText() = DB::Exception: no, e.what() = DB::Exception\n";

    fn frame(method: u8, data: &[u8]) -> Vec<u8> {
        let packed = match method {
            LZ4 => lz4_flex::block::compress(data),
            ZSTD => ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest),
            _ => data.to_vec(),
        };
        let sizes = [(packed.len() + HEADER) as u32, data.len() as u32].map(u32::to_le_bytes);
        [vec![7; CHECKSUM], vec![method], sizes.concat(), packed].concat()
    }

    /// A stream that arrives in pieces of some length.
    fn watched(framed: bool, stream: &[u8], piece: usize) -> Watch {
        let mut watch = Watch::new(framed);
        stream.chunks(piece).for_each(|bytes| {
            watch.see(bytes);
        });
        watch
    }

    #[test]
    fn an_error_at_the_end_is_found_however_it_is_wrapped_and_cut() {
        let (rows, failed) = (vec![b'x'; 100_000], [&[b'x'; 1000], TEXT.as_bytes()].concat());
        let plain = [rows.clone(), TEXT.into()].concat();
        let lz4 = [frame(LZ4, &rows), frame(LZ4, &failed)].concat();
        let none = [frame(LZ4, &rows), frame(NONE, &failed)].concat();
        let zstd = [frame(ZSTD, &rows), frame(ZSTD, &failed)].concat();
        // Newer servers write it behind the frames.
        let behind = [frame(LZ4, &rows), TEXT.into()].concat();
        for (framed, stream, whole) in
            [(false, plain, true), (true, lz4, true), (true, none, true), (true, zstd, true), (true, behind, false)]
        {
            for piece in [1, 24, 25, 4096, 1 << 20] {
                let watch = watched(framed, &stream, piece);
                assert_eq!(watch.error().as_deref(), Some(TEXT.trim_end()), "{framed} {piece}");
                assert_eq!(watch.is_whole(), whole, "{framed} {piece}");
            }
        }
    }

    #[test]
    fn rows_come_out_of_their_frames_however_they_are_cut_and_what_is_no_frame_is_kept() {
        let rows = [vec![b'x'; 100_000], vec![b'y'; 3000]];
        let stream = [frame(LZ4, &rows[0]), frame(NONE, &rows[1]), TEXT.into()].concat();
        for piece in [1, 24, 25, 4096, 1 << 20] {
            let mut unpacker = Unpacker::default();
            let out: Vec<u8> = stream.chunks(piece).flat_map(|bytes| unpacker.unpack(bytes).unwrap()).collect();
            assert_eq!(out, rows.concat(), "{piece}");
            assert_eq!(unpacker.rest(), TEXT, "{piece}");
        }
        let mut damaged = frame(LZ4, &rows[0]);
        damaged[CHECKSUM + 5] ^= 1;
        assert!(Unpacker::default().unpack(&damaged).is_err(), "another size than it says");
    }

    #[test]
    fn a_frame_that_is_cut_off_is_no_end() {
        let stream = [frame(LZ4, &[b'x'; 5000]), frame(ZSTD, b"opaque")].concat();
        assert!(watched(true, &stream, 7).is_whole());
        assert_eq!(watched(true, &stream, 7).error(), None);
        for cut in [1, 10, stream.len() - 20] {
            assert!(!watched(true, &stream[..stream.len() - cut], 7).is_whole(), "{cut}");
        }
    }

    #[test]
    fn rows_are_counted_as_they_are_unpacked() {
        let stream = [frame(LZ4, &[b'x'; 50_000]), frame(NONE, &[b'x'; 700])].concat();
        for piece in [1, 24, 25, 1 << 20] {
            let mut watch = Watch::new(true);
            assert_eq!(stream.chunks(piece).map(|bytes| watch.see(bytes)).sum::<usize>(), 50_700, "{piece}");
        }
        assert_eq!(Watch::new(false).see(&stream), stream.len());
    }

    #[test]
    fn no_more_is_kept_than_needed() {
        let watch = watched(false, &vec![b'x'; 10 << 20], 1 << 16);
        assert!(watch.under_way.capacity() < 1 << 18, "{}", watch.under_way.capacity());
    }
}
