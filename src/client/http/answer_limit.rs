//! A limit on the bytes of an answer, where they arrive from the connection. The client library collects the text of
//! an error, and most results, as a whole, however long they are.
//!
//! # Guarantees
//! - The body of an error (a status other than 200, or an exception code in the headers) has at most [`MOST_ERROR`]
//!   bytes. After that the connection is closed, and the error is the status.
//! - Other bodies are as long as the connection allows: [`MOST_ANSWER`] for questions. Rows that a relay passes on
//!   have no limit; they are not collected.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

/// The largest size of an error's body in bytes.
const MOST_ERROR: u64 = 1 << 20;
/// The largest size in bytes of an answer that is collected.
pub(super) const MOST_ANSWER: u64 = 256 << 20;
/// The largest size of an answer's headers in bytes.
const MOST_HEAD: usize = 128 << 10;
/// Bytes that are read at a time while they are counted.
const READ_SIZE: usize = 16 << 10;

/// A connector that limits the size of answers.
#[derive(Debug, Clone)]
pub(super) struct LimitedConnector<C> {
    inner: C,
    most: Option<u64>,
}

impl<C> LimitedConnector<C> {
    /// Limits each answer that is no error to `most` bytes; `None` means no limit.
    pub(super) fn new(inner: C, most: Option<u64>) -> Self {
        Self { inner, most }
    }
}

impl<C> Service<Uri> for LimitedConnector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = Limited<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, meter) = (self.inner.call(uri), Meter::new(self.most));
        Box::pin(async move { Ok(Limited { inner: connecting.await?, meter }) })
    }
}

/// A connection with limited answers.
#[derive(Debug)]
pub(super) struct Limited<T> {
    inner: T,
    meter: Meter,
}

/// The position of a connection within an answer.
#[derive(Debug)]
enum Phase {
    /// In the headers; these bytes have arrived.
    Head(Vec<u8>),
    /// In the body; this many bytes may still come.
    Body(u64),
    /// In a body without a limit.
    Unlimited,
}

/// Counts the bytes of answers.
#[derive(Debug)]
struct Meter {
    most: Option<u64>,
    phase: Phase,
}

impl Meter {
    fn new(most: Option<u64>) -> Self {
        Self { most, phase: Phase::Head(Vec::new()) }
    }

    /// Notes sent bytes: the next answer follows a new request.
    fn sent(&mut self, bytes: &[u8]) {
        if bytes.starts_with(b"POST ") || bytes.starts_with(b"GET ") {
            self.phase = Phase::Head(Vec::new());
        }
    }

    /// Counts received bytes.
    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.phase {
            Phase::Unlimited => Ok(()),
            Phase::Body(left) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Ok(())
                }
                None => Err(io::Error::other("the answer is too long: it was broken off")),
            },
            Phase::Head(head) => {
                head.extend_from_slice(bytes);
                match head.windows(4).position(|end| end == b"\r\n\r\n") {
                    None if head.len() > MOST_HEAD => Err(io::Error::other("the headers of the answer are too long")),
                    None => Ok(()),
                    Some(at) => {
                        let rest = head.split_off(at + 4);
                        self.phase = match (Head::of(head), self.most) {
                            (Head::Interim, _) => Phase::Head(Vec::new()),
                            (Head::Error, _) => Phase::Body(MOST_ERROR),
                            (Head::Good, Some(most)) => Phase::Body(most),
                            (Head::Good, None) => Phase::Unlimited,
                        };
                        if rest.is_empty() { Ok(()) } else { self.received(&rest) }
                    }
                }
            }
        }
    }
}

/// The kind of answer that the headers announce.
enum Head {
    /// An interim answer: status 1xx. Another answer follows.
    Interim,
    Error,
    Good,
}

impl Head {
    fn of(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        match status {
            "200" if !lines.any(|line| line.starts_with("x-clickhouse-exception-code:")) => Self::Good,
            status if status.len() == 3 && status.starts_with('1') => Self::Interim,
            _ => Self::Error,
        }
    }
}

impl<T: Read + Unpin> Read for Limited<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.meter.phase, Phase::Unlimited) {
            return Pin::new(&mut self.inner).poll_read(context, into);
        }
        let mut bytes = [0; READ_SIZE];
        let room = into.remaining().min(READ_SIZE);
        let mut read = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(&mut self.inner).poll_read(context, read.unfilled()))?;
        self.meter.received(read.filled())?;
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Limited<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.meter.sent(bytes);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = parts.iter().find(|part| !part.is_empty()) {
            self.meter.sent(first);
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }
}

impl<T: Connection> Connection for Limited<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n\r\n";

    /// Returns how many bytes of a body, sent in pieces of this size after these headers, pass before the answer is
    /// too long.
    fn passes(most: Option<u64>, head: &str, piece: usize, upto: u64) -> u64 {
        let mut meter = Meter::new(most);
        meter.sent(b"POST /?query=1 HTTP/1.1\r\n\r\n");
        for bytes in head.as_bytes().chunks(piece) {
            meter.received(bytes).unwrap();
        }
        let (mut passed, body) = (0, vec![b'x'; piece]);
        while passed < upto && meter.received(&body).is_ok() {
            passed += piece as u64;
        }
        passed
    }

    #[test]
    fn the_size_of_an_error_is_limited_on_every_connection() {
        for head in [
            "HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.0 200 OK\r\nx-ClickHouse-EXCEPTION-Code: 60\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            for (most, piece) in [(None, 1 << 10), (Some(MOST_ANSWER), 1 << 12), (None, 1)] {
                let head = if piece == 1 { head.to_owned() } else { format!("HTTP/1.1 100 Continue\r\n\r\n{head}") };
                assert_eq!(passes(most, &head, piece, 2 * MOST_ERROR), MOST_ERROR, "{head:?} {piece}");
            }
        }
    }

    #[test]
    fn the_size_of_an_answer_is_limited_by_its_connection() {
        assert_eq!(passes(Some(1 << 20), GOOD, 1 << 10, 1 << 22), 1 << 20);
        assert_eq!(passes(None, GOOD, 1 << 16, 1 << 28), 1 << 28);
        let mut meter = Meter::new(None);
        let endless = "a".repeat(1 << 10);
        assert!((0..1 << 10).any(|_| meter.received(endless.as_bytes()).is_err()), "headers without an end");
    }

    #[test]
    fn each_request_has_a_limit_of_its_own() {
        let mut meter = Meter::new(Some(10));
        for _ in 0..5 {
            meter.sent(b"POST / HTTP/1.1\r\n\r\n");
            meter.sent(b"rows");
            meter.received(GOOD.as_bytes()).unwrap();
            meter.received(b"12345").unwrap();
            meter.sent(b"more rows");
            meter.received(b"12345").unwrap();
        }
        assert!(meter.received(b"1").is_err());
    }
}
