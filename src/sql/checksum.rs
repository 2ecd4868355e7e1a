//! A hash of a row that is the same on every version for the same value (docs/clickhouse-behaviour.md, §5).
//!
//! If `cityHash64` of a type differs between versions, or is missing on one, the value is taken apart until it does
//! not differ. A value that no version hashes alike is hashed by its text, and the user is told: texts of different
//! values may be equal (`1` and `'1'` in a Dynamic).

use super::definition::Column;
use super::quote::ident;
use super::types::parts_of;

/// Returns the expression that hashes a row of the given columns to a UInt64. Sums of it are a checksum that does not
/// depend on order and adds up over pieces and shards.
pub fn row_hash<'a>(columns: impl IntoIterator<Item = &'a Column>) -> String {
    let named: Vec<(String, &Column)> = columns.into_iter().map(|column| (ident(&column.name), column)).collect();
    values_hash(named.iter().map(|(value, column)| (value.as_str(), column.type_name.as_str())))
}

/// Returns the expression that hashes values of the given types, each given as an expression.
pub(crate) fn values_hash<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> = values.into_iter().map(|(value, type_name)| value_hash(value, type_name, 0)).collect();
    format!("cityHash64({})", parts.join(", "))
}

/// Returns whether values of a type are hashed by a text: their own, or that of their result if they are states of
/// aggregate functions.
pub(crate) fn is_hashed_by_text(type_name: &str) -> bool {
    let parts = parts_of(type_name);
    match parts.name {
        "AggregateFunction" | "JSON" | "Object" | "Dynamic" | "Variant" | "Geometry" | "Time" | "Time64"
        | "BFloat16" | "QBit" => true,
        _ => parts.inner.iter().any(|inner| is_hashed_by_text(inner)),
    }
}

/// `depth` gives the arguments of nested lambdas different names.
fn value_hash(value: &str, type_name: &str, depth: usize) -> String {
    let parts = parts_of(type_name);
    let plain = || format!("cityHash64({value})");
    let each = |array: &str, inner: &str| {
        let x = if depth == 0 { "x".to_owned() } else { format!("x{depth}") };
        format!("cityHash64(arrayMap({x} -> {}, {array}))", value_hash(&x, inner, depth + 1))
    };
    match (parts.name, parts.inner.as_slice()) {
        // A NULL inside would make the hash of the whole row NULL.
        ("Nullable", [inner]) => {
            format!("cityHash64(isNull({value}), ifNull({}, toUInt64(0)))", value_hash(value, inner, depth))
        }
        ("LowCardinality" | "SimpleAggregateFunction", [inner]) => value_hash(value, inner, depth),
        ("Array", [inner]) if !is_plain(inner) => each(value, inner),
        ("Map", [keys, values]) if !is_plain(keys) || !is_plain(values) => {
            let (keys, values) = (format!("Array({keys})"), format!("Array({values})"));
            let of_keys = value_hash(&format!("mapKeys({value})"), &keys, depth);
            format!("cityHash64({of_keys}, {})", value_hash(&format!("mapValues({value})"), &values, depth))
        }
        ("Tuple", inner) if !inner.iter().all(|inner| is_plain(inner)) => elements_hash(value, inner, depth),
        ("Nested", inner) => {
            let x = format!("x{depth}");
            format!("cityHash64(arrayMap({x} -> {}, {value}))", elements_hash(&x, inner, depth + 1))
        }
        ("UUID" | "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256", _) => {
            format!("cityHash64(reinterpretAsString({value}))")
        }
        ("AggregateFunction", _) => format!("cityHash64(toString(finalizeAggregation({value})))"),
        _ if is_hashed_by_text(type_name) => format!("cityHash64(toString({value}))"),
        _ => plain(),
    }
}

fn elements_hash(tuple: &str, inner: &[String], depth: usize) -> String {
    let element =
        |(index, inner): (usize, &String)| value_hash(&format!("tupleElement({tuple}, {})", index + 1), inner, depth);
    format!("cityHash64({})", inner.iter().enumerate().map(element).collect::<Vec<_>>().join(", "))
}

/// Returns whether `cityHash64` takes values of this type, and arrays and tuples of them, directly, with the same
/// result on every version.
fn is_plain(type_name: &str) -> bool {
    let parts = parts_of(type_name);
    let special = matches!(
        parts.name,
        "Nullable" | "UUID" | "Nested" | "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256"
    );
    !special && !is_hashed_by_text(type_name) && parts.inner.iter().all(|inner| is_plain(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_hashed_by_an_expression_with_the_same_value_on_every_release() {
        let null = |value: &str, hash: &str| format!("cityHash64(isNull({value}), ifNull({hash}, toUInt64(0)))");
        for (type_name, hash) in [
            ("Float64", "cityHash64(c)".to_owned()),
            ("Array(Array(String))", "cityHash64(c)".to_owned()),
            ("Enum8('Nullable(' = 1, 'b,)' = 2)", "cityHash64(c)".to_owned()),
            ("Tuple(a UInt8, b Array(String))", "cityHash64(c)".to_owned()),
            ("Map(String, UInt64)", "cityHash64(c)".to_owned()),
            ("SimpleAggregateFunction(sum, UInt64)", "cityHash64(c)".to_owned()),
            ("Decimal(9, 4)", "cityHash64(reinterpretAsString(c))".to_owned()),
            ("SimpleAggregateFunction(max, Decimal(9, 4))", "cityHash64(reinterpretAsString(c))".to_owned()),
            ("Nullable(UUID)", null("c", "cityHash64(reinterpretAsString(c))")),
            ("LowCardinality(Nullable(String))", null("c", "cityHash64(c)")),
            ("Array(Nullable(Int8))", format!("cityHash64(arrayMap(x -> {}, c))", null("x", "cityHash64(x)"))),
            (
                "Tuple(a UInt8, `b c` Nullable(String))",
                format!(
                    "cityHash64(cityHash64(tupleElement(c, 1)), {})",
                    null("tupleElement(c, 2)", "cityHash64(tupleElement(c, 2))")
                ),
            ),
            (
                "Array(Tuple(UUID, Array(Nullable(Int8))))",
                format!(
                    "cityHash64(arrayMap(x -> cityHash64(cityHash64(reinterpretAsString(tupleElement(x, 1))), \
                     cityHash64(arrayMap(x1 -> {}, tupleElement(x, 2)))), c))",
                    null("x1", "cityHash64(x1)")
                ),
            ),
            (
                "Map(String, Nullable(Int8))",
                format!(
                    "cityHash64(cityHash64(mapKeys(c)), cityHash64(arrayMap(x -> {}, mapValues(c))))",
                    null("x", "cityHash64(x)")
                ),
            ),
            ("JSON(a UInt32, SKIP b)", "cityHash64(toString(c))".to_owned()),
            ("Array(Variant(UInt8, String))", "cityHash64(arrayMap(x -> cityHash64(toString(x)), c))".to_owned()),
        ] {
            assert_eq!(value_hash("c", type_name, 0), hash, "{type_name}");
        }
    }

    #[test]
    fn types_that_contain_json_or_variant_are_hashed_as_text() {
        for type_name in ["JSON", "Dynamic(max_types=4)", "Array(Tuple(a Variant(UInt8, String)))", "Time64(3)"] {
            assert!(is_hashed_by_text(type_name), "{type_name}");
        }
        for type_name in ["String", "Enum8('JSON' = 1)", "Tuple(JSON UInt8, Variant String)", "Decimal(76, 20)"] {
            assert!(!is_hashed_by_text(type_name), "{type_name}");
        }
    }
}
