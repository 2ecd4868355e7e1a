//! The state directory: its folder, the file, and the locks by which a living session is known.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::LocalCoordinator;

/// Which file it is, whatever its name is now, as long as it is open: device and inode.
pub(super) type Identity = (u64, u64);

/// Drawn when a file is made.
pub(super) type Mark = i64;

/// The number of a session, never given out twice.
pub(super) type Number = i64;

/// A file beside the database, with the mark of that database.
const MADE: &str = "made";

/// A symbolic link is not followed.
const NO_LINK: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

/// How long somebody else may take to make the file.
const MAKING: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Home {
    folder: PathBuf,
    file: PathBuf,
}

/// A session's lock, which ends with its process.
#[derive(Debug)]
pub(super) struct Seat(File);

/// What a session's lock says about its process.
#[derive(Debug)]
pub(super) enum Sign {
    /// It holds its lock, and showed its last pulse then.
    Held(SystemTime),
    /// It is dead.
    Free,
}

impl Home {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: folder.join(LocalCoordinator::FILE) }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn place(&self) -> String {
        self.file.display().to_string()
    }

    /// Makes folder and file where they are missing; an empty file is an empty database. Returns with a lock: as long as
    /// it lives, nobody else opens the file, so that one process alone gives it its form.
    pub fn open(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder.join("sessions"))?;
        if let Some(kind) = network(&self.folder) {
            let what = format!("{} is on {kind}, where locks don't hold: choose a local disk", self.folder.display());
            return Err(io::Error::other(what));
        }
        let lock = private(&self.folder.join("opening"))?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < MAKING => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other("another process has been opening it for seconds; is it frozen?"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        private(&self.file)?;
        Ok(lock)
    }

    /// Returns whether the folder and the file belong to this process's user, and nobody else may write to them. What does not exist
    /// yet counts as the user's own.
    pub fn is_own(&self) -> bool {
        let user = nix::unistd::geteuid().as_raw();
        [&self.folder, &self.file].into_iter().all(|path| match fs::metadata(path) {
            Ok(found) => found.uid() == user && found.mode() & 0o022 == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        })
    }

    /// Whether the file holds nothing.
    pub fn is_empty(&self) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.len() == 0)
    }

    /// What the file that was made in this folder is known by. `None` before one was made.
    pub fn mark(&self) -> Option<Mark> {
        fs::read_to_string(self.folder.join(MADE)).ok()?.trim().parse().ok()
    }

    /// Writes down what the file is known by, once.
    pub fn keep_mark(&self, mark: Mark) -> io::Result<()> {
        if self.mark().is_some() {
            return Ok(());
        }
        let mut file = private(&self.folder.join(MADE))?;
        file.set_len(0)?;
        writeln!(file, "{mark}")?;
        file.sync_all()
    }

    /// Which file is there now.
    pub fn identity(&self) -> io::Result<Identity> {
        fs::metadata(&self.file).map(|found| (found.dev(), found.ino()))
    }

    /// Takes the lock of a new session, before others can know of it.
    pub fn sit(&self, number: Number) -> io::Result<Seat> {
        let file = private(&self.seat(number))?;
        file.try_lock()?;
        Ok(Seat(file))
    }

    /// What another session's lock says.
    pub fn sign(&self, number: Number) -> io::Result<Sign> {
        let file = match OpenOptions::new().read(true).write(true).custom_flags(NO_LINK).open(self.seat(number)) {
            Ok(file) => file,
            // Its process could not be seen any more: it is told so by its own row, which goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sign::Free),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Sign::Free),
            Err(TryLockError::WouldBlock) => Ok(Sign::Held(file.metadata()?.modified()?)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes the file of a session that is over. What stays is removed by the next that begins one.
    pub fn clear(&self, number: Number) {
        // It may be gone already, and a file too many does no harm.
        let _ = fs::remove_file(self.seat(number));
    }

    /// The sessions that have a file.
    pub fn seats(&self) -> Vec<Number> {
        let Ok(found) = fs::read_dir(self.folder.join("sessions")) else { return Vec::new() };
        found.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    fn seat(&self, number: Number) -> PathBuf {
        self.folder.join("sessions").join(number.to_string())
    }
}

impl Seat {
    /// Shows that this process is not frozen.
    pub fn pulse(&self) {
        // Where it fails for long, others end this session, and it learns that.
        let _ = self.0.set_modified(SystemTime::now());
    }
}

/// What stands at the path, or a new file that its owner alone may read. A symbolic link there is an error: somebody else may have
/// put it there, to have another file written.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK).open(path)
}

/// The name of the network file system that a folder is on.
#[cfg(target_os = "linux")]
fn network(folder: &Path) -> Option<&'static str> {
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
fn network(_: &Path) -> Option<&'static str> {
    None
}
