//! The client for ClickHouse servers over HTTP, built on the official client library.

mod account;
mod answer_limit;
mod answers;
mod bound;
mod catalog;
mod checksums;
mod client;
mod counts;
mod dealt;
mod expressions;
mod facts;
mod frame;
mod frames;
#[cfg(any(test, feature = "doubles"))]
pub(crate) mod fuzzed;
mod inspector;
mod joined_questions;
mod partitions;
mod permits;
mod policies;
mod probe;
mod profile;
mod refused;
mod relay;
mod running;
mod text;
mod tls;
mod transfer;
mod zookeeper;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use answer_limit::{LimitedConnector, MOST_ANSWER};
use answers::Answers;
use bound::{Bound, Limit, own_id};
use catalog::Catalog;
use clickhouse::query::Query;
use clickhouse::{Client, Compression, Row};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use permits::Permits;
use profile::{Profile, Profiles};
use refused::{Refusal, RefusalLog, Waiting};
use serde::Deserialize;

use super::codes::{FILE_DOESNT_EXIST, UNKNOWN_TABLE};
use super::{Error, Kind, Settings};
use crate::model::{Node, Tls};

pub(crate) use permits::{FEWEST_STATEMENTS, Limits, MOST_STATEMENTS, USUAL_STATEMENTS, served_connections};
pub(crate) use tls::TlsError;

/// Time limit of requests that no work depends on: a frozen node must not delay others.
const QUICK: Duration = Duration::from_secs(5);
/// Time limit of reading system tables and of creating a table.
const SHORT: Duration = Duration::from_secs(60);
/// Limit of a query that reads one or a few columns of a whole table.
const COUNTING: Limit = Limit::Moving;
/// How long a replica may take to catch up, unless the caller waits less.
const SYNC: Duration = Duration::from_secs(3600);
/// How often definitions are read before a vanished table is an error. The pause between two reads grows by
/// [`DEFINITION_READ_PAUSE`] each time: six seconds in all, so that another worker can remove its staging tables meanwhile.
const MAX_DEFINITION_READS: u32 = 15;
const DEFINITION_READ_PAUSE: Duration = Duration::from_millis(60);
/// How often a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// When an idle connection is closed: well before the server does, which waits three seconds by default.
const IDLE: Duration = Duration::from_secs(1);

/// The servers of a task, over HTTP.
#[derive(Clone)]
pub struct HttpServerClient {
    client: Client,
    /// A client that keeps no connection: each statement has one of its own.
    fresh: Client,
    /// The client for rows that are passed on, without a limit on their size.
    rows: Client,
    /// How long a statement may move nothing.
    stall: Duration,
    connect_timeout: Duration,
    answers: Answers,
    profiles: Profiles,
    permits: Permits,
    refusals: RefusalLog,
    catalog: Catalog,
}

/// How long the first answer of a node may take before the node counts as unreachable. It is longer than the five
/// seconds for which an old server lets a statement wait for a place (`queue_max_wait_ms`) before it reports that it
/// is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

impl HttpServerClient {
    /// Returns a client with the configured TLS options; it uses HTTPS for nodes that are `secure`.
    ///
    /// # Errors
    /// Certificates or keys that cannot be used.
    pub fn new(tls: &Tls) -> Result<Self, TlsError> {
        Self::limited(tls, Limits::default())
    }

    /// Returns a client with other limits than the usual ones.
    ///
    /// # Errors
    /// As [`new`](Self::new)'s.
    pub(crate) fn limited(tls: &Tls, limits: Limits) -> Result<Self, TlsError> {
        let plain = tls::connector(tls)?;
        let connector = LimitedConnector::new(plain.clone(), Some(MOST_ANSWER));
        // With a timer, idle connections are closed when their time is over, and not only when a connection is
        // requested.
        let pooled = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits.idle)
            .build::<_, _>(connector.clone());
        let single = |connector| HttpClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let (fresh, rows) = (single(connector), single(LimitedConnector::new(plain, None)));
        let plain = |http| Client::with_http_client(http).with_compression(Compression::None).with_validation(false);
        Ok(Self {
            client: plain(pooled),
            fresh: plain(fresh),
            rows: plain(rows),
            stall: limits.stall,
            connect_timeout: CONNECT_TIMEOUT,
            answers: Answers::default(),
            profiles: Profiles::default(),
            permits: Permits::new(limits),
            refusals: RefusalLog::default(),
            catalog: Catalog::default(),
        })
    }

    /// Returns the client for a node. Every request uses it, so that the password is known when answers are read.
    /// Statements use [`asking`](Self::asking), or set the result of [`settings_between`](Self::settings_between).
    fn client(&self, node: &Node) -> Client {
        self.entered(&self.client, node)
    }

    /// Adds the account of a node to one of our clients.
    fn entered(&self, client: &Client, node: &Node) -> Client {
        self.answers.keep_secret(&node.password);
        let client = client.clone().with_url(node.url());
        account::enter(client, node).with_product_info("clickhouse-copier", env!("CARGO_PKG_VERSION"))
    }

    /// Returns the rows of a result, which has the shape of `T` on every version.
    ///
    /// `wait_end_of_query` makes the server finish before it answers: an error in the middle is then an error and not
    /// a text after the rows (docs/clickhouse-behaviour.md, T8).
    async fn rows<T>(&self, node: &Node, doing: &str, sql: &str, limit: impl Into<Limit>) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.rows_with(node, doing, sql, limit, &Settings::new()).await
    }

    /// Returns the rows of a result, with settings of the task.
    async fn rows_with<T>(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        limit: impl Into<Limit>,
        settings: &Settings,
    ) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        let limit = limit.into();
        let profile = self.profile(node, limit.before()).await?;
        let Limit::Within(limit) = limit else {
            // Each repetition has an id of its own: the previous statement may still run.
            let (id, asked) = (own_id(), AtomicU64::new(0));
            let ask = |client: &Client| {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                let query = self.question(client, node, &profile, sql, settings);
                query.with_setting("query_id", format!("{id}:{number}")).fetch_all::<T>()
            };
            return self.asked(node, doing, Bound::Count(&id), ask).await;
        };
        let ask = |client: &Client| self.question(client, node, &profile, sql, settings).fetch_all::<T>();
        self.asked(node, doing, Bound::Within(limit), ask).await
    }

    /// Returns rows of a system table that lists tables or their definitions. 18.16 reads the definitions of the
    /// database's other tables too, and fails with "unknown table" or "file doesn't exist" if one of them is dropped
    /// meanwhile, as staging tables of other batches are. The read is then repeated.
    async fn definitions<T>(&self, node: &Node, doing: &str, sql: &str) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        for read in 1..MAX_DEFINITION_READS {
            match self.rows(node, doing, sql, SHORT).await {
                Err(error) if matches!(error.code(), Some(UNKNOWN_TABLE | FILE_DOESNT_EXIST)) => {
                    tokio::time::sleep(DEFINITION_READ_PAUSE * read).await;
                }
                other => return other,
            }
        }
        self.rows(node, doing, sql, SHORT).await
    }

    /// Returns a result in a text format.
    async fn text(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        format: &str,
        limit: Duration,
        settings: &Settings,
    ) -> Result<Vec<u8>, Error> {
        let profile = self.profile(node, limit).await?;
        let ask = |client: &Client| {
            let query = self.question(client, node, &profile, sql, settings);
            async move { Ok(query.fetch_bytes(format)?.collect().await?.to_vec()) }
        };
        self.asked(node, doing, Bound::Within(limit), ask).await
    }

    /// Builds a question over one of our clients, with the settings that the profile makes necessary and those of the
    /// task.
    fn question(&self, client: &Client, node: &Node, profile: &Profile, sql: &str, settings: &Settings) -> Query {
        let client = with_settings(self.entered(client, node), profile.settings());
        let query = client.query_raw(sql).with_setting("wait_end_of_query", "1");
        settings.iter().fold(query, |query, (name, value)| query.with_setting(name, value))
    }

    /// Runs a statement without a result, within a limit.
    async fn execute(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        settings: &Settings,
        bound: Bound<'_>,
    ) -> Result<(), Error> {
        let before = if let Bound::Within(limit) = bound { limit } else { SHORT };
        let client = self.asking(node, before).await?;
        let _permit = self.permits.one(bound.share(), node).await;
        self.execute_by(client, node, doing, sql, settings, bound).await
    }

    /// Runs a statement through a client that has all necessary settings, for a caller that has the permits. It waits
    /// for a full server.
    async fn execute_by(
        &self,
        client: Client,
        node: &Node,
        doing: &str,
        sql: &str,
        settings: &Settings,
        bound: Bound<'_>,
    ) -> Result<(), Error> {
        let mut waiting = Waiting::new(bound.share());
        loop {
            let mut query = client.query_raw(sql);
            for (name, value) in settings {
                query = query.with_setting(name, value);
            }
            if let Some(id) = bound.query_id() {
                query = query.with_setting("query_id", id);
            }
            match self.once(node, doing, bound, false, query.execute()).await {
                Err((error, Some(refusal))) => {
                    let _waits = if let Bound::Transfer { course, .. } = bound { Some(course.wait()) } else { None };
                    self.wait_for_a_place(node, &mut waiting, refusal, error).await?;
                }
                answer => return answer.map_err(|(error, _)| error),
            }
        }
    }

    /// Checks quickly whether a node answers at all: a host that drops packets would delay a longer question.
    async fn reach(&self, node: &Node) -> Result<(), Error> {
        let doing = "cannot connect";
        let ask = |client: &Client| self.entered(client, node).query_raw("SELECT 1").fetch_all::<u8>();
        self.asked(node, doing, Bound::Within(self.connect_timeout), ask).await.map(drop)
    }

    /// Asks a question that changes nothing, with a permit of a share. It waits for a full server; the limit applies
    /// to each try.
    async fn asked<T, F>(
        &self,
        node: &Node,
        doing: &str,
        bound: Bound<'_>,
        ask: impl Fn(&Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, clickhouse::error::Error>>,
    {
        let _permit = self.permits.one(bound.share(), node).await;
        let mut waiting = Waiting::new(bound.share());
        loop {
            match self.once(node, doing, bound, true, self.answer(&ask)).await {
                Err((error, Some(refusal))) => self.wait_for_a_place(node, &mut waiting, refusal, error).await?,
                answer => return answer.map_err(|(error, _)| error),
            }
        }
    }

    /// Waits until a refused request may be sent again.
    ///
    /// # Errors
    /// Returns the error of the request, once it has waited long enough.
    async fn wait_for_a_place(
        &self,
        node: &Node,
        waiting: &mut Waiting,
        refusal: Refusal,
        error: Error,
    ) -> Result<(), Error> {
        let Some(pause) = waiting.next(refusal) else { return Err(error) };
        self.refusals.log(node, refusal);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks a question that changes nothing. A server closes a connection that was idle for its keep-alive time (3 s
    /// by default; the header of its answer tells it), and a busy machine notices that too late: the connection then
    /// ends without an answer, and the question is repeated once over a new connection.
    async fn answer<T, F>(&self, ask: impl Fn(&Client) -> F) -> Result<T, clickhouse::error::Error>
    where
        F: Future<Output = Result<T, clickhouse::error::Error>>,
    {
        match ask(&self.client).await {
            Err(error) if answers::is_connection_gone(&error) => ask(&self.fresh).await,
            answer => answer,
        }
    }

    async fn bounded<T>(
        &self,
        node: &Node,
        doing: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, Error> {
        self.once(node, doing, Bound::Within(limit), false, work).await.map_err(|(error, _)| error)
    }

    /// Sends a request once. With an error, it also returns whether the request was refused before it began.
    async fn once<T>(
        &self,
        node: &Node,
        doing: &str,
        bound: Bound<'_>,
        is_question: bool,
        work: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, (Error, Option<Refusal>)> {
        let answer = self.within(node, doing, bound, work).await.map_err(|error| (error, None))?;
        answer.map_err(|error| {
            let is_gone = Refusal::of(&error, is_question);
            let error = self.answers.translated(node, doing, error);
            let refusal = is_gone.or_else(|| Refusal::of_answer(&error, is_question));
            (error, refusal)
        })
    }
}

fn with_settings<'a>(client: Client, settings: impl Iterator<Item = (&'a str, &'a str)>) -> Client {
    settings.fold(client, |client, (name, value)| client.with_setting(name, value))
}

fn pairs(rows: Vec<TextPair>) -> BTreeMap<String, String> {
    rows.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

#[derive(Row, Deserialize)]
struct TextPair {
    name: String,
    value: String,
}

#[cfg(test)]
mod tests;
