//! Why a run cannot do its work.

use crate::client;
use crate::coordinator::Error as KeeperError;

use crate::ledger::LedgerError;

/// Why a run could not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The task is wrong, or is not the one that was planned.
    #[error("{}", .0.join("\n"))]
    Task(Vec<String>),
    /// The servers are not as the task needs them.
    #[error("{}", .0.join("\n"))]
    World(Vec<String>),
    /// A server.
    #[error(transparent)]
    Server(#[from] client::Error),
    /// The coordinator.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<KeeperError> for RunError {
    fn from(error: KeeperError) -> Self {
        Self::Ledger(error.into())
    }
}

impl RunError {
    /// Of the faults of a survey: the task's first, since they are easier to mend.
    pub fn from_faults(faults: Vec<Fault>) -> Self {
        let task = faults.iter().any(|fault| matches!(fault, Fault::Task(_)));
        let lines = faults.into_iter().map(|fault| match fault {
            Fault::Task(line) | Fault::World(line) => line,
        });
        if task { Self::Task(lines.collect()) } else { Self::World(lines.collect()) }
    }

    /// Whether a new session may help.
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_session_lost())
    }
}

/// Why a task cannot start. The difference is the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The task says something that cannot be.
    Task(String),
    /// The servers are not as the task needs them.
    World(String),
}
