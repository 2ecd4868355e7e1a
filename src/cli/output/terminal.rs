//! Standard error, which log lines and bars share.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// Where the lines for a person go. While there are bars, each line is put above them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terminal(Arc<Screen>);

#[derive(Debug, Default)]
struct Screen {
    bars: OnceLock<MultiProgress>,
    /// Lines pay no heed to bars any more.
    left: AtomicBool,
}

impl Terminal {
    /// The bars, which are there from now on.
    pub(crate) fn bars(&self) -> &MultiProgress {
        self.0.bars.get_or_init(MultiProgress::new)
    }

    /// From now on lines go out whatever the bars do: after a panic, which may have come while they were drawn, with their lock held.
    pub(crate) fn leave_bars(&self) {
        self.0.left.store(true, Ordering::Relaxed);
    }

    /// Puts out whole lines. Where nobody reads them they are lost: nothing is to stop for that.
    pub(crate) fn say(&self, lines: &str) {
        let _ = self.clone().write_all(lines.as_bytes());
    }
}

impl Write for Terminal {
    /// Never fails: a terminal that is gone, or a full disk in its place, is no reason to stop, and tracing would panic on it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A whole line, so that nothing is drawn into it: the subscriber writes each at once.
        let _ = match self.0.bars.get().filter(|_| !self.0.left.load(Ordering::Relaxed)) {
            Some(bars) => bars.suspend(|| io::stderr().write_all(bytes)),
            None => io::stderr().write_all(bytes),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Standard error keeps nothing back.
        Ok(())
    }
}

impl MakeWriter<'_> for Terminal {
    type Writer = Terminal;

    fn make_writer(&self) -> Terminal {
        self.clone()
    }
}
