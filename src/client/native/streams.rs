//! Where rows come from and go to while they are dealt, and what can go wrong on the way.

use std::future::Future;

use bytes::Bytes;

/// Where a stream comes from.
pub(crate) trait Inlet: Send {
    /// Why nothing more comes.
    type Error: Send;
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
    /// Returns whether the server writes a dictionary for a column of arrays that are all empty. 18.16 and older do, modern
    /// servers do not, and no server expects one when it reads. Asked only where it matters.
    fn writes_empty_dictionaries(&mut self) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Where the rows go.
pub(crate) trait Outlet: Send {
    /// Why they cannot be taken.
    type Error: Send;
    /// Passes bytes on to one of the receivers, and waits until it can take more.
    fn send(&mut self, to: usize, bytes: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why rows could not be dealt.
#[derive(Debug)]
pub(crate) enum DealError<E> {
    /// What the inlet or the outlet says.
    Stream(E),
    /// The stream is not what was asked for.
    Malformed(String),
    /// The stream is none of rows from here on; an old server writes there why it could not go on.
    NoBlock(Vec<u8>),
    /// The inlet failed in the head of a block, and this came of it before; a modern server writes there why it could not go
    /// on, and breaks the stream off.
    CutOff(E, Vec<u8>),
}
