//! The program has the messages that the troubleshooting page quotes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{path, text};

pub fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false => into.push(path),
        }
    }
}

/// Returns the source of the program, with continued lines joined.
fn texts() -> String {
    let mut files = Vec::new();
    sources(&path("src"), &mut files);
    let mut all = String::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        for line in fs::read_to_string(file).unwrap().lines() {
            match line.trim_start().strip_suffix('\\') {
                Some(begun) => all.push_str(begun),
                None => {
                    all.push_str(line.trim_start());
                    all.push('\n');
                }
            }
        }
    }
    all
}

#[test]
fn the_program_has_every_message_of_the_troubleshooting_page() {
    let page = text("docs/troubleshooting.md");
    let texts = texts();
    let items: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("- **")).collect();
    assert!(items.len() > 15, "{items:?}");
    for item in items {
        let (message, _) = item.split_once("**").unwrap();
        let message = message.replace("\\<", "<");
        assert!(texts.contains(&message), "no message says: {message}");
    }
}

/// docs/commands.md shows findings of `check` in the words of the program.
#[test]
fn the_program_has_every_finding_that_the_page_on_commands_shows() {
    let (page, texts) = (text("docs/commands.md"), texts());
    for words in [
        "the server has no macro",
        ", which the engine of",
        "materialized view ",
        "Copied rows do not reach it, since partitions",
        "a run would fail.",
    ] {
        assert!(page.contains(words), "docs/commands.md does not show {words:?} any more");
        assert!(texts.contains(words), "no message says: {words}");
    }
}
