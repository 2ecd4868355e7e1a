//! Comments and messages cite pages of `docs`, their numbered sections and the traps of ClickHouse: each citation leads to a page, a heading or a
//! row that exists.
//!
//! These forms are known:
//! - `docs/PAGE.md`, also with a section (`docs/PAGE.md, §N`), or with a trap (`docs/clickhouse-behaviour.md, TN`);
//! - `design §N` for `docs/design.md`;
//! - `facts file, §N` and `facts file, TN` for `docs/clickhouse-behaviour.md`.

use std::path::Path;

use super::messages::sources;
use super::{path, text};

const DESIGN: &str = "docs/design.md";
const BEHAVIOUR: &str = "docs/clickhouse-behaviour.md";

/// A text in one line, without the signs at the beginning of lines of comments.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("//").trim_start_matches(['/', '!']));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The page that a text ends with, by its full name or another one.
fn page_at_the_end(text: &str) -> Option<&str> {
    let text = text.trim_end().trim_end_matches(',');
    if text.ends_with("facts file") {
        return Some(BEHAVIOUR);
    }
    if text.ends_with("design") && !text.ends_with("/design") {
        return Some(DESIGN);
    }
    let at = text.rfind("docs/")?;
    Some(&text[at..]).filter(|name| is_a_page(name))
}

fn is_a_page(name: &str) -> bool {
    let page = name.strip_prefix("docs/").and_then(|name| name.strip_suffix(".md"));
    page.is_some_and(|page| !page.is_empty() && page.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
}

/// Returns what is wrong with a citation of a section: `before§after`.
fn section_fault(before: &str, after: &str) -> Option<String> {
    let Some(number) = number(after) else { return Some("§ without a number".to_owned()) };
    let Some(page) = page_at_the_end(before) else { return Some(format!("§{number} of no page")) };
    let exists = text(page).lines().any(|line| line.starts_with(&format!("## {number}. ")));
    (!exists).then(|| format!("{page} has no section {number}"))
}

/// Returns what is wrong with what follows a page or its other name, but for sections.
fn page_fault(page: &str, after: &str) -> Option<String> {
    if !path(page).exists() {
        return Some(format!("there is no {page}"));
    }
    let trap = after.strip_prefix(", T").and_then(number)?;
    let exists = text(page).lines().any(|line| line.starts_with(&format!("| T{trap} |")));
    (!exists).then(|| format!("{page} has no trap T{trap}"))
}

/// The faults of all citations of a text, and how many there are.
fn faults(text: &str) -> (usize, Vec<String>) {
    let line = in_one_line(text);
    let (mut count, mut faults) = (0, Vec::new());
    for (at, sign) in line.match_indices('§') {
        count += 1;
        faults.extend(section_fault(&line[..at], &line[at + sign.len()..]));
    }
    for (at, name) in line.match_indices("facts file") {
        count += 1;
        let after = &line[at + name.len()..];
        faults.extend(page_fault(BEHAVIOUR, after));
        if !after.starts_with(", §") && !after.starts_with(", T") {
            faults.push("the facts file without a place in it".to_owned());
        }
    }
    for (at, _) in line.match_indices("docs/") {
        let end = line[at..].find(".md").map(|end| at + end + ".md".len());
        if let Some(end) = end.filter(|&end| is_a_page(&line[at..end])) {
            count += 1;
            faults.extend(page_fault(&line[at..end], &line[end..]));
        }
    }
    (count, faults)
}

#[test]
fn every_citation_in_the_code_names_a_page_and_section_that_exist() {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        sources(&path(folder), &mut files);
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    let mut all = 0;
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned();
        if name == Path::new("tests/docs/citations.rs") {
            continue;
        }
        let (count, faults) = faults(&std::fs::read_to_string(&file).unwrap());
        all += count;
        wrong.extend(faults.into_iter().map(|fault| format!("{}: {fault}", name.display())));
    }
    assert!(all > 20, "only {all} citations were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_citation_of_a_missing_page_or_section_is_found() {
    for wrong in [
        "/// (design §99)",
        "//! As docs/nothing-there.md says.",
        "/// (facts file,\n/// T99)",
        "/// (facts file, §99)",
        "/// The facts file says so.",
        "/// (§3)",
        "/// (docs/design.md, §99)",
        "/// (docs/clickhouse-behaviour.md, T99)",
    ] {
        assert!(!faults(wrong).1.is_empty(), "{wrong}");
    }
    for right in [
        "/// (design §3, I1 and I2)",
        "//! As docs/design.md says.",
        "/// (facts\n/// file, T3)",
        "/// (docs/clickhouse-behaviour.md, §1)",
        "/// (docs/clickhouse-behaviour.md,\n/// T10)",
    ] {
        let (count, faults) = faults(right);
        assert!(count > 0 && faults.is_empty(), "{right}: {faults:?}");
    }
}
