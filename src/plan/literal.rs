//! Partitions as a person writes them: `202001`, `'2018-02-26'`, `('a', 201802)`, `tuple()`.

use crate::sql::{KeyElement, unquoted_elements};

/// Why a text cannot name a partition of the target table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LiteralError {
    /// Brackets or quotes that do not match.
    #[error("{0}")]
    Unbalanced(String),
    /// The number of elements differs from the key's.
    #[error("it has {found} elements, the partition key ({key}) has {wanted}")]
    Arity {
        /// Number of elements in the text.
        found: usize,
        /// Number of elements in the key.
        wanted: usize,
        /// The key.
        key: String,
    },
    /// An element that cannot have its type.
    #[error("{text} cannot be a value of {expression}, which is {type_name}")]
    WrongType {
        /// The element as written.
        text: String,
        /// The element's expression in the key.
        expression: String,
        /// The element's type.
        type_name: String,
    },
}

/// Parses a partition's name into the texts of its elements, in the form of [`KeyElement::shown`]. Numbers may be
/// quoted.
pub(crate) fn parse_partition(text: &str, key: &[KeyElement]) -> Result<Vec<String>, LiteralError> {
    let text = text.trim();
    if key.is_empty() && matches!(text, "all" | "'all'" | "tuple()" | "()") {
        return Ok(Vec::new());
    }
    let elements = unquoted_elements(text).map_err(LiteralError::Unbalanced)?;
    if elements.len() != key.len() {
        let names: Vec<&str> = key.iter().map(|element| element.expression.as_str()).collect();
        return Err(LiteralError::Arity { found: elements.len(), wanted: key.len(), key: names.join(", ") });
    }
    for (element, text) in key.iter().zip(&elements) {
        if !element.accepts(text) {
            return Err(LiteralError::WrongType {
                text: text.clone(),
                expression: element.expression.clone(),
                type_name: element.type_name.clone(),
            });
        }
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(type_name: &str) -> KeyElement {
        KeyElement { expression: "k".into(), type_name: type_name.into() }
    }

    #[test]
    fn a_partition_literal_may_be_quoted_and_escaped() {
        let month = [element("UInt32")];
        assert_eq!(parse_partition("201801", &month).unwrap(), ["201801"]);
        assert_eq!(parse_partition(" '201801' ", &month).unwrap(), ["201801"]);
        assert_eq!(parse_partition("-5", &[element("Int8")]).unwrap(), ["-5"]);
        assert_eq!(parse_partition(r"'it\'s \\'", &[element("String")]).unwrap(), [r"it's \"]);
        assert_eq!(
            parse_partition("('a, b', 201802)", &[element("String"), element("UInt32")]).unwrap(),
            ["a, b", "201802"]
        );
        assert_eq!(parse_partition("2018-02-26", &[element("Date")]).unwrap(), ["2018-02-26"]);
        assert_eq!(parse_partition("tuple()", &[]).unwrap(), Vec::<String>::new());
        assert_eq!(parse_partition("tuple('a')", &[element("String")]).unwrap(), ["a"]);
    }

    #[test]
    fn an_error_says_why_a_literal_is_not_a_partition() {
        let why = |text: &str, key: &[KeyElement]| parse_partition(text, key).unwrap_err().to_string();
        assert_eq!(why("'March'", &[element("UInt32")]), "March cannot be a value of k, which is UInt32");
        assert_eq!(why("'201801'", &[element("Date")]), "201801 cannot be a value of k, which is Date");
        assert_eq!(why("(1, 2)", &[element("UInt32")]), "it has 2 elements, the partition key (k) has 1");
        assert_eq!(why("'a", &[element("String")]), "a quote ' is not closed");
    }
}
