//! The form of a log line.
//!
//! Spans say what a line is about: `task` (its identity) and `worker`; within a job `table`, `partition`, `batch` and `piece`;
//! within an attempt `attempt`. An event adds `node` where it is about one server.
//!
//! - As JSON these are fields of each line, beside `timestamp`, `level`, `message` and `target` (the module). A field that does
//!   not apply is absent. `jq 'select(.table == "hits" and .piece == 3)'` follows a piece.
//! - As text they are in the sentence: the lines of a job begin with its name, `table hits piece 3 (partition 201801, source
//!   shard 1)`, whoever wrote them; `grep 'table hits piece 3 '` follows a piece.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::super::args::flags::LogFormat;
use crate::model::{printable, printable_json};

/// The name of a job, as its lines of text begin; the other fields say the same to programs.
const JOB: &str = "job";
/// What a text line has in its sentence.
const SAID: [&str; 8] = ["task", "worker", "table", "partition", "batch", "piece", "attempt", "node"];

/// Keeps what spans say.
pub(crate) struct Facts;

/// What a span, or an event, says.
#[derive(Debug, Default)]
struct Said(BTreeMap<&'static str, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Facts {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut said = Said::default();
        attributes.record(&mut said);
        span.extensions_mut().insert(said);
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.into());
    }
}

impl Said {
    /// What an event says, and the spans that it is in; the event and the inner spans know better.
    fn of<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> Said
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'w> FormatFields<'w> + 'static,
    {
        let mut said = Said::default();
        event.record(&mut said);
        for span in context.event_scope().into_iter().flatten() {
            if let Some(more) = span.extensions().get::<Said>() {
                for (name, value) in &more.0 {
                    said.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        said
    }

    fn text(&self, name: &str) -> Cow<'_, str> {
        match self.0.get(name) {
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(other.to_string()),
            None => Cow::Borrowed(""),
        }
    }

    /// The sentence of a text line. One that does not begin with the table gets the name of its job.
    fn sentence(&self) -> String {
        let message = self.text("message");
        let mut sentence = String::new();
        if self.0.contains_key(JOB) && !message.starts_with("table ") {
            sentence.push_str(&self.text(JOB));
            if self.0.contains_key("attempt") {
                sentence.push_str(", attempt ");
                sentence.push_str(&self.text("attempt"));
            }
            sentence.push_str(": ");
        }
        sentence.push_str(&message);
        for name in self.0.keys() {
            // What comes from the `log` crate has fields about its place.
            if !SAID.contains(name) && ![JOB, "message"].contains(name) && !name.starts_with("log.") {
                let _ = write!(sentence, " {name}={}", self.text(name));
            }
        }
        printable(&sentence).into_owned()
    }

    fn target<'a>(&'a self, event: &Event<'a>) -> Cow<'a, str> {
        if self.0.contains_key("log.target") {
            self.text("log.target")
        } else {
            Cow::Borrowed(event.metadata().target())
        }
    }
}

/// A line of ours about the log itself, in its form.
pub(crate) fn warning(format: LogFormat, message: &str) -> String {
    let (level, target) = (Level::WARN.as_str(), module_path!());
    match format {
        LogFormat::Text => format!("{} {level:>5} {}\n", now(), printable(message)),
        LogFormat::Json => {
            let said = Said(BTreeMap::from([("message", message.into())]));
            // Every text has a form in JSON.
            said.json(&now(), level, target).map(|line| line + "\n").unwrap_or_default()
        }
    }
}

fn now() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail; without a clock a line has no time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// For people.
pub(crate) struct TextLines {
    /// Whether the module is said.
    pub(crate) with_target: bool,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let said = Said::of(context, event);
        let level = *event.metadata().level();
        let (dim, colour, plain) = match (to.has_ansi_escapes(), level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        write!(to, "{dim}{}{plain} {colour}{:>5}{plain} ", now(), level.as_str())?;
        if self.with_target {
            write!(to, "{dim}{}{plain}: ", printable(&said.target(event)))?;
        }
        writeln!(to, "{}", said.sentence())
    }
}

/// For programs: an object a line.
pub(crate) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let said = Said::of(context, event);
        let line = said.json(&now(), event.metadata().level().as_str(), &said.target(event));
        writeln!(to, "{}", line.map_err(|_| fmt::Error)?)
    }
}

impl Said {
    fn json(&self, timestamp: &str, level: &str, target: &str) -> Result<String, serde_json::Error> {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", timestamp)?;
        object.serialize_entry("level", level)?;
        object.serialize_entry("message", &self.text("message"))?;
        for name in SAID {
            if let Some(value) = self.0.get(name) {
                object.serialize_entry(name, value)?;
            }
        }
        let others = self.0.iter().filter(|(name, _)| {
            let own = [JOB, "message", "timestamp", "level", "target"];
            !SAID.contains(name) && !own.contains(name) && !name.starts_with("log.")
        });
        for (name, value) in others {
            object.serialize_entry(name, value)?;
        }
        object.serialize_entry("target", target)?;
        object.end()?;
        Ok(printable_json(&String::from_utf8_lossy(&line)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(facts: &[(&'static str, Value)]) -> Said {
        Said(facts.iter().cloned().collect())
    }

    #[test]
    fn a_line_says_what_it_is_about_once() {
        let job = "table hits piece 3 (partition 201801, source shard 1)";
        let of = |message: &str| {
            said(&[
                (JOB, job.into()),
                ("table", "hits".into()),
                ("piece", 3.into()),
                ("attempt", 2.into()),
                ("node", "a:9000".into()),
                ("message", message.into()),
            ])
        };
        let own = format!("{job}: 5 rows copied in 0.1 s (attempt 2)");
        assert_eq!(of(&own).sentence(), own);
        assert_eq!(of("a:9000: cannot drop x").sentence(), format!("{job}, attempt 2: a:9000: cannot drop x"));
        assert_eq!(said(&[("message", "done".into()), ("task", "f00".into())]).sentence(), "done");
        let line = of(&own).json("now", "INFO", "here").unwrap();
        assert_eq!(
            line,
            format!(
                "{{\"timestamp\":\"now\",\"level\":\"INFO\",\"message\":\"{own}\",\"table\":\"hits\",\"piece\":3,\"attempt\":2,\
                 \"node\":\"a:9000\",\"target\":\"here\"}}"
            )
        );
    }

    #[test]
    fn a_terminal_does_not_obey_a_server() {
        assert_eq!(said(&[("message", "a\x1b[2Jb\nc".into())]).sentence(), "a\\u{1b}[2Jb\nc");
    }
}
