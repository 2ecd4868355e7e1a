//! A log file that takes lines before it is open, and whose errors stop nobody.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::super::args::flags::LogFormat;
use super::lines::warning;
use super::log_file::{LogFile, Rotation};
use super::terminal::Terminal;
use crate::model::counted;

/// The log file. Lines that cannot be written are lost. Standard error is told once, and the file when it takes lines
/// again.
#[derive(Debug, Clone)]
pub(crate) struct LateFile {
    state: Arc<Mutex<State>>,
    format: LogFormat,
    /// Standard error, if a person reads it.
    terminal: Option<Terminal>,
}

#[derive(Debug, Default)]
struct State {
    /// Lines from before the file was open.
    waiting: Vec<u8>,
    file: Option<LogFile>,
    /// The number of lines that are in no file.
    lost: u64,
    /// Why the last of these lines was lost.
    reason: String,
    /// Whether standard error was told about lost lines.
    has_warned: bool,
}

/// The highest number of bytes that are kept until the file is open. The first lines are the most useful ones, so later
/// lines are dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// How often a thread that panics tries to lock a file. The thread may hold the lock itself.
const PANIC_LOCK_TRIES: u32 = 50;
/// The pause between two of these tries.
const PANIC_LOCK_PAUSE: Duration = Duration::from_millis(2);

impl LateFile {
    pub(crate) fn new(format: LogFormat, terminal: Option<Terminal>) -> LateFile {
        LateFile { state: Arc::default(), format, terminal }
    }

    /// Opens the file. The lines so far are written first.
    pub(crate) fn open(&self, path: &Path, rotation: Rotation) -> io::Result<()> {
        let file = LogFile::open(path, rotation)?;
        let mut state = self.locked();
        state.file = Some(file);
        let waiting = std::mem::take(&mut state.waiting);
        let notice = state.write(&waiting, self.format);
        drop(state);
        self.warn(notice);
        Ok(())
    }

    /// Locks the state. Code under this lock cannot panic, log or wait for another lock.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state. A thread that panics may hold the lock itself: it tries for a limited time, then gives up.
    fn try_locked(&self) -> Option<MutexGuard<'_, State>> {
        if !std::thread::panicking() {
            return Some(self.locked());
        }
        for _ in 0..PANIC_LOCK_TRIES {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(state)) => return Some(state.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PANIC_LOCK_PAUSE),
            }
        }
        None
    }

    fn warn(&self, notice: Option<String>) {
        let (Some(notice), Some(terminal)) = (notice, &self.terminal) else { return };
        terminal.say(&warning(self.format, &notice));
    }

    /// Reports on standard error how many lines are in no file.
    pub(crate) fn report_lost(&self) {
        let state = self.locked();
        let notice = state.file.as_ref().filter(|_| state.lost > 0).map(|file| {
            format!("{} are missing in {}: {}", counted_lines(state.lost), file.path().display(), state.reason)
        });
        drop(state);
        self.warn(notice);
    }
}

impl State {
    /// Writes lines. Returns a message for standard error.
    fn write(&mut self, lines: &[u8], format: LogFormat) -> Option<String> {
        let Some(file) = &mut self.file else {
            if self.waiting.len() + lines.len() <= MAX_WAITING_BYTES {
                self.waiting.extend_from_slice(lines);
            } else {
                self.lost += count_lines(lines);
                self.reason = "too much was logged before the file was opened".to_owned();
            }
            return None;
        };
        if self.lost > 0 {
            let gap = format!("{} before this one are missing: {}", counted_lines(self.lost), self.reason);
            if file.write(warning(format, &gap).as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        let error = file.write(lines).err()?;
        self.lost += count_lines(lines);
        self.reason = error.to_string();
        if std::mem::replace(&mut self.has_warned, true) {
            return None;
        }
        Some(format!("cannot write to the log {}: {error}. The work goes on without it", file.path().display()))
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn counted_lines(lines: u64) -> String {
    counted(usize::try_from(lines).unwrap_or(usize::MAX), "line")
}

impl Write for LateFile {
    /// Never fails: the code that logs cannot handle an error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(mut state) = self.try_locked() {
            let notice = state.write(bytes, self.format);
            drop(state);
            self.warn(notice);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nothing is buffered.
        Ok(())
    }
}

impl MakeWriter<'_> for LateFile {
    type Writer = LateFile;

    fn make_writer(&self) -> LateFile {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn late() -> LateFile {
        LateFile::new(LogFormat::Text, None)
    }

    #[test]
    fn lines_from_before_the_file_was_opened_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.log");
        let mut late = late();
        writeln!(late, "before").unwrap();
        assert!(!path.exists());
        late.open(&path, Rotation::default()).unwrap();
        writeln!(late, "after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn lost_lines_are_counted_at_their_place_in_the_file() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("logs");
        let path = folder.join("log.log");
        fs::create_dir(&folder).unwrap();
        let mut late = late();
        late.open(&path, Rotation { bytes: 1, files: 2 }).unwrap();
        writeln!(late, "one").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in its place").unwrap();
        late.write_all(b"two\nmore of it\n").unwrap();
        late.write_all(b"three\n").unwrap();
        assert_eq!(late.locked().lost, 3);
        fs::remove_file(&folder).unwrap();
        late.write_all(b"four\n").unwrap();
        let found = [path.with_extension("log.1"), path].map(|path| fs::read_to_string(path).unwrap()).concat();
        assert!(found.contains("WARN") && found.contains(" 3 lines before this one are missing: "), "{found}");
        assert!(found.ends_with("four\n") && late.locked().lost == 0, "{found}");
    }

    /// A panic while the state is locked is not logged, and blocks no thread.
    #[test]
    fn a_panic_while_the_log_is_locked_does_not_deadlock() {
        let folder = tempfile::tempdir().unwrap();
        let late = late();
        late.open(&folder.path().join("log.log"), Rotation::default()).unwrap();
        struct LogsInTheEnd(LateFile);
        impl Drop for LogsInTheEnd {
            fn drop(&mut self) {
                writeln!(self.0, "while it panics").unwrap();
            }
        }
        let held = late.clone();
        let thread = std::thread::spawn(move || {
            let _held = held.locked();
            let _logs = LogsInTheEnd(held.clone());
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        let mut late = late;
        writeln!(late, "afterwards").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("log.log")).unwrap(), "afterwards\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let error = late().open(Path::new("/nonexistent/log.log"), Rotation::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
