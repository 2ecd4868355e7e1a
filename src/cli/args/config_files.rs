//! Reads the files of a configuration: the file that `--config` names, and the files that ClickHouse merges into it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure};
use crate::task::{ConfigText, MOST_BYTES, MOST_FILES, in_order, is_piece, merge_folders, read_bounded};

/// Reads all files. The named file comes first; the others follow in the order in which they are merged.
///
/// # Errors
/// Fails if a file or folder exists and cannot be read: it could name another ZooKeeper.
pub(crate) fn read(named: &Path) -> Result<Vec<ConfigText>, Failure> {
    let mut pieces = Vec::new();
    for folder in merge_folders(named) {
        pieces.extend(pieces_of(&folder).map_err(|error| unreadable(&folder, &error))?);
        if pieces.len() > MOST_FILES {
            let line = format!("{} has more than {MOST_FILES} files to be merged", folder.display());
            return Err(Failure::new(Exit::BadInput, line));
        }
    }
    in_order(&mut pieces);
    let first = text(named)
        .map_err(|error| Failure::new(Exit::BadInput, format!("cannot read {}: {error}", named.display())))?;
    let rest = pieces.iter().map(|path| text(path).map_err(|error| unreadable(path, &error)));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn text(path: &Path) -> io::Result<ConfigText> {
    let text = read_bounded(path, MOST_BYTES)?;
    Ok(ConfigText { path: path.display().to_string(), text })
}

/// Returns the files of a folder that are merged. Returns none if the folder does not exist.
fn pieces_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut pieces = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if !is_piece(&path) {
            continue;
        }
        // This follows symbolic links. A link that leads nowhere on this machine is an error: it may lead to a file for
        // the server.
        let kind = std::fs::metadata(&path).map_err(|error| {
            let name = path.file_name().map_or_else(OsString::new, OsString::from);
            io::Error::new(error.kind(), format!("{}: {error}", name.display()))
        })?;
        if kind.is_file() {
            pieces.push(path);
        }
    }
    Ok(pieces)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let line = format!(
        "cannot read {}: {error}. ClickHouse reads it for this configuration; without it the copier could use another ZooKeeper",
        path.display()
    );
    Failure::new(Exit::BadInput, line)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Result<Vec<String>, String> {
        let texts = read(&folder.join("config.xml")).map_err(|failure| failure.to_string())?;
        let shown = |text: ConfigText| text.path[folder.display().to_string().len() + 1..].to_owned();
        Ok(texts.into_iter().map(shown).collect())
    }

    #[test]
    fn configuration_files_are_read_in_the_order_of_clickhouse() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "<clickhouse/>").unwrap();
        write("config.xml");
        assert_eq!(names(folder.path()).unwrap(), ["config.xml"]);
        for name in ["config.d", "conf.d", "keeper.d", "conf.d/folder.xml"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in
            ["config.d/b.xml", "config.d/a.xml", "conf.d/z.yaml", "conf.d/.h.xml", "conf.d/x.bak", "keeper.d/k.xml"]
        {
            write(name);
        }
        write("target");
        symlink("../target", folder.path().join("conf.d/link.xml")).unwrap();
        let all = ["config.xml", "conf.d/link.xml", "conf.d/z.yaml", "config.d/a.xml", "config.d/b.xml"];
        assert_eq!(names(folder.path()).unwrap(), all);

        // A file that cannot be read is an error; it is never left out.
        fs::remove_file(folder.path().join("target")).unwrap();
        let message = names(folder.path()).unwrap_err();
        assert!(message.contains("conf.d: link.xml: No such file"), "{message}");
        fs::remove_file(folder.path().join("conf.d/link.xml")).unwrap();
        fs::write(folder.path().join("conf.d/z.yaml"), [0xff, 0xfe]).unwrap();
        let message = names(folder.path()).unwrap_err();
        assert!(
            message.contains("conf.d/z.yaml: stream did not contain valid UTF-8. ClickHouse reads it"),
            "{message}"
        );
        let large = fs::File::create(folder.path().join("conf.d/z.yaml")).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        assert!(names(folder.path()).unwrap_err().contains("it has more than 16777216 bytes"));
    }
}
