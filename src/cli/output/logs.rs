//! Where the lines go.
//!
//! Standard error has what a person should see, from the first moment; a daemon's lines don't go there. Files get
//! theirs from [`Logs::start`] on, so that a launch which fails on its task leaves no folder behind; the lines from
//! before are kept and written then. As in the original a launch has a folder of its own,
//! `<base-dir>/clickhouse-copier_YYYYMMDDhhmmss_PID/`, with `log.log` (everything at the level) and `log.err.log`
//! (warnings and errors). All times, the folder's name included, are UTC: local time can't be asked for safely once
//! threads run, and the clocks of workers on several machines compare.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use thiserror::Error;
use time::{OffsetDateTime, macros::format_description};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::super::args::flags::LogFormat;
use super::super::args::level::Level;
use super::super::args::options::LogOptions;
use super::complain;
use super::late_file::LateFile;
use super::lines::{Facts, JsonLines, TextLines};
pub use super::log_file::Rotation;
use super::log_file::folders;
use super::terminal::Terminal;
use super::warnings::Warnings;

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
        let terminal = Terminal::default();
        let file = || LateFile::new(options.format, to_person.then(|| terminal.clone()));
        let (all, errors) = (file(), file());
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
        let screen = terminal.clone();
        std::panic::set_hook(Box::new(move |panic| {
            // The thread that panics may hold the lock of the bars.
            screen.leave_bars();
            tracing::error!("internal error: {panic}");
            // The files may not be open yet, and a daemon's standard error is the launcher's until it is ready.
            if !to_person {
                complain(&format!("internal error: {panic}"));
            }
        }));
        Ok(Logs { options: options.clone(), terminal, warnings, all, errors })
    }

    /// Standard error, for bars.
    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Every warning and error so far, whatever the level.
    pub(crate) fn warnings(&self) -> Vec<String> {
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
        for (file, path) in [(&self.all, &places.all), (&self.errors, &places.errors)] {
            file.open(path, rotation).map_err(|source| LogError::File { path: path.clone(), source })?;
        }
        Ok(places)
    }

    /// Says on standard error what is in no log file because it could not be written to the end.
    pub(crate) fn tell_lost(&self) {
        self.all.tell_lost();
        self.errors.tell_lost();
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
    folders().recursive(true).create(base_dir).map_err(failed(base_dir))?;
    let stamp = OffsetDateTime::now_utc()
        .format(format_description!("[year][month][day][hour][minute][second]"))
        .map_err(|error| failed(base_dir)(io::Error::other(error)))?;
    let name = format!("clickhouse-copier_{stamp}_{}", std::process::id());
    let mut folder = base_dir.join(&name);
    for number in 2.. {
        match folders().create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => {
                folder = base_dir.join(format!("{name}_{number}"));
            }
            other => return other.map_err(failed(&folder)).map(|()| folder),
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
