//! The text of a task with its name for messages, before and after it is parsed.

use std::sync::Arc;

use super::{Faults, SecretSource, Task, Warning};

/// The text of a task, as it was read. It may hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskText {
    /// The XML.
    pub(crate) text: String,
    /// The name for messages: the file, or the path of the coordinator's node.
    pub(crate) name: String,
}

/// A task with the text that it was parsed from. Made by [`TaskText::parse`] only, so that the task is that of the text.
#[derive(Clone)]
pub struct TaskFile {
    /// The XML.
    pub(crate) text: String,
    /// The name for messages: the file, or the path of the coordinator's node.
    pub(crate) name: String,
    /// The task.
    pub(crate) task: Arc<Task>,
    /// The warnings, in the order of their lines.
    pub(crate) warnings: Vec<Warning>,
}

impl TaskText {
    /// Names a text.
    pub fn new(text: impl Into<String>, name: impl Into<String>) -> Self {
        Self { text: text.into(), name: name.into() }
    }

    /// Reads and checks the task.
    ///
    /// # Errors
    /// Every fault of the text at once, under the name of the text.
    pub fn parse(self, secrets: &dyn SecretSource) -> Result<TaskFile, Faults> {
        let Self { text, name } = self;
        match Task::parse(&text, secrets) {
            Ok(parsed) => Ok(TaskFile { text, name, task: Arc::new(parsed.task), warnings: parsed.warnings }),
            Err(faults) => Err(faults.in_file(name)),
        }
    }
}

impl TaskFile {
    /// Returns the warnings as lines, each after the name of the text.
    pub(crate) fn warning_lines(&self) -> impl Iterator<Item = String> + '_ {
        self.warnings.iter().map(|warning| format!("{}: {warning}", self.name))
    }
}
