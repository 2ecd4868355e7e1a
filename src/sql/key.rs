//! The elements of partition and sorting keys: how their values are read, written and compared.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::lex;
use super::quote::literal;

/// One element of a partition key or of a sorting key, with its type as the server names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyElement {
    /// The expression.
    pub expression: String,
    /// `toTypeName` of it.
    pub type_name: String,
}

/// How the values of a type are written, compared and named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Date,
    DateTime,
    Enum,
    Decimal,
    Quoted,
    Other,
}

impl KeyElement {
    fn kind(&self) -> Kind {
        let name =
            self.type_name.strip_prefix("LowCardinality(").map_or(self.type_name.as_str(), |t| t.trim_end_matches(')'));
        let base = name.split('(').next().unwrap_or(name);
        match base {
            "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64" => Kind::Integer,
            "Date" => Kind::Date,
            "DateTime" => Kind::DateTime,
            "Enum8" | "Enum16" => Kind::Enum,
            "Decimal" => Kind::Decimal,
            "String" | "FixedString" | "UUID" | "Date32" => Kind::Quoted,
            _ => Kind::Other,
        }
    }

    /// The expression that gives the text by which a value is found again. A DateTime is its number of seconds: its text
    /// depends on a time zone and is ambiguous where clocks go back. A Decimal has no zeros at its end: 18.16 prints them,
    /// later versions do not, and the source's text is looked for on the target.
    pub fn value(&self) -> String {
        match self.kind() {
            Kind::Decimal => {
                let without_zeros = literal(r"(\.[0-9]*?)0*$");
                let without_dot = literal(r"\.$");
                let kept = literal(r"\1");
                let text = format!("replaceRegexpOne({}, {without_zeros}, {kept})", self.shown());
                format!("replaceRegexpOne({text}, {without_dot}, '')")
            }
            Kind::DateTime => format!("toString(toUInt32({}))", self.expression),
            _ => self.shown(),
        }
    }

    /// The expression that gives the text that a person knows, as in `system.parts.partition`.
    pub fn shown(&self) -> String {
        format!("toString({})", self.expression)
    }

    /// The expression that gives this element's share of `partition_id` where it is a readable one (facts file, §4);
    /// `None` where the id is a hash.
    pub fn id(&self) -> Option<String> {
        match self.kind() {
            Kind::Integer => Some(format!("toString({})", self.expression)),
            Kind::Date => Some(format!("toString(toYYYYMMDD({}))", self.expression)),
            Kind::DateTime => Some(format!("toString(toUInt32({}))", self.expression)),
            Kind::Enum => Some(format!("toString(toInt16({}))", self.expression)),
            Kind::Decimal | Kind::Quoted | Kind::Other => None,
        }
    }

    /// The expression to group rows by. A wide Decimal beside another column ends 18.16.1 with a segmentation fault, also as
    /// `toString` of it, which that version takes for the same: Decimals are grouped by their values' texts.
    pub fn group(&self) -> String {
        match self.kind() {
            Kind::Decimal => self.value(),
            _ => self.expression.clone(),
        }
    }

    /// [`Self::value`] of rows that all have the same.
    pub fn value_of_any(&self) -> String {
        match self.kind() {
            Kind::Decimal => format!("any({})", self.value()),
            Kind::DateTime => format!("toString(toUInt32(any({})))", self.expression),
            _ => format!("toString(any({}))", self.expression),
        }
    }

    /// [`Self::shown`] where rows are grouped so.
    pub fn shown_of_group(&self) -> String {
        match self.kind() {
            Kind::Decimal => format!("any({})", self.shown()),
            _ => self.shown(),
        }
    }

    /// The literal to compare the expression with, from the text that [`Self::value`] gave.
    pub fn literal(&self, value: &str) -> String {
        match self.kind() {
            Kind::Integer | Kind::DateTime if is_integer(value) => value.to_owned(),
            Kind::Decimal | Kind::Other => format!("CAST({} AS {})", literal(value), self.type_name),
            _ => literal(value),
        }
    }

    /// How a person writes the value, from the text that [`Self::shown`] gave.
    pub fn display(&self, shown: &str) -> String {
        if self.kind() == Kind::Integer { shown.to_owned() } else { literal(shown) }
    }

    /// Whether a text that a person wrote can be a value of this type at all.
    pub fn accepts(&self, shown: &str) -> bool {
        match self.kind() {
            Kind::Integer => is_integer(shown),
            Kind::Date => is_date(shown),
            Kind::DateTime => is_integer(shown) || (shown.len() == 19 && shown.get(..10).is_some_and(is_date)),
            Kind::Enum | Kind::Decimal | Kind::Quoted | Kind::Other => true,
        }
    }

    /// Whether `system.parts.partition` shows the same text as [`Self::value`], in a key of so many elements (measured on
    /// 18.16; how it shows dates inside tuples has changed over time).
    pub fn is_named_by_parts(&self, elements: usize) -> bool {
        self.kind() == Kind::Integer
            || self.type_name == "String"
            || (elements == 1 && (self.kind() == Kind::Date || self.type_name == "UUID"))
    }

    /// Whether ranges of it can be cut exactly and skipped by a primary index: no NULL, no NaN, an order that the
    /// literal shares.
    pub fn is_cuttable(&self) -> bool {
        matches!(self.kind(), Kind::Integer | Kind::Date | Kind::DateTime)
            || matches!(self.type_name.as_str(), "String" | "LowCardinality(String)")
    }
}

fn is_integer(text: &str) -> bool {
    text.parse::<i128>().is_ok() && !text.starts_with('+')
}

fn is_date(text: &str) -> bool {
    let digits = |range: Range<usize>| text.get(range).is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    text.len() == 10
        && digits(0..4)
        && digits(5..7)
        && digits(8..10)
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[7] == b'-'
}

/// The elements of a key: `(a, b)`, `tuple(a, b)` and `a, b` have two, `tuple()` none.
pub fn key_elements(key: &str) -> Vec<String> {
    let key = key.trim();
    let inside = ["tuple(", "("].iter().find_map(|open| {
        let rest =
            key.get(..open.len()).filter(|start| start.eq_ignore_ascii_case(open)).map(|_| &key[open.len()..])?;
        let inside = rest.strip_suffix(')')?;
        lex::tokens(inside).ok().map(|_| inside)
    });
    lex::split_commas(inside.unwrap_or(key)).unwrap_or_default().into_iter().filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart() {
        for (key, elements) in [
            ("", vec![]),
            ("tuple()", vec![]),
            ("()", vec![]),
            ("toYYYYMM(d)", vec!["toYYYYMM(d)"]),
            ("(toYYYYMM(d), s)", vec!["toYYYYMM(d)", "s"]),
            ("tuple(a, f(b, c))", vec!["a", "f(b, c)"]),
            ("a, intHash32(b)", vec!["a", "intHash32(b)"]),
            ("(a % 2) + (b % 3)", vec!["(a % 2) + (b % 3)"]),
        ] {
            assert_eq!(key_elements(key), elements, "{key}");
        }
    }
}
