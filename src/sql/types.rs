//! Names of types, taken apart.

use super::lex::{self, Token};

/// A type with the types that it is made of.
pub(crate) struct Parts<'a> {
    /// What stands before the parenthesis.
    pub name: &'a str,
    /// The types in it, without names of elements; none of a type that is not made of others.
    pub inner: Vec<String>,
}

/// Takes a type apart.
pub(crate) fn parts_of(type_name: &str) -> Parts<'_> {
    let name = type_name.split('(').next().unwrap_or(type_name);
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

/// The type of an element of a tuple, which may have a name: `a UInt8`, `` `b c` Nullable(String) ``.
fn without_name(element: &str) -> &str {
    let Ok(found) = lex::tokens(element) else { return element };
    let words: Vec<_> =
        found.iter().filter(|t| t.depth == 0 && matches!(t.token, Token::Word | Token::Quoted)).collect();
    match words.as_slice() {
        [_, of_type, ..] => &element[of_type.start..],
        _ => element,
    }
}
