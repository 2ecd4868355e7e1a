//! Finds rows that lose their value when a column is converted to another type: an expression for each pair of types
//! that can lose one, and the statement that counts those rows.
//!
//! A value survives if the conversion there and back gives the same value. If both types are numbers, the converted
//! value must also be equal: −1 as a UInt64 comes back as −1, but is another number.

mod types;

use types::{Kind, Type};

use super::quote::{ident, literal};
use super::select::Selection;

/// How many characters of a value are shown as an example.
const SHOWN: usize = 100;

/// A test that finds the rows of a source table that lose the value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossTest {
    /// The column.
    pub(crate) column: String,
    /// The column's type in the source.
    pub(crate) from: String,
    /// The column's type in the target.
    pub(crate) to: String,
    /// Whether a row loses its value: an expression over the source's columns.
    lossy: String,
}

/// Returns the test for a converted column; `None` if no value can be lost.
pub(crate) fn loss_test(column: &str, from: &str, to: &str) -> Option<LossTest> {
    let lossy = lossy(&ident(column), &Type::parse(from), &Type::parse(to), 0)?;
    Some(LossTest { column: column.to_owned(), from: from.to_owned(), to: to.to_owned(), lossy })
}

/// Returns a statement that counts the rows that each test finds, and selects a value of one of them: two arrays.
pub(crate) fn losses(rows: &Selection, tests: &[LossTest]) -> String {
    let mut beside = Vec::new();
    let (mut counts, mut examples) = (Vec::new(), Vec::new());
    for (index, test) in tests.iter().enumerate() {
        let (lost, shown) = (format!("copier_lost_{index}"), format!("copier_shown_{index}"));
        let text = format!("substringUTF8(ifNull(toString({}), 'NULL'), 1, {SHOWN})", ident(&test.column));
        beside.extend([(lost.clone(), test.lossy.clone()), (shown.clone(), text)]);
        counts.push(format!("countIf({lost})"));
        examples.push(format!("anyIf({shown}, {lost})"));
    }
    rows.select_beside(&beside, &format!("[{}], [{}]", counts.join(", "), examples.join(", ")))
}

/// Returns an expression that tells whether a value is lost; `None` if none can be.
fn lossy(value: &str, from: &Type, to: &Type, depth: usize) -> Option<String> {
    let plain;
    let value = if from.low_cardinality {
        plain = format!("CAST({value} AS {})", from.nullable_text(from.nullable));
        plain.as_str()
    } else {
        value
    };
    let lost = lossy_value(value, from, to, depth);
    if !from.nullable {
        return lost;
    }
    match (lost, to.nullable) {
        (None, true) => None,
        (None, false) => Some(format!("isNull({value})")),
        (Some(lost), _) => Some(format!("if(isNull({value}), {}, ifNull({lost}, 1))", u8::from(!to.nullable))),
    }
}

/// Returns the same for a value that is not NULL.
fn lossy_value(value: &str, from: &Type, to: &Type, depth: usize) -> Option<String> {
    if from.text == to.text || is_safe(&from.kind, &to.kind) {
        return None;
    }
    let converted = format!("CAST({value} AS {})", to.nullable_text(from.nullable));
    let back = |text: &str| format!("CAST({text} AS {})", from.nullable_text(from.nullable));
    match (&from.kind, &to.kind) {
        (Kind::Float(_), Kind::Float(_)) => {
            Some(format!("NOT ({converted} = {value} OR (isNaN({converted}) AND isNaN({value})))"))
        }
        (a, b) if a.is_number() && b.is_number() => Some(format!("{converted} != {value}")),
        (Kind::Enum(own), Kind::Enum(others)) => {
            let lost: Vec<String> =
                own.iter().filter(|element| !others.contains(element)).map(|(_, number)| number.to_string()).collect();
            (!lost.is_empty()).then(|| format!("CAST({value} AS {}) IN ({})", number(from), lost.join(", ")))
        }
        (Kind::Enum(own), Kind::Int { .. }) => {
            let lost: Vec<String> = own
                .iter()
                .filter(|(_, number)| !to.kind.holds(*number))
                .map(|(_, number)| number.to_string())
                .collect();
            (!lost.is_empty()).then(|| format!("CAST({value} AS {}) IN ({})", number(from), lost.join(", ")))
        }
        (Kind::Int { .. } | Kind::Bool, Kind::Enum(others)) => {
            let known: Vec<String> = others.iter().map(|(_, number)| number.to_string()).collect();
            Some(format!("{value} NOT IN ({})", known.join(", ")))
        }
        (Kind::Text, Kind::Enum(others)) => {
            let known: Vec<String> = others.iter().map(|(name, _)| literal(name)).collect();
            Some(format!("{value} NOT IN ({})", known.join(", ")))
        }
        // Zero bytes at the end cannot be distinguished from the padding.
        (Kind::Text, Kind::Fixed(width)) => {
            Some(format!("(length({value}) > {width} OR endsWith({value}, {}))", literal("\0")))
        }
        (Kind::Fixed(_), Kind::Fixed(width)) => Some(format!("length(toString({value})) > {width}")),
        // Only its text is exact: a Float becomes a Decimal by truncation, and 0.29 may come back as 0.28.
        (Kind::Decimal { .. }, Kind::Float(_)) => {
            Some(format!("{} != {value}", back(&format!("toString({converted})"))))
        }
        (Kind::Array(own), Kind::Array(other)) => any_element(value, own, other, depth),
        (Kind::Map(own_keys, own), Kind::Map(keys, other)) => {
            let keys = any_element(&format!("mapKeys({value})"), own_keys, keys, depth);
            either(keys, any_element(&format!("mapValues({value})"), own, other, depth))
        }
        (Kind::Tuple(own), Kind::Tuple(others)) if types::match_by_position(own, others) => {
            let elements = own.iter().zip(others).enumerate().filter_map(|(index, ((_, own), (_, other)))| {
                lossy(&format!("tupleElement({value}, {})", index + 1), own, other, depth)
            });
            elements.fold(None, |all, one| either(all, Some(one)))
        }
        (Kind::Float(_), _) => {
            let back = back(&converted);
            Some(format!("NOT ({back} = {value} OR (isNaN({back}) AND isNaN({value})))"))
        }
        (a, _) if a.is_scalar() => Some(format!("{} != {value}", back(&converted))),
        _ => Some(format!("toString({}) != toString({value})", back(&converted))),
    }
}

/// Returns whether every value of a type is a value of the other type.
fn is_safe(from: &Kind, to: &Kind) -> bool {
    match (from, to) {
        (Kind::Int { bits, signed }, Kind::Int { bits: wide, signed: negative }) => {
            if signed == negative {
                bits <= wide
            } else {
                !signed && bits < wide
            }
        }
        (Kind::Int { bits, .. }, Kind::Float(width)) => bits <= if *width == 64 { &32 } else { &16 },
        (Kind::Int { bits, .. }, Kind::Decimal { digits, scale }) => {
            let own = match bits {
                8 => 3,
                16 => 5,
                32 => 10,
                64 => 20,
                _ => return false,
            };
            digits.saturating_sub(*scale) >= own
        }
        (Kind::Float(own), Kind::Float(width)) => own <= width,
        (Kind::Bool, Kind::Int { .. } | Kind::Float(_) | Kind::Text) => true,
        (Kind::Decimal { digits, scale }, Kind::Decimal { digits: wide, scale: fine }) => {
            fine >= scale && wide.saturating_sub(*fine) >= digits.saturating_sub(*scale)
        }
        // A float of this width distinguishes this number of digits.
        (Kind::Decimal { digits, .. }, Kind::Float(width)) => *digits <= if *width == 64 { 15 } else { 6 },
        (
            Kind::Int { .. }
            | Kind::Float(_)
            | Kind::Decimal { .. }
            | Kind::Enum(_)
            | Kind::Date
            | Kind::Date32
            | Kind::Uuid
            | Kind::Ipv4
            | Kind::Ipv6
            | Kind::Fixed(_),
            Kind::Text,
        ) => true,
        (Kind::Fixed(width), Kind::Fixed(wide)) => width <= wide,
        // A time zone changes only how an instant is shown.
        (Kind::Date, Kind::Date32) | (Kind::DateTime, Kind::DateTime | Kind::DateTime64(_)) => true,
        (Kind::DateTime64(digits), Kind::DateTime64(fine)) => digits == fine || (digits < fine && *fine < 9),
        _ => false,
    }
}

/// Returns an expression that tells whether any element of an array is lost.
fn any_element(array: &str, from: &Type, to: &Type, depth: usize) -> Option<String> {
    let element = format!("copier_element_{depth}");
    let lost = lossy(&element, from, to, depth + 1)?;
    Some(format!("arrayExists({element} -> {lost}, {array})"))
}

fn either(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("({one} OR {other})")),
        (one, other) => one.or(other),
    }
}

/// The number of an Enum.
fn number(from: &Type) -> String {
    if from.nullable { "Nullable(Int16)".to_owned() } else { "Int16".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;
    use crate::sql::Relation;

    fn test(from: &str, to: &str) -> Option<String> {
        loss_test("x", from, to).map(|test| test.lossy)
    }

    #[test]
    fn conversions_without_loss_are_not_tested() {
        for (from, to) in [
            ("Int8", "Int64"),
            ("UInt32", "Int64"),
            ("UInt16", "Nullable(UInt16)"),
            ("String", "LowCardinality(String)"),
            ("LowCardinality(Nullable(String))", "Nullable(String)"),
            ("Int32", "Float64"),
            ("Float32", "Float64"),
            ("Decimal(9, 2)", "Decimal(18,2)"),
            ("Decimal(9, 2)", "Float64"),
            ("Int32", "Decimal(18, 4)"),
            ("Enum8('a' = 1)", "Enum16('a' = 1, 'b' = 2)"),
            ("Enum8('a' = 1)", "UInt8"),
            ("Enum8('a' = 1)", "String"),
            ("FixedString(3)", "String"),
            ("FixedString(3)", "FixedString(4)"),
            ("Date", "Date32"),
            ("DateTime", "DateTime('Asia/Tokyo')"),
            ("DateTime('Asia/Tokyo')", "DateTime64(3, 'UTC')"),
            ("UUID", "String"),
            ("Bool", "UInt8"),
            ("Array(Tuple(Int8, String))", "Array(Tuple(Int16, String))"),
            ("Map(String, Int8)", "Map(String, Int64)"),
            ("Decimal(9,2)", "Decimal(9, 2)"),
            ("SimpleAggregateFunction(sum, UInt32)", "UInt64"),
        ] {
            assert_eq!(test(from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn values_that_a_conversion_would_change_are_found() {
        for (from, to, lossy) in [
            ("Int64", "UInt64", "CAST(`x` AS UInt64) != `x`"),
            ("Float64", "Int32", "CAST(`x` AS Int32) != `x`"),
            ("Date32", "Date", "CAST(CAST(`x` AS Date) AS Date32) != `x`"),
            ("Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1, 'c' = 2)", "CAST(`x` AS Int16) IN (2)"),
            ("UInt8", "Enum8('a' = 1)", "`x` NOT IN (1)"),
            ("Enum8('a' = -1)", "UInt8", "CAST(`x` AS Int16) IN (-1)"),
            ("Nullable(Int8)", "Int8", "isNull(`x`)"),
            ("Nullable(Int16)", "Int8", "if(isNull(`x`), 1, ifNull(CAST(`x` AS Nullable(Int8)) != `x`, 1))"),
            (
                "Array(Int16)",
                "Array(Int8)",
                "arrayExists(copier_element_0 -> CAST(copier_element_0 AS Int8) != copier_element_0, `x`)",
            ),
            (
                "Tuple(String, Int16)",
                "Tuple(String, Int8)",
                "CAST(tupleElement(`x`, 2) AS Int8) != tupleElement(`x`, 2)",
            ),
            ("JSON", "String", "toString(CAST(CAST(`x` AS String) AS JSON)) != toString(`x`)"),
            (
                "LowCardinality(String)",
                "UInt8",
                "CAST(CAST(CAST(`x` AS String) AS UInt8) AS String) != CAST(`x` AS String)",
            ),
        ] {
            assert_eq!(test(from, to).as_deref(), Some(lossy), "{from} {to}");
        }
        // Elements with other names are found by name, or lost.
        assert!(test("Tuple(a Int8, b Int8)", "Tuple(b Int8, a Int8)").is_some());
    }

    #[test]
    fn all_loss_tests_of_a_table_are_one_statement() {
        let tests = [loss_test("x", "Int16", "Int8").unwrap(), loss_test("y", "String", "FixedString(2)").unwrap()];
        let statement = losses(&Selection::all(Relation::plain(TableName::new("d", "t"))), &tests);
        assert!(
            statement.starts_with("SELECT [countIf(copier_lost_0), countIf(copier_lost_1)], [anyIf("),
            "{statement}"
        );
        assert_eq!(statement.matches("FROM `d`.`t`").count(), 1, "{statement}");
    }
}
