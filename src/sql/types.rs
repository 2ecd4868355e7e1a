//! Parses names of types.

use super::lex::{self, Token};

/// A type with its inner types.
pub(crate) struct Parts<'a> {
    /// The text before the parenthesis.
    pub(crate) name: &'a str,
    /// The inner types, without names of elements; empty for a simple type.
    pub(crate) inner: Vec<String>,
}

/// The deepest nesting of types: parsers recurse as deep as types are nested.
pub(crate) const MAX_DEPTH: usize = 64;

/// Returns whether a type is nested more than [`MAX_DEPTH`] deep. Such a type has no parts.
pub(crate) fn is_too_deep(type_name: &str) -> bool {
    // An upper bound is enough for almost all of them.
    type_name.bytes().filter(|byte| *byte == b'(').count() > MAX_DEPTH
        && lex::tokens(type_name).map_or(true, |found| found.iter().any(|token| token.depth > MAX_DEPTH))
}

/// Splits a type into its parts.
pub(crate) fn parts_of(type_name: &str) -> Parts<'_> {
    let name = type_name.split('(').next().unwrap_or(type_name);
    if is_too_deep(type_name) {
        return Parts { name, inner: Vec::new() };
    }
    let arguments = || {
        let inside = type_name.get(name.len() + 1..).and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
        lex::split_commas(inside).unwrap_or_default()
    };
    let inner = match name {
        "Nullable" | "LowCardinality" | "Array" | "Map" => arguments(),
        "Tuple" | "Nested" => arguments().iter().map(|element| without_name(element).to_owned()).collect(),
        // The function comes first.
        "SimpleAggregateFunction" => arguments().into_iter().skip(1).collect(),
        _ => Vec::new(),
    };
    Parts { name, inner }
}

/// Returns the type of a tuple's element, which may have a name: `a UInt8`, `` `b c` Nullable(String) ``.
fn without_name(element: &str) -> &str {
    let Ok(found) = lex::tokens(element) else { return element };
    let words: Vec<_> =
        found.iter().filter(|t| t.depth == 0 && matches!(t.token, Token::Word | Token::Quoted)).collect();
    match words.as_slice() {
        [_, of_type, ..] => &element[of_type.start..],
        _ => element,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_nested_too_deeply_is_not_split() {
        let nested = |depth: usize| format!("{}String{}", "Array(".repeat(depth), ")".repeat(depth));
        assert_eq!(parts_of(&nested(MAX_DEPTH)).inner, [nested(MAX_DEPTH - 1)]);
        assert!(is_too_deep(&nested(MAX_DEPTH + 1)) && is_too_deep(&nested(100_000)));
        assert!(parts_of(&nested(4000)).inner.is_empty());
        // Brackets in names of an Enum do not nest.
        assert!(!is_too_deep(&format!("Enum8('{}' = 1)", "(".repeat(1000))));
    }
}
