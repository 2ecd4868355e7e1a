//! What docs/security.md and docs/limits.md claim, line by line, is shown by tests that are there.

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

#[test]
fn each_claim_names_a_test_that_is_there() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
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
