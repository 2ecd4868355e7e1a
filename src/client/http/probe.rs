//! The questions of `run` and `check` before a copy, each as a statement and the shape of its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use clickhouse::Row;
use serde::Deserialize;

use super::super::{Error, Fingerprint, Loss, Probe, Settings};
use super::bound::Bound;
use super::permits::Share;
use super::refused::Waiting;
use super::{COUNTING, HttpServerClient, QUICK, SHORT};
use crate::model::Node;
use crate::sql::{self, LossTest, Selection};

#[derive(Row, Deserialize)]
struct FingerprintRow {
    host: String,
    started: i64,
    uuid: String,
    port: u64,
}

#[derive(Row, Deserialize)]
struct LossesRow {
    counts: Vec<u64>,
    /// Bytes: a String may hold anything.
    examples: Vec<Vec<u8>>,
}

impl HttpServerClient {
    /// Returns the texts of a statement's answer over a new connection, for a caller that has the permits.
    async fn fresh_texts(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        limit: Duration,
    ) -> Result<BTreeSet<String>, Error> {
        let mut waiting = Waiting::new(Bound::Within(limit).share());
        loop {
            let query = self.entered(&self.fresh, node).query_raw(sql).with_setting("wait_end_of_query", "1");
            match self.once(node, doing, Bound::Within(limit), true, query.fetch_all::<String>()).await {
                Ok(rows) => return Ok(rows.into_iter().collect()),
                Err((error, Some(refusal))) => self.wait_for_a_place(node, &mut waiting, refusal, error).await?,
                Err((error, None)) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl Probe for HttpServerClient {
    async fn hold_mark(&self, node: &Node, mark: &str, settings: &Settings) -> Result<(), Error> {
        let endable = settings.iter().any(|(name, _)| name == "max_block_size");
        let statement = sql::hold_mark(mark, endable);
        // It takes no permit: each account has one mark, and reads of the marks must proceed meanwhile.
        let (doing, mut waiting) = ("cannot run a statement by which the server is told", Waiting::new(Share::Count));
        loop {
            let query = self.entered(&self.fresh, node).query_raw(&statement).with_setting("query_id", mark);
            let query = settings.iter().fold(query, |query, (name, value)| query.with_setting(name, value));
            match self.once(node, doing, Bound::Within(SHORT), false, query.execute()).await {
                Err((error, Some(refusal))) => self.wait_for_a_place(node, &mut waiting, refusal, error).await?,
                answer => return answer.map_err(|(error, _)| error),
            }
        }
    }

    async fn end_mark(&self, node: &Node, mark: &str) -> Result<(), Error> {
        let none = Settings::new();
        self.execute(node, "cannot end a statement", &sql::kill(mark), &none, Bound::Within(QUICK)).await
    }

    async fn marks(&self, node: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        let _permit = self.permits.one(Share::Control, node).await;
        self.fresh_texts(node, "cannot list running statements", &sql::marks(prefix), QUICK).await
    }

    async fn marks_behind(&self, from: &Node, to: &Node, prefix: &str) -> Result<BTreeSet<String>, Error> {
        self.answers.keep_secret(&to.password);
        let doing = format!("cannot list running statements of {to} from there");
        let _permit = self.permits.several(Share::Question, [from, to], 1).await;
        self.fresh_texts(from, &doing, &sql::marks_behind(to, prefix), SHORT).await
    }

    async fn fingerprint(&self, node: &Node) -> Result<Fingerprint, Error> {
        let doing = "cannot ask the server what it is";
        let known: Vec<String> = self.rows(node, doing, sql::IDENTITY_FUNCTIONS, SHORT).await?;
        let has = |function: &str| known.iter().any(|name| name == function);
        let statement = sql::fingerprint(has("serverUUID"), has("tcpPort"));
        let rows: Vec<FingerprintRow> = self.rows(node, doing, &statement, SHORT).await?;
        let Some(row) = rows.into_iter().next() else {
            return Err(self.no_row(node, doing));
        };
        // Some builds have no identity and report zero.
        let uuid = Some(row.uuid).filter(|uuid| uuid.chars().any(|c| c != '0' && c != '-'));
        Ok(Fingerprint { host: row.host, started: row.started, uuid, port: Some(row.port).filter(|port| *port > 0) })
    }

    async fn losses(
        &self,
        node: &Node,
        rows: &Selection,
        tests: &[LossTest],
        settings: &Settings,
    ) -> Result<Vec<Loss>, Error> {
        let doing = format!("cannot count what conversions of {} lose", rows.relation.table);
        let statement = sql::losses(rows, tests);
        let found: Vec<LossesRow> = self.rows_with(node, &doing, &statement, COUNTING, settings).await?;
        let Some(row) = found.into_iter().next().filter(|row| row.counts.len() == tests.len()) else {
            return Err(self.no_row(node, &doing));
        };
        let loss =
            |(rows, example): (u64, Vec<u8>)| Loss { rows, example: String::from_utf8_lossy(&example).into_owned() };
        Ok(row.counts.into_iter().zip(row.examples).map(loss).collect())
    }
}

impl HttpServerClient {
    fn no_row(&self, node: &Node, doing: &str) -> Error {
        let kind = super::Kind::Answer("the answer has not the shape that was asked for".into());
        Error { node: node.to_string(), doing: doing.to_owned(), kind }
    }
}
