//! What can be wrong with a command line whose flags are all well formed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::task_path::TaskPathFault;

/// What is wrong with a command line whose flags are all well formed. One line, which names the flag.
#[derive(Debug, Error)]
pub enum Fault {
    /// A flag is needed and was not given.
    #[error("{flag} is missing: {purpose}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What it would say.
        purpose: &'static str,
    },
    /// The task's path is none.
    #[error("--task-path {0}")]
    TaskPath(TaskPathFault),
    /// There is nothing to look at.
    #[error("there is no {}: no task was run from this task file or with this --state-dir yet", file.display())]
    NoState {
        /// The file that would hold the tasks' state.
        file: PathBuf,
    },
    /// A file that should be there can't be seen.
    #[error("{flag} {}", path.display())]
    Unseen {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A folder where a file should be.
    #[error("{flag} {} is a folder, not a file", path.display())]
    NotAFile {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Something where a new file is to be.
    #[error("{flag} {} is there already: it is not overwritten", path.display())]
    Exists {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Not a server.
    #[error("{flag} {text} is no server: write host, host:8123 or https://host:8443 (the port is that of HTTP)")]
    Host {
        /// The flag.
        flag: &'static str,
        /// Its value.
        text: String,
    },
    /// Bars without a terminal.
    #[error("--progress bars needs a terminal on standard error, and no --daemon: say lines or auto")]
    NoTerminal,
    /// Something else where a folder should be.
    #[error("{flag} {} is not a folder", path.display())]
    NotAFolder {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
    },
}
