//! The output of this process: the only place that writes to standard output, or writes lines to standard error outside
//! of the log. Other code cannot print (`clippy::print_stdout` and `clippy::print_stderr` are denied). `lines` formats
//! the log lines.
//!
//! - **No control character reaches a terminal**: names, values and messages come from servers, tasks and command
//!   lines. They are escaped here for every verb: in text as `\u{1b}`, in JSON as JSON does.
//! - **A failed write is an error**, and the process ends with [`Exit::Failed`](super::Exit::Failed).
//! - **A reader that leaves is no error**: if standard output is a pipe that its reader has closed (`| head`), the rest
//!   is dropped in silence, as with other tools. Other tools end by SIGPIPE. A copy must not end, so the work
//!   continues, and the exit code is that of the work: `verify | head` still tells whether both sides are equal.

pub(super) mod late_file;
pub(super) mod lines;
pub(super) mod log_file;
pub(crate) mod logs;
pub(crate) mod progress;
pub(super) mod shell_word;
pub(super) mod terminal;
pub(super) mod warnings;

use std::io::{self, Write};

use serde::Serialize;
use thiserror::Error;

use super::args::flags::LogFormat;
use super::{Failure, PROGRAM};
use crate::model::{printable, printable_json};

/// The sequence that moves to the upper left corner of a terminal and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Standard output cannot be written.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[source] io::Error);

/// Whether the reader of standard output is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The reader is there, as far as is known.
    Reads,
    /// The reader has closed its end of the pipe.
    Left,
}

/// Prints text, with a line feed at the end.
pub(super) fn print(text: &str) -> Result<(), OutputError> {
    write("", &printable(text)).map(drop)
}

/// Prints an object as JSON, on several lines.
pub(super) fn print_object(object: &impl Serialize) -> Result<(), Failure> {
    Ok(print_json(&serde_json::to_string_pretty(object)?)?)
}

/// Prints text that is JSON already.
pub(super) fn print_json(json: &str) -> Result<(), OutputError> {
    write("", &printable_json(json)).map(drop)
}

/// Prints an object as JSON on one line, as one of several.
pub(super) fn print_next(object: &impl Serialize) -> Result<Reader, Failure> {
    Ok(write("", &printable_json(&serde_json::to_string(object)?))?)
}

/// Prints text, as one of several. `clears_screen` clears the terminal first.
pub(super) fn print_again(text: &str, clears_screen: bool) -> Result<Reader, OutputError> {
    write(if clears_screen { CLEAR } else { "" }, &printable(text))
}

/// Writes a line to standard error when there is no log. An error of writing is ignored: nobody could read it.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{PROGRAM}: {}", printable(line));
}

fn write(prefix: &str, text: &str) -> Result<Reader, OutputError> {
    write_to(&mut io::stdout().lock(), prefix, text)
}

fn write_to(out: &mut impl Write, prefix: &str, text: &str) -> Result<Reader, OutputError> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    // Standard output buffers text without a line feed. The flush makes an error appear now, when it can still be
    // reported.
    match write!(out, "{prefix}{text}{end}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Left),
        Err(error) => Err(OutputError(error)),
    }
}

/// Reports progress to a person. If a program reads standard output, the line goes to the log: the program receives one
/// object at the end.
pub(super) fn say(format: LogFormat, line: &str) -> Result<(), OutputError> {
    match format {
        LogFormat::Text => print(line)?,
        LogFormat::Json => tracing::info!("{line}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that fails with this error.
    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        assert_eq!(write_to(&mut Closed(io::ErrorKind::BrokenPipe), "", "text").unwrap(), Reader::Left);
        let error = write_to(&mut Closed(io::ErrorKind::StorageFull), "", "text").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to standard output");
    }

    #[test]
    fn printed_text_ends_with_one_line_feed() {
        for text in ["a\nb", "a\nb\n"] {
            let mut out = Vec::new();
            assert_eq!(write_to(&mut out, "", text).unwrap(), Reader::Reads);
            assert_eq!(out, b"a\nb\n");
        }
    }
}
