//! Numbers, sizes, booleans and words, parsed like the original.

use std::num::NonZeroU64;

use super::fault::Problem;
use super::walk::{Scope, Text};

impl Scope<'_> {
    /// Returns a whole number; `default` if the element is missing or after a fault.
    pub(super) fn number(&self, name: &str, min: u64, max: u64, default: u64) -> u64 {
        self.text(name).and_then(|text| text.number(min, max)).unwrap_or(default)
    }

    /// Returns a whole number that fits a `u32`.
    pub(super) fn number32(&self, name: &str, min: u32, default: u32) -> u32 {
        let number = self.number(name, u64::from(min), u64::from(u32::MAX), u64::from(default));
        u32::try_from(number).unwrap_or(default)
    }

    /// Returns a port; `default` if the element is missing or after a fault.
    pub(super) fn port(&self, name: &str, default: u16) -> u16 {
        let number = self.number(name, 1, u64::from(u16::MAX), u64::from(default));
        u16::try_from(number).unwrap_or(default)
    }

    /// Returns a boolean; `None` if the element is missing or after a fault.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.text(name)?.boolean()
    }

    /// Returns a number of bytes; `None` if the element is missing or after a fault.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let size = bytes(text.trimmed()).filter(|bytes| *bytes > 0);
        if size.is_none() {
            text.fault(Problem::Size(text.shown()));
        }
        size
    }

    /// Returns a rate in bytes a second, written like a size.
    pub(super) fn rate(&self, name: &str) -> Option<NonZeroU64> {
        self.size(name).and_then(NonZeroU64::new)
    }
}

impl Text<'_> {
    pub(super) fn number(&self, min: u64, max: u64) -> Option<u64> {
        let number = self.trimmed().parse().ok().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.fault(Problem::Number { found: self.shown(), min, max });
        }
        number
    }

    /// Parses a boolean like Poco: any whole number except 0 is true.
    pub(super) fn boolean(&self) -> Option<bool> {
        let text = self.trimmed().to_ascii_lowercase();
        let boolean = match text.as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            number => number.parse::<i32>().ok().map(|number| number != 0),
        };
        if boolean.is_none() {
            self.fault(Problem::Boolean(self.shown()));
        }
        boolean
    }

    /// Returns the value of one of some words, in any case.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(self.trimmed())).map(|(_, value)| *value);
        if found.is_none() {
            let allowed = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            self.fault(Problem::Choice { found: self.shown(), allowed });
        }
        found
    }
}

/// Parses `1024`, `1K`, `1KB`, `1 KiB`: units are always powers of 1024, as in Poco's log sizes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("1073741824", Some(1 << 30)),
            ("512M", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("2 kb", Some(2048)),
            ("7b", Some(7)),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5G", None),
            ("1X", None),
            ("99999999999T", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
