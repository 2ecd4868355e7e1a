//! A relay to several target shards: it reads the rows once, and sends each row to the shard of its slot.
//!
//! The guarantees are those of [`relay`](super::relay), for each target: its INSERT ends successfully only after the
//! SELECT did, and the transfer succeeds only if all INSERTs do. The slowest target sets the pace.

use std::ops::Range;

use bytes::Bytes;
use clickhouse::Compression;
use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::query::BytesCursor;
use futures::future::try_join_all;

use super::super::native::{DealError, Dealer, Inlet, Outlet};
use super::super::{Error, Kind, Transfer};
use super::answers::Answers;
use super::frames::{Unpacker, Watch};
use super::relay::{Framing, writing};
use super::{HttpServerClient, SHORT};
use crate::model::Node;

impl HttpServerClient {
    /// Deals the rows of a transfer to its targets.
    pub(super) async fn deal(&self, transfer: &Transfer, framings: &[Framing]) -> Result<(), Error> {
        let doing = transfer.doing();
        let framed = framings.iter().any(|framing| *framing != Framing::Plain);
        // Nodes with the same slots are replicas that each get the same rows.
        let mut slots: Vec<Range<u64>> = Vec::new();
        let mut targets: Vec<Vec<Target>> = Vec::new();
        for to in &transfer.to {
            // The client library compresses what it sends.
            let client = self.asking(&to.node, SHORT).await?.with_compression(if framed {
                Compression::Lz4
            } else {
                Compression::None
            });
            let target = Target { node: &to.node, insert: writing(client, transfer, to), any: false };
            match slots.iter().position(|known| *known == to.slots) {
                Some(at) => targets[at].push(target),
                None => {
                    slots.push(to.slots.clone());
                    targets.push(vec![target]);
                }
            }
        }
        let mut outlet = Inserts { answers: &self.answers, doing: &doing, targets };
        for (number, from) in transfer.from.iter().enumerate() {
            let rows = self.reading(transfer, number, from, framings[number]).await?;
            let inlet = Rows {
                client: self,
                node: &from.node,
                doing: &doing,
                transfer,
                rows,
                unpacker: framed.then(Unpacker::default),
                writes_empty_dictionaries: None,
            };
            let dealt = Dealer::new(inlet, &mut outlet, &transfer.columns, &slots).deal().await;
            dealt.map_err(|error| deal_error(&self.answers, &from.node, &doing, error))?;
        }
        let inserts = outlet.targets.into_iter().flatten().filter(|target| target.any);
        try_join_all(inserts.map(async |Target { node, insert, .. }| {
            insert.end().await.map_err(|error| self.answers.translated(node, &doing, error))
        }))
        .await
        .map(drop)
    }

    /// Asks a server for an empty array with LowCardinality in it, and checks whether a dictionary follows it.
    async fn writes_empty_dictionaries(&self, node: &Node) -> Result<bool, Error> {
        let client = self.asking(node, SHORT).await?;
        let answer = self.bounded(node, "cannot ask how it writes empty arrays", SHORT, async {
            client.query_raw(EMPTY_ARRAY).fetch_bytes("Native")?.collect().await
        });
        let answer = answer.await?;
        // Modern servers write only the version of the dictionary and the end of the array, 8 bytes each.
        let behind = answer.windows(EMPTY_ARRAY_TYPE.len()).position(|bytes| bytes == EMPTY_ARRAY_TYPE);
        Ok(behind.is_some_and(|at| answer.len() > at + EMPTY_ARRAY_TYPE.len() + 16))
    }
}

/// A row that holds an empty array of a type with LowCardinality, and its type.
const EMPTY_ARRAY: &str = "SELECT CAST([] AS Array(LowCardinality(String))) AS a";
const EMPTY_ARRAY_TYPE: &[u8] = b"Array(LowCardinality(String))";

/// Returns the error of rows that could not be dealt. An error that a server wrote after its rows is the source's
/// own.
fn deal_error(answers: &Answers, from: &Node, doing: &str, error: DealError<Error>) -> Error {
    let kind = match error {
        DealError::Stream(error) => return error,
        DealError::Malformed(why) => Kind::Network(why),
        DealError::NoBlock(rest) => written_behind(answers, &rest)
            .unwrap_or_else(|| Kind::Network("the rows end in the middle of a block".into())),
        DealError::CutOff(error, seen) => match written_behind(answers, &seen) {
            Some(kind) => kind,
            None => return error,
        },
    };
    Error { node: from.to_string(), doing: doing.to_owned(), kind }
}

/// Returns the error that a server wrote in the place of rows, if these bytes contain one.
fn written_behind(answers: &Answers, bytes: &[u8]) -> Option<Kind> {
    let mut watch = Watch::new(false);
    watch.see(bytes);
    watch.error().map(|text| answers.server_error(&text))
}

/// The rows as they arrive from the source.
struct Rows<'a> {
    client: &'a HttpServerClient,
    node: &'a Node,
    doing: &'a str,
    transfer: &'a Transfer,
    rows: BytesCursor,
    unpacker: Option<Unpacker>,
    /// Whether the source writes empty dictionaries; `None` before it was asked.
    writes_empty_dictionaries: Option<bool>,
}

impl Inlet for Rows<'_> {
    type Error = Error;

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(unpacker) = &mut self.unpacker
                && let Some(rows) = unpacker.unpack().map_err(|why| self.error(Kind::Network(why.to_string())))?
            {
                self.transfer.pass(rows.len()).await;
                return Ok(Some(rows));
            }
            let next = match self.rows.next().await {
                Ok(next) => next,
                Err(error) => return Err(self.cut_off(error)),
            };
            match (next, &mut self.unpacker) {
                (Some(bytes), Some(unpacker)) => unpacker.take(&bytes),
                (None, Some(unpacker)) => {
                    // The bytes after the frames are no frame: the error text of a server that failed, or garbage.
                    let rest = unpacker.rest();
                    return match rest.is_empty() {
                        true => Ok(None),
                        false => Err(self.error(written_behind(&self.client.answers, &rest).unwrap_or_else(|| {
                            Kind::Network("the rows end with what is no compressed block, or not a whole one".into())
                        }))),
                    };
                }
                (next, None) => {
                    self.transfer.pass(next.as_ref().map_or(0, Bytes::len)).await;
                    return Ok(next);
                }
            }
        }
    }

    async fn writes_empty_dictionaries(&mut self) -> Result<bool, Error> {
        match self.writes_empty_dictionaries {
            Some(known) => Ok(known),
            None => {
                let answer = self.client.writes_empty_dictionaries(self.node).await?;
                self.writes_empty_dictionaries = Some(answer);
                Ok(answer)
            }
        }
    }
}

impl Rows<'_> {
    /// Returns an error of the source.
    fn error(&self, kind: Kind) -> Error {
        Error { node: self.node.to_string(), doing: self.doing.to_owned(), kind }
    }

    /// Returns why the stream broke: the text that the server wrote after its frames, or the connection's error.
    fn cut_off(&mut self, error: clickhouse::error::Error) -> Error {
        let behind = self.unpacker.as_mut().and_then(|unpacker| written_behind(&self.client.answers, &unpacker.rest()));
        match behind {
            Some(kind) => self.error(kind),
            None => self.client.answers.translated(self.node, self.doing, error),
        }
    }
}

struct Target<'a> {
    node: &'a Node,
    insert: InsertFormatted,
    /// Whether it got any rows: an old server answers an INSERT without rows with an error.
    any: bool,
}

/// The INSERTs, by receiver.
struct Inserts<'a> {
    answers: &'a Answers,
    doing: &'a str,
    targets: Vec<Vec<Target<'a>>>,
}

impl Outlet for Inserts<'_> {
    type Error = Error;

    async fn send(&mut self, to: usize, bytes: Bytes) -> Result<(), Error> {
        for target in &mut self.targets[to] {
            target.any = true;
            let sent = target.insert.send(bytes.clone()).await;
            sent.map_err(|error| self.answers.translated(target.node, self.doing, error))?;
        }
        Ok(())
    }
}
