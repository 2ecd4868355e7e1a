//! The errors that stop a run, as data.

use std::fmt;

use crate::client;
use crate::coordinator::Error as CoordinatorError;
use crate::ledger::LedgerError;

/// An error that stops a run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The task or the servers have to change first.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// A server failed.
    #[error(transparent)]
    Server(#[from] client::Error),
    /// The coordinator failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<CoordinatorError> for RunError {
    fn from(error: CoordinatorError) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<Problem> for RunError {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl RunError {
    /// Creates the error for one problem of the task.
    pub fn task(cause: impl Into<String>) -> Self {
        Problem::task(cause).into()
    }

    /// Creates the error for one problem of the servers or the coordinator.
    pub fn servers(cause: impl Into<String>) -> Self {
        Problem::servers(cause).into()
    }

    /// Returns whether the task itself has to change. It decides the exit code.
    pub fn is_of_task(&self) -> bool {
        matches!(self, Self::Problems(problems) if problems.iter().any(|problem| problem.kind == ProblemKind::Task))
    }

    /// Returns whether a new session may help.
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_session_lost())
    }
}

/// Returns one line for each problem.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// What has to change before a task can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The task.
    Task,
    /// The servers or the coordinator.
    Servers,
}

/// A reason why a task cannot run. `Display` is the only place that turns it into text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What has to change.
    pub kind: ProblemKind,
    /// The name of the table job, if the problem is in one.
    pub table: Option<String>,
    /// The path of the element of the task. With `table` it starts below the element of that table.
    pub element: Option<String>,
    /// The node that gave the error.
    pub node: Option<String>,
    /// The code of the server's error.
    pub server_code: Option<u32>,
    /// The cause, as a sentence.
    pub cause: String,
    /// What to do, as a sentence.
    pub todo: Option<String>,
}

impl Problem {
    /// Creates a problem of the task.
    pub fn task(cause: impl Into<String>) -> Self {
        Self::new(ProblemKind::Task, cause.into())
    }

    /// Creates a problem of the servers or the coordinator.
    pub fn servers(cause: impl Into<String>) -> Self {
        Self::new(ProblemKind::Servers, cause.into())
    }

    /// Creates the problem that a server's error is.
    pub fn of_server(error: &client::Error) -> Self {
        let (node, server_code) = (Some(error.node.clone()), error.code());
        Self { node, server_code, ..Self::servers(error.to_string()) }
    }

    fn new(kind: ProblemKind, cause: String) -> Self {
        Self { kind, table: None, element: None, node: None, server_code: None, cause, todo: None }
    }

    /// Returns the same problem with the name of its table job.
    pub fn in_table(self, name: &str) -> Self {
        Self { table: Some(name.to_owned()), ..self }
    }

    /// Returns the same problem with the path of its element.
    pub fn at_element(self, path: &str) -> Self {
        Self { element: Some(path.to_owned()), ..self }
    }

    /// Returns the same problem without the name of its table job, for a reader that shows the name by itself.
    pub fn without_table(&self) -> Self {
        Self { table: None, ..self.clone() }
    }

    /// Returns the same problem with what to do.
    pub fn with_todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.table, &self.element) {
            (ProblemKind::Task, Some(table), Some(element)) => write!(f, "tables/{table}/{element}: ")?,
            (ProblemKind::Task, Some(table), None) => write!(f, "tables/{table}: ")?,
            (ProblemKind::Servers, Some(table), _) => write!(f, "table {table}: ")?,
            (_, None, Some(element)) => write!(f, "{element}: ")?,
            (_, None, None) => {}
        }
        f.write_str(&self.cause)?;
        self.todo.iter().try_for_each(|todo| write!(f, ". {todo}"))
    }
}
