//! Addresses → answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use futures::stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::report::status::{BatchStatus, PartitionStatus, Status};
use crate::worker::view::View;

use super::access::{Access, Verdict};
use super::assets::{Asset, LOGIN, PAGE, SCRIPT, STYLE};
use super::events::Event;
use super::metrics;
use super::news::News;
use super::watch::{Look, TaskWatch, Viewer};

/// So many pages look on at once.
const VIEWERS: usize = 64;
/// The most connections of a dashboard: those of pages that look on, and of everything else.
pub const DASHBOARD_CONNECTIONS: usize = 128 + VIEWERS;
/// The most connections of those who ask a worker for its metrics.
pub const METRICS_CONNECTIONS: usize = 64;
/// A page that hears nothing for so long may take the line for broken.
const ALIVE: Duration = Duration::from_secs(10);
/// A form with a token is no longer than this.
const FORM: usize = 4096;
/// Scripts and styles are files of ours, nothing is framed, and nothing is asked elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Why nothing can be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Takes an address, and gives the one that it got: with port 0 the system chooses.
///
/// # Errors
/// The address belongs to somebody else, or is not this machine's.
pub async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What the dashboard answers.
pub fn dashboard(watch: TaskWatch, access: Access) -> Router {
    let access = Arc::new(access);
    let hall = Arc::new(Hall { watch, seats: Arc::new(Semaphore::new(VIEWERS)) });
    let guarded = Router::new()
        .route("/api/status", get(status))
        .route("/api/partition", get(partition))
        .route("/api/events", get(events))
        .route("/api/stream", get(stream))
        .route("/metrics", get(task_metrics))
        .layer(from_fn_with_state(access.clone(), admit))
        .with_state(hall);
    let open = Router::new()
        .route("/", get(page))
        .route("/login", post(login))
        .route("/style.css", get(async || file(&STYLE)))
        .route("/page.js", get(async || file(&SCRIPT)))
        .route("/healthz", get(healthy))
        .layer(DefaultBodyLimit::max(FORM))
        .with_state(access);
    dressed(open.merge(guarded))
}

/// What a worker answers: its metrics.
pub fn worker(view: View, name: String, task_path: String, access: Access) -> Router {
    let figures = async move || text(metrics::CONTENT_TYPE, metrics::of_worker(&view, &name, &task_path).await);
    let guarded = Router::new().route("/metrics", get(figures)).layer(from_fn_with_state(Arc::new(access), admit));
    dressed(guarded.route("/healthz", get(healthy)))
}

struct Hall {
    watch: TaskWatch,
    seats: Arc<Semaphore>,
}

/// What every answer says to the browser.
fn dressed(router: Router) -> Router {
    router.layer(middleware::map_response(async |mut response: Response| {
        let headers: [(HeaderName, &'static str); 4] = [
            (CONTENT_SECURITY_POLICY, POLICY),
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

async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.judge(request.headers()) {
        Verdict::Welcome => next.run(request).await,
        Verdict::Stranger => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], "a token is needed\n").into_response()
        }
        Verdict::Misled => misled(),
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
struct Entry {
    token: Option<String>,
}

async fn page(State(access): State<Arc<Access>>, Query(entry): Query<Entry>, request: Request) -> Response {
    if let Some(token) = entry.token {
        return enter(&access, &token);
    }
    match access.judge(request.headers()) {
        Verdict::Welcome => file(&PAGE),
        Verdict::Stranger => (StatusCode::UNAUTHORIZED, file(&LOGIN)).into_response(),
        Verdict::Misled => misled(),
    }
}

async fn login(State(access): State<Arc<Access>>, Form(entry): Form<Entry>) -> Response {
    enter(&access, entry.token.as_deref().unwrap_or_default())
}

/// A token for a cookie; the browser goes on to an address without it.
fn enter(access: &Access, token: &str) -> Response {
    let cookie = access.cookie(token).and_then(|cookie| HeaderValue::from_str(&cookie).ok());
    match cookie {
        Some(cookie) => {
            (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static("/")), (SET_COOKIE, cookie)]).into_response()
        }
        None => (StatusCode::UNAUTHORIZED, file(&LOGIN)).into_response(),
    }
}

/// The object of `status --format json`, with when it was seen.
#[derive(Serialize)]
struct SeenStatus<'a> {
    #[serde(flatten)]
    status: &'a Status,
    seen_at: String,
    stale: Option<&'a str>,
}

async fn status(State(hall): State<Arc<Hall>>) -> Response {
    let look = hall.watch.now().await;
    match look.seen.as_deref() {
        Some(seen) => json(
            StatusCode::OK,
            &SeenStatus { status: &seen.status, seen_at: seen.at_text(), stale: look.stale.as_deref() },
        ),
        None => unseen(&look),
    }
}

#[derive(Serialize)]
struct Unseen<'a> {
    stale: &'a str,
}

fn unseen(look: &Look) -> Response {
    let stale = look.stale.as_deref().unwrap_or("the task was not looked at yet");
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "2")], json(StatusCode::SERVICE_UNAVAILABLE, &Unseen { stale }))
        .into_response()
}

#[derive(Deserialize)]
struct Which {
    table: usize,
    partition: usize,
}

#[derive(Serialize)]
struct PartitionDetails<'a> {
    status: &'a PartitionStatus,
    batch: BatchStatus,
}

/// By their places in the lists of `/api/status`. From the last sight: nobody is asked anew.
async fn partition(State(hall): State<Arc<Hall>>, Query(which): Query<Which>) -> Response {
    let mut look = hall.watch.last();
    if look.seen.is_none() {
        look = hall.watch.now().await;
    }
    let Some(seen) = look.seen.as_deref() else { return unseen(&look) };
    let status = seen.status.tables.get(which.table).and_then(|table| table.partitions.get(which.partition));
    match status.zip(BatchStatus::of(&seen.overview, which.table, which.partition)) {
        Some((status, batch)) => json(StatusCode::OK, &PartitionDetails { status, batch }),
        None => (StatusCode::NOT_FOUND, "there is no such partition\n").into_response(),
    }
}

async fn events(State(hall): State<Arc<Hall>>) -> Response {
    let look = hall.watch.last();
    let events: Vec<&Event> = look.events.after(0).collect();
    json(StatusCode::OK, &events)
}

async fn task_metrics(State(hall): State<Arc<Hall>>) -> Response {
    text(metrics::CONTENT_TYPE, metrics::of_task(hall.watch.now().await.as_ref()))
}

/// A page that looks on, and what it was sent last.
struct Seat {
    viewer: Viewer,
    sent: Option<Arc<Look>>,
    _permit: OwnedSemaphorePermit,
}

/// Each message is made when the one before has been taken: nothing piles up for who reads slowly.
async fn stream(State(hall): State<Arc<Hall>>, method: Method) -> Response {
    // To answer a HEAD nobody needs to look.
    if method == Method::HEAD {
        return StatusCode::OK.into_response();
    }
    let Ok(permit) = hall.seats.clone().try_acquire_owned() else {
        let line = "too many pages look on\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], line).into_response();
    };
    let seat = Seat { viewer: hall.watch.viewer(), sent: None, _permit: permit };
    let messages = stream::unfold(seat, async |mut seat| {
        let look = seat.viewer.newer(seat.sent.as_ref().map_or(0, |sent| sent.number)).await?;
        // What it is made of always has a JSON form, and one line.
        let news = serde_json::to_string(&News::of(seat.sent.as_deref(), &look)).unwrap_or_default();
        seat.sent = Some(look);
        Some((Ok::<_, Infallible>(Message::default().data(news)), seat))
    });
    Sse::new(messages).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
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

    /// Something stands in every list.
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

    fn places(of: &Value, at: &str, found: &mut BTreeSet<String>) {
        match of {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if at.ends_with("partitions") { "*" } else { name };
                    let at = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
                    found.insert(at.clone());
                    places(value, &at, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| places(value, &format!("{at}[]"), found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_sent_is_what_is_documented() {
        let mut sent = BTreeSet::new();
        let seen = SeenStatus { status: &full(), seen_at: "t".into(), stale: None };
        places(&serde_json::to_value(seen).unwrap(), "", &mut sent);
        let text = include_str!("../../docs/status-schema.md");
        let fields = text.split("| --- | --- | --- |").nth(1).unwrap().split("\n\n").next().unwrap();
        let documented: BTreeSet<String> =
            fields.lines().filter_map(|line| Some(line.split('`').nth(1)?.to_owned())).collect();
        assert_eq!(sent, documented);
    }
}
