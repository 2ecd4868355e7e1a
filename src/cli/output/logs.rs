//! The destinations of log lines.
//!
//! Lines for a person go to standard error from the first moment; lines of a daemon do not. Files receive lines from
//! [`Logs::start`] on, so a launch that fails on its task creates no folder; earlier lines are kept and written then.
//! As in the original, a launch has its own folder, `<base-dir>/clickhouse-copier_YYYYMMDDhhmmss_PID/`, with `log.log`
//! (all lines at the level) and `log.err.log` (warnings and errors). All times are UTC, also in the folder's name: the
//! local time cannot be read safely once threads run, and times of workers on several machines can be compared.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use thiserror::Error;
use time::OffsetDateTime;
use time::macros::format_description;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::super::args::flags::LogFormat;
use super::super::args::level::Level;
use super::super::args::options::LogOptions;
use super::complain;
use super::late_file::LateFile;
use super::lines::{JsonLines, SpanFields, TextLines};

pub(crate) use super::log_file::Rotation;
use super::log_file::folders;
use super::terminal::Terminal;
use super::warnings::Warnings;

/// The reason why logging could not be set up.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// This process has a logger already.
    #[error("cannot set up logging")]
    Install(#[source] TryInitError),
    /// The launch's folder cannot be created.
    #[error("cannot create the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A log file cannot be opened.
    #[error("cannot open the log file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
}

/// The logging of this process. Its files may not be open yet.
#[derive(Debug)]
pub(crate) struct Logs {
    options: LogOptions,
    terminal: Terminal,
    warnings: Warnings,
    all: LateFile,
    errors: LateFile,
}

/// The open log files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPlaces {
    /// The launch's folder; `None` if both files are elsewhere.
    pub(crate) folder: Option<PathBuf>,
    /// The file with all lines at the level.
    pub(crate) all: PathBuf,
    /// The file with warnings and errors.
    pub(crate) errors: PathBuf,
}

impl Logs {
    /// Makes this the logging of the whole process. With `to_person`, standard error receives lines of information and
    /// above: lines about single statements go to the file only. It receives errors at every level, so nothing fails in
    /// silence. A panic becomes a line too.
    pub(crate) fn install(options: &LogOptions, to_person: bool) -> Result<Logs, LogError> {
        let terminal = Terminal::default();
        let file = || LateFile::new(options.format, to_person.then(|| terminal.clone()));
        let (all, errors) = (file(), file());
        let warnings = Warnings::default();
        let person_layer = to_person.then(|| {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(terminal.clone()).with_ansi(io::stderr().is_terminal());
            let filter = options.level.clamp(Level::Error, Level::Information).filter();
            formatted(layer, options.format, false).with_filter(filter)
        });
        tracing_subscriber::registry()
            // This layer comes first: the layers below read the fields of spans.
            .with(SpanFields.with_filter(Level::Error.filter()))
            .with(person_layer)
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
            // The files may not be open yet, and until a daemon is ready its standard error is that of the launcher.
            if !to_person {
                complain(&format!("internal error: {panic}"));
            }
        }));
        Ok(Logs { options: options.clone(), terminal, warnings, all, errors })
    }

    /// Returns standard error, for bars.
    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Returns every warning and error so far, at any log level.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lines()
    }

    /// Creates the launch's folder and opens the files. The lines so far are written first. Call it once the task is
    /// known to be good.
    pub(crate) fn start(&self, rotation: Rotation) -> Result<LogPlaces, LogError> {
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

    /// Reports on standard error how many lines are in no log file.
    pub(crate) fn report_lost(&self) {
        self.all.report_lost();
        self.errors.report_lost();
    }
}

/// The highest number that follows the name of a new folder.
const MAX_FOLDER_NUMBER: u32 = 100;

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn file_layer<S>(file: LateFile, format: LogFormat) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    formatted(tracing_subscriber::fmt::layer().with_writer(file).with_ansi(false), format, true)
}

fn formatted<S, W>(
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

/// Creates a new folder. Its name exists already only if two machines share `base_dir` and their pids and clocks agree,
/// as in containers, where every process has pid 1. Then a number follows the name.
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
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MAX_FOLDER_NUMBER => {
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
