//! Keeps every warning and error of this process for its report, at any log level.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The highest number of messages that are kept. The first messages are the most useful ones: a copy that fails all
/// night repeats the same messages.
const MAX_MESSAGES: usize = 500;

/// The messages of warnings and errors, each once. A clone shares the same messages and is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Messages>>);

#[derive(Debug, Default)]
struct Messages {
    lines: Vec<String>,
    dropped: u64,
}

impl Warnings {
    /// Returns the messages so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = (kept.dropped > 0).then(|| format!("and {} more: see the log", kept.dropped));
        kept.lines.iter().cloned().chain(dropped).collect()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Messages of libraries are for the log only.
        let ours = event.metadata().target().starts_with(env!("CARGO_CRATE_NAME"));
        if *event.metadata().level() > Level::WARN || !ours {
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.lines.contains(&message.0) {
            return;
        }
        if kept.lines.len() < MAX_MESSAGES { kept.lines.push(message.0) } else { kept.dropped += 1 }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn each_warning_is_kept_once_and_too_many_are_counted() {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not odd");
            tracing::warn!(node = "a:9000", "odd: {}", 1);
            tracing::error!("wrong");
            tracing::warn!("odd: 1");
            tracing::warn!(target: "somebody_else", "odd too");
            (0..MAX_MESSAGES).for_each(|number| tracing::warn!("again {number}"));
        });
        let lines = warnings.lines();
        assert_eq!(lines[..3], ["odd: 1", "wrong", "again 0"]);
        assert_eq!((lines.len(), lines[MAX_MESSAGES].as_str()), (MAX_MESSAGES + 1, "and 2 more: see the log"));
    }
}
