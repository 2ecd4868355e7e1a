//! What was odd in this process, kept for its report: every warning and error that was logged, whatever is shown of them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The first say most; a copy that fails all night says the same again and again.
const MOST: usize = 500;

/// Keeps the messages of warnings and errors, each once. Cheap to clone; every clone is the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    more: u64,
}

impl Warnings {
    /// What was said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = (kept.more > 0).then(|| format!("and {} more: see the log", kept.more));
        kept.lines.iter().cloned().chain(more).collect()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What libraries say is for the log.
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
        if kept.lines.len() < MOST { kept.lines.push(message.0) } else { kept.more += 1 }
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
            (0..MOST).for_each(|number| tracing::warn!("again {number}"));
        });
        let said = warnings.said();
        assert_eq!(said[..3], ["odd: 1", "wrong", "again 0"]);
        assert_eq!((said.len(), said[MOST].as_str()), (MOST + 1, "and 2 more: see the log"));
    }
}
