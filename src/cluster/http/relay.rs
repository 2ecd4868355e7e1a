//! Rows from one server to another through this process, as they come: one response's body is another request's body.
//!
//! # Guarantees
//! - Never more than a few reads of the connection are held: the next one is taken when the target has taken the last.
//! - The INSERT is ended well only when the SELECT has ended well as far as its stream tells. Else its connection is broken
//!   off, which is an error there. An error whose text an old server put behind the rows is refused by the target, since it is
//!   no block of rows; and the caller counts.
//! - Dropping the future breaks both connections off.
//!
//! Compression costs this process nothing: both servers speak ClickHouse's own framing (`compress=1`, `decompress=1`), and
//! the frames go through as they are, with their checksums. It is LZ4; a third to a half of the bytes in what was measured.

use clickhouse::Client;
use clickhouse::error::Error as ClientError;
use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::query::BytesCursor;

use super::super::{Destination, Error, Kind, Transfer};
use super::frames::Watch;
use super::{HttpWarehouse, SHORT, bounded, server_error, translated};
use crate::model::Node;
use crate::sql;

impl HttpWarehouse {
    /// Reads the rows of a transfer from its source and writes them to its targets.
    pub(super) async fn relay(&self, transfer: &Transfer) -> Result<(), Error> {
        let framed = transfer.compress && self.frames(&transfer.from).await? && self.frames_at_all(transfer).await?;
        let rows = self.reading(transfer, framed)?;
        if transfer.dealt.is_some() {
            return self.deal(transfer, rows, framed).await;
        }
        match transfer.to.as_slice() {
            [to] => {
                let mut insert = writing(self.client(&to.node), transfer, to);
                if framed {
                    insert = insert.with_setting("decompress", "1");
                }
                carry(transfer, to, rows, insert, Watch::new(framed)).await
            }
            // Without slots nobody knows who gets what.
            others => Err(Error {
                node: transfer.from.to_string(),
                doing: transfer.doing(),
                kind: Kind::Answer(format!("internal error: {} nodes for the same rows", others.len())),
            }),
        }
    }

    /// The SELECT of a relay.
    fn reading(&self, transfer: &Transfer, framed: bool) -> Result<BytesCursor, Error> {
        let Transfer { from, columns, values, rows, dealt, .. } = transfer;
        let mut select = self.client(from).query_raw(&sql::relay_from(columns, values, rows, dealt.as_ref()));
        for (name, value) in &transfer.at_source {
            select = select.with_setting(name, value);
        }
        if framed {
            select = select.with_setting("compress", "1");
        }
        let rows = select.with_setting("query_id", transfer.reading_id()).fetch_bytes("Native");
        rows.map_err(|error| translated(from, &transfer.doing(), error))
    }

    async fn frames_at_all(&self, transfer: &Transfer) -> Result<bool, Error> {
        for to in &transfer.to {
            if !self.frames(&to.node).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a server frames its answers when asked to. (The laboratory's modern node does not.)
    async fn frames(&self, node: &Node) -> Result<bool, Error> {
        let answer = bounded(node, "cannot ask whether it compresses", SHORT, async {
            let question = self.client(node).query_raw("SELECT 1").with_setting("compress", "1");
            question.fetch_bytes("Native")?.collect().await.map(|bytes| bytes.to_vec())
        });
        match answer.await {
            Ok(answer) => {
                let mut watch = Watch::new(true);
                watch.see(&answer);
                Ok(!answer.is_empty() && watch.is_whole())
            }
            Err(error) if error.is_unreachable() => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// The INSERT of a relay into one of its targets.
pub(super) fn writing(client: Client, transfer: &Transfer, to: &Destination) -> InsertFormatted {
    let mut insert = client.insert_formatted_with(sql::relay_into(&transfer.into));
    for (name, value) in &to.settings {
        insert = insert.with_setting(name, value);
    }
    insert.with_setting("query_id", &to.query_id)
}

async fn carry(
    transfer: &Transfer,
    to: &Destination,
    mut rows: BytesCursor,
    mut insert: InsertFormatted,
    mut watch: Watch,
) -> Result<(), Error> {
    let (from, to, doing) = (&transfer.from, &to.node, transfer.doing());
    let mut any = false;
    // Leaving this function by an error drops the INSERT unended, which breaks its connection off.
    while let Some(bytes) = rows.next().await.map_err(|error| translated(from, &doing, error))? {
        watch.see(&bytes);
        any |= !bytes.is_empty();
        if let Err(error) = insert.send(bytes).await {
            return Err(refused(transfer, to, &watch, error));
        }
    }
    if !watch.is_whole() {
        let why = watch
            .error()
            .map_or_else(|| Kind::Network("the rows end in the middle of a block".into()), |text| server_error(&text));
        return Err(Error { node: from.to_string(), doing, kind: why });
    }
    // An old server says nothing at all when there are no rows; an INSERT of nothing would be an error there.
    if !any {
        return Ok(());
    }
    insert.end().await.map_err(|error| match watch.error() {
        Some(_) => refused(transfer, to, &watch, error),
        None => translated(to, &doing, error),
    })
}

/// A target took no more. When the source has failed meanwhile and said so behind the rows, that is why.
fn refused(transfer: &Transfer, to: &Node, watch: &Watch, error: ClientError) -> Error {
    let doing = transfer.doing();
    let answer = translated(to, &doing, error);
    match watch.error().map(|text| server_error(&text)) {
        Some(kind @ Kind::Server { .. }) if answer.code().is_some() => {
            Error { node: transfer.from.to_string(), doing, kind }
        }
        _ => answer,
    }
}
