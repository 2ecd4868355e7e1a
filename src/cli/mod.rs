//! The command line: from what was typed to what is meant, and from there to an exit code.
//!
//! A launch passes through these in order:
//!
//! 1. `typed`: a verb with its flags, those of the original copier and ours, as clap reads them;
//! 2. [`meant`]: the same as plain values, every one checked; nothing has been created yet;
//! 3. [`daemon`]: with `--daemon`, the launch goes on in a child, and the parent waits until that child is at work;
//! 4. [`logs`], [`pid_file`], [`Interrupt`]: what surrounds a run;
//! 5. `perform`: the run itself, and its [`Exit`]; then `aftermath`: reports and hooks.
//!
//! All that is printed goes through `output`, and all log lines through `lines`: both let no control character through.

mod address;
mod aftermath;
mod check;
mod clean;
mod command;
mod compare;
mod config_files;
pub mod daemon;
mod dashboard;
mod exit;
mod files;
pub mod flag_fault;
mod flag_files;
mod hook;
mod init;
mod input;
mod late_file;
mod level;
mod lines;
mod log_file;
pub mod logs;
mod look;
pub mod meant;
mod options;
mod output;
mod perform;
pub mod pid_file;
mod plan;
pub mod progress;
mod repair;
mod reverse;
mod service;
mod serving;
mod shell_word;
mod task_path;
mod terminal;
mod typed;
mod warnings;
mod work;

use std::ffi::OsString;

pub use self::options::{
    CheckOptions, CleanupOptions, InitOptions, Invocation, ReverseOptions, RunOptions, StatusOptions,
};
pub use self::options::{CommandOptions, DashboardOptions, LookOptions, PlanOptions};
use crate::model::one_line;
pub use crate::worker::interrupt::Interrupt;
pub use address::Address;
pub use exit::{Exit, Failure};
pub use level::Level;
pub use perform::perform;
pub use serving::{Serving, TokenSource};

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
    typed::command()
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
    let verb = typed::parse(arguments)?;
    meant::meaning(verb).map_err(|fault| Refusal::Wrong(exit::chain(&fault)))
}
