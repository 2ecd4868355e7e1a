//! The parsers of foreign text and bytes, for fuzzing. `tests/fuzz` calls each of them with mutated inputs on stable
//! Rust, and the crate in `fuzz/` calls each from libFuzzer.
//!
//! A target takes any bytes. It panics if a parser breaks a promise: accepted input can be printed and read again,
//! tokens cover the whole text, and all rows of the input come out. The file `fuzzed.rs` beside a parser defines the
//! input of its target.

mod records;

use crate::{client, sql, task};

/// A parser, with the name of its folder in `fuzz/corpus`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its corpus and of its binary in `fuzz/`.
    pub name: &'static str,
    /// Reads an input.
    pub read: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target { name: "task_file", read: task_file },
    Target { name: "configuration", read: configuration },
    Target { name: "expression", read: expression },
    Target { name: "engine", read: engine },
    Target { name: "type_name", read: type_name },
    Target { name: "create_statement", read: create_statement },
    Target { name: "native_stream", read: native_stream },
    Target { name: "compressed_frames", read: compressed_frames },
    Target { name: "record", read: record },
    Target { name: "plan", read: plan },
    Target { name: "server_error", read: server_error },
    Target { name: "http_answer", read: http_answer },
];

/// Reads a task file.
pub fn task_file(input: &[u8]) {
    task::fuzzed::task_file(input);
}

/// Reads the files of a configuration, XML or YAML, separated by a line `%%%`. Other files can include the last one.
pub fn configuration(input: &[u8]) {
    task::fuzzed::configuration(input);
}

/// Reads an expression with the lexer of ClickHouse's SQL.
pub fn expression(input: &[u8]) {
    sql::fuzzed::expression(input);
}

/// Reads the engine of a table, with its clauses.
pub fn engine(input: &[u8]) {
    sql::fuzzed::engine(input);
}

/// Reads the name of a type, or two names on two lines.
pub fn type_name(input: &[u8]) {
    sql::fuzzed::type_name(input);
    client::native::fuzzed::type_name(input);
}

/// Reads the CREATE statement of a table.
pub fn create_statement(input: &[u8]) {
    sql::fuzzed::create_statement(input);
}

/// Reads rows in the Native format and deals them to two receivers. The first byte sets the size of the pieces of the
/// stream and whether an old server wrote it. The second byte sets the number of requested columns: `c0`, `c1`, …
pub fn native_stream(input: &[u8]) {
    client::native::fuzzed::native_stream(input);
}

/// Reads compressed frames. If the first byte is odd, the checksums of the frames are corrected first. Its other bits
/// set where the stream is cut.
pub fn compressed_frames(input: &[u8]) {
    client::http::fuzzed::compressed_frames(input);
}

/// Reads a record of the coordinator. The first byte sets its type.
pub fn record(input: &[u8]) {
    records::record(input);
}

/// Reads the document that the verb `plan` writes.
pub fn plan(input: &[u8]) {
    records::plan(input);
}

/// Reads the error text of a server, in an answer or after rows.
pub fn server_error(input: &[u8]) {
    client::http::fuzzed::server_error(input);
}

/// Reads a whole HTTP answer: status line, headers and body. It is sent over loopback to the client of the servers.
pub fn http_answer(input: &[u8]) {
    client::http::fuzzed::http_answer(input);
}
