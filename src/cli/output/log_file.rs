//! A log file that is rotated by size. Errors of writing do not stop the process.
//!
//! Each line is written at once, so lines from before a crash are in the file. After an error, every line tries again:
//! a folder that vanished is created again, and a disk may have room again. Lines that are lost meanwhile are counted.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The limits of rotation: the size of a log file, and the number of old files (`log.log.1` is the youngest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The size in bytes after which a file is full. The last line is not cut.
    pub(crate) bytes: usize,
    /// The number of old files that are kept.
    pub(crate) files: usize,
}

impl Default for Rotation {
    /// The default is 100 MiB, as in the original, and ten files. The original kept one old file; the first error of a
    /// copy that took days is in an old file.
    fn default() -> Rotation {
        Rotation { bytes: 100 << 20, files: 10 }
    }
}

/// The mode of new log files: the owner and the group may read them. The umask may remove permissions.
const FILE_MODE: u32 = 0o640;
/// The mode of new log folders.
const FOLDER_MODE: u32 = 0o750;

/// Opens a file for appending. Creates it if it is missing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// Returns the builder of log folders.
pub(crate) fn folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(FOLDER_MODE);
    builder
}

/// A log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    /// `None` if the file could not be opened again.
    file: Option<File>,
    /// Whether the file can be rotated: a terminal or a pipe cannot.
    regular: bool,
    /// The bytes in the file. After a failed rotation, the bytes written since then.
    bytes: u64,
    /// Whether the last line was cut in the middle.
    has_partial_line: bool,
}

impl LogFile {
    /// Opens the file, and creates it if it is missing. Its folder must exist.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let mut log =
            Self { path: path.to_owned(), rotation, file: None, regular: false, bytes: 0, has_partial_line: false };
        log.set_file(open(path)?)?;
        Ok(log)
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one or more lines to this file or, after a rotation, to the next one.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.regular && self.bytes >= self.rotation.bytes as u64 {
            self.rotate();
        }
        // A file without a name is lost when it is closed. A file that was moved has a name.
        let vanished = |file: &File| file.metadata().is_ok_and(|found| found.nlink() == 0);
        if self.file.as_ref().is_none_or(vanished) {
            self.reopen()?;
        }
        if self.has_partial_line {
            self.append(b"\n")?;
            self.has_partial_line = false;
        }
        self.append(lines)
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let mut begun = false;
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    (begun, bytes) = (true, bytes.get(written..).unwrap_or_default());
                    self.bytes += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.has_partial_line |= begun;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        if let Some(folder) = self.path.parent() {
            folders().recursive(true).create(folder)?;
        }
        self.set_file(open(&self.path)?)
    }

    fn set_file(&mut self, file: File) -> io::Result<()> {
        let found = file.metadata()?;
        (self.regular, self.bytes, self.has_partial_line) = (found.is_file(), found.len(), false);
        self.file = Some(file);
        Ok(())
    }

    /// Renames the file. If that fails, the file continues to grow, and the next try comes after the same number of
    /// bytes.
    fn rotate(&mut self) {
        self.bytes = 0;
        for number in (1..self.rotation.files).rev() {
            // An old file with this number may not exist yet.
            let _ = fs::rename(self.old_path(number), self.old_path(number + 1));
        }
        let renamed = if self.rotation.files == 0 {
            fs::remove_file(&self.path)
        } else {
            fs::rename(&self.path, self.old_path(1))
        };
        // If somebody has removed the file before, a new one is created too.
        if renamed.is_ok() || renamed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.file = None;
        }
    }

    fn old_path(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_log_file_is_rotated_and_the_number_of_old_files_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.log");
        let mut log = LogFile::open(&path, Rotation { bytes: 10, files: 2 }).unwrap();
        for line in 0..40 {
            log.write(format!("line {line}\n").as_bytes()).unwrap();
        }
        assert_eq!(names(folder.path()), ["log.log", "log.log.1", "log.log.2"]);
        let texts = ["log.log.2", "log.log.1", "log.log"].map(|name| fs::read_to_string(folder.path().join(name)));
        assert_eq!(
            texts.map(Result::unwrap).concat(),
            (34..40).map(|line| format!("line {line}\n")).collect::<String>()
        );
        let mut none = LogFile::open(&folder.path().join("none"), Rotation { bytes: 1, files: 0 }).unwrap();
        none.write(b"a\n").unwrap();
        none.write(b"b\n").unwrap();
        assert_eq!(fs::read(folder.path().join("none")).unwrap(), b"b\n");
    }

    #[test]
    fn a_removed_log_folder_is_created_again_before_and_at_a_rotation() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log.log");
        let mut log = LogFile::open(&path, Rotation { bytes: 4, files: 2 }).unwrap();
        log.write(b"1\n").unwrap();
        fs::remove_dir_all(base.path().join("a")).unwrap();
        log.write(b"2\n").unwrap();
        log.write(b"3\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2\n3\n");
        fs::remove_dir_all(base.path().join("a")).unwrap();
        log.write(b"4\n").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(&folder)), (b"4\n".to_vec(), vec!["log.log".to_owned()]));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        // The umask of the process may remove permissions.
        assert_eq!((mode(&path) & !0o640, mode(&folder) & !0o750), (0, 0));
    }

    #[test]
    fn each_write_fails_until_the_log_folder_can_be_created() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("logs");
        fs::create_dir(&folder).unwrap();
        let mut log = LogFile::open(&folder.join("log.log"), Rotation { bytes: 4, files: 2 }).unwrap();
        log.write(b"1234\n").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in its place").unwrap();
        log.write(b"5\n").unwrap_err();
        log.write(b"6\n").unwrap_err();
        fs::remove_file(&folder).unwrap();
        log.write(b"7\n").unwrap();
        assert_eq!(fs::read(folder.join("log.log")).unwrap(), b"7\n");
    }

    #[test]
    fn a_device_is_never_rotated() {
        let mut full = LogFile::open(Path::new("/dev/full"), Rotation { bytes: 0, files: 2 }).unwrap();
        assert_eq!(full.write(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!full.regular && Path::new("/dev/full").exists());
    }
}
