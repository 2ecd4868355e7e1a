//! The tables of flags in docs/commands.md and docs/migration-from-the-original.md match the command line.

use std::collections::{BTreeMap, BTreeSet};

use super::{documents, text};

/// The long flags of the program with their other names, by verb. Those of `run` need no verb.
fn flags() -> BTreeMap<String, BTreeSet<String>> {
    let mut line = clickhouse_copier::cli::command();
    line.build();
    let mut all = BTreeMap::new();
    for verb in line.get_subcommands() {
        let arguments = verb.get_arguments().filter(|argument| argument.get_id() != "help");
        let names = arguments.flat_map(|argument| {
            let others = argument.get_visible_aliases().unwrap_or_default();
            argument.get_long().into_iter().chain(others).map(|name| format!("--{name}")).collect::<Vec<_>>()
        });
        all.insert(verb.get_name().to_owned(), names.collect());
    }
    all
}

/// Returns everything that looks like a long flag.
fn mentioned(text: &str) -> BTreeSet<String> {
    let begins =
        text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(|c: char| c == '-' || c.is_alphanumeric()));
    let words = begins.map(|(at, _)| {
        let rest = &text[at + 2..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(rest.len());
        format!("--{}", rest[..end].trim_end_matches('-'))
    });
    words.filter(|word| word.len() > 3).collect()
}

/// The section "Flags" of a page.
fn section_on_flags(page: &str) -> String {
    let text = text(page);
    let (_, section) = text.split_once("\n## Flags\n").unwrap_or_else(|| panic!("{page} has a section on flags"));
    section.split("\n## ").next().unwrap().to_owned()
}

/// The rows of its tables: the first cell, and the rest.
fn rows(section: &str) -> Vec<(&str, &str)> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter(|(first, _)| first.contains('`')).collect()
}

#[test]
fn flags_of_the_original_are_flags_of_run() {
    let (flags, section) = (flags(), section_on_flags("docs/migration-from-the-original.md"));
    let rows = rows(&section);
    assert!(rows.len() > 8, "{rows:?}");
    for (first, _) in rows {
        for flag in mentioned(first) {
            assert!(flags["run"].contains(&flag), "there is no flag {flag}");
        }
    }
}

#[test]
fn the_table_of_flags_lists_exactly_the_flags_of_the_program() {
    let flags = flags();
    let section = section_on_flags("docs/commands.md");
    let mut documented = BTreeSet::new();
    for (first, rest) in rows(&section) {
        // A row lists a verb with its flags, or flags of `run`.
        let verb = flags.keys().find(|verb| first.starts_with(&format!("`{verb}`")));
        let known = &flags[verb.map_or("run", String::as_str)];
        let named = mentioned(&if verb.is_some() { format!("{first} {rest}") } else { first.to_owned() });
        for flag in &named {
            assert!(known.contains(flag), "{first}: there is no flag {flag}");
            documented.insert((verb.cloned().unwrap_or("run".into()), flag.clone()));
        }
    }
    // Flags that all verbs share are listed once.
    let shared = &flags["run"];
    for (verb, names) in &flags {
        assert!(section.contains(&format!("`{verb}`")), "{verb} is not told");
        for flag in names {
            let is_documented = documented.contains(&(verb.clone(), flag.clone()))
                || (shared.contains(flag) && documented.contains(&("run".into(), flag.clone())));
            assert!(is_documented, "the table has no {flag} of {verb}");
        }
    }
}

/// Flags of cargo and of the benchmarks.
const OTHERS: [&str; 15] = [
    "--servers",
    "--stay",
    "--data-binary",
    "--release",
    "--bins",
    "--example",
    "--workspace",
    "--bench",
    "--test",
    "--case",
    "--profile",
    "--pieces",
    "--workers",
    "--lib",
    "--nocapture",
];

#[test]
fn documents_mention_only_flags_that_exist() {
    let flags = flags();
    let all: BTreeSet<&String> = flags.values().flatten().collect();
    let drill = text("examples/restore-drill.sh");
    let of_drill = mentioned(drill.split("set -euo").next().unwrap());
    for (file, text) in documents() {
        // Lines of tables and comments contain hyphens too.
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("| ---") && !line.starts_with("<!--"))
            .collect::<Vec<_>>()
            .join("\n");
        for flag in mentioned(&text) {
            let word = flag.as_str();
            let known = all.contains(&flag) || of_drill.contains(&flag) || ["--help", "--version"].contains(&word);
            let known = known || OTHERS.contains(&word);
            assert!(known, "{file}: there is no flag {flag}");
        }
    }
}

/// The help of every verb has an example, and each example is a valid command line.
#[test]
fn examples_in_the_help_are_valid_command_lines() {
    let mut line = clickhouse_copier::cli::command();
    line.build();
    let mut count = 0;
    for verb in line.clone().get_subcommands() {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> =
            help.lines().map(str::trim).filter(|line| line.starts_with("clickhouse-copier ")).collect();
        assert!(!examples.is_empty(), "{} has no example", verb.get_name());
        for example in examples {
            let words = example.split(['>', '|']).next().unwrap().replace('\'', "");
            let words: Vec<&str> = words.split_whitespace().collect();
            let read = line.clone().try_get_matches_from(words);
            assert!(read.is_ok(), "{example}: {}", read.unwrap_err());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
