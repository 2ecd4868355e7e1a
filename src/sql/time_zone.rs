//! Decides whether an expression's value depends on the time zone of the server that computes it.
//!
//! A DateTime without a zone in its type is an instant; its text, its day and its hour depend on the zone of the
//! server or of the session. An expression counts as dependent unless it is certain to give the same value in every
//! zone.

use std::collections::BTreeMap;
use std::ops::Range;

use super::lex::{self, Spanned, Token};
use super::steadiness::name_of;

/// A column, as far as time zones matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimedColumn {
    /// The column's type.
    pub(crate) type_name: String,
    /// The expression that computes it when it is read, if there is one.
    pub(crate) computed: Option<String>,
}

/// Columns by their names.
pub(crate) type TimedColumns = BTreeMap<String, TimedColumn>;

/// Returns the name under which equal zones are compared. Zones whose clocks agree now and differ at other times are
/// not equal.
pub(crate) fn canonical_zone(name: &str) -> String {
    let bare = name.strip_prefix("Etc/").unwrap_or(name);
    match bare {
        "UTC" | "UCT" | "Universal" | "Zulu" | "GMT" | "GMT0" | "GMT+0" | "GMT-0" | "Greenwich" => "UTC".to_owned(),
        _ => name.to_owned(),
    }
}

/// How the time zone affects the values of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    /// Not at all.
    Never,
    /// A day of the calendar.
    Day,
    /// An instant whose type names its zone.
    Zoned,
    /// An instant without a zone, also inside an array, tuple or map.
    Open,
}

fn timed(type_name: &str) -> Timed {
    let bare = without_wrappers(type_name);
    match bare {
        "Date" | "Date32" => Timed::Day,
        _ if !bare.contains("DateTime") => Timed::Never,
        _ if bare.starts_with("DateTime") && bare.contains('\'') => Timed::Zoned,
        _ => Timed::Open,
    }
}

fn without_wrappers(type_name: &str) -> &str {
    let mut bare = type_name;
    let inside =
        |text: &'_ str, wrapper: &str| text.strip_prefix(wrapper).and_then(|rest| rest.strip_suffix(')')).map(str::len);
    // A loop, because a server's type may be nested to any depth.
    while let Some(length) = inside(bare, "Nullable(").or_else(|| inside(bare, "LowCardinality(")) {
        let start = bare.len() - 1 - length;
        bare = &bare[start..start + length];
    }
    bare
}

/// Returns whether the conversion of a value from one type to another depends on the zone of the server that converts
/// it.
pub(crate) fn conversion_depends_on_zone(from: &str, to: &str) -> bool {
    use Timed::{Day, Never, Open, Zoned};
    let is_number = |name: &str| {
        let bare = without_wrappers(name);
        ["Int", "UInt", "Float", "Decimal"].iter().any(|start| bare.starts_with(start))
    };
    let (bare_from, bare_to) = (without_wrappers(from), without_wrappers(to));
    if bare_from == bare_to {
        return false;
    }
    let is_instant = |name: &str| name.starts_with("DateTime");
    match (timed(from), timed(to)) {
        (Never, Never) | (Day, Day) => false,
        (Day, Never) | (Never, Day) => is_number(from),
        (Zoned | Open, Zoned | Open) => !(is_instant(bare_from) && is_instant(bare_to)),
        (Zoned | Open, Never) => !is_number(to),
        (Never, Zoned | Open) => !is_number(from),
        (Day, Zoned | Open) | (Zoned | Open, Day) => true,
    }
}

/// The deepest nesting of references between columns.
const DEEPEST: usize = 16;

/// Returns the column or function that makes an expression depend on the zone of the server; `None` if it does not
/// depend.
pub(crate) fn zone_dependence(expression: &str, columns: &TimedColumns) -> Option<String> {
    depends(expression, columns, 0)
}

/// Returns the columns without a zone of their own that an expression names and whose type can have a zone.
pub(crate) fn columns_without_zone(expression: &str, columns: &TimedColumns) -> Vec<String> {
    let found = lex::tokens(expression).unwrap_or_default();
    let names = found.iter().filter_map(|token| name_of(token, expression));
    let is_open = |name: &String| {
        let of_type = columns.get(name).map(|column| without_wrappers(&column.type_name));
        of_type.is_some_and(|of_type| of_type.starts_with("DateTime") && timed(of_type) == Timed::Open)
    };
    names.filter(is_open).collect()
}

fn depends(expression: &str, columns: &TimedColumns, depth: usize) -> Option<String> {
    let Ok(found) = lex::tokens(expression) else { return Some(expression.to_owned()) };
    if depth > DEEPEST {
        return Some(expression.to_owned());
    }
    let reader = Reader { sql: expression, found: &found, columns, depth };
    reader.range(0..found.len())
}

struct Reader<'a> {
    sql: &'a str,
    found: &'a [Spanned],
    columns: &'a TimedColumns,
    depth: usize,
}

impl Reader<'_> {
    fn range(&self, range: Range<usize>) -> Option<String> {
        let mut index = range.start;
        // On old servers a text next to a column is read in the server's zone, whatever the column's.
        let has_text = self.has_text(range.clone());
        while index < range.end {
            if let Some(end) = self.call_end(index).filter(|end| *end < range.end) {
                if let Some(reason) = self.call(index, end) {
                    return Some(reason);
                }
                index = end + 1;
                continue;
            }
            if let Some(reason) = self.operand(index, has_text) {
                return Some(reason);
            }
            index += 1;
        }
        None
    }

    /// Returns whether a text occurs outside the calls of a range.
    fn has_text(&self, range: Range<usize>) -> bool {
        let mut index = range.start;
        while index < range.end {
            if self.found[index].token == Token::Text {
                return true;
            }
            index = self.call_end(index).unwrap_or(index) + 1;
        }
        false
    }

    /// Returns the end of the arguments of the call that starts at a token.
    fn call_end(&self, index: usize) -> Option<usize> {
        name_of(&self.found[index], self.sql)?;
        let open = self.found.get(index + 1).filter(|next| next.token == Token::Sign('('))?;
        let closes = |token: &Spanned| token.token == Token::Sign(')') && token.depth == open.depth;
        self.found[index + 2..].iter().position(closes).map(|end| index + 2 + end)
    }

    /// Checks a token that is no call: a column next to operators, the type after `::`, the unit of an interval.
    fn operand(&self, index: usize, has_text: bool) -> Option<String> {
        let token = &self.found[index];
        let name = name_of(token, self.sql)?;
        let is_sign = |index: usize| self.found[index].token == Token::Sign(':');
        let lower = name.to_ascii_lowercase();
        if index > 1 && is_sign(index - 1) && is_sign(index - 2) && lower.starts_with("date") {
            return Some(name);
        }
        if index > 1
            && self.found[index - 2].is_word(self.sql, "INTERVAL")
            && UNITS.iter().any(|unit| lower.starts_with(unit))
        {
            return Some(format!("INTERVAL {name}"));
        }
        if lower == "timestamp" && self.found.get(index + 1).is_some_and(|next| next.token == Token::Text) {
            return Some(name);
        }
        let column = self.column(index)?;
        if let Some(computed) = &column.computed {
            let inner = depends(computed, self.columns, self.depth + 1);
            return inner.map(|inner| format!("{name} ({inner})"));
        }
        match timed(&column.type_name) {
            Timed::Open => Some(name),
            Timed::Zoned if has_text => Some(name),
            _ => None,
        }
    }

    fn column(&self, index: usize) -> Option<&TimedColumn> {
        let name = name_of(self.found.get(index)?, self.sql)?;
        self.columns.get(&name)
    }

    /// Returns the arguments between the brackets of a call.
    fn arguments(&self, index: usize, end: usize) -> Vec<Range<usize>> {
        let inside = self.found[index + 1].depth + 1;
        let mut arguments = Vec::new();
        let mut start = index + 2;
        for comma in index + 2..end {
            if self.found[comma].token == Token::Sign(',') && self.found[comma].depth == inside {
                arguments.push(start..comma);
                start = comma + 1;
            }
        }
        if start < end {
            arguments.push(start..end);
        }
        arguments
    }

    fn call(&self, index: usize, end: usize) -> Option<String> {
        let name = name_of(&self.found[index], self.sql)?;
        let lower = name.to_ascii_lowercase();
        let arguments = self.arguments(index, end);
        let dependent = || Some(name.clone());
        let others = |except: &dyn Fn(&Range<usize>) -> bool| {
            arguments.iter().filter(|argument| !except(argument)).find_map(|argument| self.range((*argument).clone()))
        };
        if self.names_zone(&lower, &arguments) {
            // The zone is that of the call.
            return others(&|argument| self.bare(argument).is_some());
        }
        let bare = arguments.first().and_then(|argument| self.bare(argument));
        if lower.contains("hash") || NUMBERS.contains(&lower.as_str()) {
            return others(&|argument| self.bare(argument).is_some());
        }
        if lower.starts_with("tounixtimestamp") {
            return if matches!(bare, Some(Timed::Open | Timed::Zoned)) { None } else { dependent() };
        }
        if matches!(lower.as_str(), "todate" | "todate32") {
            let is_literal = arguments.first().is_some_and(|only| self.is_text(only));
            return match bare {
                Some(Timed::Day | Timed::Zoned) => None,
                Some(Timed::Never) if self.is_string(&arguments[0]) => None,
                None if is_literal => None,
                _ => dependent(),
            };
        }
        if lower.contains("cast") {
            return if self.names_date(index, end) { dependent() } else { others(&|_| false) };
        }
        if MAKING.iter().any(|start| lower.starts_with(start)) {
            return dependent();
        }
        if OF_HOURS.iter().any(|start| lower.starts_with(start)) {
            return if matches!(bare, Some(Timed::Zoned)) { None } else { dependent() };
        }
        others(&|argument| self.bare(argument) == Some(Timed::Zoned))
    }

    /// Returns the kind of an argument that is only a stored column.
    fn bare(&self, argument: &Range<usize>) -> Option<Timed> {
        if argument.len() != 1 {
            return None;
        }
        let column = self.column(argument.start)?;
        column.computed.is_none().then(|| timed(&column.type_name))
    }

    fn is_string(&self, argument: &Range<usize>) -> bool {
        let column = self.column(argument.start);
        column.is_some_and(|column| without_wrappers(&column.type_name).contains("String"))
    }

    fn is_text(&self, argument: &Range<usize>) -> bool {
        argument.len() == 1 && self.found[argument.start].token == Token::Text
    }

    /// Returns whether the last argument of a function that takes a time zone is one.
    fn names_zone(&self, name: &str, arguments: &[Range<usize>]) -> bool {
        let least = match name {
            _ if name.starts_with("datediff") || name.starts_with("date_diff") => 4,
            _ if ["format", "parse", "datetrunc", "date_trunc", "tostartofinterval"]
                .iter()
                .any(|s| name.starts_with(s)) =>
            {
                3
            }
            _ if ["to", "fromunix", "snowflake"].iter().any(|start| name.starts_with(start)) => 2,
            _ => return false,
        };
        let Some(last) = arguments.last().filter(|last| arguments.len() >= least && self.is_text(last)) else {
            return false;
        };
        let zone = lex::unquote(self.found[last.start].text(self.sql));
        zone.len() > 2
            && zone.starts_with(|c: char| c.is_ascii_uppercase())
            && zone.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-'))
    }

    fn names_date(&self, index: usize, end: usize) -> bool {
        self.found[index + 2..end].iter().any(|token| {
            let text = token.text(self.sql).trim_start_matches('\'').to_ascii_lowercase();
            let text = text.trim_start_matches("nullable(");
            text.starts_with("date") && self.columns.get(text).is_none()
        })
    }
}

/// Units of an interval that turn a date into a time.
const UNITS: &[&str] = &["hour", "minute", "second", "milli", "micro", "nano"];

/// Functions that return the number of an instant.
const NUMBERS: &[&str] =
    &["touint32", "touint64", "toint32", "toint64", "toint128", "touint128", "reinterpretasuint32"];

/// Prefixes, in lower case, of functions that create an instant, or read the zone or the day.
const MAKING: &[&str] = &[
    "todatetime",
    "fromunixtimestamp",
    "parsedatetime",
    "str_to_date",
    "makedatetime",
    "snowflake",
    "uuidv7todatetime",
    "yyyymmddhhmmsstodatetime",
    "timestamp",
    "timezone",
    "servertimezone",
    "today",
    "yesterday",
    "curdate",
    "current_date",
    "now",
    "fromutctimestamp",
    "from_utc_timestamp",
    "toutctimestamp",
    "to_utc_timestamp",
    "reinterpretasdate",
    "formatrow",
    "tojsonstring",
];

/// Functions that read or create the time of a day, also from a date.
const OF_HOURS: &[&str] = &[
    "tostartofhour",
    "tostartofminute",
    "tostartoffive",
    "tostartoften",
    "tostartoffifteen",
    "tostartofsecond",
    "tostartofinterval",
    "timeslot",
    "torelativehournum",
    "torelativeminutenum",
    "torelativesecondnum",
    "addhours",
    "addminutes",
    "addseconds",
    "subtracthours",
    "subtractminutes",
    "subtractseconds",
    "tointervalhour",
    "tointervalminute",
    "tointervalsecond",
    "dateadd",
    "date_add",
    "datesub",
    "date_sub",
];

#[cfg(test)]
#[path = "time_zone_tests.rs"]
mod tests;
