//! Finds where values of a type begin and end in a column of the Native format.

use std::ops::RangeInclusive;

use crate::sql::types::{is_too_deep, parts_of};

/// The largest FixedString of any server, in bytes. One value is held in memory as a whole while it arrives.
const WIDEST: usize = 0xff_ffff;

/// The layout of the values of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// This many bytes each.
    Fixed(usize),
    /// A length (varint) and that many bytes.
    Text,
    /// A byte for each value, then all the values.
    Nullable(Box<Shape>),
    /// For each value the number of elements up to its end (8 bytes), then all elements.
    Array(Box<Shape>),
    /// All first elements, then all second ones, and so on.
    Tuple(Vec<Shape>),
    /// The distinct values of the column once, its keys, and then for each value the number of its key
    /// (LowCardinality). The shape is that of the keys, which are `Fixed` or `Text`. NULL is the key with number 0,
    /// without a byte of its own.
    Dictionary(Box<Shape>),
}

impl Shape {
    /// Returns the shape of a type; `None` if only a server can find the ends of the values: states of aggregate
    /// functions, JSON, Variant, Dynamic, and unknown types.
    pub(crate) fn of(type_name: &str) -> Option<Self> {
        // No table has such a type, and a hostile stream could exhaust the stack.
        if is_too_deep(type_name) {
            return None;
        }
        let parts = parts_of(type_name);
        let inner = || parts.inner.iter().map(|inner| Self::of(inner)).collect::<Option<Vec<Self>>>();
        let only = || inner().and_then(|inner| <[Self; 1]>::try_from(inner).ok()).map(|[inner]| inner);
        // The number of elements without bytes would be whatever the stream says.
        let elements = |counts: RangeInclusive<usize>| inner().filter(|inner| counts.contains(&inner.len()));
        let array = |shape| Some(Self::Array(Box::new(shape)));
        let fixed = |width| Some(Self::Fixed(width));
        match parts.name {
            "Int8" | "UInt8" | "Enum8" | "Bool" => fixed(1),
            "Int16" | "UInt16" | "Enum16" | "Date" | "BFloat16" => fixed(2),
            "Int32" | "UInt32" | "Float32" | "Date32" | "DateTime" | "DateTime32" | "Time" | "IPv4" | "Decimal32" => {
                fixed(4)
            }
            "Int64" | "UInt64" | "Float64" | "DateTime64" | "Time64" | "Decimal64" => fixed(8),
            "Int128" | "UInt128" | "UUID" | "IPv6" | "Decimal128" => fixed(16),
            "Int256" | "UInt256" | "Decimal256" => fixed(32),
            "Decimal" => fixed(decimal_width(number_in(type_name)?)?),
            "FixedString" => fixed(number_in(type_name).filter(|width| (1..=WIDEST).contains(width))?),
            "String" => Some(Self::Text),
            "Nullable" => Some(Self::Nullable(Box::new(only()?))),
            "SimpleAggregateFunction" => only(),
            "LowCardinality" => match only()? {
                Self::Nullable(keys) => Self::dictionary(*keys),
                keys => Self::dictionary(keys),
            },
            "Array" => array(only()?),
            "Map" => array(Self::Tuple(elements(2..=2)?)),
            "Nested" => array(Self::Tuple(elements(1..=usize::MAX)?)),
            // An empty tuple is written as one byte (25.8).
            "Tuple" => inner().map(|inner| if inner.is_empty() { Self::Fixed(1) } else { Self::Tuple(inner) }),
            "Point" => Self::of("Tuple(Float64, Float64)"),
            "Ring" | "LineString" => array(Self::of("Point")?),
            "Polygon" | "MultiLineString" => array(Self::of("Ring")?),
            "MultiPolygon" => array(Self::of("Polygon")?),
            name if name.starts_with("Interval") => fixed(8),
            _ => None,
        }
    }

    /// Returns the shape of a dictionary with such keys.
    fn dictionary(keys: Self) -> Option<Self> {
        matches!(keys, Self::Fixed(_) | Self::Text).then(|| Self::Dictionary(Box::new(keys)))
    }

    /// Returns how many dictionaries a column has; the version of each precedes the column's values.
    pub(super) fn dictionaries(&self) -> usize {
        match self {
            Self::Fixed(_) | Self::Text => 0,
            Self::Nullable(inner) | Self::Array(inner) => inner.dictionaries(),
            Self::Tuple(inner) => inner.iter().map(Self::dictionaries).sum(),
            Self::Dictionary(_) => 1,
        }
    }

    fn has_dictionary_in_array(&self) -> bool {
        match self {
            Self::Fixed(_) | Self::Text | Self::Dictionary(_) => false,
            Self::Nullable(inner) => inner.has_dictionary_in_array(),
            Self::Array(inner) => inner.dictionaries() > 0,
            Self::Tuple(inner) => inner.iter().any(Self::has_dictionary_in_array),
        }
    }
}

/// Returns whether rows with values of a type can be dealt to several shards.
pub(crate) fn is_dealable(type_name: &str) -> bool {
    Shape::of(type_name).is_some()
}

/// Returns whether a type has LowCardinality within arrays. If all arrays of a block are empty, 18.16 and older write
/// such columns in a form that no server can read.
pub(crate) fn has_dictionary_in_array(type_name: &str) -> bool {
    Shape::of(type_name).is_some_and(|shape| shape.has_dictionary_in_array())
}

/// Returns the first number after the parenthesis: `Decimal(18, 4)`, `FixedString(16)`.
fn number_in(type_name: &str) -> Option<usize> {
    let inside = type_name.split_once('(')?.1;
    inside.split([',', ')']).next()?.trim().parse().ok()
}

fn decimal_width(precision: usize) -> Option<usize> {
    match precision {
        1..=9 => Some(4),
        10..=18 => Some(8),
        19..=38 => Some(16),
        39..=76 => Some(32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_split_into_values_of_known_length() {
        let array = |shape| Shape::Array(Box::new(shape));
        let pair = |a, b| Shape::Tuple(vec![a, b]);
        for (type_name, shape) in [
            ("Decimal(18, 4)", Shape::Fixed(8)),
            ("Decimal(19,4)", Shape::Fixed(16)),
            ("Decimal32(4)", Shape::Fixed(4)),
            ("FixedString(3)", Shape::Fixed(3)),
            ("DateTime('Europe/Berlin')", Shape::Fixed(4)),
            ("DateTime64(3, 'UTC')", Shape::Fixed(8)),
            ("Enum16('a(' = 1, 'b,)' = 1000)", Shape::Fixed(2)),
            ("Nullable(FixedString(2))", Shape::Nullable(Box::new(Shape::Fixed(2)))),
            ("Array(Array(Nullable(String)))", array(array(Shape::Nullable(Box::new(Shape::Text))))),
            ("Map(String, Array(UInt8))", array(pair(Shape::Text, array(Shape::Fixed(1))))),
            ("Tuple(a UInt8, `b c` String)", pair(Shape::Fixed(1), Shape::Text)),
            ("Nested(a UInt8, b UUID)", array(pair(Shape::Fixed(1), Shape::Fixed(16)))),
            ("SimpleAggregateFunction(sum, UInt64)", Shape::Fixed(8)),
            ("Tuple(Tuple(), UUID)", pair(Shape::Fixed(1), Shape::Fixed(16))),
            ("Ring", array(pair(Shape::Fixed(8), Shape::Fixed(8)))),
        ] {
            assert_eq!(Shape::of(type_name), Some(shape), "{type_name}");
        }
    }

    #[test]
    fn low_cardinality_is_a_dictionary_at_any_depth() {
        let text = || Shape::Dictionary(Box::new(Shape::Text));
        let array = |shape| Shape::Array(Box::new(shape));
        for (type_name, shape, dictionaries, in_array) in [
            ("LowCardinality(String)", text(), 1, false),
            ("LowCardinality(Nullable(String))", text(), 1, false),
            ("LowCardinality(FixedString(3))", Shape::Dictionary(Box::new(Shape::Fixed(3))), 1, false),
            ("LowCardinality(Nullable(Date))", Shape::Dictionary(Box::new(Shape::Fixed(2))), 1, false),
            ("Array(LowCardinality(String))", array(text()), 1, true),
            (
                "Map(LowCardinality(String), LowCardinality(Nullable(String)))",
                array(Shape::Tuple(vec![text(), text()])),
                2,
                true,
            ),
            ("Tuple(a LowCardinality(String), b UInt8)", Shape::Tuple(vec![text(), Shape::Fixed(1)]), 1, false),
            ("SimpleAggregateFunction(anyLast, LowCardinality(String))", text(), 1, false),
        ] {
            assert_eq!(Shape::of(type_name), Some(shape.clone()), "{type_name}");
            assert_eq!(
                (shape.dictionaries(), has_dictionary_in_array(type_name)),
                (dictionaries, in_array),
                "{type_name}"
            );
        }
    }

    #[test]
    fn types_of_unknown_length_have_no_shape() {
        for type_name in [
            "AggregateFunction(uniq, UInt64)",
            "LowCardinality(Array(String))",
            "LowCardinality(LowCardinality(String))",
            "Array(AggregateFunction(uniq, LowCardinality(String)))",
            "JSON",
            "Variant(String, UInt64)",
            "Dynamic",
            "Nothing",
            "TypeOfTomorrow",
            "Decimal(77, 1)",
            "FixedString(0)",
            "FixedString(16777216)",
            "FixedString(18446744073709551615)",
            // Elements without bytes: their number would be whatever the stream says.
            "Map()",
            "Map(String)",
            "Nested()",
            "Array(Map(",
            "Array()",
            "Array(UInt8, String)",
            "Nullable(UInt8, UInt8)",
        ] {
            assert_eq!(Shape::of(type_name), None, "{type_name}");
            assert!(!is_dealable(type_name), "{type_name}");
        }
        // A type from a hostile stream.
        assert_eq!(Shape::of(&format!("{}UInt8{}", "Array(".repeat(100_000), ")".repeat(100_000))), None);
        assert_eq!(Shape::of(&format!("{}UInt8{}", "Tuple(".repeat(100), ")".repeat(100))), None);
        assert!(is_dealable(&format!("{}UInt8{}", "Array(".repeat(50), ")".repeat(50))));
    }
}
