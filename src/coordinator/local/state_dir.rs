//! The state directory: the folder, the file, and the locks that show which sessions are alive.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::LocalCoordinator;

/// Device and inode of the file: they identify it, whatever its name, as long as it is open.
pub(super) type FileIdentity = (u64, u64);

/// A random number chosen when a file is created.
pub(super) type FileMark = i64;

/// The number of a session, never given out twice.
pub(super) type Number = i64;

/// Name of a file beside the database that holds the mark of that database.
const MARK_FILE: &str = "made";

/// Refuses to follow a symbolic link.
const NO_FOLLOW: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

/// How long another process may take to create the file.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct StateDir {
    folder: PathBuf,
    file: PathBuf,
}

/// The lock of a session, which ends with its process.
#[derive(Debug)]
pub(super) struct SessionLock(File);

/// The state of a session's lock.
#[derive(Debug)]
pub(super) enum LockState {
    /// The process of the session holds the lock. The time is that of its last pulse.
    Held(SystemTime),
    /// The process of the session is dead.
    Free,
}

impl StateDir {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: folder.join(LocalCoordinator::FILE) }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn place(&self) -> String {
        self.file.display().to_string()
    }

    /// Creates the folder and the file if they are missing; an empty file is an empty database. Returns a lock: while
    /// it lives, nobody else opens the file, so only one process creates its tables.
    pub(crate) fn open(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder.join("sessions"))?;
        if let Some(kind) = network_file_system(&self.folder) {
            let what = format!("{} is on {kind}, where locks don't hold: choose a local disk", self.folder.display());
            return Err(io::Error::other(what));
        }
        let lock = open_private(&self.folder.join("opening"))?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < CREATE_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other("another process has been opening it for seconds; is it frozen?"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        open_private(&self.file)?;
        Ok(lock)
    }

    /// Returns whether the folder and the file belong to this process's user, and nobody else may write to them. A
    /// missing folder or file counts as the user's own.
    pub(crate) fn is_own(&self) -> bool {
        let user = nix::unistd::geteuid().as_raw();
        [&self.folder, &self.file].into_iter().all(|path| match fs::metadata(path) {
            Ok(found) => found.uid() == user && found.mode() & 0o022 == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        })
    }

    /// Returns whether the file is empty.
    pub(crate) fn is_empty(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.len() == 0)
    }

    /// Returns the mark of the file that was created in this folder; `None` before one was created.
    pub(crate) fn mark(&self) -> Option<FileMark> {
        fs::read_to_string(self.folder.join(MARK_FILE)).ok()?.trim().parse().ok()
    }

    /// Saves the file's mark, once.
    pub(crate) fn save_mark(&self, mark: FileMark) -> io::Result<()> {
        if self.mark().is_some() {
            return Ok(());
        }
        let mut file = open_private(&self.folder.join(MARK_FILE))?;
        file.set_len(0)?;
        writeln!(file, "{mark}")?;
        file.sync_all()
    }

    /// Returns the identity of the present file.
    pub(crate) fn identity(&self) -> io::Result<FileIdentity> {
        fs::metadata(&self.file).map(|found| (found.dev(), found.ino()))
    }

    /// Takes the lock of a new session, before others can know of it.
    pub(crate) fn lock_session(&self, number: Number) -> io::Result<SessionLock> {
        let file = open_private(&self.session_file(number))?;
        file.try_lock()?;
        Ok(SessionLock(file))
    }

    /// Returns the state of another session's lock.
    pub(crate) fn lock_state(&self, number: Number) -> io::Result<LockState> {
        let file =
            match OpenOptions::new().read(true).write(true).custom_flags(NO_FOLLOW).open(self.session_file(number)) {
                Ok(file) => file,
                // The file of the session is gone, so no process can see that the session lives. The process of the
                // session learns it when its row is deleted.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
                Err(error) => return Err(error),
            };
        match file.try_lock() {
            Ok(()) => Ok(LockState::Free),
            Err(TryLockError::WouldBlock) => Ok(LockState::Held(file.metadata()?.modified()?)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes the file of an ended session. If that fails, the next session that begins removes it.
    pub(crate) fn remove_session_file(&self, number: Number) {
        // The file may be gone already, and an extra file does no harm.
        let _ = fs::remove_file(self.session_file(number));
    }

    /// Returns the sessions that have a file.
    pub(crate) fn session_files(&self) -> Vec<Number> {
        let Ok(found) = fs::read_dir(self.folder.join("sessions")) else { return Vec::new() };
        found.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    fn session_file(&self, number: Number) -> PathBuf {
        self.folder.join("sessions").join(number.to_string())
    }
}

impl SessionLock {
    /// Updates the pulse, which shows that this process is not frozen.
    pub(crate) fn pulse(&self) {
        // If this fails for long, others end the session, and it finds that out.
        let _ = self.0.set_modified(SystemTime::now());
    }
}

/// Opens the file at a path, or creates one that only its owner may read. A symbolic link is an error: somebody else
/// may have put it there to have another file written.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_FOLLOW).open(path)
}

/// Returns the name of the network file system that a folder is on.
#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
    const CIFS: FsType = FsType(0xff53_4d42);
    const SMB2: FsType = FsType(0xfe53_4d42);
    match statfs(folder).ok()?.filesystem_type() {
        NFS_SUPER_MAGIC => Some("NFS"),
        SMB_SUPER_MAGIC | CIFS | SMB2 => Some("SMB"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}
