//! The transfers: how rows get from a source node to a target node.

use std::fmt;

/// Who carries the rows (docs/design.md, §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// The source server sends the rows: `INSERT INTO FUNCTION remote(…) SELECT …` runs there.
    Push,
    /// The target server fetches the rows: `INSERT INTO … SELECT … FROM remote(…)` runs there.
    Pull,
    /// The worker reads the rows from one server over HTTP and writes them to the other.
    Relay,
    /// The target server fetches parts as files. No row is decoded.
    Clone,
}

impl Way {
    /// Returns the word that a task file uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Relay => "relay",
            Self::Clone => "clone",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
