//! Quoting: the only place where untrusted text becomes part of a statement.

use std::fmt::Write as _;

use crate::model::{TableName, bytes_of_text};

/// Returns an identifier in backticks. It works on every version for every text (18.16 … 26.9).
pub fn ident(name: &str) -> String {
    enclosed(name, '`')
}

/// Returns a string literal.
pub fn literal(text: &str) -> String {
    enclosed(text, '\'')
}

/// Returns the string literal of a value that may hold any bytes, from its text ([`bytes_of_text`]). The literal
/// contains only UTF-8 without control characters. A value shorter than `width` is padded with zero bytes, like a
/// FixedString.
pub(crate) fn value_literal(text: &str, width: usize) -> String {
    let bytes = bytes_of_text(text);
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('\'');
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escaped(chunk.valid(), '\''));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    out.push_str(&"\\0".repeat(width.saturating_sub(bytes.len())));
    out.push('\'');
    out
}

/// `` `database`.`table` ``.
pub fn table(name: &TableName) -> String {
    format!("{}.{}", ident(&name.database), ident(&name.table))
}

/// Returns identifiers separated by commas.
pub fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

fn enclosed(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", escaped(text, quote))
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            // Names keep other control characters: how old servers parse them escaped there was never tested.
            c if c.is_ascii_control() && quote == '\'' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::lex::{Token, tokens};

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(literal(r"it's \ a `test`"), r"'it\'s \\ a `test`'");
        assert_eq!(ident("Имя `x` \\"), "`Имя \\`x\\` \\\\`");
    }

    #[test]
    fn any_bytes_have_a_printable_literal() {
        let literal = |bytes: &[u8], width| value_literal(&crate::model::text_of_bytes(bytes.to_vec()), width);
        assert_eq!(literal(b"it's", 0), r"'it\'s'");
        assert_eq!(literal(b"\xFF\0a\x1b[2J\xC3\xA9\xC3", 0), r"'\xFF\0a\x1B[2Jé\xC3'");
        assert_eq!(literal(b"7", 3), r"'7\0\0'");
    }

    proptest! {
        #[test]
        fn any_text_is_one_token_after_quoting(text in any::<String>()) {
            let literal_text = literal(&text);
            let found = tokens(&literal_text).unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert!(matches!(found[0].token, Token::Text));
            let ident_text = ident(&text);
            let found = tokens(&ident_text).unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert!(matches!(found[0].token, Token::Quoted));
        }
    }
}
