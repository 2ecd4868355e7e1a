//! Where secrets come from that are not written in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

/// What a text refers to that does not stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// An environment variable, by its name.
    Variable(&'a str),
    /// A file, by its path.
    File(&'a str),
}

/// How far a description is trusted: whether it may refer to variables and files of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator brought it: it may refer to all that this process can read.
    Full,
    /// It came from the coordinator, and its `<remote_servers>` say what those of the operator's own description say: there
    /// it may refer to the same.
    SameServers,
    /// It came from the coordinator: it may refer to what the operator allows.
    Limited,
}

/// The environment and the files that `from_env` and `<password_file>` refer to.
pub trait SecretSource: Send + Sync {
    /// The value of an environment variable; `None` when it is not set or not UTF-8.
    fn env(&self, name: &str) -> Option<String>;

    /// The content of a file.
    ///
    /// # Errors
    /// Whatever the operating system answers; also a file that is not UTF-8.
    fn read_file(&self, path: &str) -> io::Result<String>;

    /// How far a description is trusted.
    fn trust(&self, _description: &str) -> Trust {
        Trust::Full
    }

    /// Whether the operator allows a reference in descriptions that are not trusted.
    fn allows(&self, _reference: Reference<'_>) -> bool {
        true
    }
}

/// The environment and file system of this process, for what the operator brought. Every worker has its own: what a task
/// refers to must be there on each machine. Relative paths start at the working directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSecrets;

impl SecretSource for SystemSecrets {
    fn env(&self, name: &str) -> Option<String> {
        // Names that are empty or hold `=` or NUL can't be set; std::env::var answers that they are not.
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &str) -> io::Result<String> {
        read_bounded(std::path::Path::new(path), MOST_BYTES)
    }
}

/// No file that a task or a configuration names is larger.
pub const MOST_BYTES: u64 = 16 << 20;

/// Reads a file of at most so many bytes of UTF-8.
///
/// # Errors
/// Whatever the operating system answers; a file that is larger, or not UTF-8.
pub fn read_bounded(path: &std::path::Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    // One byte more tells a file that is too large.
    File::open(path)?.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(text)
}

/// Secrets given beforehand, for tests.
#[derive(Clone, Default)]
pub struct GivenSecrets {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Files by path.
    pub files: BTreeMap<String, String>,
}

impl SecretSource for GivenSecrets {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn read_file(&self, path: &str) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that never ends, too.
    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let error = SystemSecrets.read_file("/dev/zero").unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_bounded(file.path(), 5).unwrap(), "12345");
        assert!(read_bounded(file.path(), 4).is_err());
    }
}
