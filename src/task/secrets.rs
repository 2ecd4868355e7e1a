//! Sources of secrets that are not written in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

/// A reference from a text to a value elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// An environment variable, by its name.
    Variable(&'a str),
    /// A file, by its path.
    File(&'a str),
}

/// The trust in a description: whether it may refer to variables and files of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator provided it: it may refer to everything that this process can read.
    Full,
    /// It came from the coordinator, and its `<remote_servers>` equal those of the operator's own description: there
    /// it may refer to the same secrets.
    SameServers,
    /// It came from the coordinator: it may refer to what the operator allows.
    Limited,
}

/// The environment and the files that `from_env` and `<password_file>` refer to.
pub trait SecretSource: Send + Sync {
    /// Returns the value of an environment variable; `None` if it is not set or not UTF-8.
    fn env(&self, name: &str) -> Option<String>;

    /// Returns the content of a file.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error, or an error if the file is not UTF-8.
    fn read_file(&self, path: &str) -> io::Result<String>;

    /// Returns the trust in a description.
    fn trust(&self, _description: &str) -> Trust {
        Trust::Full
    }

    /// Returns whether the operator allows a reference in descriptions that are not trusted.
    fn allows(&self, _reference: Reference<'_>) -> bool {
        true
    }
}

/// The environment and file system of this process, for the operator's own descriptions. Every worker has its own: a
/// variable or file that a task refers to must exist on each machine. Relative paths start at the working directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSecrets;

impl SecretSource for SystemSecrets {
    fn env(&self, name: &str) -> Option<String> {
        // Names that are empty or contain `=` or NUL cannot be set; std::env::var reports them as not set.
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &str) -> io::Result<String> {
        read_bounded(std::path::Path::new(path), MOST_BYTES)
    }
}

/// The largest size in bytes of a file that a task or a configuration names.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// Reads a file of at most this many bytes of UTF-8.
///
/// # Errors
///
/// Returns the operating system's error, or an error if the file is larger or not UTF-8.
pub(crate) fn read_bounded(path: &std::path::Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    // One byte more reveals a file that is too large.
    File::open(path)?.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(text)
}

/// Secrets given in advance, for tests.
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

    /// Covers a file without an end.
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
