//! Serves HTTP, with a limit for everything that a stranger can hold: connections, headers, requests, answers that
//! nobody reads.
//!
//! # Guarantees
//! - A listener has a highest number of connections, so a flood of connections leaves file descriptors for the copy.
//! - A flood does not lock others out: a new connection replaces the oldest connection that waits for a request. If
//!   every connection is being answered, the new one is closed at once.
//! - A connection is closed if its next request does not come within `HEADERS_TIMEOUT`, if a request is not answered
//!   within `ANSWER_TIMEOUT` (a stream of events: not begun), or if the other side reads nothing of an answer for
//!   `UNREAD_TIMEOUT`.
//! - If the process has no file descriptor left, the listener waits and tries again; it does not end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How long the headers of the next request may take, from the start of the connection or from the last answer on. It
/// limits slow headers and idle connections.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take to arrive and to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the other side may read nothing of an answer.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The highest number of bytes of a request's headers.
const MAX_HEADER_BYTES: usize = 32 << 10;
/// The pause after a connection could not be accepted; the usual cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How long answers in progress may take when the server is to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves at most `max_connections` connections until `stop` ends. Answers in progress then have a few seconds to end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    stop: impl Future<Output = ()>,
) {
    let router = router.layer(from_fn(with_timeout));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = Connections::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            () = connections.next_ended(), if !connections.tasks.is_empty() => continue,
            stream = accept(&listener) => stream,
        };
        if connections.make_room(max_connections).await {
            let requests = Arc::default();
            let work = answer(stream, router.clone(), Arc::clone(&requests), stopped.clone());
            connections.begin(requests, work);
        }
    }
    let _ = stopping.send(true);
    // The wait is short: a client may not read its answer.
    let _ = timeout(STOP_TIMEOUT, async { while connections.tasks.join_next().await.is_some() {} }).await;
}

/// Accepts a connection. Waits until one comes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection until its end.
async fn answer(stream: TcpStream, router: Router, requests: Arc<AtomicUsize>, mut stopped: watch::Receiver<bool>) {
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT)) {
        tracing::debug!("a connection has no limit for what is not read: {error}");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let answering = Answering::begin(&requests);
        let answer = router.call(request);
        async move { answer.await.map(|answer| answer.map(|body| Body::new(AnswerBody { body, _answering: answering }))) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke: {error}");
    }
}

/// Answers with an error if a request takes too long to arrive or to be answered.
async fn with_timeout(request: Request, next: Next) -> Response {
    match timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "this took too long\n").into_response(),
    }
}

/// The connections of a listener.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The connections in the order in which they came.
    open: Vec<Connection>,
}

struct Connection {
    task: AbortHandle,
    /// The number of requests that are being answered: 0 or 1.
    requests: Arc<AtomicUsize>,
}

impl Connections {
    fn begin(&mut self, requests: Arc<AtomicUsize>, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.open.push(Connection { task, requests });
    }

    /// Waits until a connection has ended.
    async fn next_ended(&mut self) {
        let ended = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return,
        };
        self.open.retain(|one| one.task.id() != ended);
    }

    /// Makes room for one more connection. If there is none, closes the oldest connection that waits for a request.
    /// Returns whether there is room: there is none if all connections are being answered.
    async fn make_room(&mut self, max_connections: usize) -> bool {
        if self.tasks.len() < max_connections {
            return true;
        }
        let Some(oldest) = self.open.iter().find(|one| one.requests.load(Ordering::Relaxed) == 0) else { return false };
        oldest.task.abort();
        while self.tasks.len() >= max_connections {
            self.next_ended().await;
        }
        true
    }
}

/// A request that is being answered.
struct Answering(Arc<AtomicUsize>);

impl Answering {
    fn begin(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::Relaxed);
        Self(requests.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer. The request counts as being answered until it is dropped.
struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n";

    /// Starts a server with this number of connections. Returns its address, the sender that stops it, and its task.
    async fn start_server(max_connections: usize) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/never", get(async || std::future::pending::<()>().await))
            .route("/form", post(async |form: String| form))
            .route(
                "/endless",
                get(async || Body::from_stream(futures::stream::pending::<Result<Bytes, axum::Error>>())),
            );
        let (stop, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        (address, stop, tokio::spawn(serve(listener, router, max_connections, until)))
    }

    async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn send_request(address: SocketAddr, path: &str) -> TcpStream {
        send(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
    }

    /// Reads until the server closes the connection.
    async fn until_closed(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A reset ends the connection too.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }

    /// Reads the head of the next answer.
    async fn head(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_new_connection_replaces_the_oldest_one_that_waits() {
        let (address, _stop, _) = start_server(2).await;
        let mut service = send_request(address, "/endless").await;
        assert!(head(&mut service).await.starts_with("HTTP/1.1 200"));
        let mut half = send(address, HALF).await;
        for _ in 0..20 {
            let next = send(address, HALF).await;
            assert_eq!(until_closed(std::mem::replace(&mut half, next)).await, "");
        }
        let mut asked = send_request(address, "/").await;
        assert!(head(&mut asked).await.starts_with("HTTP/1.1 200"));
        assert_eq!(until_closed(half).await, "");
        // A connection that is being answered keeps its place. If all are, a new connection gets none.
        let mut other = send_request(address, "/endless").await;
        assert!(head(&mut other).await.starts_with("HTTP/1.1 200"));
        assert_eq!(until_closed(send_request(address, "/").await).await, "");
        drop(service);
        loop {
            let mut again = send_request(address, "/").await;
            let mut first = [0];
            if again.read(&mut first).await.is_ok_and(|read| read == 1) {
                break;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn headers_requests_and_idle_connections_have_a_limit() {
        let (address, _stop, _) = start_server(8).await;
        let begun = Instant::now();
        assert_eq!(until_closed(send(address, HALF).await).await, "");
        assert!(begun.elapsed() >= HEADERS_TIMEOUT && begun.elapsed() < 2 * HEADERS_TIMEOUT, "{:?}", begun.elapsed());
        let text = until_closed(send_request(address, "/").await).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("ok"), "{text}");
        assert!(begun.elapsed() < 4 * HEADERS_TIMEOUT, "{:?}", begun.elapsed());
        for request in ["GET /never HTTP/1.1\r\n\r\n", "POST /form HTTP/1.1\r\nContent-Length: 2\r\n\r\na"] {
            let mut never = send(address, request.as_bytes()).await;
            assert!(head(&mut never).await.starts_with("HTTP/1.1 503"), "{request}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_HEADER_BYTES));
        assert!(!until_closed(send(address, long.as_bytes()).await).await.contains("200"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_server_waits_for_running_answers_for_a_limited_time() {
        let (address, stop, ended) = start_server(8).await;
        let mut endless = send_request(address, "/endless").await;
        head(&mut endless).await;
        let idle = send(address, b"").await;
        stop.send(()).unwrap();
        let begun = Instant::now();
        ended.await.unwrap();
        assert!(begun.elapsed() >= STOP_TIMEOUT && begun.elapsed() < 2 * STOP_TIMEOUT, "{:?}", begun.elapsed());
        assert_eq!(until_closed(idle).await, "");
    }
}
