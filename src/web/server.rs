//! The answer of each address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next, from_fn_with_state};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::{Access, AccessDecision};
use super::assets::{Asset, LOGIN, PAGE, SCRIPT, STYLE};
use super::events::Event;
use super::metrics;
use super::page_updates::PageUpdates;
use super::watch::{Reading, TaskWatch, Viewer};
use crate::report::status::{BatchStatus, PartitionStatus, Status};
use crate::worker::view::View;

/// The highest number of pages that receive updates at once.
const MAX_VIEWERS: usize = 64;
/// The highest number of connections of a dashboard: those of pages that receive updates, and all others.
pub(crate) const DASHBOARD_CONNECTIONS: usize = 128 + MAX_VIEWERS;
/// The highest number of connections of a worker's metrics.
pub(crate) const METRICS_CONNECTIONS: usize = 64;
/// The interval of messages that keep a stream alive. A page that receives nothing for longer may consider the
/// connection broken.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// The highest number of bytes of the form with a token.
const MAX_FORM_BYTES: usize = 4096;
/// The content security policy: scripts and styles are files of this server, nothing is framed, and nothing is loaded
/// from elsewhere.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The reason why nothing can be served.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
}

/// Listens on an address. Returns the actual address: with port 0 the system chooses a port.
///
/// # Errors
/// Fails if the address is in use, or is not an address of this machine.
pub(crate) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Returns the routes of the dashboard.
pub fn dashboard(watch: TaskWatch, access: Access) -> Router {
    let access = Arc::new(access);
    let dashboard = Arc::new(Dashboard { watch, viewer_slots: Arc::new(Semaphore::new(MAX_VIEWERS)) });
    let guarded = Router::new()
        .route("/api/status", get(status))
        .route("/api/partition", get(partition))
        .route("/api/events", get(events))
        .route("/api/stream", get(stream))
        .route("/metrics", get(task_metrics))
        .layer(from_fn_with_state(access.clone(), require_access))
        .with_state(dashboard);
    let open = Router::new()
        .route("/", get(page))
        .route("/login", post(login))
        .route("/style.css", get(async || file(&STYLE)))
        .route("/page.js", get(async || file(&SCRIPT)))
        .route("/healthz", get(healthy))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(access);
    with_security_headers(open.merge(guarded))
}

/// Returns the routes of a worker: its metrics.
pub fn worker(view: View, name: String, task_path: String, access: Access) -> Router {
    let figures = async move || text(metrics::CONTENT_TYPE, metrics::of_worker(&view, &name, &task_path).await);
    let guarded =
        Router::new().route("/metrics", get(figures)).layer(from_fn_with_state(Arc::new(access), require_access));
    with_security_headers(guarded.route("/healthz", get(healthy)))
}

struct Dashboard {
    watch: TaskWatch,
    viewer_slots: Arc<Semaphore>,
}

/// Adds the security headers to every answer.
fn with_security_headers(router: Router) -> Router {
    router.layer(middleware::map_response(async |mut response: Response| {
        let headers: [(HeaderName, &'static str); 4] = [
            (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (CACHE_CONTROL, "no-store"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }))
}

async fn require_access(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.judge(request.headers()) {
        AccessDecision::Allowed => next.run(request).await,
        AccessDecision::NotSignedIn => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a token is needed\n").into_response()
        }
        AccessDecision::OtherHost => misled(),
    }
}

fn misled() -> Response {
    let line = "without a token this is served as localhost or by its loopback address only\n";
    (StatusCode::FORBIDDEN, line).into_response()
}

async fn healthy() -> &'static str {
    "ok\n"
}

#[derive(Deserialize)]
struct TokenForm {
    token: Option<String>,
}

async fn page(State(access): State<Arc<Access>>, Query(form): Query<TokenForm>, request: Request) -> Response {
    if let Some(token) = form.token {
        return exchange_token(&access, &token);
    }
    match access.judge(request.headers()) {
        AccessDecision::Allowed => file(&PAGE),
        AccessDecision::NotSignedIn => (StatusCode::UNAUTHORIZED, file(&LOGIN)).into_response(),
        AccessDecision::OtherHost => misled(),
    }
}

async fn login(State(access): State<Arc<Access>>, Form(form): Form<TokenForm>) -> Response {
    exchange_token(&access, form.token.as_deref().unwrap_or_default())
}

/// Exchanges a token for a cookie. The browser continues at an address without the token.
fn exchange_token(access: &Access, token: &str) -> Response {
    let cookie = access.cookie(token).and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    match cookie {
        Some(cookie) => {
            (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/")), (SET_COOKIE, cookie)]).into_response()
        }
        None => (StatusCode::UNAUTHORIZED, file(&LOGIN)).into_response(),
    }
}

/// The object of `status --format json`, with the time of the reading.
#[derive(Serialize)]
struct TimedStatus<'a> {
    #[serde(flatten)]
    status: &'a Status,
    seen_at: String,
    stale: Option<&'a str>,
}

async fn status(State(dashboard): State<Arc<Dashboard>>) -> Response {
    let reading = dashboard.watch.current().await;
    match reading.seen.as_deref() {
        Some(seen) => json(
            StatusCode::OK,
            &TimedStatus { status: &seen.status, seen_at: seen.at_text(), stale: reading.stale.as_deref() },
        ),
        None => no_reading(&reading),
    }
}

#[derive(Serialize)]
struct NoReading<'a> {
    stale: &'a str,
}

fn no_reading(reading: &Reading) -> Response {
    let stale = reading.stale.as_deref().unwrap_or("the task was not looked at yet");
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "2")], json(StatusCode::SERVICE_UNAVAILABLE, &NoReading { stale }))
        .into_response()
}

#[derive(Deserialize)]
struct PartitionIndex {
    table: usize,
    partition: usize,
}

#[derive(Serialize)]
struct PartitionDetails<'a> {
    status: &'a PartitionStatus,
    batch: BatchStatus,
}

/// Answers with the partition at these indexes in the lists of `/api/status`. Uses the last reading, without asking
/// anybody.
async fn partition(State(dashboard): State<Arc<Dashboard>>, Query(index): Query<PartitionIndex>) -> Response {
    let mut reading = dashboard.watch.latest();
    if reading.seen.is_none() {
        reading = dashboard.watch.current().await;
    }
    let Some(seen) = reading.seen.as_deref() else { return no_reading(&reading) };
    let status = seen.status.tables.get(index.table).and_then(|table| table.partitions.get(index.partition));
    match status.zip(BatchStatus::of(&seen.overview, index.table, index.partition)) {
        Some((status, batch)) => json(StatusCode::OK, &PartitionDetails { status, batch }),
        None => (StatusCode::NOT_FOUND, "there is no such partition\n").into_response(),
    }
}

async fn events(State(dashboard): State<Arc<Dashboard>>) -> Response {
    let reading = dashboard.watch.latest();
    let events: Vec<&Event> = reading.events.after(0).collect();
    json(StatusCode::OK, &events)
}

async fn task_metrics(State(dashboard): State<Arc<Dashboard>>) -> Response {
    text(metrics::CONTENT_TYPE, metrics::of_task(dashboard.watch.current().await.as_ref()))
}

/// A page that receives updates, with the last reading that it received.
struct PageStream {
    viewer: Viewer,
    sent: Option<Arc<Reading>>,
    _permit: OwnedSemaphorePermit,
}

/// Streams updates. A message is made only when the page has taken the one before, so messages do not pile up for a
/// slow reader.
async fn stream(State(dashboard): State<Arc<Dashboard>>, method: Method) -> Response {
    // The answer to HEAD needs no reading.
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    let Ok(permit) = dashboard.viewer_slots.clone().try_acquire_owned() else {
        let line = "too many pages look on\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], line).into_response();
    };
    let page = PageStream { viewer: dashboard.watch.viewer(), sent: None, _permit: permit };
    let messages = stream::unfold(page, async |mut page| {
        let reading = page.viewer.newer(page.sent.as_ref().map_or(0, |sent| sent.number)).await?;
        // A message can always be written as JSON, on one line.
        let updates = serde_json::to_string(&PageUpdates::of(page.sent.as_deref(), &reading)).unwrap_or_default();
        page.sent = Some(reading);
        Some((Ok::<_, Infallible>(Message::default().data(updates)), page))
    });
    Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response()
}

fn file(asset: &Asset) -> Response {
    ([(CONTENT_TYPE, asset.kind)], asset.text).into_response()
}

fn text(kind: &'static str, text: String) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn json(code: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (code, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::report::status::{ErrorStatus, JobStatus, PartitionState, StatementStatus, sample};

    /// A status with an element in every list.
    fn full() -> Status {
        let mut status = sample(1);
        let partitions = status.total.partitions.clone();
        status.tables[0].amounts.partitions = partitions;
        status.tables[0].partitions[0].state = PartitionState::Failed;
        let statement =
            StatementStatus { node: "n".into(), query_id: "q".into(), millis: 1, rows_read: 2, rows_written: 3 };
        status.workers[0].jobs.push(JobStatus {
            what: "copies".into(),
            table: None,
            piece: None,
            attempt: None,
            statements: vec![statement],
        });
        status.errors.push(ErrorStatus { what: "w".into(), error: "e".into(), tried_again: true });
        status
    }

    fn collect_paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if path.ends_with("partitions") { "*" } else { name };
                    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                    found.insert(path.clone());
                    collect_paths(value, &path, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect_paths(value, &format!("{path}[]"), found)),
            _ => {}
        }
    }

    #[test]
    fn the_status_has_exactly_the_documented_fields() {
        let mut sent = BTreeSet::new();
        let seen = TimedStatus { status: &full(), seen_at: "t".into(), stale: None };
        collect_paths(&serde_json::to_value(seen).unwrap(), "", &mut sent);
        let text = include_str!("../../docs/status-schema.md");
        let fields = text.split("| --- | --- | --- |").nth(1).unwrap().split("\n\n").next().unwrap();
        let documented: BTreeSet<String> =
            fields.lines().filter_map(|line| Some(line.split('`').nth(1)?.to_owned())).collect();
        assert_eq!(sent, documented);
    }
}
