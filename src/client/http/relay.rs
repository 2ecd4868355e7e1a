//! Rows from one server to another through this process, as they come: one response's body is another request's body.
//!
//! # Guarantees
//! - Never more than a few reads of the connection are held: the next one is taken when the target has taken the last.
//! - The INSERT is ended well only when the SELECT has ended well as far as its stream tells. Else its connection is broken
//!   off, which is an error there. An error whose text a server put behind the rows is refused by the target, since it is
//!   no block of rows; and the caller counts.
//! - Dropping the future breaks both connections off.
//!
//! Compression costs this process nothing: both servers speak ClickHouse's own framing (`compress=1`, `decompress=1`), and
//! the frames go through as they are, with their checksums. 18.16 takes compressed rows, but of its own results it loses those
//! that are smaller than a frame (measured: nothing at all arrives, with status 200), so it is not asked for them.

use clickhouse::Client;
use clickhouse::error::Error as ClientError;
use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::query::BytesCursor;

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
            // Leaving this function by an error drops the INSERT unended, which breaks its connection off.
            for (number, from) in transfer.from.iter().enumerate() {
                let rows = self.reading(transfer, (number, from), framings[number]).await?;
                passing.pass(&from.node, rows, framed).await?;
            }
            passing.end().await?;
        }
        Ok(())
    }

    /// The SELECT of a relay from one of its sources, with its number.
    pub(super) async fn reading(
        &self,
        transfer: &Transfer,
        (number, from): (usize, &Origin),
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

    /// Returns how each source of a transfer is asked for its rows; `None` where a server does not frame, so that rows travel
    /// uncompressed. What is dealt is unpacked by this process, which takes LZ4 only.
    async fn framings(&self, transfer: &Transfer) -> Result<Option<Vec<Framing>>, Error> {
        let mut framings = Vec::new();
        for from in &transfer.from {
            let framing = match self.framing(&from.node, Framing::AsIs).await? {
                Some(watch) if transfer.dealt.is_none() || watch.can_be_unpacked() => Framing::AsIs,
                // 26.9 takes ZSTD by itself. An account that may not set the method has no compressed rows.
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

    /// Asks whether a server frames its answers when it is told to, a small one too: 18.16 sends nothing then. Returns the
    /// answer as it went by; `None` when it does not.
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

/// How a source is asked for rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Uncompressed.
    Plain,
    /// In frames, compressed by the method that the server takes by itself.
    AsIs,
    /// In frames, compressed by LZ4.
    Lz4,
}

/// The setting that has a server compress by LZ4. 18.16 takes small letters only.
const METHOD: (&str, &str) = ("network_compression_method", "lz4");

/// The INSERT of a relay into one of its targets.
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
    /// What the streams of the sources ended with.
    watches: Vec<(&'a Node, Watch)>,
}

impl<'a> Passing<'a> {
    /// Passes the rows of one source on.
    async fn pass(&mut self, from: &'a Node, mut rows: BytesCursor, framed: bool) -> Result<(), Error> {
        let doing = self.transfer.doing();
        let mut watch = Watch::new(framed);
        while let Some(bytes) = rows.next().await.map_err(|error| cut_off(self.answers, from, &doing, &watch, error))? {
            // Nothing more is read meanwhile, so the source waits too.
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
        // An old server says nothing at all when there are no rows; an INSERT of nothing would be an error there.
        if !self.any {
            return Ok(());
        }
        let Self { answers, transfer, to, insert, watches, .. } = self;
        insert.end().await.map_err(|error| refused(answers, transfer, to, &watches, error))
    }
}

/// The stream of a source was broken off. PreviousPasses 24.12 a server that fails writes why behind the rows before it does so.
fn cut_off(answers: &Answers, from: &Node, doing: &str, watch: &Watch, error: ClientError) -> Error {
    match watch.error().map(|text| answers.server_error(&text)) {
        Some(kind @ Kind::Server { .. }) => Error { node: from.to_string(), doing: doing.to_owned(), kind },
        _ => answers.translated(from, doing, error),
    }
}

/// The target took no more. When a source has failed meanwhile and said so behind the rows, that is why. What a target says of the
/// checksums of frames is about the way to it, and not about its own parts.
fn refused(answers: &Answers, transfer: &Transfer, to: &Node, watches: &[(&Node, Watch)], error: ClientError) -> Error {
    let doing = transfer.doing();
    let answer = answers.translated(to, &doing, error);
    let told = watches.iter().find_map(|(from, watch)| Some((from, answers.server_error(&watch.error()?))));
    match (told, answer.code()) {
        (Some((from, kind @ Kind::Server { .. })), Some(_)) => Error { node: from.to_string(), doing, kind },
        (_, Some(CHECKSUM_DOESNT_MATCH | CANNOT_DECOMPRESS)) => {
            let why =
                "a compressed block of the rows was damaged on its way to this server: its checksum does not match";
            Error { kind: Kind::Network(why.into()), ..answer }
        }
        _ => answer,
    }
}

const CHECKSUM_DOESNT_MATCH: u32 = 40;
const CANNOT_DECOMPRESS: u32 = 271;
