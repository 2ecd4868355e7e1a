//! What this process prints: the one place where text goes to standard output, and where lines go to standard error that no log
//! has. Nothing else may print (`clippy::print_stdout` and `clippy::print_stderr` are denied); log lines are in `lines`.
//!
//! - **No control character reaches a terminal**: names, values and messages come from servers, tasks and command lines. They are
//!   escaped here, whatever the verb: in text as in `\u{1b}`, in JSON as JSON does.
//! - **What cannot be written is an error**, and the process ends with [`Exit::Failed`](super::Exit::Failed).
//! - **A reader that leaves is none**: where standard output is a pipe and its reader has closed it (`| head`), the rest is not
//!   written and nothing is said, as with other tools. They end by SIGPIPE; a copy must not, so the work goes on, and the exit code
//!   is that of the work: `verify | head` still tells by it whether both sides are equal.

pub(super) mod late_file;
pub(super) mod lines;
pub(super) mod log_file;
pub mod logs;
pub mod progress;
pub(super) mod shell_word;
pub(super) mod terminal;
pub(super) mod warnings;

use super::args::flags::LogFormat;
use std::io::{self, Write};

use serde::Serialize;
use thiserror::Error;

use super::{Failure, PROGRAM};
use crate::model::{printable, printable_json};

/// Clears a terminal from its upper left corner on.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Standard output does not take what is printed.
#[derive(Debug, Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[source] io::Error);

/// Whether somebody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// As far as is known.
    Reads,
    /// It has closed its end of the pipe.
    Left,
}

/// Prints text, and a line feed where none ends it.
pub(super) fn print(text: &str) -> Result<(), OutputError> {
    write("", &printable(text)).map(drop)
}

/// Prints an object for a program, on several lines.
pub(super) fn print_object(object: &impl Serialize) -> Result<(), Failure> {
    Ok(print_json(&serde_json::to_string_pretty(object)?)?)
}

/// Prints what is JSON already.
pub(super) fn print_json(json: &str) -> Result<(), OutputError> {
    write("", &printable_json(json)).map(drop)
}

/// Prints an object on one line, as the next of many.
pub(super) fn print_next(object: &impl Serialize) -> Result<Reader, Failure> {
    Ok(write("", &printable_json(&serde_json::to_string(object)?))?)
}

/// Prints text as the next of many; `anew` on a terminal that is cleared before.
pub(super) fn print_again(text: &str, anew: bool) -> Result<Reader, OutputError> {
    write(if anew { CLEAR } else { "" }, &printable(text))
}

/// Says a line on standard error, where there is no log. Where that cannot be written nobody can be told.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{PROGRAM}: {}", printable(line));
}

fn write(ours: &str, text: &str) -> Result<Reader, OutputError> {
    write_to(&mut io::stdout().lock(), ours, text)
}

fn write_to(out: &mut impl Write, ours: &str, text: &str) -> Result<Reader, OutputError> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    // Standard output keeps what has no line feed; an error must not come when it is too late to tell.
    match write!(out, "{ours}{text}{end}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Left),
        Err(error) => Err(OutputError(error)),
    }
}

/// Tells a person what is going on. Where a program reads standard output it goes to the log instead: that gets one object, at
/// the end.
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

    /// Takes nothing, for this reason.
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
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        assert_eq!(write_to(&mut Closed(io::ErrorKind::BrokenPipe), "", "text").unwrap(), Reader::Left);
        let error = write_to(&mut Closed(io::ErrorKind::StorageFull), "", "text").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to standard output");
    }

    #[test]
    fn what_is_printed_ends_with_one_line_feed() {
        for text in ["a\nb", "a\nb\n"] {
            let mut out = Vec::new();
            assert_eq!(write_to(&mut out, "", text).unwrap(), Reader::Reads);
            assert_eq!(out, b"a\nb\n");
        }
    }
}
