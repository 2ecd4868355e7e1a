//! `--task-path`: the path of a task's node in ZooKeeper.

use thiserror::Error;

/// A fault of the path. The text follows "--task-path ".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TaskPathFault {
    /// The path is relative or empty.
    #[error("{0:?} is not absolute: it must begin with '/', as in /clickhouse/copytasks/task1")]
    Relative(String),
    /// The path is `/`.
    #[error("\"/\" is the root: a task needs a node of its own, as in /clickhouse/copytasks/task1")]
    Root,
    /// The path has two slashes in a row.
    #[error("{0:?} has an empty part ('//')")]
    EmptyPart(String),
    /// The path has a part `.` or `..`, which ZooKeeper refuses.
    #[error("{path:?} has a part {part:?}, which ZooKeeper does not allow")]
    DotPart {
        /// The path as typed.
        path: String,
        /// The part.
        part: String,
    },
    /// The path has a control character, or another character that ZooKeeper refuses.
    #[error("{path:?} has the character {character:?}, which ZooKeeper does not allow")]
    Character {
        /// The path as typed.
        path: String,
        /// The character.
        character: char,
    },
}

/// Returns the path in the form that is compared and recorded: absolute, without a slash at the end.
pub(crate) fn normalised(typed: &str) -> Result<String, TaskPathFault> {
    let Some(relative) = typed.strip_prefix('/') else {
        return Err(TaskPathFault::Relative(typed.to_owned()));
    };
    let relative = relative.strip_suffix('/').unwrap_or(relative);
    if relative.is_empty() {
        return Err(TaskPathFault::Root);
    }
    for part in relative.split('/') {
        match part {
            "" => return Err(TaskPathFault::EmptyPart(typed.to_owned())),
            "." | ".." => return Err(TaskPathFault::DotPart { path: typed.to_owned(), part: part.to_owned() }),
            _ => {}
        }
    }
    // These are the ranges that ZooKeeper's PathUtils refuses.
    let refused =
        |c: &char| c.is_control() || ('\u{e000}'..='\u{f8ff}').contains(c) || ('\u{fff0}'..='\u{ffff}').contains(c);
    if let Some(character) = relative.chars().find(refused) {
        return Err(TaskPathFault::Character { path: typed.to_owned(), character });
    }
    Ok(format!("/{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_paths_are_normalised() {
        for (typed, meant) in [
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b.c/d-e", "/a/b.c/d-e"),
            ("/clickhouse/copytasks/über", "/clickhouse/copytasks/über"),
        ] {
            assert_eq!(normalised(typed).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn each_error_in_a_path_is_named() {
        for (typed, words) in [
            ("", "not absolute"),
            ("a/b", "not absolute"),
            ("/", "the root"),
            ("//", "the root"),
            ("/a//b", "empty part"),
            ("/a//", "empty part"),
            ("/a/../b", "\"..\""),
            ("/./b", "\".\""),
            ("/a\n", "'\\n'"),
        ] {
            let fault = normalised(typed).map(|_| ()).unwrap_err().to_string();
            assert!(fault.contains(words), "{typed:?}: {fault}");
            assert!(!fault.contains('\n'), "{fault}");
        }
    }
}
