//! Readers of text and bytes that somebody else wrote, for fuzzing. `tests/fuzz` calls each with mutated inputs on stable Rust, and the
//! crate in `fuzz/` calls each from libFuzzer.
//!
//! A target takes any bytes. It panics where a reader breaks a promise: what is accepted can be printed and read again, tokens cover a
//! text, rows that go in come out. What a target reads stands in a file `fuzzed.rs` beside its reader.

mod records;

use crate::{client, sql, task};

/// A reader, with the name of its folder in `fuzz/corpus`.
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

/// A task file.
pub fn task_file(input: &[u8]) {
    task::fuzzed::task_file(input);
}

/// The files of a configuration, XML or YAML, with a line `%%%` between them. The last one is also the file that others include.
pub fn configuration(input: &[u8]) {
    task::fuzzed::configuration(input);
}

/// An expression, and the lexer of ClickHouse's SQL.
pub fn expression(input: &[u8]) {
    sql::fuzzed::expression(input);
}

/// The engine of a table, with its clauses.
pub fn engine(input: &[u8]) {
    sql::fuzzed::engine(input);
}

/// The name of a type, or two on two lines.
pub fn type_name(input: &[u8]) {
    sql::fuzzed::type_name(input);
    client::native::fuzzed::type_name(input);
}

/// The CREATE statement of a table.
pub fn create_statement(input: &[u8]) {
    sql::fuzzed::create_statement(input);
}

/// Rows in the Native format that are dealt to two receivers. The first byte says into how large pieces the stream is cut and whether
/// an old server wrote it, the second how many columns are asked for: `c0`, `c1`, …
pub fn native_stream(input: &[u8]) {
    client::native::fuzzed::native_stream(input);
}

/// Compressed frames. Where the first byte is odd, the checksums of the frames are put right first; the rest of it says where the
/// stream is cut.
pub fn compressed_frames(input: &[u8]) {
    client::http::fuzzed::compressed_frames(input);
}

/// A record of the coordinator. The first byte says of which type.
pub fn record(input: &[u8]) {
    records::record(input);
}

/// The document that the verb `plan` writes.
pub fn plan(input: &[u8]) {
    records::plan(input);
}

/// The text that a server answers with, or writes behind rows.
pub fn server_error(input: &[u8]) {
    client::http::fuzzed::server_error(input);
}

/// A whole HTTP answer: status line, headers and body. It is sent over loopback to the client that asks servers.
pub fn http_answer(input: &[u8]) {
    client::http::fuzzed::http_answer(input);
}
