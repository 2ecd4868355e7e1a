//! Names and forms that must not change: those that running tasks have stored, and those that scripts and dashboards read.
//!
//! Each test compares what the program writes with a file in `expected/`. `UPDATE_GOLDEN=1 cargo test --test golden` writes the
//! files anew. Change them only on purpose: tasks that older versions began read these records, and users' scripts read these
//! documents.

mod command_line;
mod exit_codes;
mod facts;
mod hook;
mod local;
mod metrics;
mod names;
mod paths;
mod plans;
mod records;
mod reports;
mod run;
mod web;

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares a text with the committed file of that name, or writes the file.
fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/expected").join(name);
    let found = format!("{}\n", found.trim_end());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).expect("the expected text can be written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let (was, is): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
    assert!(
        expected == found,
        "{name} is not as it was, from line {} on.\n  expected: {}\n  found:    {}\nIf that is on purpose: UPDATE_GOLDEN=1",
        same + 1,
        was.get(same).unwrap_or(&"(the end)"),
        is.get(same).unwrap_or(&"(the end)"),
    );
}

/// Returns the JSON of a value, indented.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("the value has a JSON form")
}

/// Compares the JSON of a stored value with the committed one, and reads the committed one back.
fn check_stored<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    check(name, &json(value));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/expected").join(name);
    let stored = fs::read_to_string(path).expect("the expected text is there");
    let read: T = serde_json::from_str(&stored).expect("the stored form is read");
    assert_eq!(&read, value, "{name} is read as another value");
}
