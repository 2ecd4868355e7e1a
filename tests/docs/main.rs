//! The documents match the program (messages, elements, flags, files) and the code (citations), and their links lead somewhere. `tests/it/documents/mod.rs`
//! runs their commands.

mod citations;
mod claims;
mod files;
mod flags;
mod messages;
mod reference;
mod site;

use std::fs;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// README and all of `docs/`, by their names.
fn documents() -> Vec<(String, String)> {
    let mut files = vec!["README.md".to_owned()];
    for entry in fs::read_dir(path("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            files.push(format!("docs/{name}"));
        }
    }
    files.sort();
    files.into_iter().map(|file| (file.clone(), text(&file))).collect()
}
