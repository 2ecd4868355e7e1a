//! The faults of a command line whose flags are all well formed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::task_path::TaskPathFault;

/// A fault of a command line whose flags are all well formed. It displays as one line, which names the flag.
#[derive(Debug, Error)]
pub(crate) enum ArgumentFault {
    /// A needed flag is missing.
    #[error("{flag} is missing: {purpose}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// The purpose of the flag.
        purpose: &'static str,
    },
    /// The task's path is not valid.
    #[error("--task-path {0}")]
    TaskPath(TaskPathFault),
    /// The task has no state that could be read.
    #[error("there is no {}: no task was run from this task file or with this --state-dir yet", file.display())]
    NoState {
        /// The file that would hold the tasks' state.
        file: PathBuf,
    },
    /// The file system does not show a file or folder.
    #[error("{flag} {}", path.display())]
    Unseen {
        /// The flag.
        flag: &'static str,
        /// The value of the flag.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A folder stands where a file is expected.
    #[error("{flag} {} is a folder, not a file", path.display())]
    NotAFile {
        /// The flag.
        flag: &'static str,
        /// The value of the flag.
        path: PathBuf,
    },
    /// Something stands at the path of a new file.
    #[error("{flag} {} is there already: it is not overwritten", path.display())]
    Exists {
        /// The flag.
        flag: &'static str,
        /// The value of the flag.
        path: PathBuf,
    },
    /// The text does not name a server.
    #[error("{flag} {text} is no server: write host, host:8123 or https://host:8443 (the port is that of HTTP)")]
    Host {
        /// The flag.
        flag: &'static str,
        /// The value of the flag.
        text: String,
    },
    /// Bars were requested without a terminal.
    #[error("--progress bars needs a terminal on standard error, and no --daemon: say lines or auto")]
    NoTerminal,
    /// Something other than a folder stands where a folder is expected.
    #[error("{flag} {} is not a folder", path.display())]
    NotAFolder {
        /// The flag.
        flag: &'static str,
        /// The value of the flag.
        path: PathBuf,
    },
}
