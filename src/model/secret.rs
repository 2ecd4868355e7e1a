//! A text that must never be printed.

use std::fmt;

/// A password or another secret. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the secret is empty, like the default user's password.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(empty)" } else { "Secret(***)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_a_secret() {
        let shown = format!("{:?} {:?}", Secret::new("qwerty"), Secret::default());
        assert_eq!(shown, "Secret(***) Secret(empty)");
    }
}
