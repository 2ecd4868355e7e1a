//! Values of expressions and their types.

use std::cmp::Ordering;

use super::super::Kind;
use super::super::codes;
use super::expression::Ast;
use super::refused::refused;

/// A value: integers of any width have one type; every other value is the text that `toString` returns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Int(i128),
    Text(String),
    Tuple(Vec<Value>),
}

/// Returns bits and sign of an integer type.
fn integer(type_name: &str) -> Option<(u32, bool)> {
    let (digits, signed) = match type_name.strip_prefix("UInt") {
        Some(digits) => (digits, false),
        None => (type_name.strip_prefix("Int")?, true),
    };
    matches!(digits, "8" | "16" | "32" | "64").then(|| (digits.parse().unwrap_or(64), signed))
}

impl Value {
    /// Returns a stored text as a value of a column with that type.
    pub(super) fn read(text: &str, type_name: &str) -> Value {
        match text.parse() {
            Ok(number) if integer(type_name).is_some() => Value::Int(number),
            _ => Value::Text(text.to_owned()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Value::Int(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Tuple(members) => {
                format!("({})", members.iter().map(Value::text).collect::<Vec<_>>().join(","))
            }
        }
    }

    pub(super) fn is_true(&self) -> bool {
        !matches!(self, Value::Int(0))
    }

    /// Casts a value to a type: integers wrap around; if a number is wanted, a date becomes days and a time becomes
    /// seconds.
    pub(super) fn cast(self, type_name: &str) -> Result<Value, Kind> {
        let Some((bits, signed)) = integer(type_name) else { return Ok(Value::Text(self.text())) };
        let number = match &self {
            Value::Int(number) => *number,
            other => number_of(&other.text()).ok_or_else(|| {
                refused(codes::CANNOT_PARSE_TEXT, format!("Cannot parse string '{}' as {type_name}", other.text()))
            })?,
        };
        let low = number & ((1_i128 << bits) - 1);
        Ok(Value::Int(if signed && low >> (bits - 1) == 1 { low - (1 << bits) } else { low }))
    }

    fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Int(a), Value::Text(b)) => number_of(b).map_or(Ordering::Less, |b| a.cmp(&b)),
            (Value::Text(a), Value::Int(b)) => number_of(a).map_or(Ordering::Greater, |a| a.cmp(b)),
            (Value::Tuple(a), Value::Tuple(b)) => {
                a.iter().zip(b).map(|(a, b)| a.compare(b)).find(|o| o.is_ne()).unwrap_or(a.len().cmp(&b.len()))
            }
            _ => self.cmp(other),
        }
    }
}

/// Returns the number of `12`, `2018-01-02` (days since 1970) or `2018-01-02 03:04:05` (seconds, in UTC).
fn number_of(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let days = days_of(text.get(..10)?)?;
    let Some(time) = text.get(10..).filter(|time| !time.is_empty()) else { return Some(days) };
    let mut seconds = 0;
    for field in time.trim_start().split(':') {
        seconds = seconds * 60 + field.parse::<i128>().ok()?;
    }
    Some(days * 86_400 + seconds)
}

fn days_of(date: &str) -> Option<i128> {
    let mut fields = date.split('-').map(|field| field.parse::<i128>().ok());
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    // Howard Hinnant's days_from_civil: years begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn date_of(days: i128) -> String {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i128::from(month <= 2))
}

/// Spreads well and is the same everywhere, but differs from the function whose name it has.
pub(super) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Evaluates an expression over a row; `column` returns its columns. Errors 47 (no such column) and 46 (no such
/// function).
pub(super) fn evaluate(ast: &Ast, column: &dyn Fn(&str) -> Option<Value>) -> Result<Value, Kind> {
    let all = |asts: &[Ast]| asts.iter().map(|ast| evaluate(ast, column)).collect::<Result<Vec<_>, _>>();
    let (name, asts) = match ast {
        Ast::Number(number) => return Ok(Value::Int(*number)),
        Ast::Text(text) => return Ok(Value::Text(text.clone())),
        Ast::Column(name) => {
            return column(name)
                .ok_or_else(|| refused(codes::UNKNOWN_IDENTIFIER, format!("Unknown identifier: {name}")));
        }
        Ast::Tuple(members) => return all(members).map(Value::Tuple),
        Ast::Call(name, asts) => (name.as_str(), asts),
    };
    let arguments = all(asts)?;
    let truth = |truth: bool| Ok(Value::Int(i128::from(truth)));
    let number = |at: usize| match arguments.get(at) {
        Some(Value::Int(number)) => Ok(*number),
        Some(other) => number_of(&other.text())
            .ok_or_else(|| refused(codes::ILLEGAL_TYPE_OF_ARGUMENT, format!("{name} takes numbers"))),
        None => Err(refused(codes::NUMBER_OF_ARGUMENTS_DOESNT_MATCH, format!("{name} needs more arguments"))),
    };
    let digits = |count: usize| {
        let text = arguments.first().map(Value::text).unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_digit).take(count).collect();
        digits
            .parse()
            .map(Value::Int)
            .map_err(|_| refused(codes::ILLEGAL_TYPE_OF_ARGUMENT, format!("{name} takes a date")))
    };
    match (name, arguments.as_slice()) {
        ("or", [a, b]) => truth(a.is_true() || b.is_true()),
        ("and", [a, b]) => truth(a.is_true() && b.is_true()),
        ("not", [a]) => truth(!a.is_true()),
        ("in", [a, Value::Tuple(members)]) => truth(members.iter().any(|b| a.compare(b).is_eq())),
        ("equals", [a, b]) => truth(a.compare(b).is_eq()),
        ("notEquals", [a, b]) => truth(a.compare(b).is_ne()),
        ("less", [a, b]) => truth(a.compare(b).is_lt()),
        ("lessOrEquals", [a, b]) => truth(a.compare(b).is_le()),
        ("greater", [a, b]) => truth(a.compare(b).is_gt()),
        ("greaterOrEquals", [a, b]) => truth(a.compare(b).is_ge()),
        ("plus", _) => Ok(Value::Int(number(0)?.wrapping_add(number(1)?))),
        ("minus", _) => Ok(Value::Int(number(0)?.wrapping_sub(number(1)?))),
        ("multiply", _) => Ok(Value::Int(number(0)?.wrapping_mul(number(1)?))),
        ("negate", _) => Ok(Value::Int(-number(0)?)),
        ("intDiv" | "modulo", _) if number(1)? == 0 => Err(refused(codes::ILLEGAL_DIVISION, "Division by zero")),
        ("intDiv", _) => Ok(Value::Int(number(0)? / number(1)?)),
        ("modulo", _) => Ok(Value::Int(number(0)? % number(1)?)),
        ("toYYYYMM", [_]) => digits(6),
        ("toYYYYMMDD", [_]) => digits(8),
        ("toYear", [_]) => digits(4),
        ("toMonday", _) => {
            let days = number(0)?;
            Ok(Value::Text(date_of(days - (days + 3).rem_euclid(7))))
        }
        ("toDate", [Value::Int(days)]) => Ok(Value::Text(date_of(*days))),
        ("toDate", [other]) => Ok(Value::Text(other.text().chars().take(10).collect())),
        ("toString" | "toDateTime" | "toFixedString" | "toUUID", [value, ..]) => Ok(Value::Text(value.text())),
        ("cityHash64" | "sipHash64" | "intHash64" | "halfMD5", [_, ..]) => {
            let texts: Vec<String> = arguments.iter().map(Value::text).collect();
            Ok(Value::Int(i128::from(hash(texts.iter().map(String::as_str)))))
        }
        ("intHash32", [value]) => Ok(Value::Int(i128::from(hash([value.text().as_str()]) >> 32))),
        ("throwIf", [value, ..]) if value.is_true() => {
            Err(refused(codes::FUNCTION_THROW_IF_VALUE_IS_NON_ZERO, "Value passed to 'throwIf' is non zero"))
        }
        ("throwIf", _) => truth(false),
        ("tuple", _) => Ok(Value::Tuple(arguments)),
        (cast, [value]) if cast.strip_prefix("to").is_some_and(|to| integer(to).is_some()) => {
            value.clone().cast(cast.trim_start_matches("to"))
        }
        _ => Err(refused(codes::UNKNOWN_FUNCTION, format!("Unknown function {name}"))),
    }
}

/// Returns the type of an expression; `column` returns the types of columns.
pub(super) fn type_of(ast: &Ast, column: &dyn Fn(&str) -> Option<String>) -> Result<String, Kind> {
    let (name, asts) = match ast {
        Ast::Number(number) => return Ok(narrowest(*number).to_owned()),
        Ast::Text(_) => return Ok("String".into()),
        Ast::Column(name) => {
            return column(name)
                .ok_or_else(|| refused(codes::UNKNOWN_IDENTIFIER, format!("Unknown identifier: {name}")));
        }
        Ast::Tuple(members) => {
            let types = members.iter().map(|ast| type_of(ast, column)).collect::<Result<Vec<_>, _>>()?;
            return Ok(format!("Tuple({})", types.join(", ")));
        }
        Ast::Call(name, asts) => (name.as_str(), asts),
    };
    let types = asts.iter().map(|ast| type_of(ast, column)).collect::<Result<Vec<_>, _>>()?;
    Ok(match name {
        "or" | "and" | "not" | "in" | "equals" | "notEquals" | "less" | "lessOrEquals" | "greater"
        | "greaterOrEquals" | "throwIf" => "UInt8".into(),
        "plus" | "minus" | "multiply" | "negate" => "Int64".into(),
        "modulo" => types.get(1).cloned().unwrap_or_default(),
        "intDiv" => types.first().cloned().unwrap_or_default(),
        "toYYYYMM" | "toYYYYMMDD" | "intHash32" => "UInt32".into(),
        "toYear" => "UInt16".into(),
        "toMonday" => "Date".into(),
        "cityHash64" | "sipHash64" | "intHash64" | "halfMD5" => "UInt64".into(),
        "tuple" => format!("Tuple({})", types.join(", ")),
        other => match other.strip_prefix("to") {
            Some(to) if integer(to).is_some() || matches!(to, "String" | "Date" | "DateTime" | "UUID") => to.to_owned(),
            _ => return Err(refused(codes::UNKNOWN_FUNCTION, format!("Unknown function {name}"))),
        },
    })
}

fn narrowest(number: i128) -> &'static str {
    match number {
        0..=0xff => "UInt8",
        0x100..=0xffff => "UInt16",
        0x1_0000..=0xffff_ffff => "UInt32",
        _ => "UInt64",
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::parse;
    use super::*;

    #[test]
    fn expressions_have_the_values_that_the_server_gives() {
        let column = |name: &str| match name {
            "d" => Some(Value::Text("2018-03-01".into())),
            "id" => Some(Value::Int(-1)),
            _ => None,
        };
        for (text, value) in [
            ("toYYYYMM(d)", "201803"),
            ("toMonday(d)", "2018-02-26"),
            ("toUInt32(`id`)", "4294967295"),
            ("(toUInt32(id) % 4) >= 1 AND d < '2018-03-02'", "1"),
            ("(toYYYYMM(d), id) IN ((201803, -1), (1, 2))", "1"),
            ("toUInt32('2018-03-01 00:00:01')", "1519862401"),
            ("CAST('7' AS UInt8) + 1 = 8 OR no", "1"),
        ] {
            let found = evaluate(&parse(text).unwrap(), &column);
            match found {
                Ok(found) => assert_eq!(found.text(), value, "{text}"),
                // Both sides of OR are evaluated, as in the server's analysis.
                Err(error) => assert!(text.ends_with("OR no") && error.to_string().contains("47"), "{text}: {error}"),
            }
        }
    }
}
