//! Standard error, which log lines and bars share.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use indicatif::MultiProgress;
use tracing_subscriber::fmt::MakeWriter;

/// Where the lines for a person go. While there are bars, each line is put above them.
#[derive(Debug, Clone, Default)]
pub(super) struct Terminal(Arc<OnceLock<MultiProgress>>);

impl Terminal {
    /// The bars, which are there from now on.
    pub(super) fn bars(&self) -> &MultiProgress {
        self.0.get_or_init(MultiProgress::new)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A whole line, so that nothing is drawn into it: the subscriber writes each at once.
        match self.0.get() {
            Some(bars) => bars.suspend(|| io::stderr().write_all(bytes)),
            None => io::stderr().write_all(bytes),
        }?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Terminal {
    type Writer = Terminal;

    fn make_writer(&self) -> Terminal {
        self.clone()
    }
}
