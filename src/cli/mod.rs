//! The command line interface: from the arguments to an exit code.
//!
//! A launch passes through these modules in order:
//!
//! 1. [`args`]: clap reads a verb and its flags, those of the original copier and new ones. They become plain values,
//!    each checked. Nothing has been created yet.
//! 2. [`process`]: with `--daemon` the launch continues in a child, and the parent waits until the child has begun its
//!    work.
//! 3. `commands`: the verb itself, and its [`Exit`]; then reports and hooks.
//!
//! All output and all log lines go through [`output`], which removes control characters.

pub(crate) mod args;
mod commands;
mod exit;
pub(crate) mod output;
mod perform;
pub(crate) mod process;

use std::ffi::OsString;

use crate::model::one_line;

pub(crate) use crate::runtime::signals::Interrupt;
pub(crate) use args::level::Level;
pub(crate) use args::options::Invocation;
pub use exit::Exit;
pub(crate) use exit::Failure;
pub(crate) use perform::perform;

/// The name of the program, and the first word of every message.
pub(crate) const PROGRAM: &str = "clickhouse-copier";

/// Reads the command line (the first argument is the program's name), performs the verb and returns the exit code.
///
/// A wrong command line gives one line on standard error and [`Exit::BadInput`]; nothing has been created then.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    match understand(arguments) {
        Ok(invocation) => perform(invocation),
        Err(Refusal::Shown(text)) => match output::print(&text) {
            Ok(()) => Exit::Done,
            Err(error) => {
                output::complain(&exit::chain(&error));
                Exit::Failed
            }
        },
        Err(Refusal::Wrong(line)) => {
            // The typed text may contain line breaks.
            output::complain(&one_line(&line));
            Exit::BadInput
        }
    }
}

/// Returns clap's description of the command line. `--help` and the manual are made from it, and documents are checked
/// against it.
pub fn command() -> clap::Command {
    args::flags::command()
}

/// The reason why a command line leads to no work.
#[derive(Debug)]
enum Refusal {
    /// The user asked for help, the version, completions or the manual. Contains the text to print.
    Shown(String),
    /// The command line is wrong. Contains the line that says why.
    Wrong(String),
}

fn understand(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refusal> {
    let verb = args::flags::parse(arguments)?;
    args::meaning::checked(verb).map_err(|fault| Refusal::Wrong(exit::chain(&fault)))
}
