//! Types, as far as conversions between them require.

use super::super::lex::{self, unquote};
use super::super::types::parts_of;

/// A type without its wrappers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    /// Whether a value may be NULL.
    pub(crate) nullable: bool,
    /// Whether it is stored as a dictionary.
    pub(crate) low_cardinality: bool,
    /// The type as it is written, without `Nullable`, `LowCardinality` and `SimpleAggregateFunction`, and without blanks.
    pub(crate) text: String,
    /// The kind of type.
    pub(crate) kind: Kind,
}

/// The kind of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Int {
        bits: u32,
        signed: bool,
    },
    Float(u32),
    Bool,
    Decimal {
        digits: u32,
        scale: u32,
    },
    Text,
    Fixed(u64),
    Enum(Vec<(String, i64)>),
    Date,
    Date32,
    DateTime,
    DateTime64(u32),
    Uuid,
    Ipv4,
    Ipv6,
    Array(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// The elements with their names, empty if they have none.
    Tuple(Vec<(String, Type)>),
    Other,
}

impl Type {
    /// Parses the name of a type.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim();
        let parts = parts_of(text);
        let inner = |index: usize| parts.inner.get(index).map(|inner| Self::parse(inner));
        match (parts.name, inner(0)) {
            ("Nullable", Some(inner)) => Self { nullable: true, ..inner },
            ("LowCardinality", Some(inner)) => Self { low_cardinality: true, ..inner },
            ("SimpleAggregateFunction", Some(inner)) => inner,
            _ => Self { nullable: false, low_cardinality: false, text: squeezed(text), kind: Kind::of(text) },
        }
    }

    /// Returns the type as text for a statement.
    pub(crate) fn nullable_text(&self, nullable: bool) -> String {
        if nullable { format!("Nullable({})", self.text) } else { self.text.clone() }
    }
}

impl Kind {
    fn of(text: &str) -> Self {
        let parts = parts_of(text);
        let inner = |index: usize| parts.inner.get(index).map(|inner| Box::new(Type::parse(inner)));
        let arguments = arguments(text);
        let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u32>().ok());
        let found = match parts.name {
            "Float32" => Some(Self::Float(32)),
            "Float64" => Some(Self::Float(64)),
            "Bool" => Some(Self::Bool),
            "Decimal" => number(0).map(|digits| Self::Decimal { digits, scale: number(1).unwrap_or(0) }),
            "String" => Some(Self::Text),
            "FixedString" => number(0).map(|width| Self::Fixed(u64::from(width))),
            "Enum8" | "Enum16" => elements(&arguments).map(Self::Enum),
            "Date" => Some(Self::Date),
            "Date32" => Some(Self::Date32),
            "DateTime" => Some(Self::DateTime),
            "DateTime64" => number(0).map(Self::DateTime64),
            "UUID" => Some(Self::Uuid),
            "IPv4" => Some(Self::Ipv4),
            "IPv6" => Some(Self::Ipv6),
            "Array" => inner(0).map(Self::Array),
            "Map" => inner(0).zip(inner(1)).map(|(keys, values)| Self::Map(keys, values)),
            "Tuple" => Some(Self::Tuple(named(&arguments, &parts.inner))),
            "Nested" => {
                let tuple = Self::Tuple(named(&arguments, &parts.inner));
                let tuple = Type {
                    nullable: false,
                    low_cardinality: false,
                    text: squeezed(&text.replacen("Nested", "Tuple", 1)),
                    kind: tuple,
                };
                Some(Self::Array(Box::new(tuple)))
            }
            other => integer(other),
        };
        found.unwrap_or(Self::Other)
    }

    /// Returns whether its values can be compared exactly with other numbers.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Int { .. } | Self::Float(_) | Self::Bool)
    }

    /// Returns whether its values are compared as a whole.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Map(..) | Self::Tuple(_) | Self::Other)
    }

    /// Returns whether an integer type can hold a number of an Enum.
    pub(crate) fn holds(&self, number: i64) -> bool {
        match *self {
            Self::Int { bits, signed: true } => {
                bits >= 64 || (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&number)
            }
            Self::Int { bits, signed: false } => number >= 0 && (bits >= 63 || number < 1i64 << bits),
            _ => false,
        }
    }
}

/// Returns whether elements of two tuples match by position. If both have names and the names differ, a server may
/// match by name.
pub(super) fn match_by_position(one: &[(String, Type)], other: &[(String, Type)]) -> bool {
    let same = |((a, _), (b, _)): (&(String, Type), &(String, Type))| a.is_empty() || b.is_empty() || a == b;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn integer(name: &str) -> Option<Kind> {
    let (signed, bits) = match name.strip_prefix('U') {
        Some(rest) => (false, rest.strip_prefix("Int")?),
        None => (true, name.strip_prefix("Int")?),
    };
    let bits = bits.parse().ok()?;
    [8, 16, 32, 64, 128, 256].contains(&bits).then_some(Kind::Int { bits, signed })
}

fn arguments(text: &str) -> Vec<String> {
    let inside = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or_default();
    lex::split_commas(inside).unwrap_or_default()
}

/// Parses the elements `'a' = 1` of an Enum.
fn elements(arguments: &[String]) -> Option<Vec<(String, i64)>> {
    let element = |text: &String| {
        let (name, number) = text.rsplit_once('=')?;
        Some((unquote(name.trim()), number.trim().parse().ok()?))
    };
    arguments.iter().map(element).collect()
}

/// Returns the elements of a tuple: the text before the type is the name.
fn named(arguments: &[String], types: &[String]) -> Vec<(String, Type)> {
    let element = |(written, of_type): (&String, &String)| {
        let name = written.strip_suffix(of_type.as_str()).unwrap_or_default().trim().to_owned();
        (name, Type::parse(of_type))
    };
    arguments.iter().zip(types).map(element).collect()
}

/// Returns a type without the blanks that only some versions write.
fn squeezed(text: &str) -> String {
    let Ok(found) = lex::tokens(text) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut word = false;
    for token in &found {
        let is_word = matches!(token.token, lex::Token::Word | lex::Token::Quoted);
        if word && is_word {
            out.push(' ');
        }
        out.push_str(token.text(text));
        word = is_word;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_parsed_into_its_kind_and_arguments() {
        let kind = |text| Type::parse(text).kind;
        assert_eq!(
            kind("Enum8('a,b' = 1, 'it\\'s = 2' = -2)"),
            Kind::Enum(vec![("a,b".into(), 1), ("it's = 2".into(), -2)])
        );
        assert_eq!(kind("Decimal(18, 4)"), Kind::Decimal { digits: 18, scale: 4 });
        assert_eq!(kind("UInt256"), Kind::Int { bits: 256, signed: false });
        assert_eq!(kind("DateTime64(3, 'UTC')"), Kind::DateTime64(3));
        assert_eq!(kind("Interval"), Kind::Other);
        let Kind::Tuple(elements) = kind("Tuple(a UInt8, `b c` Array(String))") else { panic!() };
        assert_eq!((elements[0].0.as_str(), elements[1].0.as_str()), ("a", "`b c`"));
        let low = Type::parse("LowCardinality(Nullable(String))");
        assert!(low.nullable && low.low_cardinality && low.text == "String");
        assert_eq!(Type::parse("Tuple(a  UInt8,b String)").text, "Tuple(a UInt8,b String)");
    }

    #[test]
    fn an_integer_type_holds_only_numbers_in_its_range() {
        let holds = |text, number| Type::parse(text).kind.holds(number);
        assert!(holds("Int8", -128) && !holds("Int8", 128) && holds("UInt64", 5) && !holds("UInt64", -1));
        assert!(holds("Int64", -1) && holds("UInt8", 255) && !holds("UInt8", 256));
    }
}
