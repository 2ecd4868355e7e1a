//! `--log-level`: the names of the original's levels, and which lines each level lets through.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The log level. The original has more levels than this program: `fatal` and `critical` let errors through, `notice`
/// means `information`, `test` means `trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// No lines.
    Off,
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// Warnings and the work that was done.
    Information,
    /// Also the reasons, statement by statement.
    Debug,
    /// All lines, also those of libraries.
    Trace,
}

impl Level {
    /// The accepted names, in any case, for messages.
    pub(crate) const NAMES: &str =
        "none, fatal, critical, error, warning, notice, information, debug, trace, test (or off, warn, info)";

    /// Returns the level with this name.
    pub(crate) fn named(name: &str) -> Result<Level, String> {
        match name.to_ascii_lowercase().as_str() {
            "none" | "off" => Ok(Level::Off),
            "fatal" | "critical" | "error" => Ok(Level::Error),
            "warning" | "warn" => Ok(Level::Warning),
            "notice" | "information" | "info" => Ok(Level::Information),
            "debug" => Ok(Level::Debug),
            "trace" | "test" => Ok(Level::Trace),
            _ => Err(format!("the levels are {}", Level::NAMES)),
        }
    }

    /// Returns the filter of log lines. Lines of this crate pass at this level. Lines of other crates pass from
    /// warnings up, but all of them at `trace`.
    pub(crate) fn filter(self) -> Targets {
        let libraries = if self == Level::Trace { Level::Trace } else { self.min(Level::Warning) };
        Targets::new().with_default(libraries.threshold()).with_target("clickhouse_copier", self.threshold())
    }

    fn threshold(self) -> LevelFilter {
        match self {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warning => LevelFilter::WARN,
            Level::Information => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level as TracingLevel;

    #[test]
    fn every_log_level_of_the_original_is_accepted() {
        for name in Level::NAMES.split([',', ' ', '(', ')']).filter(|word| !word.is_empty() && *word != "or") {
            assert!(Level::named(name).is_ok(), "{name}");
            assert_eq!(Level::named(name), Level::named(&name.to_uppercase()));
        }
        assert!(Level::named("loud").unwrap_err().contains("information"));
    }

    #[test]
    fn libraries_log_only_warnings_unless_the_level_is_trace() {
        let ours = "clickhouse_copier::worker";
        assert!(Level::Debug.filter().would_enable(ours, &TracingLevel::DEBUG));
        assert!(!Level::Debug.filter().would_enable("hyper::client", &TracingLevel::INFO));
        assert!(Level::Debug.filter().would_enable("hyper::client", &TracingLevel::WARN));
        assert!(Level::Trace.filter().would_enable("hyper::client", &TracingLevel::TRACE));
        assert!(!Level::Error.filter().would_enable("hyper::client", &TracingLevel::WARN));
        assert!(!Level::Off.filter().would_enable(ours, &TracingLevel::ERROR));
    }
}
