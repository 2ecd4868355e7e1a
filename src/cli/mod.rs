//! The command line: from what was typed to what is meant, and from there to an exit code.
//!
//! A launch passes through these in order:
//!
//! 1. [`args`]: a verb with its flags, those of the original copier and ours, as clap reads them; then the same as plain values,
//!    each one checked. Nothing has been created yet.
//! 2. [`process`]: with `--daemon` the launch goes on in a child, and the parent waits until that child is at work.
//! 3. `commands`: the verb itself, and its [`Exit`]; then reports and hooks.
//!
//! Everything that is printed or logged goes through [`output`], which lets no control character through.

pub mod args;
mod commands;
mod exit;
pub mod output;
mod perform;
pub mod process;

use std::ffi::OsString;

use crate::model::one_line;
pub use crate::runtime::signals::Interrupt;
pub use args::address::Address;
pub use args::level::Level;
pub use args::options::{
    CheckOptions, CleanupOptions, InitOptions, Invocation, ReverseOptions, RunOptions, StatusOptions,
};
pub use args::options::{CommandOptions, DashboardOptions, LookOptions, PlanOptions};
pub use exit::{Exit, Failure};
pub use perform::perform;
pub use process::serving::{Serving, TokenSource};

/// The name people type and the first word of every message.
pub const PROGRAM: &str = "clickhouse-copier";

/// Reads the command line (the first argument is the program's name), does what it means, and says how that ended.
///
/// A command line that is wrong is one line on standard error and [`Exit::BadInput`]; nothing has been created then.
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
            // What was typed may have lines.
            output::complain(&one_line(&line));
            Exit::BadInput
        }
    }
}

/// The command line as clap knows it: what `--help` and the manual are made from, and what documents are checked against.
pub fn command() -> clap::Command {
    args::flags::command()
}

/// Why a command line leads to no work.
#[derive(Debug)]
enum Refusal {
    /// Help or the version was asked for.
    Shown(String),
    /// It is wrong, and this line says how.
    Wrong(String),
}

fn understand(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Refusal> {
    let verb = args::flags::parse(arguments)?;
    args::meaning::meaning(verb).map_err(|fault| Refusal::Wrong(exit::chain(&fault)))
}
