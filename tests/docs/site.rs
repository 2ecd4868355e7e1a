//! README is short, the site lists every page, and every link has a target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{documents, path, text};

/// The maximal size of README in bytes.
const README_BYTES: usize = 10_000;

#[test]
fn readme_is_short() {
    let bytes = text("README.md").len();
    assert!(
        bytes <= README_BYTES,
        "README.md has {bytes} bytes, and may have {README_BYTES}: move text to a page of docs"
    );
}

#[test]
fn the_site_lists_every_page_once() {
    assert!(text("book.toml").contains("src = \"docs\""), "the site is made of docs");
    let mut listed = BTreeSet::new();
    for link in links(&text("docs/SUMMARY.md")) {
        assert!(listed.insert(format!("docs/{link}")), "SUMMARY.md lists {link} twice");
    }
    let pages = documents().into_iter().map(|(file, _)| file);
    let pages: BTreeSet<String> =
        pages.filter(|file| !["README.md", "docs/SUMMARY.md"].contains(&file.as_str())).collect();
    assert_eq!(listed, pages, "docs/SUMMARY.md lists other pages than there are in docs");
}

/// A text without its fenced blocks of code.
fn without_code(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        if !inside && !fence {
            kept.push_str(line);
            kept.push('\n');
        }
        inside ^= fence;
    }
    kept
}

/// The targets of all links and pictures.
fn links(text: &str) -> Vec<String> {
    let text = without_code(text);
    let of_markdown = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let of_html = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    of_markdown.chain(of_html).map(|(link, _)| link.to_owned()).collect()
}

/// The anchors of all headings, as GitHub and mdBook make them: `## Resharding in place` has `resharding-in-place`, a second one of the same
/// text `resharding-in-place-1`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let text = without_code(text);
    let headings = text.lines().filter(|line| line.trim_start_matches('#').starts_with(' ') && line.starts_with('#'));
    let anchors = headings.map(|heading| {
        let lower = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
    });
    anchors.collect()
}

/// What a text has between backticks, without blocks of code.
fn spans(text: &str) -> Vec<String> {
    without_code(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn files_that_documents_name_exist() {
    let contributing = ("CONTRIBUTING.md".to_owned(), text("CONTRIBUTING.md"));
    let folders = ["src", "tests", "docs", "benches", "examples", "packaging", "task-configs", "fuzz"];
    let mut count = 0;
    for (file, text) in documents().into_iter().chain([contributing]) {
        for span in spans(&text) {
            let is_a_path = span.split_once('/').is_some_and(|(folder, _)| folders.contains(&folder));
            if is_a_path && !span.contains([' ', '…', '<']) {
                count += 1;
                assert!(path(&span).exists(), "{file}: there is no {span}");
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_link_in_the_documents_has_a_target() {
    let others = ["CONTRIBUTING.md", "CHANGELOG.md"].map(|file| (file.to_owned(), text(file)));
    for (file, text) in documents().into_iter().chain(others) {
        let folder = if file.starts_with("docs/") { "docs/" } else { "" };
        for link in links(&text) {
            if link.starts_with("https://") {
                continue;
            }
            let (target, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(target, anchor)| (target, Some(anchor)));
            // The site has the folder docs and nothing else.
            assert!(folder.is_empty() || !target.starts_with(".."), "{file}: {link} leads out of the site");
            let target = if target.is_empty() { file.clone() } else { format!("{folder}{target}") };
            assert!(path(&target).exists(), "{file}: {link}: there is no {target}");
            if let Some(anchor) = anchor {
                let page = fs::read_to_string(path(&target)).unwrap();
                assert!(anchors(&page).contains(anchor), "{file}: {link}: {target} has no such heading");
            }
        }
    }
}
