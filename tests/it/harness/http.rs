//! HTTP requests, one connection each, without the headers that a library would add.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// Values by names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.code, self.body))
    }
}

/// Sends a request to `host:port`. `headers` may contain a `Host`; with a `form` the request is a POST.
pub fn ask(address: &str, path: &str, headers: &[(&str, &str)], form: Option<&str>) -> Answer {
    let (head, mut body) = begin(address, path, headers, form);
    let mut rest = String::new();
    body.read_to_string(&mut rest).unwrap();
    let mut answer = parsed(&head);
    if answer.headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        panic!("ask for streams with stream()");
    }
    answer.body = rest;
    answer
}

/// Returns the messages of an event stream as they arrive.
pub fn stream(address: &str, path: &str) -> impl Iterator<Item = Value> {
    let (head, body) = begin(address, path, &[], None);
    let answer = parsed(&head);
    assert_eq!((answer.code, &*answer.headers["content-type"]), (200, "text/event-stream"), "{head}");
    // Each chunk holds whole messages; lines with the sizes of chunks have no colon.
    let lines = body.lines().map(Result::unwrap);
    lines.filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap()))
}

fn begin(address: &str, path: &str, headers: &[(&str, &str)], form: Option<&str>) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let verb = if form.is_some() { "POST" } else { "GET" };
    let mut request = format!("{verb} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let form = form.unwrap_or_default();
    request +=
        &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}", form.len());
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "the line broke after {head:?}");
    }
    (head, reader)
}

fn parsed(head: &str) -> Answer {
    let mut lines = head.lines();
    let code = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { code: code.unwrap_or_else(|| panic!("{head}")), headers, body: String::new() }
}
