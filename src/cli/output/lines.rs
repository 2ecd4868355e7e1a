//! The format of a log line.
//!
//! Spans name the subject of a line: `task` (its identity) and `worker`; within a job `table`, `partition`, `batch` and
//! `piece`; within an attempt `attempt`. An event adds `node` if it concerns one server.
//!
//! - In JSON these are fields of each line, beside `timestamp`, `level`, `message` and `target` (the module). A field
//!   that does not apply is absent. `jq 'select(.table == "hits" and .piece == 3)'` follows a piece.
//! - In text they are part of the sentence: the lines of a job begin with its name, `table hits piece 3 (partition
//!   201801, source shard 1)`, whichever module writes them; `grep 'table hits piece 3 '` follows a piece.

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

/// The field with the name of a job, which begins its lines of text. The other fields name the job in JSON.
const JOB: &str = "job";
/// The field of an event whose message begins with the name of the table, so that its line does not begin with the name
/// of the job. No line shows it.
const NAMES_TABLE: &str = "names_table";
/// The fields that a text line has in its sentence.
const SENTENCE_FIELDS: [&str; 8] = ["task", "worker", "table", "partition", "batch", "piece", "attempt", "node"];

/// Stores the fields of each span in the span.
pub(crate) struct SpanFields;

/// The fields of a span or an event.
#[derive(Debug, Default)]
struct LineFields(BTreeMap<&'static str, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = LineFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }
}

impl Visit for LineFields {
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

impl LineFields {
    /// Returns the fields of an event and of the spans around it. A field of the event or of an inner span wins.
    fn of<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> LineFields
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'w> FormatFields<'w> + 'static,
    {
        let mut fields = LineFields::default();
        event.record(&mut fields);
        for span in context.event_scope().into_iter().flatten() {
            if let Some(span_fields) = span.extensions().get::<LineFields>() {
                for (name, value) in &span_fields.0 {
                    fields.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        fields
    }

    fn text(&self, name: &str) -> Cow<'_, str> {
        match self.0.get(name) {
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(other) => Cow::Owned(other.to_string()),
            None => Cow::Borrowed(""),
        }
    }

    /// Returns the sentence of a text line. It begins with the name of its job if the message does not name the table.
    fn sentence(&self) -> String {
        let message = self.text("message");
        let mut sentence = String::new();
        if self.0.contains_key(JOB) && !self.0.contains_key(NAMES_TABLE) {
            sentence.push_str(&self.text(JOB));
            if self.0.contains_key("attempt") {
                sentence.push_str(", attempt ");
                sentence.push_str(&self.text("attempt"));
            }
            sentence.push_str(": ");
        }
        sentence.push_str(&message);
        for name in self.0.keys() {
            // An event of the `log` crate has fields about its place in the source.
            if !SENTENCE_FIELDS.contains(name)
                && ![JOB, NAMES_TABLE, "message"].contains(name)
                && !name.starts_with("log.")
            {
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

/// Returns a warning about the log itself, in the format of the log.
pub(crate) fn warning(format: LogFormat, message: &str) -> String {
    let (level, target) = (Level::WARN.as_str(), module_path!());
    match format {
        LogFormat::Text => format!("{} {level:>5} {}\n", now(), printable(message)),
        LogFormat::Json => {
            let fields = LineFields(BTreeMap::from([("message", message.into())]));
            // Every text can be written as JSON.
            fields.json(&now(), level, target).map(|line| line + "\n").unwrap_or_default()
        }
    }
}

fn now() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail. Without a clock a line has no time.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Formats lines for people.
pub(crate) struct TextLines {
    /// Whether a line contains the module.
    pub(crate) with_target: bool,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = LineFields::of(context, event);
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
            write!(to, "{dim}{}{plain}: ", printable(&fields.target(event)))?;
        }
        writeln!(to, "{}", fields.sentence())
    }
}

/// Formats lines for programs: one JSON object for each line.
pub(crate) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let fields = LineFields::of(context, event);
        let line = fields.json(&now(), event.metadata().level().as_str(), &fields.target(event));
        writeln!(to, "{}", line.map_err(|_| fmt::Error)?)
    }
}

impl LineFields {
    fn json(&self, timestamp: &str, level: &str, target: &str) -> Result<String, serde_json::Error> {
        let mut line = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", timestamp)?;
        object.serialize_entry("level", level)?;
        object.serialize_entry("message", &self.text("message"))?;
        for name in SENTENCE_FIELDS {
            if let Some(value) = self.0.get(name) {
                object.serialize_entry(name, value)?;
            }
        }
        let others = self.0.iter().filter(|(name, _)| {
            let reserved = [JOB, NAMES_TABLE, "message", "timestamp", "level", "target"];
            !SENTENCE_FIELDS.contains(name) && !reserved.contains(name) && !name.starts_with("log.")
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

    fn fields(facts: &[(&'static str, Value)]) -> LineFields {
        LineFields(facts.iter().cloned().collect())
    }

    #[test]
    fn a_log_line_names_its_job_once() {
        let job = "table hits piece 3 (partition 201801, source shard 1)";
        let with_message = |message: &str| {
            fields(&[
                (JOB, job.into()),
                ("table", "hits".into()),
                ("piece", 3.into()),
                ("attempt", 2.into()),
                ("node", "a:9000".into()),
                ("message", message.into()),
            ])
        };
        let own = format!("{job}: 5 rows copied in 0.1 s (attempt 2)");
        let mut named = with_message(&own);
        named.0.insert(NAMES_TABLE, true.into());
        assert_eq!(named.sentence(), own);
        assert_eq!(
            with_message("a:9000: cannot drop x").sentence(),
            format!("{job}, attempt 2: a:9000: cannot drop x")
        );
        assert_eq!(fields(&[("message", "done".into()), ("task", "f00".into())]).sentence(), "done");
        let line = named.json("now", "INFO", "here").unwrap();
        assert_eq!(
            line,
            format!(
                "{{\"timestamp\":\"now\",\"level\":\"INFO\",\"message\":\"{own}\",\"table\":\"hits\",\"piece\":3,\"attempt\":2,\
                 \"node\":\"a:9000\",\"target\":\"here\"}}"
            )
        );
    }

    #[test]
    fn control_characters_in_a_message_are_escaped() {
        assert_eq!(fields(&[("message", "a\x1b[2Jb\nc".into())]).sentence(), "a\\u{1b}[2Jb\nc");
    }
}
