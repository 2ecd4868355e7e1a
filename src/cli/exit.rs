//! The exit code of the process, and the error that led to it.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::planning::errors::RunError;

/// The exit code that scripts see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All requested work is done.
    Done = 0,
    /// The work failed.
    Failed = 1,
    /// The command line or the task is wrong.
    BadInput = 2,
    /// The work finished, and some partitions failed.
    Partial = 3,
    /// Source and target differ.
    Different = 4,
    /// A signal ended the work before it was done.
    Interrupted = 130,
}

impl Exit {
    /// Returns the meaning of a child's exit code. A code that this program does not use (that of a panic, for example)
    /// is [`Exit::Failed`].
    pub fn from_code(code: i32) -> Exit {
        [Exit::Done, Exit::BadInput, Exit::Partial, Exit::Different, Exit::Interrupted]
            .into_iter()
            .find(|exit| *exit as i32 == code)
            .unwrap_or(Exit::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that ends the process, with the exit code. It displays as one line, with its causes.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Makes a failure with this exit code and cause.
    pub(crate) fn new(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { exit, cause: cause.into() }
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.cause))
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(cause: E) -> Failure {
        Failure::new(Exit::Failed, cause)
    }
}

/// Returns an error and its causes in one line: `what: why: why`.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some libraries repeat the text of the source in their own text. Such a text is shown once.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

/// Returns the failure of a run. A fault of the task has another exit code than a fault of servers or the coordinator.
pub(super) fn failure(error: RunError) -> Failure {
    let exit = if error.is_of_task() { Exit::BadInput } else { Exit::Failed };
    Failure::new(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_read_back_as_its_meaning() {
        for exit in [Exit::Done, Exit::Failed, Exit::BadInput, Exit::Partial, Exit::Different, Exit::Interrupted] {
            assert_eq!(Exit::from_code(exit as i32), exit);
        }
        assert_eq!(Exit::from_code(101), Exit::Failed);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the task")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_shows_its_causes_in_one_line() {
        let failure = Failure::from(Outer(std::io::Error::other("disk on fire")));
        assert_eq!(failure.to_string(), "cannot read the task: disk on fire");
        assert_eq!(failure.exit(), Exit::Failed);
    }
}
