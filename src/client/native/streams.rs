//! The source and the destination of dealt rows, and their errors.

use std::future::Future;

use bytes::Bytes;

/// The source of a stream.
pub(crate) trait Inlet: Send {
    /// Why no more bytes come.
    type Error: Send;
    /// Returns the next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
    /// Returns whether the server writes a dictionary for a column of arrays that are all empty. 18.16 and older do,
    /// modern servers do not, and no server expects one when it reads. It is called only if it matters.
    fn writes_empty_dictionaries(&mut self) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The destination of the rows.
pub(crate) trait Outlet: Send {
    /// Why the rows cannot be sent.
    type Error: Send;
    /// Sends bytes to a receiver, and waits until it can take more.
    fn send(&mut self, to: usize, bytes: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why rows could not be dealt.
#[derive(Debug)]
pub(crate) enum DealError<E> {
    /// The error of the inlet or the outlet.
    Stream(E),
    /// The stream has an unexpected form.
    Malformed(String),
    /// From here on the stream holds no rows; an old server writes its error here.
    NoBlock(Vec<u8>),
    /// The inlet failed in the head of a block, after these bytes. A modern server writes its error there, and breaks
    /// the stream.
    CutOff(E, Vec<u8>),
}
