//! Writes files for the user: whole or not at all.
//!
//! A file is written under another name in the same folder, because a rename does not cross file systems, and then
//! renamed. The temporary name cannot be guessed, and an existing file of that name is never written to. A link that
//! somebody else put into the folder is therefore not followed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// The reason why a file could not be written.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// A report could not be written.
    #[error("cannot write the report to {}", path.display())]
    Report { path: PathBuf, source: io::Error },
    /// Another file could not be written.
    #[error("cannot write {}", path.display())]
    Other { path: PathBuf, source: io::Error },
}

/// The readers of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only the owner.
    OwnerOnly,
    /// Everybody whom the umask allows.
    AsUsual,
}

/// Writes a report, and replaces an existing file. A reader sees the old file or the new one, never a part.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let written = match path.metadata() {
        // A pipe or a device such as `/dev/stdout` is written to and never replaced.
        Ok(found) if !found.is_file() && !found.is_dir() => {
            OpenOptions::new().append(true).open(path).and_then(|mut file: File| file.write_all(text.as_bytes()))
        }
        _ => write_temporary(path, text, Readers::AsUsual).and_then(|file| Ok(file.persist(path)?)).map(drop),
    };
    written.map_err(|source| FileError::Report { path: path.to_owned(), source })
}

/// Creates a file. An existing file stays as it is and is an error.
pub(crate) fn make(path: &Path, text: &str, readers: Readers) -> Result<(), FileError> {
    let made = write_temporary(path, text, readers).and_then(|file| Ok(file.persist_noclobber(path)?));
    made.map(drop).map_err(|source| FileError::Other { path: path.to_owned(), source })
}

/// Writes the text to a file with a temporary name. The file is removed if it is not renamed.
fn write_temporary(path: &Path, text: &str, readers: Readers) -> io::Result<NamedTempFile> {
    let mode = match readers {
        Readers::OwnerOnly => 0o600,
        // The umask removes permissions.
        Readers::AsUsual => 0o666,
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        Builder::new().prefix(".clickhouse-copier-").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_report_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        fs::create_dir(folder.path().join("taken")).unwrap();
        fs::write(folder.path().join("taken/file"), "").unwrap();
        let error = replace(&folder.path().join("taken"), "three").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing unfinished stays");
    }

    /// A link at the path of a report is replaced, and the file behind it stays. The same holds for a link with the
    /// name of the temporary file.
    #[test]
    fn a_report_does_not_follow_symbolic_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("report.json"), folder.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let unfinished = format!("report.json.{}.tmp", std::process::id());
        std::os::unix::fs::symlink(&victim, folder.path().join(unfinished)).unwrap();
        replace(&path, "report").unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), fs::read_to_string(&victim).unwrap()),
            ("report".into(), "mine".into())
        );
        let absent = folder.path().join("absent.xml");
        std::os::unix::fs::symlink(folder.path().join("made"), &absent).unwrap();
        assert!(make(&absent, "task", Readers::OwnerOnly).is_err() && !folder.path().join("made").exists());
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        replace(Path::new("/dev/null"), "report").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        assert!(replace(Path::new("/dev/full"), "report").is_err());
    }

    #[test]
    fn a_new_file_never_replaces_another_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.xml");
        make(&path, "one", Readers::OwnerOnly).unwrap();
        let error = make(&path, "two", Readers::OwnerOnly).unwrap_err();
        assert!(error.to_string().contains("task.xml"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished stays");
    }
}
