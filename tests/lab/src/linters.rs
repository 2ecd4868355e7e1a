//! Linters for files of other programs: systemd, Compose, Kubernetes. They are installed if they are missing, as the servers are.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;
use crate::install::{find, run};
use crate::wheels::cache;

/// This package contains the schemas of Kubernetes' objects.
const KUBERNETES: &str = "kubernetes-validate==1.37.0";

/// A program of a Debian package, which is installed when the program is absent. Takes root or a `sudo` that asks nothing.
///
/// # Errors
/// [`LabError::Missing`] when it may not install, [`LabError::Install`] with apt's output.
pub fn debian(program: &str, package: &str) -> Result<PathBuf, LabError> {
    let missing = || LabError::Missing {
        program: program.to_owned(),
        advice: format!("it comes with the Debian package {package}"),
    };
    let there = || find(program).ok_or_else(missing);
    if let Ok(path) = there() {
        return Ok(path);
    }
    let path = std::env::temp_dir().join("clickhouse-copier-lab-install.lock");
    let _lock = locked(&path)?;
    if let Ok(path) = there() {
        return Ok(path);
    }
    find("apt-get").ok_or_else(missing)?;
    let is_root = nix::unistd::geteuid().is_root();
    let command = || {
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        command
            .args(if is_root { &[][..] } else { &["-n", "env"] })
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    run(command().arg("update"))?;
    run(command().args(["install", "-y", "--no-install-recommends", package]))?;
    there()
}

/// A command that validates files with objects of Kubernetes, fetched from PyPI once and kept in the user's cache (120 MB).
///
/// # Errors
/// [`LabError::Missing`] without Python or pip, [`LabError::Install`] with pip's output, [`LabError::File`].
pub fn kubernetes_validate() -> Result<Command, LabError> {
    let missing = || LabError::Missing {
        program: "python3".to_owned(),
        advice: format!("Python 3.9 or later with pip is needed, to fetch {KUBERNETES}"),
    };
    let python = find("python3").ok_or_else(missing)?;
    let cache = cache();
    let folder = cache.join(KUBERNETES.replace("==", "-"));
    if !folder.is_dir() {
        fs::create_dir_all(&cache).map_err(failed("create", &cache))?;
        let _lock = locked(&cache.join("install.lock"))?;
        if !folder.is_dir() {
            // Renamed when it is complete, so that a file with the final name can be used.
            let new = tempfile::tempdir_in(&cache).map_err(failed("create a folder in", &cache))?;
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--target"]);
            run(pip.arg(new.path()).arg(KUBERNETES))?;
            fs::rename(new.path(), &folder).map_err(failed("rename", new.path()))?;
        }
    }
    let mut command = Command::new(python);
    command.env("PYTHONPATH", folder).args(["-m", "kubernetes_validate"]);
    Ok(command)
}

/// A lock: one process installs, and the others wait. It is released when this is dropped.
fn locked(path: &Path) -> Result<fs::File, LabError> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed("open", path))?;
    lock.lock().map_err(failed("lock", path))?;
    Ok(lock)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LabError + use<> {
    let path = path.to_owned();
    move |source| LabError::File { action, path, source }
}
