//! Modern servers from PyPI: packages of the embedded engine chdb hold the whole server. They are fetched once, pinned, and
//! kept in the user's cache.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clickhouse::write;
use crate::install::{find, install, run};
use crate::{LabError, Release};

/// What runs the library's server, and what makes a server of 26.9's clickhouse-local.
const SERVE: &str = include_str!("../launchers/serve.py");
const LISTEN: &str = include_str!("../launchers/listen.py");
/// The exported function that is `clickhouse-server`'s main.
const ENTRY: &str = "_Z25mainEntryClickHouseServeriPPc";

/// Without it the process that is started is another's parent, which is not frozen with it.
const NO_WATCHDOG: &str = "CLICKHOUSE_WATCHDOG_ENABLE=0";

/// A package that holds a server.
struct Wheel {
    name: &'static str,
    version: &'static str,
    /// The size of the download in MB.
    download: u32,
    /// The size in the cache in MB.
    unpacked: u32,
}

fn wheel(release: Release) -> Wheel {
    match release {
        Release::V24_8 => Wheel { name: "chdb", version: "3.2.0", download: 140, unpacked: 610 },
        Release::V26_9 => Wheel { name: "chdb-core", version: "26.9.0", download: 182, unpacked: 570 },
        // 18.16 is Debian's and is not asked for here.
        Release::V25_8 | Release::V18_16 => Wheel { name: "chdb", version: "3.7.2", download: 179, unpacked: 880 },
    }
}

/// The command line of a modern server whose files are in `dir`, which has a `config.xml`. Fetches what is missing.
///
/// # Errors
/// [`LabError::Missing`] without Python or pip, [`LabError::Install`] with pip's output, [`LabError::File`].
pub(crate) fn server(release: Release, dir: &Path) -> Result<Vec<OsString>, LabError> {
    let mut config = OsString::from("--config-file=");
    config.push(dir.join("config.xml"));
    if release == Release::V25_8
        && let Some(binary) = env::var_os("CLICKHOUSE_BIN").filter(|path| !path.is_empty())
    {
        return Ok(vec!["env".into(), NO_WATCHDOG.into(), binary, "server".into(), config]);
    }
    let (python, packages) = fetched(release)?;
    let launcher = |name: &str, text| {
        let path = dir.join(name);
        write(&path, text).map(|()| path)
    };
    let mut command: Vec<OsString> = vec!["env".into(), NO_WATCHDOG.into(), python.into(), "-B".into()];
    if release.is_whole() {
        let launcher = launcher("serve.py", SERVE)?;
        command.extend([launcher.into(), library(&packages)?.into(), ENTRY.into(), config]);
    } else {
        command.extend([launcher("listen.py", LISTEN)?.into(), packages.into(), dir.into()]);
    }
    Ok(command)
}

/// Python, and the folder with the unpacked package.
fn fetched(release: Release) -> Result<(PathBuf, PathBuf), LabError> {
    let wheel = wheel(release);
    let python = python()?;
    let cache = cache();
    let packages = cache.join(format!("{}-{}", wheel.name, wheel.version));
    if packages.is_dir() {
        return Ok((python, packages));
    }
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| LabError::File { action, path, source }
    };
    fs::create_dir_all(&cache).map_err(failed("create", &cache))?;
    let path = cache.join("install.lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let lock = lock.map_err(failed("open", &path))?;
    lock.lock().map_err(failed("lock", &path))?; // released when it is closed at the end
    if packages.is_dir() {
        return Ok((python, packages));
    }
    let Wheel { name, version, download, unpacked } = wheel;
    let release = release.name();
    eprintln!(
        "Fetching ClickHouse {release} from PyPI ({name} {version}): {download} MB, {unpacked} MB in {}",
        cache.display()
    );
    // Renamed when it is complete, so that a folder with the final name can be used.
    let new = tempfile::tempdir_in(&cache).map_err(failed("create a folder in", &cache))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-deps"]);
    run(pip.arg("--target").arg(new.path()).arg(format!("{name}=={version}")))?;
    fs::rename(new.path(), &packages).map_err(failed("rename", new.path()))?;
    Ok((python, packages))
}

/// The library in an unpacked package.
fn library(packages: &Path) -> Result<PathBuf, LabError> {
    let folder = packages.join("chdb");
    let failed = |source| LabError::File { action: "read", path: folder.clone(), source };
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("_chdb") && name.ends_with(".so") {
            return Ok(path);
        }
    }
    let advice = format!("remove {} so that it is fetched again", packages.display());
    Err(LabError::Missing { program: "the library _chdb*.so".to_owned(), advice })
}

/// A Python with pip, as its own binary: a script in its place (as pyenv has) would be a process of its own. Installs
/// Debian's packages python3 and python3-pip where there is none.
fn python() -> Result<PathBuf, LabError> {
    if let Some(python) = python_with_pip() {
        return Ok(python);
    }
    install(&["python3", "python3-pip"], || python_with_pip().is_none().then(|| "python3 with pip".to_owned()))?;
    python_with_pip().ok_or_else(|| LabError::Missing {
        program: "python3 with pip".to_owned(),
        advice: "modern ClickHouse servers are fetched from PyPI with it".to_owned(),
    })
}

fn python_with_pip() -> Option<PathBuf> {
    let candidates = find("python3").into_iter().chain(["/usr/bin/python3".into()]);
    candidates.filter(|path: &PathBuf| path.is_file()).find_map(|path| {
        let script = "import pip, sys; print(sys.executable)";
        let output = Command::new(path).args(["-c", script]).stdin(Stdio::null()).output().ok()?;
        let executable = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !executable.trim().is_empty()).then(|| PathBuf::from(executable.trim()))
    })
}

/// The folder that keeps what was fetched.
pub(crate) fn cache() -> PathBuf {
    let named = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let user = || named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    user().unwrap_or_else(env::temp_dir).join("clickhouse-copier-lab")
}
