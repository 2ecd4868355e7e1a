//! `--pid-file`: a file with the id of this process, held by one launch.
//!
//! Two launches must not use the same file. A lock on the file decides that, not the number in it: the lock ends with
//! its process, and the number may later belong to another process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The reason why the file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum PidFileError {
    /// Another launch holds the file.
    #[error("--pid-file {}: already running as process {pid}", path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// The text in the file.
        pid: String,
    },
    /// The file holds other text, and would have been overwritten.
    #[error("--pid-file {}: this is no pid file, it holds other text", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("--pid-file {}: cannot {operation} it", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The failed operation.
        operation: &'static str,
        /// The error of the file system.
        source: io::Error,
    },
}

/// A pid file of this process. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    // Held open for its lock.
    _file: File,
}

impl PidFile {
    /// Locks the file and writes the pid of this process and a newline. A file that a dead process left is taken over.
    pub(crate) fn claim(path: &Path) -> Result<PidFile, PidFileError> {
        let failed = |operation| move |source| PidFileError::Io { path: path.to_owned(), operation, source };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // Somebody else may have put a link there: it is not followed.
                .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
                .open(path)
                .map_err(failed("open"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PidFileError::Running {
                        path: path.to_owned(),
                        pid: start_of(&mut file).map_err(failed("read"))?,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
            }
            if !is_still_at(&file, path).map_err(failed("examine"))? {
                // The owner removed the file between the open and the lock: this lock is on a file that no other launch
                // can see.
                continue;
            }
            let text = start_of(&mut file).map_err(failed("read"))?;
            if !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(PidFileError::Foreign { path: path.to_owned() });
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(failed("write"))?;
            return Ok(PidFile { path: path.to_owned(), _file: file });
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The file is removed while the lock is held, so it cannot be the file of a successor. A file that stays does
        // no harm: it is not locked.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the pid file {}: {error}", self.path.display());
        }
    }
}

/// The number of bytes that are read of a pid file.
const MAX_READ_BYTES: u64 = 64;

/// Reads the start of the file. A pid file is short; the start of any other file shows that it is no pid file.
fn start_of(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(seen) => Ok((seen.dev(), seen.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_holds_our_pid_until_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copier.pid");
        let claimed = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(claimed);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_process_is_refused_and_keeps_the_pid_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copier.pid");
        let _first = PidFile::claim(&path).unwrap();
        let refusal = PidFile::claim(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("already running as process {}", std::process::id())), "{refusal}");
        assert!(path.exists());
    }

    #[test]
    fn the_pid_file_of_a_dead_process_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copier.pid");
        // Process 1 lives but does not hold the file: the number alone means nothing.
        fs::write(&path, "1\n").unwrap();
        let _claimed = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_file_that_is_not_a_pid_file_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "dear diary\n").unwrap();
        assert!(matches!(PidFile::claim(&path), Err(PidFileError::Foreign { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary\n");
    }
}
