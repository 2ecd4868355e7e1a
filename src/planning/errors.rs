//! The errors that stop a run, as data.

use std::fmt;

use crate::client;
use crate::coordinator::Error as CoordinatorError;
use crate::ledger::LedgerError;
use crate::task::{Fault, Faults};

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

impl From<Faults> for RunError {
    fn from(faults: Faults) -> Self {
        Self::Problems(Problem::of_faults(&faults))
    }
}

impl From<Problem> for RunError {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl RunError {
    /// Creates the error for one problem of the task.
    pub(crate) fn task(cause: impl Into<String>) -> Self {
        Problem::task(cause).into()
    }

    /// Creates the error for one problem of the servers or the coordinator.
    pub(crate) fn servers(cause: impl Into<String>) -> Self {
        Problem::servers(cause).into()
    }

    /// Returns whether the task itself has to change. It decides the exit code.
    pub(crate) fn is_of_task(&self) -> bool {
        matches!(self, Self::Problems(problems) if problems.iter().any(|problem| problem.kind == ProblemKind::Task))
    }

    /// Returns whether a new session may help.
    pub(crate) fn is_session_lost(&self) -> bool {
        matches!(self, Self::Ledger(error) if error.is_session_lost())
    }
}

/// Returns one line for each problem.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// What has to change before a task can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// The task.
    Task,
    /// The servers or the coordinator.
    Servers,
}

/// A place in the text of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileLine {
    /// The name of the text: its file, or its path in the coordinator.
    pub(crate) file: String,
    /// The line, from 1, if it is known. The text of a problem does not show it.
    pub(crate) line: Option<u32>,
}

/// A reason why a task cannot run. `Display` is the only place that turns it into text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What has to change.
    pub(crate) kind: ProblemKind,
    /// Where the fault is, if it is in the text of a task.
    pub(crate) file_line: Option<Box<FileLine>>,
    /// The name of the table job, if the problem is in one.
    pub(crate) table: Option<String>,
    /// The path of the element of the task. With `table` it starts below the element of that table.
    pub(crate) element: Option<String>,
    /// The node that gave the error, or that has to change.
    pub(crate) node: Option<String>,
    /// The code of the server's error.
    pub(crate) server_code: Option<u32>,
    /// The cause, as a sentence. It does not repeat the fields before.
    pub(crate) cause: String,
    /// The names of the table jobs that it holds up. Empty: the whole task, or not known.
    pub(crate) affects: Box<[String]>,
    /// What to do, as a sentence.
    pub(crate) todo: Option<Box<str>>,
}

impl Problem {
    /// Creates a problem of the task.
    pub(crate) fn task(cause: impl Into<String>) -> Self {
        Self::new(ProblemKind::Task, cause.into())
    }

    /// Creates a problem of the servers or the coordinator.
    pub(crate) fn servers(cause: impl Into<String>) -> Self {
        Self::new(ProblemKind::Servers, cause.into())
    }

    /// Creates the problem that a server's error is.
    pub(crate) fn of_server(error: &client::Error) -> Self {
        Self { server_code: error.code(), ..Self::servers(error.without_node()) }.on_node(&error.node)
    }

    /// Creates the problem that a fault in the text of a task is. `file` is the name of the text.
    pub(crate) fn of_fault(file: &str, fault: &Fault) -> Self {
        let Fault { path, line, file: other, problem } = fault;
        let file = other.clone().unwrap_or_else(|| file.to_owned());
        Self {
            file_line: Some(Box::new(FileLine { file, line: (*line > 0).then_some(*line) })),
            element: (!path.is_empty()).then(|| path.clone()),
            ..Self::task(problem.to_string())
        }
    }

    /// Creates a problem for each fault in the text of a task.
    pub(crate) fn of_faults(faults: &Faults) -> Vec<Self> {
        faults.list().iter().map(|fault| Self::of_fault(faults.file(), fault)).collect()
    }

    fn new(kind: ProblemKind, cause: String) -> Self {
        let (file_line, table, element, node, server_code) = (None, None, None, None, None);
        Self { kind, file_line, table, element, node, server_code, cause, affects: Box::default(), todo: None }
    }

    /// Returns the same problem with the name of its table job.
    pub(crate) fn in_table(self, name: &str) -> Self {
        Self { table: Some(name.to_owned()), ..self }.affecting([name])
    }

    /// Returns the same problem with the names of the table jobs that it holds up.
    pub(crate) fn affecting<'n>(self, tables: impl IntoIterator<Item = &'n str>) -> Self {
        Self { affects: tables.into_iter().map(str::to_owned).collect(), ..self }
    }

    /// Adds the problems of a table job to those of other table jobs. A problem that another table job has too is one problem, which
    /// affects both.
    pub(crate) fn merge(problems: &mut Vec<Self>, more: Vec<Self>) {
        let known = problems.len();
        for problem in more {
            match problems[..known].iter_mut().find(|other| other.is_same(&problem)) {
                Some(same) => {
                    same.affects = std::mem::take(&mut same.affects).into_iter().chain(problem.affects).collect();
                }
                None => problems.push(problem),
            }
        }
    }

    /// Returns whether two problems differ at most in what they hold up.
    fn is_same(&self, other: &Self) -> bool {
        *self == Self { affects: self.affects.clone(), ..other.clone() }
    }

    /// Returns the same problem with the path of its element.
    pub(crate) fn at_element(self, path: &str) -> Self {
        Self { element: Some(path.to_owned()), ..self }
    }

    /// Returns the same problem with its node.
    pub(crate) fn on_node(self, node: impl fmt::Display) -> Self {
        Self { node: Some(node.to_string()), ..self }
    }

    /// Returns the same problem without its table job and its node, for a reader that shows both by itself.
    pub(crate) fn without_subject(&self) -> Self {
        Self { table: None, node: None, ..self.clone() }
    }

    /// Returns the same problem with what to do.
    pub(crate) fn with_todo(self, todo: impl Into<String>) -> Self {
        Self { todo: Some(todo.into().into_boxed_str()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file_line.iter().try_for_each(|at| write!(f, "{}: ", at.file))?;
        match (self.kind, &self.table, &self.element) {
            (ProblemKind::Task, Some(table), Some(element)) => write!(f, "tables/{table}/{element}: ")?,
            (ProblemKind::Task, Some(table), None) => write!(f, "tables/{table}: ")?,
            (ProblemKind::Servers, Some(table), _) => write!(f, "table {table}: ")?,
            (_, None, Some(element)) => write!(f, "{element}: ")?,
            (_, None, None) => {}
        }
        self.node.iter().try_for_each(|node| write!(f, "{node}: "))?;
        f.write_str(&self.cause)?;
        self.todo.iter().try_for_each(|todo| write!(f, ". {todo}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{GivenSecrets, Task};

    #[test]
    fn a_fault_of_a_task_file_keeps_its_element_and_its_line() {
        let xml = "<clickhouse>\n<remote_servers/>\n<tables/>\n</clickhouse>";
        let faults = Task::parse(xml, &GivenSecrets::default()).unwrap_err().in_file("my.xml");
        let text = faults.to_string();
        let error = RunError::from(faults);
        assert_eq!(error.to_string(), text);
        let RunError::Problems(problems) = &error else { panic!("{error}") };
        let first = &problems[0];
        assert_eq!(first.file_line.as_deref(), Some(&FileLine { file: "my.xml".into(), line: Some(2) }));
        assert_eq!(first.element.as_deref(), Some("/clickhouse/remote_servers"));
        assert_eq!(first.cause, "holds no cluster");
    }

    #[test]
    fn the_same_problem_of_several_table_jobs_is_reported_once() {
        let silent = |table| Problem::servers("no replica answers").affecting([table]);
        let mut problems = Vec::new();
        Problem::merge(&mut problems, vec![silent("a"), Problem::servers("x").in_table("a")]);
        Problem::merge(&mut problems, vec![silent("b"), Problem::servers("x").in_table("b")]);
        let affected: Vec<&[String]> = problems.iter().map(|problem| &*problem.affects).collect();
        assert_eq!(affected, [&["a".to_owned(), "b".to_owned()][..], &["a".to_owned()], &["b".to_owned()]]);
    }

    #[test]
    fn a_problem_names_its_node_before_the_cause() {
        let problem = Problem::servers("no such thing").in_table("hits").on_node("a:9000");
        assert_eq!(problem.to_string(), "table hits: a:9000: no such thing");
        assert_eq!(problem.without_subject().to_string(), "no such thing");
    }
}
