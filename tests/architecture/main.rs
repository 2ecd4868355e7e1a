//! The structure of the source, read from its own imports: which room may import which, no circle between files, and the size of
//! files. Clippy holds functions to 70 lines (`clippy.toml`).

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use imports::{imports, rust_files, sources};

/// The rooms of `src/`, with those that each imports. A room imports only rooms that stand above it.
const ROOMS: [(&str, &[&str]); 17] = [
    ("runtime", &[]),
    ("model", &[]),
    ("task", &["model"]),
    ("sql", &["model"]),
    ("protocol", &["model"]),
    ("plan", &["model", "sql", "protocol"]),
    ("coordinator", &["model", "task"]),
    ("client", &["model", "task", "sql"]),
    ("ledger", &["runtime", "model", "task", "protocol", "plan", "coordinator", "client"]),
    ("nodes", &["model", "task", "sql", "protocol", "plan", "client"]),
    ("planning", &["runtime", "model", "task", "sql", "protocol", "plan", "coordinator", "client", "ledger", "nodes"]),
    (
        "worker",
        &[
            "runtime",
            "model",
            "task",
            "sql",
            "protocol",
            "plan",
            "coordinator",
            "client",
            "ledger",
            "nodes",
            "planning",
        ],
    ),
    (
        "operations",
        &[
            "runtime",
            "model",
            "task",
            "sql",
            "protocol",
            "plan",
            "coordinator",
            "client",
            "ledger",
            "nodes",
            "planning",
            "worker",
        ],
    ),
    (
        "report",
        &[
            "model",
            "task",
            "sql",
            "protocol",
            "plan",
            "coordinator",
            "client",
            "ledger",
            "planning",
            "worker",
            "operations",
        ],
    ),
    ("web", &["model", "task", "coordinator", "client", "ledger", "planning", "worker", "operations", "report"]),
    (
        "cli",
        &[
            "runtime",
            "model",
            "task",
            "protocol",
            "plan",
            "coordinator",
            "client",
            "ledger",
            "planning",
            "worker",
            "operations",
            "report",
            "web",
        ],
    ),
    ("fuzzed", &["task", "sql", "protocol", "plan", "client", "ledger", "report"]),
];

/// No file is longer.
const LONGEST_FILE: usize = 450;

#[test]
fn each_room_imports_exactly_the_rooms_that_the_table_lists() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for import in imports(&sources()) {
        let [from, to] = [import.from, import.to].map(|module| module[0].clone());
        if from != to {
            found.entry(from).or_default().insert(to);
        }
    }
    for (room, allowed) in ROOMS {
        let found = found.remove(room).unwrap_or_default();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(found, allowed, "what {room} imports, and what the table of this test allows");
    }
    assert_eq!(found, BTreeMap::new(), "rooms that the table lacks");
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        for name in *allowed {
            let above = ROOMS[..at].iter().any(|(other, _)| other == name);
            assert!(above, "{room} may import {name}, which does not stand above it");
        }
    }
}

#[test]
fn lib_rs_lists_the_rooms_in_the_order_of_the_table() {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let listed: Vec<&str> =
        text.lines().filter_map(|line| Some(line.strip_prefix("//! - [`")?.split_once('`')?.0)).collect();
    assert_eq!(listed, ROOMS.map(|(room, _)| room));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let imports = imports(&sources);
    let mut graph: DiGraphMap<&str, ()> = DiGraphMap::new();
    let names: BTreeMap<&[String], &str> =
        sources.iter().map(|source| (source.module.as_slice(), source.file.as_str())).collect();
    for import in &imports {
        if import.from != import.to {
            graph.add_edge(names[import.from.as_slice()], names[import.to.as_slice()], ());
        }
    }
    let circles: Vec<Vec<&str>> = tarjan_scc(&graph).into_iter().filter(|files| files.len() > 1).collect();
    assert_eq!(circles, Vec::<Vec<&str>>::new());
}

#[test]
fn no_file_has_more_than_450_lines() {
    let too_long: Vec<(PathBuf, usize)> = ["src", "tests", "benches", "examples"]
        .into_iter()
        .flat_map(|folder| rust_files(Path::new(folder)))
        .map(|file| (file.clone(), fs::read_to_string(&file).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .collect();
    assert_eq!(too_long, Vec::new(), "longer than {LONGEST_FILE} lines");
}
