//! Decides whether an expression gives one value for each row, the same each time. Partition keys, sharding keys and
//! conditions must do so: two statements evaluate them (one copies, one counts), on any replica, and blocks may be
//! cut in any way.

use std::collections::BTreeMap;

use super::lex::{self, Spanned, Token};

/// The names that an expression can use besides the functions of ClickHouse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// The columns by their names, with an expression if the column is computed when it is read.
    pub(crate) columns: BTreeMap<String, Option<String>>,
    /// User-defined functions with the statement that created them; `None` for an external program.
    pub(crate) functions: BTreeMap<String, Option<String>>,
    /// Whether the clock counts as steady, as `today()` mostly is while a copy runs.
    pub(crate) clock_stands: bool,
}

/// Functions that return the time.
const CLOCK: &[&str] = &[
    "now",
    "now64",
    "nowinblock",
    "today",
    "yesterday",
    "curdate",
    "current_date",
    "current_timestamp",
    "utc_timestamp",
    "utctimestamp",
];

/// Why an expression does not give one value for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsteady {
    /// The function, column or clause that is the reason.
    pub(crate) word: String,
    /// The effect.
    pub(crate) kind: UnsteadyKind,
}

/// The effect of an unsteady expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsteadyKind {
    /// It makes several rows from one, or none.
    Rows,
    /// It gives another value for the same row: each time, on another server, or in another block.
    Value,
    /// It depends on the parts that hold the rows; merges and replicas change them.
    Parts,
}

impl Unsteady {
    /// Returns the reason as the end of a sentence: `… gives another value each time it is computed`.
    pub(crate) fn reason(&self) -> String {
        let Self { word, kind } = self;
        match kind {
            UnsteadyKind::Rows if word.eq_ignore_ascii_case("OVER") => {
                format!("a window function ({word}) looks at other rows")
            }
            UnsteadyKind::Rows => format!("{word} changes the number of rows"),
            UnsteadyKind::Value => {
                format!("{word} can give another value each time, on another server or in another block")
            }
            UnsteadyKind::Parts => format!("{word} depends on how the rows lie in parts, which merges change"),
        }
    }
}

/// The deepest nesting of references between functions and columns.
const DEEPEST: usize = 16;

/// Functions that start with one of these return random values, the time, or values that depend on the server, block
/// or query.
const CHANGING_STARTS: &[&str] =
    &["rand", "generate", "running", "rownumber", "filesystem", "now", "current", "initialquery"];

/// More of such functions, in lower case.
const CHANGING: &[&str] = &[
    "arraypartialshuffle",
    "arrayrandomsample",
    "arrayshuffle",
    "blocknumber",
    "blockserializedsize",
    "blocksize",
    "buildid",
    "chdb",
    "connection_id",
    "connectionid",
    "curdate",
    "database",
    "datetimetouuidv7",
    "defaultprofiles",
    "defaultroles",
    "dictgethierarchy",
    "displayname",
    "enabledprofiles",
    "enabledroles",
    "file",
    "fqdn",
    "fullhostname",
    "fuzzbits",
    "getclienthttpheader",
    "getmacro",
    "getoskernelversion",
    "getserverport",
    "getserversetting",
    "getsetting",
    "getsettingordefault",
    "hostname",
    "initial_query_id",
    "initial_query_start_time",
    "lag",
    "laginframe",
    "lead",
    "leadinframe",
    "neighbor",
    "obfuscatequery",
    "query_id",
    "queryid",
    "revision",
    "schema",
    "servertimezone",
    "serveruuid",
    "shardcount",
    "shardnum",
    "tcpport",
    "tid",
    "timezone",
    "today",
    "transactionid",
    "transactionlatestsnapshot",
    "transactionoldestsnapshot",
    "uptime",
    "user",
    "utc_timestamp",
    "utctimestamp",
    "version",
    "yesterday",
    "zookeepersessionuptime",
];

/// Virtual columns that depend on how rows lie in parts.
const OF_PARTS: &[&str] = &[
    "_block_number",
    "_block_offset",
    "_disk_name",
    "_distance",
    "_part",
    "_part_data_version",
    "_part_granule_offset",
    "_part_index",
    "_part_offset",
    "_part_starting_offset",
    "_part_uuid",
    "_row_exists",
    "_sample_factor",
    "_shard_num",
];

/// Returns why an expression does not give one steady value for each row; `None` if it does.
///
/// Names of functions decide, wherever they occur and however they are written. A text that cannot be split into
/// tokens is not steady.
pub(crate) fn unsteadiness(expression: &str, names: &Names) -> Option<Unsteady> {
    judge(expression, names, 0)
}

fn judge(expression: &str, names: &Names, depth: usize) -> Option<Unsteady> {
    let changing = |word: &str| Some(Unsteady { word: word.to_owned(), kind: UnsteadyKind::Value });
    let Ok(found) = lex::tokens(expression) else { return changing(expression) };
    if depth > DEEPEST {
        return changing(expression);
    }
    let mut queries: Vec<usize> = Vec::new();
    for (index, token) in found.iter().enumerate() {
        queries.retain(|outside| token.depth > *outside);
        if starts_query(expression, &found, index) {
            queries.push(token.depth);
        }
        let in_query = !queries.is_empty();
        if !in_query && is_clause(expression, &found, index) {
            let word = token.text(expression).to_owned();
            return Some(Unsteady { word, kind: UnsteadyKind::Rows });
        }
        let Some(name) = name_of(token, expression) else { continue };
        let is_called = found.get(index + 1).is_some_and(|next| next.token == Token::Sign('('));
        let reason = if is_called {
            judge_function(&name, in_query, names, depth)
        } else {
            judge_column(&name, in_query, names, depth)
        };
        if reason.is_some() {
            return reason;
        }
    }
    None
}

fn judge_function(name: &str, in_query: bool, names: &Names, depth: usize) -> Option<Unsteady> {
    let reason = |kind| Some(Unsteady { word: name.to_owned(), kind });
    if let Some(body) = names.functions.get(name) {
        // An external program may return anything.
        let Some(body) = body else { return reason(UnsteadyKind::Value) };
        let body = body.split_once("->").map_or(body.as_str(), |(_, body)| body);
        return judge(body, names, depth + 1)
            .map(|inner| Unsteady { word: format!("{name} ({})", inner.word), ..inner });
    }
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "arrayjoin" if !in_query => reason(UnsteadyKind::Rows),
        "indexhint" => reason(UnsteadyKind::Parts),
        clock if names.clock_stands && CLOCK.contains(&clock) => None,
        other if CHANGING.contains(&other) || CHANGING_STARTS.iter().any(|start| other.starts_with(start)) => {
            reason(UnsteadyKind::Value)
        }
        _ => None,
    }
}

fn judge_column(name: &str, in_query: bool, names: &Names, depth: usize) -> Option<Unsteady> {
    match names.columns.get(name) {
        Some(Some(computed)) => judge(computed, names, depth + 1)
            .map(|inner| Unsteady { word: format!("{name} ({})", inner.word), ..inner }),
        Some(None) => None,
        None if !in_query && OF_PARTS.contains(&name) => {
            Some(Unsteady { word: name.to_owned(), kind: UnsteadyKind::Parts })
        }
        None => None,
    }
}

/// Returns whether a bracket opens a query. A query has its own rows, and gives one set or value to the expression.
fn starts_query(sql: &str, found: &[Spanned], index: usize) -> bool {
    let first = |word: &str| found.get(index + 1).is_some_and(|next| next.is_word(sql, word));
    found[index].token == Token::Sign('(') && (first("SELECT") || first("WITH"))
}

/// Returns whether a token begins `ARRAY JOIN`, or `OVER` of a window function.
fn is_clause(sql: &str, found: &[Spanned], index: usize) -> bool {
    let next = |word: &str| found.get(index + 1).is_some_and(|next| next.is_word(sql, word));
    let follows_call = index > 0 && found[index - 1].token == Token::Sign(')');
    (found[index].is_word(sql, "ARRAY") && next("JOIN")) || (found[index].is_word(sql, "OVER") && follows_call)
}

/// Returns the name of a token, without quotes.
pub(super) fn name_of(token: &Spanned, sql: &str) -> Option<String> {
    let text = token.text(sql);
    match token.token {
        Token::Word => Some(text.to_owned()),
        Token::Quoted => {
            let inside = text.get(1..text.len() - 1).unwrap_or_default();
            // A quoted name has the escapes of a literal, and its own quote doubled.
            let quote = &text[..1];
            let plain = inside.replace(&quote.repeat(2), quote).replace('\'', "\\'");
            Some(unescaped(&plain))
        }
        Token::Text | Token::Sign(_) => None,
    }
}

/// Returns the text of escapes, including `\xHH`.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let code = rest.get(at + 2..at + 4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(code) = code.filter(u8::is_ascii) else { break };
        plain.push_str(&rest[..at]);
        plain.push(char::from(code));
        rest = &rest[at + 4..];
    }
    plain.push_str(rest);
    lex::unquote(&format!("'{plain}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let columns = [
            ("id", None),
            ("rand", None),
            ("_part_index", None),
            ("random_column", Some("rand() % 6")),
            ("half", Some("id / 2")),
            ("item", Some("arrayJoin(arr)")),
            ("recursive", Some("recursive + 1")),
        ];
        let functions = [
            ("plus_random", Some("CREATE FUNCTION plus_random AS x -> (rand() + x)")),
            ("randomly_named", Some("CREATE FUNCTION randomly_named AS x -> (x + 1)")),
            ("twice", Some("CREATE FUNCTION twice AS x -> plus_random(x) * 2")),
            ("program", None),
        ];
        Names {
            columns: columns.map(|(name, text)| (name.to_owned(), text.map(str::to_owned))).into(),
            clock_stands: false,
            functions: functions.map(|(name, text)| (name.to_owned(), text.map(str::to_owned))).into(),
        }
    }

    #[test]
    fn expressions_with_one_steady_value_for_each_row_are_accepted() {
        for text in [
            "intHash64(id)",
            "rand",
            "`rand` + 1",
            "cityHash64('rand()')",
            "half % 7",
            "_part_index",
            "_partition_id = '201801'",
            "randomly_named(id)",
            "id IN (SELECT arrayJoin([1, 2]))",
            "id IN (SELECT max(x) OVER () FROM t ARRAY JOIN x)",
            "NOT ignore(sleep(0.1))",
            "arrayMap(x -> x + 1, arr)[1]",
            "range(id)[1]",
        ] {
            assert_eq!(unsteadiness(text, &names()), None, "{text}");
        }
    }

    #[test]
    fn expressions_whose_value_or_number_of_rows_may_change_are_found() {
        use UnsteadyKind::{Parts, Rows, Value};
        for (text, word, kind) in [
            ("rand()", "rand", Value),
            ("id + Rand64 /* x */ (1)", "Rand64", Value),
            ("`rand`()", "rand", Value),
            (r"`r\x61nd`()", "rand", Value),
            ("\"now\"()", "now", Value),
            ("id > CURRENT_TIMESTAMP()", "CURRENT_TIMESTAMP", Value),
            ("rowNumberInAllBlocks()", "rowNumberInAllBlocks", Value),
            ("runningDifference(id)", "runningDifference", Value),
            ("neighbor(id, 1)", "neighbor", Value),
            ("generateUUIDv4() != id", "generateUUIDv4", Value),
            ("if(1, hostName(), '')", "hostName", Value),
            ("arrayJoin(arr)", "arrayJoin", Rows),
            ("cityHash64(ARRAYJOIN([1, 2]))", "ARRAYJOIN", Rows),
            ("1 ARRAY JOIN arr", "ARRAY", Rows),
            ("row_number() OVER (ORDER BY id)", "OVER", Rows),
            ("id IN (SELECT 1) AND arrayJoin(arr) = 1", "arrayJoin", Rows),
            ("id IN (SELECT rand())", "rand", Value),
            ("indexHint(id = 1)", "indexHint", Parts),
            ("_part_offset % 2", "_part_offset", Parts),
            ("random_column", "random_column (rand)", Value),
            ("t.random_column", "random_column (rand)", Value),
            ("item = 1", "item (arrayJoin)", Rows),
            ("plus_random(id)", "plus_random (rand)", Value),
            ("twice(id)", "twice (plus_random (rand))", Value),
            ("program(id)", "program", Value),
        ] {
            let found = unsteadiness(text, &names());
            assert_eq!(found, Some(Unsteady { word: word.into(), kind }), "{text}");
        }
        assert!(unsteadiness("recursive", &names()).is_some());
    }
}
