//! The programs: where they are, and fetching Debian's packages when they are not there.
//!
//! The packages' own services do not disturb: ClickHouse's listens on 127.0.0.1 only, ZooKeeper's is another package.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{LabError, Release};

const PACKAGES: [&str; 4] = ["clickhouse-server", "clickhouse-client", "clickhouse-tools", "zookeeper"];
const BROWSER: [&str; 1] = ["chromium-headless-shell"];
const COPIER: &str = "clickhouse-copier";
/// Its manifest names the other jars that it needs.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";
/// Logs to stderr; ZooKeeper's package leaves the choice of a logger to its start script.
const LOGGER_JAR: &str = "/usr/share/java/slf4j-simple.jar";
/// What its TLS needs besides and its manifest does not name; comes with it.
const CODEC_JAR: &str = "/usr/share/java/netty-codec.jar";

/// Installs the Debian packages clickhouse-server, clickhouse-client, clickhouse-tools and zookeeper when one of their
/// programs is absent; returns at once when all are there. Takes root or a `sudo` that asks nothing. Of several
/// laboratories that start at once, one installs and the others wait. [`crate::Lab::start`] calls this.
///
/// # Errors
/// [`LabError::Missing`] when it may not install, [`LabError::Install`] with apt's output, [`LabError::File`].
pub fn install_missing() -> Result<(), LabError> {
    install(&PACKAGES, missing)
}

/// A browser without a window, for tests of pages: Debian's package chromium-headless-shell, installed as
/// [`install_missing`] does.
///
/// # Errors
/// As [`install_missing`].
pub fn browser() -> Result<PathBuf, LabError> {
    install(&BROWSER, || find(BROWSER[0]).is_none().then(|| BROWSER[0].to_owned()))?;
    find(BROWSER[0]).ok_or_else(|| LabError::Missing {
        program: BROWSER[0].to_owned(),
        advice: "it comes with the Debian package of that name".to_owned(),
    })
}

/// Installs packages when `missing` names a program that is absent.
fn install(packages: &[&str], missing: impl Fn() -> Option<String>) -> Result<(), LabError> {
    if missing().is_none() {
        return Ok(());
    }
    let path = env::temp_dir().join("clickhouse-copier-lab-install.lock");
    let failed = |source| LabError::File { action: "lock", path: path.clone(), source };
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    lock.lock().map_err(failed)?; // released when it is closed at the end
    let Some(program) = missing() else { return Ok(()) };

    let is_root = nix::unistd::geteuid().is_root();
    let apt_get = find("apt-get");
    let sudo = find("sudo").filter(|_| !is_root);
    let (Some(apt_get), true) = (apt_get, is_root || sudo.is_some()) else {
        let advice = format!("install the Debian packages {}", packages.join(", "));
        return Err(LabError::Missing { program, advice });
    };
    let apt = |arguments: &[&str]| {
        let mut command = match &sudo {
            Some(sudo) => Command::new(sudo),
            None => Command::new("env"),
        };
        if sudo.is_some() {
            command.args(["-n", "env"]);
        }
        command.arg("DEBIAN_FRONTEND=noninteractive").arg(&apt_get).args(arguments);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())?;
    match missing() {
        None => Ok(()),
        Some(program) => {
            let advice = format!("it is not there even though {} were installed", packages.join(", "));
            Err(LabError::Missing { program, advice })
        }
    }
}

/// The original `clickhouse-copier`, to compare with.
///
/// # Errors
/// [`LabError::Missing`].
pub fn original_copier() -> Result<PathBuf, LabError> {
    // Not through PATH: ours has the same name and may stand there.
    let path = Path::new("/usr/bin").join(COPIER);
    if path.is_file() { Ok(path) } else { Err(not_there(path.display())) }
}

/// `python3`, and a folder with the embedded engine: fetched from PyPI once and kept in the user's cache, 0.5 GB.
///
/// # Errors
/// [`LabError::Missing`] without Python or pip, [`LabError::Install`] with pip's output, [`LabError::File`].
pub(crate) fn modern_engine(release: Release) -> Result<(PathBuf, PathBuf), LabError> {
    let (name, version) = release.package();
    let advice = || format!("the modern nodes need Python 3.9 or later with pip, to fetch {name} {version}");
    let missing = |program: &str| LabError::Missing { program: program.to_owned(), advice: advice() };
    let python = find("python3").ok_or_else(|| missing("python3"))?;
    let cache = cache();
    let engine = cache.join(format!("{name}-{version}-with-frames"));
    if engine.is_dir() {
        return Ok((python, engine));
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
    if engine.is_dir() {
        return Ok((python, engine));
    }
    let mut pip = Command::new(&python);
    run(pip.args(["-m", "pip", "--version"])).map_err(|_| missing("pip (python3 -m pip)"))?;
    // Renamed when it is complete: what is there under its name can be used.
    let new = tempfile::tempdir_in(&cache).map_err(failed("create a folder in", &cache))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps", "--target"]);
    run(pip.arg(new.path()).arg(format!("{name}=={version}")).args(FRAMES))?;
    fs::rename(new.path(), &engine).map_err(failed("rename", new.path()))?;
    Ok((python, engine))
}

/// What the front needs to speak ClickHouse's own framing.
const FRAMES: [&str; 2] = ["lz4==4.4.5", "clickhouse-cityhash==1.0.2.6"];

/// The folder that keeps what was fetched.
pub(crate) fn cache() -> PathBuf {
    let named = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let user = || named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
    user().unwrap_or_else(env::temp_dir).join("clickhouse-copier-lab")
}

/// The server's command line without its options: the binary named by `CLICKHOUSE_BIN` or a `clickhouse` on PATH, with
/// `server`; otherwise Debian's `clickhouse-server`.
pub(crate) fn clickhouse_server() -> Result<Vec<OsString>, LabError> {
    if let Some(newer) = env::var_os("CLICKHOUSE_BIN").filter(|path| !path.is_empty()) {
        return Ok(vec![newer, "server".into()]);
    }
    if let Some(newer) = find("clickhouse") {
        return Ok(vec![newer.into(), "server".into()]);
    }
    let debian = find("clickhouse-server").ok_or_else(|| not_there("clickhouse-server"))?;
    Ok(vec![debian.into()])
}

/// `java` and ZooKeeper's class path.
pub(crate) fn zookeeper() -> Result<(OsString, OsString), LabError> {
    let java = find("java").ok_or_else(|| not_there("java"))?;
    Ok((java.into(), format!("{ZOOKEEPER_JAR}:{LOGGER_JAR}:{CODEC_JAR}").into()))
}

/// The first thing that a laboratory needs and that is not there.
fn missing() -> Option<String> {
    if let Err(LabError::Missing { program, .. }) = clickhouse_server() {
        return Some(program);
    }
    let jar = [ZOOKEEPER_JAR, LOGGER_JAR].into_iter().find(|jar| !Path::new(jar).is_file());
    let program = || ["java", COPIER].into_iter().find(|program| find(program).is_none());
    jar.or_else(program).map(str::to_owned)
}

fn not_there(program: impl std::fmt::Display) -> LabError {
    let advice = format!("it comes with the Debian packages {}", PACKAGES.join(", "));
    LabError::Missing { program: program.to_string(), advice }
}

/// Looks on PATH and where Debian puts servers, which is not on everybody's PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub(crate) fn run(command: &mut Command) -> Result<(), LabError> {
    let shown = format!("{command:?}");
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat(),
        Err(e) => e.to_string(),
    };
    Err(LabError::Install { command: shown, output })
}
