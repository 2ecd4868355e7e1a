//! A text that the program accepts as an expression is one for the servers too: it stays inside the brackets that a statement puts
//! around it, and the servers ignore the same comments.

use clickhouse_copier::sql::Expression;
use lab::{ClickHouse, Lab, LabError, Release};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rstest_reuse::apply;

use crate::both;

/// The number of texts on each release.
const TEXTS: u32 = 600;
/// At least this number of them must be expressions for the server; otherwise nothing is tested.
const LEAST: usize = 20;

/// Tokens that different lexers read differently, and operands for them. Columns are `a`, `b` and `d`.
const PIECES: &[&str] = &[
    "a",
    "b",
    "`d`",
    "\"a\"",
    "1",
    "1.5",
    "1e",
    "1e-",
    "0x1F",
    "0b1",
    "1_0",
    "x'",
    "b'",
    "x'41'",
    "'",
    "''",
    "'x'",
    "'\\'",
    "\\'",
    "\\",
    "\\G",
    "\\\\",
    "`",
    "\"",
    "\\`",
    "(",
    ")",
    "(a)",
    "(1, b)",
    "[",
    "]",
    "[1]",
    "{",
    "}",
    "{p:UInt8}",
    ",",
    " , ",
    ";",
    "$",
    "$$",
    "$x$",
    "‘",
    "’",
    "“",
    "”",
    "--",
    "-- x\n",
    "—",
    "−",
    "−−",
    "-",
    "+",
    "*",
    "/",
    "//",
    "// x\n",
    "/*",
    "*/",
    "/* x */",
    "/**/",
    "#",
    "# x\n",
    "#!",
    "#!x\n",
    "->",
    "-->",
    "x -> x",
    "=>",
    "::",
    "::String",
    ":",
    "?",
    "||",
    "|",
    "<=>",
    "==",
    "!=",
    "<>",
    "@",
    "@@",
    "%",
    "^",
    "&",
    "~",
    "!",
    ".",
    ".1",
    "a.1",
    "..",
    " ",
    "\n",
    "\t",
    "\u{b}",
    "\u{c}",
    "\r",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "\u{feff}",
    "\0",
    "\u{1}",
    " OR ",
    " AND ",
    " IN ",
    " IS NULL",
    " AS p",
    " BETWEEN 1 AND ",
    "NOT ",
    "CASE WHEN a THEN b END",
    "INTERVAL 1 DAY",
    "DATE '2018-01-01'",
    "NULL",
    "SELECT ",
    " FROM ",
    " UNION ALL SELECT ",
    " FORMAT ",
    " SETTINGS ",
    "toString(",
    "ignore(",
    "é",
    "имя",
    "😀",
];

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 1..9).prop_map(|pieces| pieces.concat())
}

/// A statement with a text as the only argument of a function, and a column behind it.
fn probe(text: &str) -> String {
    format!("SELECT ignore(({text}\n)), 42 AS sentinel FROM (SELECT 1 AS a, 'x' AS b, 3 AS d)")
}

/// Returns the answer of a server, or `None` if it refuses the statement.
fn answer(server: &ClickHouse, sql: &str) -> Option<String> {
    match server.query(sql) {
        Ok(answer) => Some(answer),
        Err(error @ LabError::Query { .. }) if error.code().is_some() => None,
        Err(error) => panic!("{sql:?}: {error}"),
    }
}

/// Returns the columns of the result that a server sees.
fn columns(server: &ClickHouse, text: &str) -> Option<Vec<String>> {
    let described = answer(server, &format!("DESCRIBE TABLE ({})", probe(text)))?;
    Some(described.lines().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect())
}

/// Returns whether the result has exactly two columns: the function and the sentinel.
fn is_one(columns: &[String]) -> bool {
    matches!(columns, [probe, sentinel] if probe.starts_with("ignore(") && sentinel == "sentinel")
}

/// Returns the syntax tree of a server of 25.8.
fn tree(server: &ClickHouse, text: &str) -> Option<String> {
    answer(server, &format!("EXPLAIN AST {}", probe(text)))
}

/// Returns whether the text stays inside its brackets in a syntax tree: a SELECT with columns and tables only, the function with one
/// argument, and the sentinel after it.
fn stays_within(tree: &str) -> bool {
    let at =
        |depth: usize| tree.lines().filter(move |line| line.len() - line.trim_start().len() == depth).map(str::trim);
    let head = |line: &str| line.split(" (").next().unwrap_or_default().to_owned();
    let query: Vec<String> = at(3).map(head).collect();
    // The columns come first; the tables are as deep as they.
    let columns: Vec<&str> = at(4).take(3).collect();
    let [probe, sentinel, table] = columns[..] else { return false };
    query == ["ExpressionList", "TablesInSelectQuery"]
        && (probe, sentinel) == ("Function ignore (children 1)", "Literal UInt64_42 (alias sentinel)")
        && table.starts_with("TablesInSelectQueryElement")
        && at(5).next() == Some("ExpressionList (children 1)")
}

#[apply(both)]
fn accepted_expressions_stay_inside_their_brackets_on_servers(#[case] release: Release) {
    let server = Lab::shared(release).clickhouse(0);
    // The checks themselves find a text that leaves its brackets.
    let leaves = "1)) OR ignore((1 = 1";
    assert!(Expression::parse(leaves).is_err());
    assert!(!is_one(&columns(server, leaves).unwrap()) && is_one(&columns(server, "a, 1").unwrap()));
    if release.is_modern() {
        assert!(!stays_within(&tree(server, leaves).unwrap()));
        assert!(stays_within(&tree(server, "a, 1").unwrap()));
    }
    let seen = std::cell::Cell::new(0);
    let config = Config { cases: TEXTS, failure_persistence: None, max_global_rejects: 1 << 20, ..Config::default() };
    let property = |text: String| {
        let Ok(expression) = Expression::parse(&text) else { return Err(TestCaseError::reject("no expression")) };
        let sent = expression.as_str();
        if let Some(found) = columns(server, sent) {
            seen.set(seen.get() + 1);
            prop_assert!(is_one(&found), "{:?} is sent as {:?}, which is {:?}", text, sent, found);
        }
        if release.is_modern()
            && let Some(found) = tree(server, sent)
        {
            prop_assert!(stays_within(&found), "{:?} is sent as {:?}, which is\n{}", text, sent, found);
            if let Some(written) = tree(server, &text) {
                prop_assert_eq!(found, written, "{:?} is sent as {:?}", text, sent);
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&texts(), property).unwrap();
    assert!(seen.get() >= LEAST, "{} takes {} of {TEXTS} texts", release.name(), seen.get());
}
