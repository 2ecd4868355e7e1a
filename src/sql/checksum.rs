//! A hash of a row that is the same on every version for the same value (facts file, §5).

use super::definition::Column;
use super::quote::ident;

/// The expression that hashes a row of the given columns to a UInt64. Sums of it are a checksum that does not depend on
/// order and adds up over pieces and shards.
pub fn row_hash<'a>(columns: impl IntoIterator<Item = &'a Column>) -> String {
    let parts: Vec<String> = columns.into_iter().map(|c| value_hash(&ident(&c.name), &c.type_name)).collect();
    format!("cityHash64({})", parts.join(", "))
}

fn value_hash(value: &str, type_name: &str) -> String {
    let inner = |prefix: &str| type_name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    if let Some(inner) = inner("Nullable(") {
        return format!("cityHash64(isNull({value}), ifNull({}, toUInt64(0)))", value_hash(value, inner));
    }
    if let Some(inner) = inner("LowCardinality(Nullable(").and_then(|t| t.strip_suffix(')')) {
        return format!("cityHash64(isNull({value}), ifNull({}, toUInt64(0)))", value_hash(value, inner));
    }
    if let Some(inner) = inner("Array(") {
        if is_plain(inner) {
            return format!("cityHash64({value})");
        }
        return format!("cityHash64(arrayMap(x -> {}, {value}))", value_hash("x", inner));
    }
    let base = type_name.split('(').next().unwrap_or(type_name);
    match base {
        "UUID" | "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => {
            format!("cityHash64(reinterpretAsString({value}))")
        }
        "AggregateFunction" => format!("cityHash64(toString(finalizeAggregation({value})))"),
        "JSON" | "Object" | "Dynamic" | "Variant" | "Time" | "Time64" | "BFloat16" => {
            format!("cityHash64(toString({value}))")
        }
        "Tuple" | "Map" if type_name.contains("Nullable(") => format!("cityHash64(toString({value}))"),
        _ => format!("cityHash64({value})"),
    }
}

/// Whether `cityHash64` takes arrays of this type directly, with the same result on every version.
fn is_plain(type_name: &str) -> bool {
    !["Nullable", "UUID", "Decimal", "AggregateFunction", "JSON", "Dynamic", "Variant"]
        .iter()
        .any(|special| type_name.contains(special))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_hashed_by_what_is_the_same_everywhere() {
        for (type_name, hash) in [
            ("Float64", "cityHash64(c)"),
            ("Array(Array(String))", "cityHash64(c)"),
            ("Decimal(9, 4)", "cityHash64(reinterpretAsString(c))"),
            ("Nullable(UUID)", "cityHash64(isNull(c), ifNull(cityHash64(reinterpretAsString(c)), toUInt64(0)))"),
            ("LowCardinality(Nullable(String))", "cityHash64(isNull(c), ifNull(cityHash64(c), toUInt64(0)))"),
            (
                "Array(Nullable(Int8))",
                "cityHash64(arrayMap(x -> cityHash64(isNull(x), ifNull(cityHash64(x), toUInt64(0))), c))",
            ),
        ] {
            assert_eq!(value_hash("c", type_name), hash, "{type_name}");
        }
    }
}
