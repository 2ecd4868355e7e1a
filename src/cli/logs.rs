//! Where the lines go.
//!
//! Standard error has what a person should see, from the first moment; a daemon's lines don't go there. Files get
//! theirs from [`Logs::start`] on, so that a launch which fails on its task leaves no folder behind; the lines from
//! before are kept and written then. As in the original a launch has a folder of its own,
//! `<base-dir>/clickhouse-copier_YYYYMMDDhhmmss_PID/`, with `log.log` (everything at the level) and `log.err.log`
//! (warnings and errors). All times, the folder's name included, are UTC: local time can't be asked for safely once
//! threads run, and the clocks of workers on several machines compare.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use file_rotate::{ContentLimit, FileRotate, compression::Compression, suffix::AppendCount};
use thiserror::Error;
use time::{OffsetDateTime, macros::format_description};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::level::Level;
use super::lines::{Facts, JsonLines, TextLines};
use super::meant::{LogFormat, LogOptions};
use super::terminal::Terminal;
use super::warnings::Warnings;

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

/// Why there are no logs.
#[derive(Debug, Error)]
pub enum LogError {
    /// Something in this process logs already.
    #[error("cannot set up logging")]
    Install(#[source] TryInitError),
    /// The launch's folder can't be made.
    #[error("cannot create the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A log file can't be opened.
    #[error("cannot open the log file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Logging, with its files not yet open.
#[derive(Debug)]
pub struct Logs {
    options: LogOptions,
    terminal: Terminal,
    warnings: Warnings,
    all: LateFile,
    errors: LateFile,
}

/// Logging, with its files open; says where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlaces {
    /// The launch's folder; none was made if both files are elsewhere.
    pub folder: Option<PathBuf>,
    /// Everything at the level.
    pub all: PathBuf,
    /// Warnings and errors.
    pub errors: PathBuf,
}

impl Logs {
    /// Makes this the logging of the whole process. With `to_person`, standard error gets information and above: how
    /// every single statement went is for the file; and errors at any level: nothing may fail in silence. A panic,
    /// too, becomes a line.
    pub fn install(options: &LogOptions, to_person: bool) -> Result<Logs, LogError> {
        let (all, errors, terminal) = (LateFile::default(), LateFile::default(), Terminal::default());
        let warnings = Warnings::default();
        let person = to_person.then(|| {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(terminal.clone()).with_ansi(io::stderr().is_terminal());
            let filter = options.level.clamp(Level::Error, Level::Information).filter();
            shaped(layer, options.format, false).with_filter(filter)
        });
        tracing_subscriber::registry()
            // First: what a span says is known to those below.
            .with(Facts.with_filter(Level::Error.filter()))
            .with(person)
            .with(warnings.clone().with_filter(Level::Warning.filter()))
            .with(file_layer(all.clone(), options.format).with_filter(options.level.filter()))
            .with(file_layer(errors.clone(), options.format).with_filter(options.level.min(Level::Warning).filter()))
            .try_init()
            .map_err(LogError::Install)?;
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!("internal error: {panic}");
            // The files may not be open yet, and a daemon's standard error is the launcher's until it is ready.
            if !to_person {
                eprintln!("{}: internal error: {panic}", super::PROGRAM);
            }
        }));
        Ok(Logs { options: options.clone(), terminal, warnings, all, errors })
    }

    /// Standard error, for bars.
    pub(super) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Every warning and error so far, whatever the level.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.said()
    }

    /// Makes the launch's folder and opens the files; the lines so far go there first. To be called once the task is
    /// known to be good.
    pub fn start(&self, rotation: Rotation) -> Result<LogPlaces, LogError> {
        let LogOptions { base_dir, file, error_file, .. } = &self.options;
        let folder = if file.is_none() || error_file.is_none() { Some(new_folder(base_dir)?) } else { None };
        let place = |chosen: &Option<PathBuf>, name: &str| match chosen {
            Some(path) => path.clone(),
            None => folder.as_deref().unwrap_or(base_dir).join(name),
        };
        let places = LogPlaces { all: place(file, "log.log"), errors: place(error_file, "log.err.log"), folder };
        self.all.open(&places.all, rotation)?;
        self.errors.open(&places.errors, rotation)?;
        Ok(places)
    }
}

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn file_layer<S>(file: LateFile, format: LogFormat) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    shaped(tracing_subscriber::fmt::layer().with_writer(file).with_ansi(false), format, true)
}

fn shaped<S, W>(
    layer: tracing_subscriber::fmt::Layer<
        S,
        tracing_subscriber::fmt::format::DefaultFields,
        tracing_subscriber::fmt::format::Format,
        W,
    >,
    format: LogFormat,
    with_target: bool,
) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => layer.event_format(TextLines { with_target }).boxed(),
        LogFormat::Json => layer.event_format(JsonLines).boxed(),
    }
}

/// Makes a folder that was not there. Its name repeats only if two machines share `base_dir` and their pids and clocks
/// agree, as in containers, where every process is the first; then a number follows.
fn new_folder(base_dir: &Path) -> Result<PathBuf, LogError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LogError::Folder { path, source }
    };
    fs::create_dir_all(base_dir).map_err(failed(base_dir))?;
    let stamp = OffsetDateTime::now_utc()
        .format(format_description!("[year][month][day][hour][minute][second]"))
        .map_err(|error| failed(base_dir)(io::Error::other(error)))?;
    let name = format!("clickhouse-copier_{stamp}_{}", std::process::id());
    let mut folder = base_dir.join(&name);
    for number in 2.. {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => {
                folder = base_dir.join(format!("{name}_{number}"));
            }
            other => return other.map_err(failed(&folder)).map(|()| folder),
        }
    }
    Ok(folder)
}

/// A file that is opened later than it is written to. Written synchronously, line by line: what was logged before a
/// crash is in the file.
#[derive(Debug, Clone, Default)]
struct LateFile(Arc<Mutex<State>>);

enum State {
    Waiting(Vec<u8>),
    Open(Box<FileRotate<AppendCount>>),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Waiting(_) => "Waiting",
            State::Open(_) => "Open",
        })
    }
}

impl Default for State {
    fn default() -> State {
        State::Waiting(Vec::new())
    }
}

/// What is kept until a file is open. The first lines say most, so what comes after that is dropped.
const WAITING_BYTES: usize = 1 << 20;

impl LateFile {
    fn open(&self, path: &Path, rotation: Rotation) -> Result<(), LogError> {
        let failed = |source| LogError::File { path: path.to_owned(), source };
        // FileRotate panics on a file that can't be opened, so that is found out first.
        fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        let mut file = FileRotate::new(
            path,
            AppendCount::new(rotation.files),
            ContentLimit::BytesSurpassed(rotation.bytes),
            Compression::None,
            None,
        );
        let mut state = self.state();
        if let State::Waiting(lines) = &*state {
            file.write_all(lines).map_err(failed)?;
        }
        *state = State::Open(Box::new(file));
        Ok(())
    }

    /// A writer that panicked left at worst half a line: no reason to stop logging.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LateFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.state() {
            State::Open(file) => file.write(bytes),
            State::Waiting(lines) => {
                if lines.len() + bytes.len() <= WAITING_BYTES {
                    lines.extend_from_slice(bytes);
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.state() {
            State::Open(file) => file.flush(),
            State::Waiting(_) => Ok(()),
        }
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
    use super::*;

    #[test]
    fn lines_from_before_the_file_come_first_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.log");
        let mut late = LateFile::default();
        writeln!(late, "before").unwrap();
        assert!(!path.exists());
        late.open(&path, Rotation::default()).unwrap();
        writeln!(late, "after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn a_full_file_is_set_aside_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.log");
        let mut late = LateFile::default();
        late.open(&path, Rotation { bytes: 10, files: 2 }).unwrap();
        for line in 0..40 {
            // As the formatter does it: a line is one write.
            late.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log.log", "log.log.1", "log.log.2"]);
        assert!(fs::read_to_string(folder.path().join("log.log.1")).unwrap().ends_with('\n'));
    }

    #[test]
    fn every_launch_has_a_folder_of_its_own() {
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("a/b");
        let (first, second) = (new_folder(&deep).unwrap(), new_folder(&deep).unwrap());
        assert_ne!(first, second);
        let name = first.file_name().unwrap().to_str().unwrap().to_owned();
        let parts: Vec<&str> = name.split('_').collect();
        assert_eq!((parts[0], parts[1].len()), ("clickhouse-copier", 14), "{name}");
        assert_eq!(parts[2], std::process::id().to_string());
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = LateFile::default().open(Path::new("/nonexistent/log.log"), Rotation::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/log.log"));
    }
}
