//! `--report FILE`: whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why there is no report.
#[derive(Debug, Error)]
#[error("cannot write the report to {}", path.display())]
pub(super) struct ReportError {
    path: PathBuf,
    source: io::Error,
}

/// Writes a text to a file, in the place of what was there. Who reads it at the same time sees the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    // In the same folder: a rename does not go from one file system to another.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    written.map_err(|source| {
        // It may not have come into being.
        let _ = fs::remove_file(&unfinished);
        ReportError { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        fs::create_dir(folder.path().join("taken")).unwrap();
        fs::write(folder.path().join("taken/file"), "").unwrap();
        let error = write(&folder.path().join("taken"), "three").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing unfinished stays");
    }
}
