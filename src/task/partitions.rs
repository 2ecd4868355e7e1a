//! `<enabled_partitions>`: literals of partitions of the target table.

use super::fault::Problem;
use super::walk::Scope;

/// The attribute that decides about named partitions that the source lacks.
const MISSING: &str = "missing";

/// Returns whether named partitions that the source lacks are left out.
pub(super) fn skip_missing(scope: &Scope<'_>) -> bool {
    match scope.element.attribute(MISSING) {
        None | Some("fail") => false,
        Some("skip") => true,
        Some(other) => {
            let found = format!("missing=\"{other}\"");
            scope.fault(Problem::Choice { found, allowed: "missing=\"fail\" or missing=\"skip\"".into() });
            false
        }
    }
}

/// Returns the literals as written, each once, in the order written; `None` after a fault.
///
/// The content is either elements of any name (the original required names that begin with "partition"), one literal
/// each, or a text with literals between blanks or commas. The original split that text at every blank, even inside
/// quotes, which fits no partition; here quotes and brackets stay together.
pub(super) fn read(scope: &Scope<'_>) -> Option<Vec<String>> {
    let mut literals = Vec::new();
    if scope.element.children().next().is_none() {
        let text = scope.text_beside(&["from_env", MISSING])?;
        literals = match split(text.trimmed()) {
            Ok(literals) => literals,
            Err(open) => {
                scope.fault(Problem::Unbalanced(open));
                return None;
            }
        };
    } else {
        scope.attributes(&[MISSING]);
        scope.no_text();
        for child in scope.children() {
            match child.own_text() {
                Some(text) if text.trimmed().is_empty() => child.fault(Problem::Empty),
                Some(text) => literals.push(text.trimmed().to_owned()),
                None => {}
            }
        }
    }
    if literals.is_empty() && scope.element.children().next().is_none() {
        scope.fault(Problem::NoPartitions);
        return None;
    }
    let mut seen = std::collections::HashSet::new();
    literals.retain(|literal| seen.insert(literal.clone()));
    Some(literals)
}

/// Splits a text at blanks and commas outside of quotes and brackets. Returns the quote or bracket without a partner
/// as an error.
fn split(text: &str) -> Result<Vec<String>, char> {
    let mut literals = Vec::new();
    let mut current = String::new();
    let mut brackets = Vec::new();
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if brackets.is_empty() && !quoted && (character.is_ascii_whitespace() || character == ',') {
            if !current.is_empty() {
                literals.push(std::mem::take(&mut current));
            }
            continue;
        }
        current.push(character);
        match character {
            // A doubled quote ends and begins again, with the same result.
            '\'' => quoted = !quoted,
            '\\' if quoted => current.extend(characters.next()),
            '(' | '[' if !quoted => brackets.push(character),
            ')' if !quoted && brackets.pop() != Some('(') => return Err(')'),
            ']' if !quoted && brackets.pop() != Some('[') => return Err(']'),
            _ => {}
        }
    }
    if quoted {
        return Err('\'');
    }
    if let Some(open) = brackets.pop() {
        return Err(open);
    }
    if !current.is_empty() {
        literals.push(current);
    }
    Ok(literals)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::split;

    #[test]
    fn a_list_of_partitions_is_not_split_inside_quotes_and_brackets() {
        for (text, expected) in [
            ("3 4 5", vec!["3", "4", "5"]),
            ("202001,202002 ,\n 202003", vec!["202001", "202002", "202003"]),
            ("'2018-02-26' '2018-03-05'", vec!["'2018-02-26'", "'2018-03-05'"]),
            ("('a b', 1), ('it''s', 2)", vec!["('a b', 1)", "('it''s', 2)"]),
            (r"'a\' b' ([1, 2], ')')", vec![r"'a\' b'", "([1, 2], ')')"]),
            ("tuple()", vec!["tuple()"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [("'a b", '\''), ("('a', 1", '('), ("1) 2", ')'), ("(1]", ']')] {
            assert_eq!(split(text), Err(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_list_of_partitions_makes_the_parser_panic(text in "['\\\\()\\[\\], a1\u{20ac}]{0,20}") {
            let _ = split(&text);
        }
    }
}
