//! Finds the programs, and installs Debian's packages if they are missing.
//!
//! The packages' own services do not disturb: ClickHouse's listens on 127.0.0.1 only, ZooKeeper's is another package.

use std::env;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LabError;

/// 18.16 and the original copier.
const CLICKHOUSE: [&str; 3] = ["clickhouse-server", "clickhouse-client", "clickhouse-tools"];
const ZOOKEEPER: [&str; 1] = ["zookeeper"];
const BROWSER: [&str; 1] = ["chromium-headless-shell"];
const COPIER: &str = "clickhouse-copier";
/// Its manifest names the other jars that it needs.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";
/// Logs to stderr; ZooKeeper's package leaves the choice of a logger to its start script.
const LOGGER_JAR: &str = "/usr/share/java/slf4j-simple.jar";
/// A jar that its TLS needs and that its manifest does not name.
const CODEC_JAR: &str = "/usr/share/java/netty-codec.jar";

/// Installs Debian's ClickHouse 18.16 with the original copier when one of its programs is absent; returns at once when all
/// are there. Takes root or a `sudo` that asks nothing. Of several laboratories that start at once, one installs and the
/// others wait. [`crate::Lab::start`] calls this.
///
/// # Errors
/// [`LabError::Missing`] when it may not install, [`LabError::Install`] with apt's output, [`LabError::File`].
pub fn install_clickhouse() -> Result<(), LabError> {
    install(&CLICKHOUSE, || {
        ["clickhouse-server", COPIER].into_iter().find(|name| find(name).is_none()).map(str::to_owned)
    })
}

/// Installs Debian's ZooKeeper as [`install_clickhouse`] does.
///
/// # Errors
/// As [`install_clickhouse`].
pub fn install_zookeeper() -> Result<(), LabError> {
    install(&ZOOKEEPER, || {
        let jar = [ZOOKEEPER_JAR, LOGGER_JAR].into_iter().find(|jar| !Path::new(jar).is_file());
        jar.or_else(|| find("java").is_none().then_some("java")).map(str::to_owned)
    })
}

/// A browser without a window, for tests of pages: Debian's package chromium-headless-shell, installed as
/// [`install_clickhouse`] does.
///
/// # Errors
/// As [`install_clickhouse`].
pub fn browser() -> Result<PathBuf, LabError> {
    install(&BROWSER, || find(BROWSER[0]).is_none().then(|| BROWSER[0].to_owned()))?;
    find(BROWSER[0]).ok_or_else(|| LabError::Missing {
        program: BROWSER[0].to_owned(),
        advice: "it comes with the Debian package of that name".to_owned(),
    })
}

/// Installs packages when `missing` names a program that is absent.
pub(crate) fn install(packages: &[&str], missing: impl Fn() -> Option<String>) -> Result<(), LabError> {
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
    eprintln!("Installing Debian packages: {}", packages.join(", "));
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

/// Debian's `clickhouse-server`, 18.16.
pub(crate) fn clickhouse_server() -> Result<OsString, LabError> {
    Ok(find("clickhouse-server").ok_or_else(|| not_there("clickhouse-server"))?.into())
}

/// `java` and ZooKeeper's class path.
pub(crate) fn zookeeper() -> Result<(OsString, OsString), LabError> {
    let java = find("java").ok_or_else(|| not_there("java"))?;
    Ok((java.into(), format!("{ZOOKEEPER_JAR}:{LOGGER_JAR}:{CODEC_JAR}").into()))
}

fn not_there(program: impl std::fmt::Display) -> LabError {
    let advice = format!("it comes with the Debian packages {}", [&CLICKHOUSE[..], &ZOOKEEPER].concat().join(", "));
    LabError::Missing { program: program.to_string(), advice }
}

/// Searches on PATH, and in the folders where Debian installs servers.
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
