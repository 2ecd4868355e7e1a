//! Each claim of docs/security.md and docs/limits.md names a test that exists. So does each fact of docs/clickhouse-behaviour.md that
//! names a test.

use std::path::Path;

use super::messages::sources;
use super::text;

/// The tables whose last column names tests.
fn claims(file: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut in_table = false;
    let page = text(file);
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        in_table = line.starts_with('|') && (in_table || cells.last() == Some(&"test"));
        if in_table && cells.last() != Some(&"test") && !line.starts_with("| ---") {
            let named = cells.last().into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
            found.push((line.to_owned(), named.map(str::to_owned).collect()));
        }
    }
    found
}

/// All code of the program and of its tests.
fn code() -> String {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

/// Returns the tests that a page cites for its facts: in brackets at the end of an item or a paragraph, or in the last cell of the
/// table of traps.
fn witnesses(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in page.replace("\n- ", "\n\n- ").split("\n\n") {
        let rows = part.lines().filter(|line| line.starts_with("| T"));
        let cells = rows.filter_map(|line| line.trim_end_matches(" |").rsplit(" | ").next());
        let end = part.trim_end().strip_suffix(')').and_then(|part| part.rsplit('(').next());
        for source in cells.chain(end) {
            found.extend(source.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found.retain(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    found
}

#[test]
fn each_fact_about_servers_names_a_test_that_exists() {
    let code = code();
    let witnesses = witnesses(&text("docs/clickhouse-behaviour.md"));
    assert!(witnesses.len() > 60, "{witnesses:?}");
    for test in witnesses {
        assert!(code.contains(&format!("fn {test}(")), "docs/clickhouse-behaviour.md: there is no test {test}");
    }
}

#[test]
fn each_claim_about_security_and_limits_names_a_test_that_exists() {
    let code = code();
    for file in ["docs/security.md", "docs/limits.md"] {
        let claims = claims(file);
        assert!(claims.len() > 10, "{file}: {claims:?}");
        for (line, tests) in claims {
            assert!(!tests.is_empty(), "{file} names no test: {line}");
            for test in tests {
                assert!(code.contains(&format!("fn {test}(")), "{file}: there is no test {test}: {line}");
            }
        }
    }
}
