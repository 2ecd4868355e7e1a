//! The elements of partition and sorting keys: how their values are read, written and compared.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::lex;
use super::quote::{literal, value_literal};

/// One element of a partition key or of a sorting key, with its type as the server names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyElement {
    /// The expression.
    pub expression: String,
    /// The type of the element, from `toTypeName`.
    pub type_name: String,
}

/// How the values of a type are written, compared and named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Date,
    DateTime,
    /// With this many digits after the second.
    DateTime64(u8),
    Enum,
    Bool,
    Decimal,
    Float,
    /// With the number of bytes of a FixedString, or 0.
    Bytes(usize),
    /// Written as a text in quotes.
    Quoted,
    /// Written as a CAST of a text.
    Cast,
}

/// How 18.16 writes the first day of dates, and how later versions do.
const FIRST_DAYS: [&str; 2] = ["0000-00-00", "1970-01-01"];

impl KeyElement {
    /// Returns the kind of the type. Returns `None` if two different values might have the same text, or if the
    /// literal of a text might not find its value again.
    fn known_kind(&self) -> Option<Kind> {
        let whole = self.type_name.as_str();
        let name = whole.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(whole);
        let (base, arguments) = match name.split_once('(') {
            Some((base, rest)) => (base, rest.strip_suffix(')').unwrap_or(rest)),
            None => (name, ""),
        };
        Some(match base {
            "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64" => Kind::Integer,
            "Date" => Kind::Date,
            "DateTime" => Kind::DateTime,
            "DateTime64" => Kind::DateTime64(arguments.split(',').next()?.trim().parse().ok()?),
            "Enum8" | "Enum16" => Kind::Enum,
            "Bool" => Kind::Bool,
            "Decimal" => Kind::Decimal,
            "Float32" | "Float64" => Kind::Float,
            "String" => Kind::Bytes(0),
            "FixedString" => Kind::Bytes(arguments.trim().parse().ok()?),
            "UUID" | "Date32" => Kind::Quoted,
            "Int128" | "Int256" | "UInt128" | "UInt256" | "IPv4" | "IPv6" => Kind::Cast,
            _ => return None,
        })
    }

    fn kind(&self) -> Kind {
        self.known_kind().unwrap_or(Kind::Cast)
    }

    /// Returns whether values of this type can identify partitions.
    pub(crate) fn is_supported(&self) -> bool {
        self.known_kind().is_some()
    }

    /// Returns whether the type is a floating-point one.
    pub(crate) fn is_float(&self) -> bool {
        self.kind() == Kind::Float
    }

    /// Returns the expression that is compared with [`Self::literal`]: the element itself if an index of it can be
    /// used.
    ///
    /// Floats are compared by their bits: NaN is not equal to itself, and -0 is equal to 0, but each is a partition
    /// of its own. A DateTime64 is compared by its number, because its text depends on a time zone.
    pub(crate) fn compared(&self) -> String {
        let expression = &self.expression;
        match self.kind() {
            Kind::Float => format!("reinterpretAsUInt64(reinterpretAsString({expression}))"),
            Kind::DateTime64(0..=3) => format!("toUnixTimestamp64Milli({expression})"),
            Kind::DateTime64(4..=6) => format!("toUnixTimestamp64Micro({expression})"),
            Kind::DateTime64(_) => format!("toUnixTimestamp64Nano({expression})"),
            _ => expression.clone(),
        }
    }

    /// Returns the expression whose text finds a value again. A DateTime is its number of seconds, because its text
    /// depends on a time zone and is ambiguous where clocks go back. A Decimal has no zeros at its end: 18.16 prints
    /// them, later versions do not, and the source's text must be found on the target. See [`Self::canonical`].
    pub(crate) fn value(&self) -> String {
        match self.kind() {
            Kind::Decimal => {
                let without_zeros = literal(r"(\.[0-9]*?)0*$");
                let without_dot = literal(r"\.$");
                let kept = literal(r"\1");
                let text = format!("replaceRegexpOne({}, {without_zeros}, {kept})", self.shown());
                format!("replaceRegexpOne({text}, {without_dot}, '')")
            }
            Kind::DateTime => format!("toString(toUInt32({}))", self.expression),
            // Settings change how its text is written.
            Kind::Bool => format!("toString(toUInt8({}))", self.expression),
            Kind::Float | Kind::DateTime64(_) => format!("toString({})", self.compared()),
            _ => self.shown(),
        }
    }

    /// Returns the expression for the text that messages show: [`Self::value`], unless that is a number that nobody
    /// knows.
    pub(crate) fn message_text(&self) -> String {
        match self.kind() {
            Kind::Float | Kind::DateTime64(_) | Kind::Bool => self.shown(),
            _ => self.value(),
        }
    }

    /// Returns the text of a value that is the same on every version, from a server's text for [`Self::value`].
    pub(crate) fn canonical(&self, value: String) -> String {
        let [old, new] = FIRST_DAYS;
        if self.kind() == Kind::Date && value == old { new.to_owned() } else { value }
    }

    /// Returns the expression for the text that a person knows, as in `system.parts.partition`.
    pub(crate) fn shown(&self) -> String {
        format!("toString({})", self.expression)
    }

    /// Returns the expression for this element's share of `partition_id` if the id is readable
    /// (docs/clickhouse-behaviour.md, §4); `None` if the id is a hash.
    pub(crate) fn id(&self) -> Option<String> {
        match self.kind() {
            Kind::Integer => Some(format!("toString({})", self.expression)),
            Kind::Date => Some(format!("toString(toYYYYMMDD({}))", self.expression)),
            Kind::DateTime => Some(format!("toString(toUInt32({}))", self.expression)),
            Kind::Enum => Some(format!("toString(toInt16({}))", self.expression)),
            _ => None,
        }
    }

    /// Returns the expression to group rows by. Grouping by a wide Decimal next to another column crashes 18.16.1
    /// with a segmentation fault, also as `toString` of it, which that version treats alike. Decimals are therefore
    /// grouped by their values' texts.
    pub(crate) fn group(&self) -> String {
        match self.kind() {
            Kind::Decimal => self.value(),
            _ => self.compared(),
        }
    }

    /// Returns [`Self::value`] for rows that all have the same value.
    pub(crate) fn value_of_any(&self) -> String {
        match self.kind() {
            Kind::Decimal => format!("any({})", self.value()),
            Kind::DateTime => format!("toString(toUInt32(any({})))", self.expression),
            Kind::Bool => format!("toString(toUInt8(any({})))", self.expression),
            _ => format!("toString(any({}))", self.compared()),
        }
    }

    /// Returns [`Self::shown`] for rows that are grouped this way.
    pub(crate) fn shown_of_group(&self) -> String {
        match self.kind() {
            Kind::Decimal | Kind::Float | Kind::DateTime64(_) => format!("any({})", self.shown()),
            _ => self.shown(),
        }
    }

    /// Returns the literal to compare [`Self::compared`] with, from the text of [`Self::value`].
    pub(crate) fn literal(&self, value: &str) -> String {
        match self.kind() {
            Kind::Integer | Kind::DateTime | Kind::DateTime64(_) | Kind::Float | Kind::Bool if is_integer(value) => {
                value.to_owned()
            }
            Kind::Decimal | Kind::Cast => format!("CAST({} AS {})", literal(value), self.type_name),
            Kind::Bytes(width) => value_literal(value, width),
            // 18.16 cannot parse the text of its last days.
            Kind::Date if value >= "2106" => late_date(value),
            _ => value_literal(value, 0),
        }
    }

    /// Returns the value as a person writes it, from the text of [`Self::shown`].
    pub(crate) fn display(&self, shown: &str) -> String {
        match self.kind() {
            Kind::Integer | Kind::Float | Kind::Bool => shown.to_owned(),
            _ => value_literal(shown, 0),
        }
    }

    /// Returns the text of [`Self::shown`] for a person's text: a number may have a sign or leading zeros.
    pub(crate) fn shown_of_written(&self, written: &str) -> String {
        let number = written.parse::<i128>().ok().filter(|_| self.kind() == Kind::Integer);
        number.map_or(written.to_owned(), |number| number.to_string())
    }

    /// Returns whether a person's text means the value with these texts, [`Self::shown`] and [`Self::value`].
    pub(crate) fn is_meant(&self, written: &str, shown: &str, value: &str) -> bool {
        self.shown_of_written(written) == shown
            || (self.kind() == Kind::DateTime && is_integer(written) && written == value)
    }

    /// Returns whether a person's text can be a value of this type at all.
    pub(crate) fn accepts(&self, shown: &str) -> bool {
        match self.kind() {
            Kind::Integer => is_integer(shown),
            Kind::Date => is_date(shown),
            Kind::DateTime => is_integer(shown) || (shown.len() == 19 && shown.get(..10).is_some_and(is_date)),
            Kind::Float => shown.parse::<f64>().is_ok(),
            _ => true,
        }
    }

    /// Returns whether `system.parts.partition` shows the same text as [`Self::value`], in a key of this many
    /// elements (measured on 18.16; the form of dates inside tuples has changed over time).
    pub(crate) fn is_named_by_parts(&self, elements: usize) -> bool {
        self.kind() == Kind::Integer
            || self.type_name == "String"
            || (elements == 1 && (self.kind() == Kind::Date || self.type_name == "UUID"))
    }

    /// Returns whether ranges of it can be cut exactly and skipped by a primary index: no NULL, no NaN, and an order
    /// that the literal shares.
    pub(crate) fn is_cuttable(&self) -> bool {
        matches!(self.kind(), Kind::Integer | Kind::Date | Kind::DateTime)
            || matches!(self.type_name.as_str(), "String" | "LowCardinality(String)")
    }
}

/// Returns a date from 2106 on as the number of its day.
fn late_date(text: &str) -> String {
    let form = time::macros::format_description!("[year]-[month]-[day]");
    match time::Date::parse(text, &form) {
        Ok(date) => format!("toDate({})", (date - time::Date::from_ordinal_date(1970, 1).unwrap_or(date)).whole_days()),
        Err(_) => value_literal(text, 0),
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

/// Returns the elements of a key: `(a, b)`, `tuple(a, b)` and `a, b` have two, `tuple()` has none.
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

    fn element(type_name: &str) -> KeyElement {
        KeyElement { expression: "k".into(), type_name: type_name.into() }
    }

    #[test]
    fn each_type_of_a_key_has_a_condition_that_selects_its_value() {
        for (type_name, value, compared, literal) in [
            ("UInt32", "7", "k", "7"),
            ("String", "007", "k", "'007'"),
            ("LowCardinality(String)", "+1", "k", "'+1'"),
            ("LowCardinality(FixedString(3))", "1", "k", r"'1\0\0'"),
            ("String", "\u{fffe}FF41", "k", r"'\xFFA'"),
            ("Date", "2018-01-01", "k", "'2018-01-01'"),
            ("Date", "2106-02-06", "k", "toDate(49709)"),
            ("Float32", "2143289344", "reinterpretAsUInt64(reinterpretAsString(k))", "2143289344"),
            ("DateTime64(3, 'Asia/Tokyo')", "-5", "toUnixTimestamp64Milli(k)", "-5"),
            ("DateTime64(6)", "1", "toUnixTimestamp64Micro(k)", "1"),
            ("DateTime64(9)", "1", "toUnixTimestamp64Nano(k)", "1"),
            ("Bool", "1", "k", "1"),
            ("Int256", "-1", "k", "CAST('-1' AS Int256)"),
            ("Decimal(9, 2)", "1.5", "k", "CAST('1.5' AS Decimal(9, 2))"),
        ] {
            let element = element(type_name);
            assert!(element.is_supported(), "{type_name}");
            assert_eq!(
                (element.compared().as_str(), element.literal(value).as_str()),
                (compared, literal),
                "{type_name}"
            );
        }
        assert_eq!(element("Date").canonical("0000-00-00".into()), "1970-01-01");
        assert_eq!(element("String").canonical("0000-00-00".into()), "0000-00-00");
        for type_name in ["Array(String)", "Tuple(UInt8, UInt8)", "BFloat16", "IntervalDay", "Nullable(UInt8)", "JSON"]
        {
            assert!(!element(type_name).is_supported(), "{type_name}");
        }
    }

    #[test]
    fn a_key_is_split_into_its_elements() {
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
