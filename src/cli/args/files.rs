//! Checks of the files and folders that flags name.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::fault::ArgumentFault;

/// Returns the absolute path of a file to read. The file is not opened: it may be a pipe, and a pipe can be read only
/// once.
pub(crate) fn existing_file(flag: &'static str, path: &Path) -> Result<PathBuf, ArgumentFault> {
    let unseen = |source| ArgumentFault::Unseen { flag, path: path.to_owned(), source };
    if fs::metadata(path).map_err(unseen)?.is_dir() {
        return Err(ArgumentFault::NotAFile { flag, path: path.to_owned() });
    }
    std::path::absolute(path).map_err(unseen)
}

/// Returns the absolute path of a file to write. The file may be absent; its folder must exist.
pub(crate) fn new_file(flag: &'static str, path: &Path) -> Result<PathBuf, ArgumentFault> {
    let unseen = |source| ArgumentFault::Unseen { flag, path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(unseen)?;
    if absolute.is_dir() {
        return Err(ArgumentFault::NotAFile { flag, path: path.to_owned() });
    }
    if let Some(folder) = absolute.parent() {
        fs::metadata(folder).map_err(unseen)?;
    }
    Ok(absolute)
}

/// Returns the absolute path of a file to create. Fails if something stands there.
pub(crate) fn absent_file(flag: &'static str, path: &Path) -> Result<PathBuf, ArgumentFault> {
    let absolute = new_file(flag, path)?;
    if absolute.exists() {
        return Err(ArgumentFault::Exists { flag, path: path.to_owned() });
    }
    Ok(absolute)
}

/// Returns the absolute path of a folder, or of a folder that can be created later.
pub(crate) fn folder_or_nothing(flag: &'static str, path: &Path) -> Result<PathBuf, ArgumentFault> {
    let unseen = |source| ArgumentFault::Unseen { flag, path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(ArgumentFault::NotAFolder { flag, path: path.to_owned() }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unseen(error)),
        Ok(_) | Err(_) => std::path::absolute(path).map_err(unseen),
    }
}
