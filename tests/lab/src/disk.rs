//! A small disk for the data of one server: a tmpfs in a mount namespace that only this server's process has. It is gone
//! with the process, its content too; nothing has to be unmounted. Needs root, or a kernel that gives everybody user
//! namespaces (as Debian's does); where neither holds, the server's start fails with what `unshare` said.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{LabError, Server};

const BALLAST: &str = "ballast";
/// The step by which the ballast file grows.
const STEP: usize = 4096;

/// The command line that runs `command` with such a disk on `dir`.
pub(crate) fn on_small_disk(mib: u32, dir: &Path, command: Vec<OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["unshare".into(), "--mount".into()];
    if !nix::unistd::geteuid().is_root() {
        all.push("--map-root-user".into());
    }
    let script = r#"mount -t tmpfs -o "size=$1m" tmpfs "$2" && shift 2 && exec "$@""#;
    all.extend(["sh".into(), "-c".into(), script.into(), "sh".into(), mib.to_string().into(), dir.into()]);
    all.extend(command);
    all
}

/// The ballast file, as a path from outside the server's namespace.
fn ballast(server: &Server, data: &Path) -> Result<PathBuf, LabError> {
    let pid = server.running_pid()?;
    let data = data.strip_prefix("/").unwrap_or(data);
    Ok(Path::new("/proc").join(pid.to_string()).join("root").join(data).join(BALLAST))
}

/// Writes the ballast file until only so many bytes are free.
pub(crate) fn fill(server: &Server, data: &Path, leave: u64) -> Result<(), LabError> {
    let path = ballast(server, data)?;
    let failed = |source| LabError::File { action: "fill", path: path.clone(), source };
    let mut file = File::create(&path).map_err(failed)?;
    let mut size = 0;
    while let Ok(written @ 1..) = file.write(&[1; STEP]) {
        size += written as u64;
    }
    file.set_len(size.saturating_sub(leave)).map_err(failed)
}

/// Deletes the ballast file.
pub(crate) fn free(server: &Server, data: &Path) -> Result<(), LabError> {
    let path = ballast(server, data)?;
    fs::remove_file(&path).map_err(|source| LabError::File { action: "remove", path, source })
}
