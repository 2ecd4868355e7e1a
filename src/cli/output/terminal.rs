//! Standard error, which log lines and bars share.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// The output for a person. While bars are drawn, each line is put above them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terminal(Arc<Screen>);

#[derive(Debug, Default)]
struct Screen {
    bars: OnceLock<MultiProgress>,
    /// Whether lines ignore the bars.
    ignores_bars: AtomicBool,
}

impl Terminal {
    /// Returns the bars. The first call creates them.
    pub(crate) fn bars(&self) -> &MultiProgress {
        self.0.bars.get_or_init(MultiProgress::new)
    }

    /// Makes all further lines ignore the bars. This is for a panic, which may have come while bars were drawn under
    /// their lock.
    pub(crate) fn leave_bars(&self) {
        self.0.ignores_bars.store(true, Ordering::Relaxed);
    }

    /// Writes whole lines. Errors are ignored: the work must not stop for them.
    pub(crate) fn say(&self, lines: &str) {
        let _ = self.clone().write_all(lines.as_bytes());
    }
}

impl Write for Terminal {
    /// Never fails. A terminal that has gone, or a full disk behind a redirection, must not stop the work, and tracing
    /// would panic on an error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The subscriber writes each line at once, so no bar is drawn into a line.
        let _ = match self.0.bars.get().filter(|_| !self.0.ignores_bars.load(Ordering::Relaxed)) {
            Some(bars) => bars.suspend(|| io::stderr().write_all(bytes)),
            None => io::stderr().write_all(bytes),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Standard error buffers nothing.
        Ok(())
    }
}

impl MakeWriter<'_> for Terminal {
    type Writer = Terminal;

    fn make_writer(&self) -> Terminal {
        self.clone()
    }
}
