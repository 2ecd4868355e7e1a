//! Properties of the readers of a server's answers, for fuzzing; see [`crate::fuzzed`].

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::super::{Error, Kind};
use super::HttpServerClient;
use super::answers::Answers;
use super::frame::{self, CHECKSUM, Head, MAX_UNPACKED};
use super::frames::{Unpacker, Watch};
use crate::model::{Node, Secret, Tls};

/// A password that a server may repeat.
const SECRET: &str = "sword'fish";
/// The statement that the server gets.
const QUESTION: &str = "SELECT 1";
/// The length of the tag before and after the text of an error in the middle of an answer.
const TAG: usize = 16;

/// Checks the text of an error. The result contains no password and at most one line, however long the text is.
pub(crate) fn server_error(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let answers = Answers::default();
    answers.keep_secret(&Secret::new(SECRET));
    assert_told(answers.server_error(&text), &text);
    for framed in [false, true] {
        let mut watch = Watch::new(framed);
        watch.see(input);
        if let Some(error) = watch.error() {
            assert!(error.starts_with("Code: "), "{text:?}");
            assert_told(answers.server_error(&error), &text);
        }
    }
}

fn assert_told(kind: Kind, text: &str) {
    let (Kind::Server { message, .. } | Kind::Answer(message)) = kind else { return };
    assert!(!message.contains(SECRET) && !message.contains("sword\\'fish"), "{text:?} is shown as {message:?}");
    assert!(!message.contains('\n') && message.chars().count() <= 1100, "{text:?} is shown as {message:?}");
}

/// Checks a stream of frames: the result does not depend on how it is cut, and the watch counts what the unpacker
/// finds.
pub(crate) fn compressed_frames(input: &[u8]) {
    let Some((how, stream)) = input.split_first() else { return };
    let mut stream = stream.to_vec();
    if how & 1 == 1 {
        correct_checksums(&mut stream);
    }
    let whole = unpacked(&stream, stream.len().max(1));
    let cut = unpacked(&stream, usize::from(how >> 1) + 1);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "{input:?}"),
        (Err(whole), Err(cut)) => assert_eq!(whole, cut, "{input:?}"),
        _ => panic!("{input:?} is {whole:?} and {cut:?}"),
    }
    let seen = |piece: usize| {
        let mut watch = Watch::new(true);
        let seen: usize = stream.chunks(piece).map(|bytes| watch.see(bytes)).sum();
        (
            watch.is_whole(),
            watch.can_be_unpacked(),
            watch.is_whole().then_some(seen),
            watch.is_whole().then(|| watch.error()),
        )
    };
    let watched = seen(stream.len().max(1));
    assert_eq!(watched, seen(usize::from(how >> 1) + 1), "{input:?}");
    if let (Ok((rows, rest)), (true, _, Some(count), _)) = (&whole, &watched) {
        assert_eq!((rows.len(), rest.len()), (*count, 0), "{input:?}");
    }
}

/// Returns the content of a stream's frames, and the bytes after them.
fn unpacked(stream: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), frame::FrameError> {
    let mut unpacker = Unpacker::default();
    let mut rows = Vec::new();
    for bytes in stream.chunks(piece) {
        unpacker.take(bytes);
        while let Some(found) = unpacker.unpack()? {
            assert!(found.len() <= MAX_UNPACKED);
            rows.extend(found);
        }
    }
    Ok((rows, unpacker.rest().iter().copied().take(1 << 10).collect()))
}

fn correct_checksums(stream: &mut [u8]) {
    let mut position = 0;
    while let Head::Frame { length, .. } = frame::head(&stream[position..])
        && position + length <= stream.len()
    {
        let (checksum, rest) = stream[position..position + length].split_at_mut(CHECKSUM);
        checksum.copy_from_slice(&frame::checksum(rest));
        position += length;
    }
}

/// Checks a whole HTTP answer. An answer that reports a failure is never taken for a good one.
pub(crate) fn http_answer(input: &[u8]) {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Mutex::new(Server::start()));
    let Ok(body) = server.lock().unwrap_or_else(PoisonError::into_inner).answer(input) else { return };
    let text = String::from_utf8_lossy(input);
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    // Another answer follows an interim answer.
    if !head.starts_with("HTTP/1.1 ") || head.starts_with("HTTP/1.1 1") {
        return;
    }
    let headers = || head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let header =
        |name: &str| headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    assert!(head.starts_with("HTTP/1.1 200"), "{text:?} is taken for {body:?}");
    assert_eq!(header("X-ClickHouse-Exception-Code"), None, "{text:?} is taken for {body:?}");
    if let Some(tag) = header("X-ClickHouse-Exception-Tag").filter(|tag| tag.len() == TAG) {
        assert!(!fails_at_end(&body, tag), "{text:?} is taken for {body:?}");
    }
}

/// Returns whether a body ends like that of a server that failed: the tag, the text, its length, and the tag again.
fn fails_at_end(body: &[u8], tag: &str) -> bool {
    let body = String::from_utf8_lossy(body);
    let begun = body.split_once(&format!("__exception__\r\n{tag}\r\n"));
    let ended = begun.and_then(|(_, rest)| rest.strip_suffix(&format!(" {tag}\r\n__exception__\r\n")));
    let text = ended.and_then(|rest| rest.rsplit_once('\n'));
    text.is_some_and(|(text, length)| length.parse() == Ok(text.len()))
}

/// A server on this machine that answers every request with the same bytes.
struct Server {
    bytes: Arc<Mutex<Vec<u8>>>,
    runtime: Runtime,
    client: HttpServerClient,
    node: Node,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap_or_else(|error| panic!("no port is free: {error}"));
        let port = listener.local_addr().map_or(0, |address| address.port());
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let given = bytes.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, &given)));
        let runtime = Builder::new_current_thread().enable_all().build();
        let client = HttpServerClient::new(&Tls::default());
        Self {
            bytes,
            runtime: runtime.unwrap_or_else(|error| panic!("no runtime: {error}")),
            client: client.unwrap_or_else(|error| panic!("no client: {error}")),
            node: Node { http_port: port, ..Node::new("127.0.0.1") },
        }
    }

    /// Returns the result of a question if the server sends these bytes.
    fn answer(&self, bytes: &[u8]) -> Result<Bytes, Error> {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes.to_vec();
        let client = self.client.entered(&self.client.fresh, &self.node);
        self.runtime.block_on(async {
            let answer = async { client.query_raw(QUESTION).fetch_bytes("Native")?.collect().await };
            answer.await.map_err(|error| self.client.answers.translated(&self.node, "cannot ask", error))
        })
    }
}

fn serve(mut stream: TcpStream, bytes: &Mutex<Vec<u8>>) {
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // The client may be gone before it has read everything.
    let _ = end_of_request(&mut stream).and_then(|()| stream.write_all(&bytes));
    let _ = stream.shutdown(Shutdown::Both);
}

fn end_of_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(QUESTION.as_bytes()) {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}
