//! Text that is safe to show. Names, values and messages of servers may hold characters that control a terminal or
//! change the order in which text is drawn. A person would then read something other than the stored text.
//!
//! This module escapes such characters: C0 except line feed and tab, DEL, C1, and the overrides and isolates of
//! bidirectional text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a terminal may act on this character instead of showing it. Line feed and tab do not count.
pub fn is_obeyed(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// Returns the text with all control characters escaped. Lines stay lines, whether they end with `\n` or `\r\n`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => out.push(c),
            c if is_obeyed(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Returns a name or a value for use within one line. Line feeds and tabs are escaped too, so that it cannot imitate
/// lines of the copier.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let ends_it = |c: char| c == '\n' || c == '\t' || is_obeyed(c);
    if !text.contains(ends_it) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if ends_it(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Returns a message as one line: its lines are joined by blanks.
pub(crate) fn sentence(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\t']) {
        return printable(text);
    }
    Cow::Owned(one_line(&text.replace("\r\n", " ").replace(['\n', '\t'], " ")).into_owned())
}

/// Returns a JSON text with the same characters in JSON escapes. JSON allows them in strings only, so the value stays
/// the same.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_obeyed) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if is_obeyed(c) {
            // Writing to a String cannot fail. Each of these characters has four digits.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sequences that a terminal acts on.
    const CONTROL: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}b\u{9b}2Jc\u{7f}\u{202e}d\u{2066}\re";

    #[test]
    fn control_characters_are_escaped() {
        let shown = "a\\u{1b}[2J\\u{1b}]0;title\\u{7}b\\u{9b}2Jc\\u{7f}\\u{202e}d\\u{2066}\\re";
        assert_eq!(printable(CONTROL), shown);
        assert_eq!(one_line(CONTROL), shown);
        assert_eq!(sentence(CONTROL), shown);
    }

    #[test]
    fn line_ends_and_text_in_any_language_are_unchanged() {
        for text in ["one\n\ttwo\r\nthree\n", "Größe 大小 גודל حجم 👍🏽", ""] {
            assert!(
                matches!(printable(text), Cow::Borrowed(same) if same == text) || printable(text) == text,
                "{text}"
            );
        }
        assert_eq!(one_line("a\r\n201802: 5 rows, equal\tb"), "a\\r\\n201802: 5 rows, equal\\tb");
        assert_eq!(sentence("a\r\nb\tc\nd"), "a b c d");
    }

    proptest! {
        #[test]
        fn printable_json_has_the_same_value(text in any::<String>()) {
            let value = serde_json::json!({ "text": text, CONTROL: [text.clone()] });
            for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let shown = printable_json(&json);
                prop_assert!(!shown.contains(is_obeyed));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&shown).unwrap(), &value);
            }
        }

        #[test]
        fn any_text_becomes_printable_and_one_line_has_no_line_end(text in any::<String>()) {
            prop_assert!(!printable(&text).replace("\r\n", "\n").contains(is_obeyed));
            prop_assert!(!one_line(&text).contains(|c| c == '\n' || is_obeyed(c)));
            prop_assert!(!sentence(&text).contains(|c| c == '\n' || is_obeyed(c)));
        }
    }
}
