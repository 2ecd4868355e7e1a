//! A proxy between a worker and a server, or between two servers, that damages answers or connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a connection is held: longer than `--stall-timeout` in these tests.
const HELD: Duration = Duration::from_secs(12);

/// How an answer is damaged.
#[derive(Debug, Clone)]
pub enum Harm {
    /// The connection is closed instead of an answer. The request has been done.
    Gone,
    /// The connection is closed after so many bytes of the answer; on a native port, of both directions.
    Cut(usize),
    /// The answer is delayed by this time.
    Late(Duration),
    /// The answer comes twice.
    Twice,
    /// One bit is flipped in this byte of the body (modulo the length of the body).
    Flip(usize),
    /// These bytes come instead, and the connection is closed.
    Instead(String),
    /// These bytes come instead, followed by more bytes without end.
    Endless(String),
    /// No more bytes pass on this connection. It is closed after [`HELD`].
    Hold,
}

/// Which answers are damaged.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Text that the request contains.
    pub request: &'static str,
    /// How many of these answers pass unchanged first.
    pub skip: usize,
    /// How many answers are damaged then.
    pub times: usize,
    pub harm: Harm,
}

impl Rule {
    /// Damages the first answer to a request with this text.
    pub fn once(request: &'static str, harm: Harm) -> Rule {
        Rule { request, skip: 0, times: 1, harm }
    }
}

/// Listens on the address of the server, and forwards all connections until it is dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    /// Whether connections are HTTP, so that single requests can be recognized.
    http: bool,
    rule: Mutex<Option<Rule>>,
    met: AtomicUsize,
    harmed: AtomicUsize,
    ended: AtomicBool,
}

impl Proxy {
    /// A proxy for the HTTP port of a server.
    pub fn http(host: &str) -> Proxy {
        Proxy::start(host, 8123)
    }

    /// A proxy for the native port of a server. Rules are for whole connections there; a rule applies when enough bytes have passed.
    pub fn native(host: &str) -> Proxy {
        Proxy::start(host, 9000)
    }

    fn start(host: &str, port: u16) -> Proxy {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let shared = Arc::new(Shared {
            server: format!("{host}:{port}"),
            http: port == 8123,
            rule: Mutex::default(),
            met: AtomicUsize::new(0),
            harmed: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let port = listener.local_addr().unwrap().port();
        let proxied = shared.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if proxied.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&proxied.server) else { continue };
                Connection::begin(&proxied, client, server);
            }
        });
        Proxy { port, shared }
    }

    /// Sets the rule for all answers from now on, or removes it.
    pub fn harm(&self, rule: Option<Rule>) {
        self.shared.met.store(0, Ordering::SeqCst);
        self.shared.harmed.store(0, Ordering::SeqCst);
        *self.shared.rule.lock().unwrap() = rule;
    }

    /// Returns how many answers were damaged since the rule was set.
    pub fn harmed(&self) -> usize {
        self.shared.harmed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let address = self.shared.server.rsplit_once(':').unwrap().0.to_owned();
        // A connection wakes the listener, which then ends.
        let _ = TcpStream::connect((address.as_str(), self.port));
    }
}

impl Shared {
    /// Returns the damage for this request or connection, if the rule applies now.
    fn meet(&self, text: &str) -> Option<Harm> {
        let rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rule.as_ref().filter(|rule| text.contains(rule.request))?;
        let number = self.met.fetch_add(1, Ordering::SeqCst);
        (rule.skip..rule.skip.saturating_add(rule.times)).contains(&number).then(|| rule.harm.clone())
    }
}

/// Both directions of a connection.
struct Connection {
    shared: Arc<Shared>,
    client: TcpStream,
    server: TcpStream,
    /// The damage for the next answer.
    next: Mutex<Option<Harm>>,
    /// Whether the connection is held.
    held: AtomicBool,
}

impl Connection {
    fn begin(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
        let connection = Arc::new(Connection {
            shared: shared.clone(),
            client,
            server,
            next: Mutex::default(),
            held: AtomicBool::new(false),
        });
        let other = connection.clone();
        if shared.http {
            thread::spawn(move || other.end_after(Connection::requests));
            thread::spawn(move || connection.end_after(Connection::answers));
        } else {
            let passed = Arc::new((AtomicUsize::new(0), AtomicBool::new(false)));
            let same = passed.clone();
            thread::spawn(move || other.end_after(|this| this.native(true, &same)));
            thread::spawn(move || connection.end_after(|this| this.native(false, &passed)));
        }
    }

    fn end_after(&self, pass: impl FnOnce(&Self) -> std::io::Result<()>) {
        let _ = pass(self);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    /// Returns an error after [`HELD`] if the connection is held.
    fn wait(&self) -> std::io::Result<()> {
        if !self.held.load(Ordering::SeqCst) {
            return Ok(());
        }
        thread::sleep(HELD);
        Err(std::io::Error::other("held for long enough"))
    }

    fn hold(&self) {
        self.shared.harmed.fetch_add(1, Ordering::SeqCst);
        self.held.store(true, Ordering::SeqCst);
    }

    fn requests(&self) -> std::io::Result<()> {
        let (mut bytes, mut met) = (vec![0; 1 << 16], false);
        loop {
            let count = (&self.client).read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            let text = decoded(&bytes[..count]);
            if text.starts_with("POST ") || text.starts_with("GET ") {
                met = false;
            }
            // The statement may come behind the headers.
            if !met && let Some(harm) = self.shared.meet(&text) {
                met = true;
                if matches!(harm, Harm::Hold) {
                    self.hold();
                }
                *self.next.lock().unwrap() = Some(harm);
            }
            self.wait()?;
            (&self.server).write_all(&bytes[..count])?;
        }
    }

    fn answers(&self) -> std::io::Result<()> {
        let mut bytes = vec![0; 1 << 16];
        // Bytes until the answer is cut.
        let mut left = None;
        loop {
            let count = (&self.server).read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            self.wait()?;
            let answer = &mut bytes[..count];
            let harm = self.next.lock().unwrap().take();
            if let Some(harm) = harm {
                self.shared.harmed.fetch_add(1, Ordering::SeqCst);
                match harm {
                    Harm::Gone => return Ok(()),
                    Harm::Cut(after) => left = Some(after),
                    Harm::Late(pause) => thread::sleep(pause),
                    Harm::Twice => (&self.client).write_all(answer)?,
                    Harm::Flip(at) => flip(answer, at),
                    Harm::Instead(text) => return (&self.client).write_all(text.as_bytes()),
                    Harm::Endless(head) => {
                        (&self.client).write_all(head.as_bytes())?;
                        let more = vec![b'x'; 1 << 16];
                        loop {
                            (&self.client).write_all(&more)?;
                        }
                    }
                    Harm::Hold => {}
                }
            }
            let passes = left.map_or(count, |left| count.min(left));
            (&self.client).write_all(&answer[..passes])?;
            if let Some(left) = &mut left {
                *left -= passes;
                if *left == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Forwards the bytes of one direction. The damage is done when both directions together have passed enough bytes.
    fn native(&self, asks: bool, passed: &(AtomicUsize, AtomicBool)) -> std::io::Result<()> {
        let (mut from, mut to) = if asks { (&self.client, &self.server) } else { (&self.server, &self.client) };
        let mut bytes = vec![0; 1 << 14];
        loop {
            let count = from.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            self.wait()?;
            let all = passed.0.fetch_add(count, Ordering::SeqCst) + count;
            let limit = self.shared.rule.lock().unwrap().as_ref().map_or(usize::MAX, |rule| match rule.harm {
                Harm::Cut(limit) | Harm::Flip(limit) => limit,
                _ => MUCH,
            });
            if all > limit
                && !passed.1.swap(true, Ordering::SeqCst)
                && let Some(harm) = self.shared.meet("")
            {
                match harm {
                    Harm::Hold => {
                        self.hold();
                        self.wait()?;
                    }
                    Harm::Late(pause) => {
                        self.shared.harmed.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(pause);
                    }
                    Harm::Flip(_) => {
                        self.shared.harmed.fetch_add(1, Ordering::SeqCst);
                        bytes[count / 2] ^= 4;
                    }
                    _ => {
                        self.shared.harmed.fetch_add(1, Ordering::SeqCst);
                        return Ok(());
                    }
                }
            }
            to.write_all(&bytes[..count])?;
        }
    }
}

/// More bytes than a native connection without rows has.
pub const MUCH: usize = 60_000;

/// Flips one bit in a byte of the body.
fn flip(answer: &mut [u8], at: usize) {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    let body = &mut answer[head..];
    let length = body.len();
    if length > 0 {
        body[at % length] ^= 1;
    }
}

/// Returns a request as text, with percent-encoding decoded.
fn decoded(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let escaped = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        text.push(match (bytes[at], escaped) {
            (b'+', _) => b' ',
            (_, Some(byte)) => byte,
            (byte, None) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&text).into_owned()
}
