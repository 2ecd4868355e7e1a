//! Relays rows from one server to another through this process, as they arrive: the body of one response is the body
//! of another request.
//!
//! # Guarantees
//! - It holds at most a few reads of the connection: it reads on after the target has taken the last bytes.
//! - The INSERT ends successfully only if the SELECT did, as far as its stream shows. Otherwise its connection is
//!   closed early, which is an error there. If a server put an error text after the rows, the target refuses it,
//!   because it is no block of rows; the caller also counts the rows.
//! - Dropping the future closes both connections.
//!
//! Compression costs this process nothing: both servers use ClickHouse's own frames (`compress=1`, `decompress=1`),
//! and the frames pass unchanged, with their checksums. 18.16 accepts compressed rows, but loses its own results if
//! they are smaller than a frame (measured: nothing arrives, with status 200), so it is not asked for compressed
//! rows.

use clickhouse::Client;
use clickhouse::error::Error as ClientError;
use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::query::BytesCursor;

use super::super::codes::{CANNOT_DECOMPRESS, CHECKSUM_DOESNT_MATCH};
use super::super::{Destination, Error, Kind, Origin, Transfer};
use super::answers::Answers;
use super::frames::Watch;
use super::permits::Share;
use super::{HttpServerClient, SHORT};
use crate::model::Node;
use crate::sql;

impl HttpServerClient {
    /// Reads the rows of a transfer from its sources and writes them to its targets.
    pub(super) async fn relay(&self, transfer: &Transfer) -> Result<(), Error> {
        let framings = if transfer.compress { self.framings(transfer).await? } else { None };
        let framed = framings.is_some();
        let framings = framings.unwrap_or_else(|| vec![Framing::Plain; transfer.from.len()]);
        tracing::debug!("{}: rows travel {}compressed", transfer.query_id(), if framed { "" } else { "un" });
        if transfer.dealt.is_some() {
            return self.deal(transfer, &framings).await;
        }
        for to in &transfer.to {
            let mut insert = writing(self.asking(&to.node, SHORT).await?, transfer, to);
            if framed {
                insert = insert.with_setting("decompress", "1");
            }
            let mut passing =
                Passing { answers: &self.answers, transfer, to: &to.node, insert, any: false, watches: Vec::new() };
            // If this function returns an error, the INSERT is dropped unfinished, which closes its connection early.
            for (number, from) in transfer.from.iter().enumerate() {
                let rows = self.reading(transfer, number, from, framings[number]).await?;
                passing.pass(&from.node, rows, framed).await?;
            }
            passing.end().await?;
        }
        Ok(())
    }

    /// Sends the SELECT of a relay to one of its sources, given by its number.
    pub(super) async fn reading(
        &self,
        transfer: &Transfer,
        number: usize,
        from: &Origin,
        framing: Framing,
    ) -> Result<BytesCursor, Error> {
        let Transfer { columns, values, rows, dealt, .. } = transfer;
        let client = self.passing(&from.node).await?;
        let mut select = client.query_raw(&sql::relay_from(columns, values, rows, dealt.as_ref()));
        for (name, value) in &from.settings {
            select = select.with_setting(name, value);
        }
        if framing != Framing::Plain {
            select = select.with_setting("compress", "1");
        }
        if framing == Framing::Lz4 {
            select = select.with_setting(METHOD.0, METHOD.1);
        }
        let rows = select.with_setting("query_id", transfer.reading_id(number)).fetch_bytes("Native");
        rows.map_err(|error| self.answers.translated(&from.node, &transfer.doing(), error))
    }

    /// Returns how to ask each source of a transfer for its rows; `None` if a server does not support frames, so that
    /// rows travel uncompressed. This process unpacks rows that it deals, and supports LZ4 only.
    async fn framings(&self, transfer: &Transfer) -> Result<Option<Vec<Framing>>, Error> {
        let mut framings = Vec::new();
        for from in &transfer.from {
            let framing = match self.framing(&from.node, Framing::AsIs).await? {
                Some(watch) if transfer.dealt.is_none() || watch.can_be_unpacked() => Framing::AsIs,
                // 26.9 uses ZSTD by default. If an account may not set the method, its rows stay uncompressed.
                Some(_) => match self.framing(&from.node, Framing::Lz4).await? {
                    Some(watch) if watch.can_be_unpacked() => Framing::Lz4,
                    _ => return Ok(None),
                },
                None => return Ok(None),
            };
            framings.push(framing);
        }
        for to in &transfer.to {
            if self.framing(&to.node, Framing::AsIs).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(framings))
    }

    /// Checks whether a server frames its answers on request, even a small one: 18.16 sends nothing then. Returns the
    /// watch of the answer; `None` if the server does not.
    async fn framing(&self, node: &Node, framing: Framing) -> Result<Option<Watch>, Error> {
        let client = self.asking(node, SHORT).await?;
        let _permit = self.permits.one(Share::Question, node).await;
        let answer = self.bounded(node, "cannot ask whether it compresses", SHORT, async {
            let mut question = client.query_raw("SELECT 1").with_setting("compress", "1");
            if framing == Framing::Lz4 {
                question = question.with_setting(METHOD.0, METHOD.1);
            }
            question.fetch_bytes("Native")?.collect().await.map(|bytes| bytes.to_vec())
        });
        match answer.await {
            Ok(answer) => {
                let mut watch = Watch::new(true);
                watch.see(&answer);
                Ok((!answer.is_empty() && watch.is_whole()).then_some(watch))
            }
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// How a source sends rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Uncompressed.
    Plain,
    /// In frames, compressed by the server's default method.
    AsIs,
    /// In frames, compressed by LZ4.
    Lz4,
}

/// The setting that makes a server compress by LZ4. 18.16 accepts only lower-case letters.
const METHOD: (&str, &str) = ("network_compression_method", "lz4");

/// Starts the INSERT of a relay into one of its targets.
pub(super) fn writing(client: Client, transfer: &Transfer, to: &Destination) -> InsertFormatted {
    let mut insert = client.insert_formatted_with(sql::relay_into(&transfer.into));
    for (name, value) in &to.settings {
        insert = insert.with_setting(name, value);
    }
    insert.with_setting("query_id", &to.query_id)
}

/// An INSERT that gets the rows of one SELECT after the other.
struct Passing<'a> {
    answers: &'a Answers,
    transfer: &'a Transfer,
    to: &'a Node,
    insert: InsertFormatted,
    any: bool,
    /// The watches of the sources' streams.
    watches: Vec<(&'a Node, Watch)>,
}

impl<'a> Passing<'a> {
    /// Passes on the rows of one source.
    async fn pass(&mut self, from: &'a Node, mut rows: BytesCursor, framed: bool) -> Result<(), Error> {
        let doing = self.transfer.doing();
        let mut watch = Watch::new(framed);
        while let Some(bytes) = rows.next().await.map_err(|error| cut_off(self.answers, from, &doing, &watch, error))? {
            // Nothing is read meanwhile, so the source waits too.
            self.transfer.pass(watch.see(&bytes)).await;
            self.any |= !bytes.is_empty();
            if let Err(error) = self.insert.send(bytes).await {
                self.watches.push((from, watch));
                return Err(refused(self.answers, self.transfer, self.to, &self.watches, error));
            }
        }
        if watch.is_whole() {
            self.watches.push((from, watch));
            return Ok(());
        }
        let why = watch.error().map_or_else(
            || Kind::Network("the rows end in the middle of a compressed block, or with what is none".into()),
            |text| self.answers.server_error(&text),
        );
        Err(Error { node: from.to_string(), doing, kind: why })
    }

    async fn end(self) -> Result<(), Error> {
        // An old server sends nothing at all if there are no rows; an INSERT without rows would be an error there.
        if !self.any {
            return Ok(());
        }
        let Self { answers, transfer, to, insert, watches, .. } = self;
        insert.end().await.map_err(|error| refused(answers, transfer, to, &watches, error))
    }
}

/// Returns the error after the stream of a source broke. From 24.12 on, a server that fails first writes the cause
/// after the rows.
fn cut_off(answers: &Answers, from: &Node, doing: &str, watch: &Watch, error: ClientError) -> Error {
    match watch.error().map(|text| answers.server_error(&text)) {
        Some(kind @ Kind::Server { .. }) => Error { node: from.to_string(), doing: doing.to_owned(), kind },
        _ => answers.translated(from, doing, error),
    }
}

/// Returns the error after the target stopped accepting rows. If a source has failed meanwhile and wrote so after the
/// rows, that is the cause. If a target reports wrong checksums of frames, the connection to it is at fault, and not
/// its own parts.
fn refused(answers: &Answers, transfer: &Transfer, to: &Node, watches: &[(&Node, Watch)], error: ClientError) -> Error {
    let doing = transfer.doing();
    let answer = answers.translated(to, &doing, error);
    let source_error = watches.iter().find_map(|(from, watch)| Some((from, answers.server_error(&watch.error()?))));
    match (source_error, answer.code()) {
        (Some((from, kind @ Kind::Server { .. })), Some(_)) => Error { node: from.to_string(), doing, kind },
        (_, Some(CHECKSUM_DOESNT_MATCH | CANNOT_DECOMPRESS)) => {
            let why =
                "a compressed block of the rows was damaged on its way to this server: its checksum does not match";
            Error { kind: Kind::Network(why.into()), ..answer }
        }
        _ => answer,
    }
}
