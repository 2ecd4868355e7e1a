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

use clickhouse::error::Error as ClientError;
use clickhouse::insert_formatted::InsertFormatted;
use clickhouse::query::BytesCursor;

use super::super::{Error, Kind, Transfer};
use super::answers::Answers;
use super::frames::Watch;
use super::{HttpWarehouse, SHORT};
use crate::model::Node;
use crate::sql;

impl HttpWarehouse {
    /// Reads the rows of a transfer from its source and writes them to its target.
    pub(super) async fn relay(&self, transfer: &Transfer) -> Result<(), Error> {
        let (from, to, doing) = (&transfer.from, &transfer.to, transfer.doing());
        let framed = transfer.compress && self.frames(from).await? && self.frames(to).await?;
        let mut select =
            self.client(from).query_raw(&sql::relay_from(&transfer.columns, &transfer.values, &transfer.rows));
        let mut insert = self.client(to).insert_formatted_with(sql::relay_into(&transfer.into));
        for (name, value) in &transfer.at_source {
            select = select.with_setting(name, value);
        }
        for (name, value) in &transfer.at_target {
            insert = insert.with_setting(name, value);
        }
        if framed {
            (select, insert) = (select.with_setting("compress", "1"), insert.with_setting("decompress", "1"));
        }
        let rows = select.with_setting("query_id", transfer.reading_id()).fetch_bytes("Native");
        let rows = rows.map_err(|error| self.answers.translated(from, &doing, error))?;
        carry(&self.answers, transfer, rows, insert.with_setting("query_id", &transfer.query_id), Watch::new(framed))
            .await
    }

    /// Whether a server frames its answers when asked to. (The laboratory's modern node does not.)
    async fn frames(&self, node: &Node) -> Result<bool, Error> {
        let answer = self.bounded(node, "cannot ask whether it compresses", SHORT, async {
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

async fn carry(
    answers: &Answers,
    transfer: &Transfer,
    mut rows: BytesCursor,
    mut insert: InsertFormatted,
    mut watch: Watch,
) -> Result<(), Error> {
    let (from, to, doing) = (&transfer.from, &transfer.to, transfer.doing());
    let mut any = false;
    // Leaving this function by an error drops the INSERT unended, which breaks its connection off.
    while let Some(bytes) = rows.next().await.map_err(|error| answers.translated(from, &doing, error))? {
        watch.see(&bytes);
        any |= !bytes.is_empty();
        if let Err(error) = insert.send(bytes).await {
            return Err(refused(answers, transfer, &doing, &watch, error));
        }
    }
    if !watch.is_whole() {
        let why = watch.error().map_or_else(
            || Kind::Network("the rows end in the middle of a block".into()),
            |text| answers.server_error(&text),
        );
        return Err(Error { node: from.to_string(), doing, kind: why });
    }
    // An old server says nothing at all when there are no rows; an INSERT of nothing would be an error there.
    if !any {
        return Ok(());
    }
    insert.end().await.map_err(|error| match watch.error() {
        Some(_) => refused(answers, transfer, &doing, &watch, error),
        None => answers.translated(to, &doing, error),
    })
}

/// The target took no more. When the source has failed meanwhile and said so behind the rows, that is why.
fn refused(answers: &Answers, transfer: &Transfer, doing: &str, watch: &Watch, error: ClientError) -> Error {
    let answer = answers.translated(&transfer.to, doing, error);
    match watch.error().map(|text| answers.server_error(&text)) {
        Some(kind @ Kind::Server { .. }) if answer.code().is_some() => {
            Error { node: transfer.from.to_string(), doing: doing.to_owned(), kind }
        }
        _ => answer,
    }
}
