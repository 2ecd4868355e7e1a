//! ClickHouse over HTTP, through the official client.

mod account;
mod dealt;
mod frames;
mod relay;
mod tls;
mod warehouse;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use clickhouse::{Client, Compression, Row};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use crate::model::{Node, Tls};

use super::{Error, Kind, Settings};

pub use tls::TlsError;

/// What nothing hangs on: a frozen node must not hold others up.
const QUICK: Duration = Duration::from_secs(5);
/// A look at system tables, or the making of a table.
const SHORT: Duration = Duration::from_secs(60);
/// A query that reads one or a few columns of a whole table.
const COUNTING: Duration = Duration::from_secs(3600);
/// How often definitions are looked at before a table that vanished is an error.
const LOOKS: u32 = 5;
/// How often a silent connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// After how long an idle connection is closed: before the server does, which waits three seconds unless told else.
const IDLE: Duration = Duration::from_secs(2);
const UNKNOWN_TABLE: u32 = 60;
const FILE_DOESNT_EXIST: u32 = 107;

/// The servers of a task, over HTTP.
#[derive(Clone)]
pub struct HttpWarehouse {
    client: Client,
    connect_timeout: Duration,
}

/// How long the first answer of a node may take before the node counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl HttpWarehouse {
    /// Connects as the configuration says, over HTTPS where a node is `secure`.
    ///
    /// # Errors
    /// Certificates or keys that cannot be used.
    pub fn new(tls: &Tls) -> Result<Self, TlsError> {
        let http = HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(tls::connector(tls)?);
        let client = Client::with_http_client(http).with_compression(Compression::None).with_validation(false);
        Ok(Self { client, connect_timeout: CONNECT_TIMEOUT })
    }

    fn client(&self, node: &Node) -> Client {
        let client = self.client.clone().with_url(node.url());
        account::enter(client, node).with_product_info("clickhouse-copier", env!("CARGO_PKG_VERSION"))
    }

    /// Rows of a result that has the shape of `T`, whatever the version.
    ///
    /// `wait_end_of_query` makes the server finish before it answers: an error in the middle is then an error and not a
    /// text behind the rows (facts file, T8).
    async fn rows<T>(&self, node: &Node, doing: &str, sql: &str, limit: Duration) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.rows_with(node, doing, sql, limit, &Settings::new()).await
    }

    /// The same with settings of the task.
    async fn rows_with<T>(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        limit: Duration,
        settings: &Settings,
    ) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        let mut query = self.client(node).query_raw(sql).with_setting("wait_end_of_query", "1");
        for (name, value) in settings {
            query = query.with_setting(name, value);
        }
        bounded(node, doing, limit, query.fetch_all::<T>()).await
    }

    /// Rows of a system table that tells tables or their definitions. 18.16 reads the definitions of the database's other
    /// tables too, and fails with "unknown table" or "file doesn't exist" when one of them is dropped meanwhile, as staging
    /// tables of other batches are: then looked again.
    async fn definitions<T>(&self, node: &Node, doing: &str, sql: &str) -> Result<Vec<T>, Error>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        for _ in 1..LOOKS {
            match self.rows(node, doing, sql, SHORT).await {
                Err(error) if matches!(error.code(), Some(UNKNOWN_TABLE | FILE_DOESNT_EXIST)) => {}
                other => return other,
            }
        }
        self.rows(node, doing, sql, SHORT).await
    }

    /// A result in a text format.
    async fn text(&self, node: &Node, doing: &str, sql: &str, format: &str, limit: Duration) -> Result<Vec<u8>, Error> {
        let query = self.client(node).query_raw(sql).with_setting("wait_end_of_query", "1");
        bounded(node, doing, limit, async { Ok(query.fetch_bytes(format)?.collect().await?.to_vec()) }).await
    }

    /// A statement without a result, with a bound on its time.
    async fn execute(
        &self,
        node: &Node,
        doing: &str,
        sql: &str,
        settings: &Settings,
        limit: Option<Duration>,
        query_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut query = self.client(node).query_raw(sql);
        for (name, value) in settings {
            query = query.with_setting(name, value);
        }
        if let Some(id) = query_id {
            query = query.with_setting("query_id", id);
        }
        match limit {
            Some(limit) => bounded(node, doing, limit, query.execute()).await,
            None => query.execute().await.map_err(|error| translated(node, doing, error)),
        }
    }

    /// Finds out quickly whether a node answers at all: a host that swallows packets would hold a longer question up.
    async fn reach(&self, node: &Node) -> Result<(), Error> {
        let doing = "cannot connect";
        let query = self.client(node).query_raw("SELECT 1");
        bounded(node, doing, self.connect_timeout, query.fetch_all::<u8>()).await.map(drop)
    }
}

async fn bounded<T>(
    node: &Node,
    doing: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| translated(node, doing, error)),
        Err(_) => Err(Error { node: node.to_string(), doing: doing.to_owned(), kind: Kind::Timeout(limit) }),
    }
}

fn translated(node: &Node, doing: &str, error: clickhouse::error::Error) -> Error {
    use clickhouse::error::Error as E;
    let kind = match error {
        E::BadResponse(text) => server_error(&text),
        E::Network(cause) => match tls::trouble(cause.as_ref()) {
            Some(why) => Kind::Tls(why),
            None => Kind::Network(deepest(cause.as_ref())),
        },
        E::TimedOut => Kind::Network("the connection timed out".into()),
        other => Kind::Answer(hide_passwords(&first_line(&other.to_string()))),
    };
    Error { node: node.to_string(), doing: doing.to_owned(), kind }
}

/// `Code: N, e.displayText() = DB::Exception: TEXT, e.what() = DB::Exception` (18.16) or
/// `Code: N. DB::Exception: TEXT (NAME) (version …)` (later); facts file, §10.
fn server_error(text: &str) -> Kind {
    let Some(rest) = text.find("Code: ").map(|at| &text[at + 6..]) else {
        return Kind::Answer(hide_passwords(&first_line(text)));
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Ok(code) = rest[..digits].parse() else {
        return Kind::Answer(hide_passwords(&first_line(text)));
    };
    let message = rest[digits..]
        .trim_start_matches(['.', ',', ' '])
        .trim_start_matches("e.displayText() = ")
        .trim_start_matches("DB::Exception: ");
    let message = message.split(", e.what()").next().unwrap_or(message);
    let message = message.split(". Stack trace").next().unwrap_or(message);
    Kind::Server { code, message: hide_passwords(&telling_line(message)) }
}

/// The first line; where that only announces a log of attempts to connect, what went wrong in the first of them.
fn telling_line(message: &str) -> String {
    let first = first_line(message);
    let attempt = message.lines().skip(1).find(|line| line.starts_with("Code: ")).filter(|_| first.ends_with("Log:"));
    match attempt {
        Some(attempt) => format!("{} {}", first.trim_end_matches(" Log:"), first_line(attempt)),
        None => first,
    }
}

/// A server before 22.12 repeats the statement in its error, and with it the password of `remote()` (facts file, §11).
fn hide_passwords(message: &str) -> String {
    match message.find("remote(").or_else(|| message.find("remoteSecure(")) {
        Some(at) => format!("{}remote(…)", &message[..at]),
        None => message.to_owned(),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)").trim();
    match line.char_indices().nth(500) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// Names and types of a result without rows.
#[derive(Deserialize)]
struct Header {
    meta: Vec<HeaderColumn>,
}

#[derive(Deserialize)]
struct HeaderColumn {
    #[serde(rename = "type")]
    type_name: String,
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
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_first_line_are_found_in_old_and_new_errors() {
        for (text, code, message) in [
            (
                "Code: 60, e.displayText() = DB::Exception: Table d.t doesn't exist., e.what() = DB::Exception",
                60,
                "Table d.t doesn't exist.",
            ),
            (
                "Code: 60. DB::Exception: Table d.t does not exist. (UNKNOWN_TABLE) (version 24.8.4.13)\n",
                60,
                "Table d.t does not exist. (UNKNOWN_TABLE) (version 24.8.4.13)",
            ),
            (
                "Code: 210, e.displayText() = DB::NetException: Connection refused (in query: INSERT INTO FUNCTION remote('h', 'd', 't', 'u', 'secret') SELECT 1), e.what()",
                210,
                "DB::NetException: Connection refused (in query: INSERT INTO FUNCTION remote(…)",
            ),
        ] {
            assert!(
                matches!(server_error(text), Kind::Server { code: c, message: m } if c == code && m == message),
                "{text}"
            );
        }
        assert!(matches!(server_error("<html>proxy</html>"), Kind::Answer(_)));
    }
}
