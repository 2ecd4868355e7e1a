//! Expressions from task files and from servers.

use std::fmt;

use super::lex::{self, Token};
use super::quote::ident;
use super::steadiness::{Names, unsteadiness};

/// An expression from a task file or a table's definition: not empty, balanced, without comments. It therefore cannot
/// break out of parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(String);

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Nothing but blanks and comments.
    #[error("it is empty")]
    Empty,
    /// Quotes, brackets or comments that do not match.
    #[error("{0}")]
    Unbalanced(String),
}

impl Expression {
    /// Checks a text and removes its comments.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let clean = lex::without_comments(text).map_err(|error| ExpressionError::Unbalanced(error.to_string()))?;
        if clean.is_empty() { Err(ExpressionError::Empty) } else { Ok(Self(clean)) }
    }

    /// Returns a condition that no server evaluates. It replaces a stored text that is not an expression, so that the
    /// statement fails instead of reading other rows.
    pub(crate) fn never() -> Self {
        Self("throwIf(1, 'the stored plan is damaged')".into())
    }

    /// Returns the number 0.
    pub(super) fn zero() -> Self {
        Self("0".into())
    }

    /// Returns the text, without parentheses.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether two evaluations over the same row give the same value, as far as the names of functions show.
    pub(crate) fn is_function_of_the_row(&self) -> bool {
        unsteadiness(&self.0, &Names::default()).is_none()
    }
}

impl Expression {
    /// Returns whether every name in it is that of a function or of one of these columns, as far as its words show.
    pub(crate) fn uses_only(&self, columns: &[String]) -> bool {
        let Ok(found) = lex::tokens(&self.0) else { return false };
        let called = |at: usize| found.get(at + 1).is_some_and(|next| next.token == Token::Sign('('));
        let known = |written: &str| columns.iter().any(|name| name == written || ident(name) == written);
        found.iter().enumerate().all(|(at, token)| {
            let written = token.text(&self.0);
            match token.token {
                Token::Word if called(at) || written.parse::<f64>().is_ok() => true,
                Token::Word | Token::Quoted => known(written),
                Token::Text | Token::Sign(_) => true,
            }
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether an expression reads data that may differ between servers: a dictionary, or a table of engine Join.
pub(crate) fn names_dictionary(text: &str) -> bool {
    let Ok(found) = lex::tokens(text) else { return true };
    let reads = |word: &str| word.starts_with("dict") || word.starts_with("joinget");
    found.iter().filter(|token| token.token == Token::Word).any(|token| reads(&token.text(text).to_ascii_lowercase()))
}

/// Returns whether a text may name a column: a word or a quoted name in it is the column's, or a part of a name with
/// dots.
pub(crate) fn names_column(text: &str, column: &str) -> bool {
    let Ok(found) = lex::tokens(text) else { return true };
    let is_name = |token: &&lex::Spanned| matches!(token.token, Token::Word | Token::Quoted);
    found.iter().filter(is_name).map(|token| token.text(text)).any(|written| {
        let quoted = written == ident(column) || written.contains('\\') || written.starts_with('"');
        quoted || column.split('.').any(|part| part == written)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_functions_in_a_key_are_found() {
        for (text, expected) in [
            ("rand()", false),
            ("intHash64(id) + Rand64(1)", false),
            ("cityHash64(now())", false),
            ("intHash32(UserID)", true),
            ("`rand`", true),
            ("cityHash64('rand()')", true),
            ("1", true),
        ] {
            assert_eq!(Expression::parse(text).unwrap().is_function_of_the_row(), expected, "{text}");
        }
    }

    #[test]
    fn expressions_that_read_dictionaries_are_found_by_their_functions() {
        for (text, reads) in [
            ("dictGetOrDefault('d', 'x', id, 0)", true),
            ("concat('a', joinGet('j', 'x', id))", true),
            ("concat('dictGet', s)", false),
            ("`dictionary`", false),
        ] {
            assert_eq!(names_dictionary(text), reads, "{text}");
        }
    }

    #[test]
    fn a_column_is_found_in_an_expression_with_and_without_quotes() {
        for (text, is_named) in [
            ("x", true),
            ("f(`x`)", true),
            ("'x' || y", false),
            ("\"any\"", true),
            ("xx + 1", false),
            ("'not closed", true),
        ] {
            assert_eq!(names_column(text, "x"), is_named, "{text}");
        }
        assert!(names_column("arrayJoin(n.x)", "n.x") && names_column("`n.x`", "n.x"));
    }

    #[test]
    fn an_expression_that_uses_another_column_is_found() {
        let columns = ["id".to_owned(), "b c".to_owned()];
        for (text, expected) in [
            ("id", true),
            ("intHash32(id) % 7", true),
            ("`b c` + `id` * 1.5", true),
            ("cityHash64('other')", true),
            ("other", false),
            ("intHash32(`other`)", false),
            ("id AND id", false),
        ] {
            assert_eq!(Expression::parse(text).unwrap().uses_only(&columns), expected, "{text}");
        }
    }

    #[test]
    fn comments_are_removed_from_an_expression() {
        assert_eq!(Expression::parse("a = 1 -- all").unwrap().as_str(), "a = 1");
        assert_eq!(Expression::parse(" /* nothing */ ").unwrap_err(), ExpressionError::Empty);
    }
}
