//! The remarks on a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The beginning of the text of a remark on a transfer.
const TRANSFER: &str = "transfer: ";

/// A remark on a plan, for the user. A stored plan has it as text: when it is read back, its node is a part of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Remark {
    /// The subject.
    pub(crate) about: RemarkSubject,
    /// The node that it is about.
    pub(crate) node: Option<String>,
    /// The sentence, without subject and node.
    pub(crate) text: String,
}

/// The subject of a remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemarkSubject {
    /// The transfer of rows. The worker that transfers them logs it too.
    Transfer,
    /// Anything else.
    Other,
}

impl Remark {
    /// Creates a remark.
    pub fn new(text: impl Into<String>) -> Self {
        Self { about: RemarkSubject::Other, node: None, text: text.into() }
    }

    /// Creates a remark about a node.
    pub(crate) fn on_node(node: impl Into<String>, text: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..Self::new(text) }
    }

    /// Creates a remark on a transfer.
    pub(crate) fn on_transfer(text: impl Into<String>) -> Self {
        Self { about: RemarkSubject::Transfer, ..Self::new(text) }
    }

    /// Returns the remark as text without its node, for a reader that shows the node by itself.
    pub(crate) fn without_node(&self) -> String {
        Self { node: None, ..self.clone() }.to_string()
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.about == RemarkSubject::Transfer {
            f.write_str(TRANSFER)?;
        }
        self.node.iter().try_for_each(|node| write!(f, "{node}: "))?;
        f.write_str(&self.text)
    }
}

impl From<Remark> for String {
    fn from(remark: Remark) -> Self {
        remark.to_string()
    }
}

/// Reads the stored form.
impl From<String> for Remark {
    fn from(stored: String) -> Self {
        match stored.strip_prefix(TRANSFER) {
            Some(text) => Self::on_transfer(text),
            None => Self::new(stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_stored_as_text_and_a_transfer_is_read_back_as_one() {
        let remarks = [
            Remark::new("as it is"),
            Remark::on_transfer("pull from a to b, since c"),
            Remark::on_node("a:9000", "no answer"),
        ];
        let stored = serde_json::to_string(&remarks).unwrap();
        assert_eq!(stored, r#"["as it is","transfer: pull from a to b, since c","a:9000: no answer"]"#);
        let read: Vec<Remark> = serde_json::from_str(&stored).unwrap();
        assert_eq!(read[..2], remarks[..2]);
        assert_eq!(read[2].to_string(), remarks[2].to_string());
        assert_eq!((remarks[2].node.as_deref(), remarks[2].without_node().as_str()), (Some("a:9000"), "no answer"));
    }
}
