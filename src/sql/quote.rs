//! Quoting: the one place where untrusted text becomes part of a statement.

use crate::model::TableName;

/// An identifier in backticks. Works on every version for every text (18.16 … 26.9).
pub fn ident(name: &str) -> String {
    enclosed(name, '`')
}

/// A string literal.
pub fn literal(text: &str) -> String {
    enclosed(text, '\'')
}

/// `` `database`.`table` ``.
pub fn table(name: &TableName) -> String {
    format!("{}.{}", ident(&name.database), ident(&name.table))
}

/// Identifiers separated by commas.
pub fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

fn enclosed(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
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
            c => out.push(c),
        }
    }
    out.push(quote);
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

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_quotes(text in any::<String>()) {
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
