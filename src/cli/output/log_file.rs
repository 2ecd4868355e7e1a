//! A log file that is cut by size, and what happens where it cannot be written: the process goes on.
//!
//! Each line is written at once: what was logged before a crash is in the file. Every line tries again where one before it failed:
//! a folder that vanished is made anew, and a disk may have room again. Lines that were lost meanwhile are counted.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When a log file is set aside and a new one begun, and how many old ones (`log.log.1` is the youngest) are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a file is full. The line that fills it is not cut.
    pub bytes: usize,
    /// Old files that are kept.
    pub files: usize,
}

impl Default for Rotation {
    /// A hundred megabytes, as in the original; ten files, where the original kept one, because the first error of a copy that
    /// took days is in an old one.
    fn default() -> Rotation {
        Rotation { bytes: 100 << 20, files: 10 }
    }
}

/// The mode of new log files: the owner and the group may read them. The umask may allow less.
const FILE_MODE: u32 = 0o640;
/// The mode of new folders of logs.
const FOLDER_MODE: u32 = 0o750;

/// Opens a file for appending; made where it is missing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// What makes folders of logs.
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
    /// `None` where it could not be opened again.
    file: Option<File>,
    /// Whether it can be set aside: a terminal or a pipe cannot.
    regular: bool,
    /// The bytes in the file; after a rotation that failed, the bytes written since then.
    bytes: u64,
    /// Whether a line was cut off in the middle.
    torn: bool,
}

impl LogFile {
    /// Opens it, and makes it where it is missing. Its folder is there.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let mut log = Self { path: path.to_owned(), rotation, file: None, regular: false, bytes: 0, torn: false };
        log.take(open(path)?)?;
        Ok(log)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a line, or several, in the file or in the next one.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.regular && self.bytes >= self.rotation.bytes as u64 {
            self.rotate();
        }
        // A file without a name is lost when it is closed. A file that was moved has a name.
        let vanished = |file: &File| file.metadata().is_ok_and(|found| found.nlink() == 0);
        if self.file.as_ref().is_none_or(vanished) {
            self.reopen()?;
        }
        if self.torn {
            self.append(b"\n")?;
            self.torn = false;
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
                    self.torn |= begun;
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
        self.take(open(&self.path)?)
    }

    fn take(&mut self, file: File) -> io::Result<()> {
        let found = file.metadata()?;
        (self.regular, self.bytes, self.torn) = (found.is_file(), found.len(), false);
        self.file = Some(file);
        Ok(())
    }

    /// Sets the file aside. Where that fails it goes on growing, and the next try comes when it has grown by as much again.
    fn rotate(&mut self) {
        self.bytes = 0;
        for number in (1..self.rotation.files).rev() {
            // There may not be so many yet.
            let _ = fs::rename(self.old(number), self.old(number + 1));
        }
        let aside =
            if self.rotation.files == 0 { fs::remove_file(&self.path) } else { fs::rename(&self.path, self.old(1)) };
        // Where somebody has taken it away before, it is made anew as well.
        if aside.is_ok() || aside.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.file = None;
        }
    }

    fn old(&self, number: usize) -> PathBuf {
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
    fn a_full_file_is_set_aside_and_only_so_many_are_kept() {
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
    fn a_folder_that_vanishes_is_made_anew_before_and_at_a_rotation() {
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
        // A umask of the process may take something away.
        assert_eq!((mode(&path) & !0o640, mode(&folder) & !0o750), (0, 0));
    }

    #[test]
    fn what_cannot_be_written_is_an_error_until_it_can() {
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
    fn a_device_is_never_set_aside() {
        let mut full = LogFile::open(Path::new("/dev/full"), Rotation { bytes: 0, files: 2 }).unwrap();
        assert_eq!(full.write(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!full.regular && Path::new("/dev/full").exists());
    }
}
