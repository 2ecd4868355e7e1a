//! Nodes of newer releases: the embedded engine chdb in a Python process, behind `modern/front.py`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use crate::addresses::HTTP_PORT;
use crate::clickhouse::write;
use crate::config::accounts;
use crate::{ClickHouse, LabError, LabSpec, install};

/// The front's modules, all from Python's standard library.
const FRONT: [(&str, &str); 7] = [
    ("front.py", include_str!("../modern/front.py")),
    ("engine.py", include_str!("../modern/engine.py")),
    ("serial.py", include_str!("../modern/serial.py")),
    ("runner.py", include_str!("../modern/runner.py")),
    ("frames.py", include_str!("../modern/frames.py")),
    ("http_body.py", include_str!("../modern/http_body.py")),
    ("statement.py", include_str!("../modern/statement.py")),
];

/// What a modern node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// ClickHouse 24.5.1: the newest of these engines that still reaches 18.16 over the native protocol, both ways (24.8 and
    /// later send it settings that it does not know, whatever is set), and the oldest with a server's system tables. Its
    /// `remote()` takes a sharding key. One statement runs at a time, and results are complete before they are sent.
    V24_5,
    /// ClickHouse 26.9.2: statements run in parallel, results and inserts are streams. It cannot speak to 18.16.
    V26_9,
}

impl Release {
    /// The Python package and its version.
    pub(crate) fn package(self) -> (&'static str, &'static str) {
        match self {
            Release::V24_5 => ("chdb", "2.0.4"),
            // The engine of `chdb` 4.4.0, without what that needs for data frames.
            Release::V26_9 => ("chdb-core", "26.9.0"),
        }
    }
}

/// Writes the front and its configuration into `dir`, starts nothing; fetches the engine where it is missing.
///
/// Accounts that are bound to databases are left out: all accounts of the engine have the same grants.
///
/// `authority` is whom the engine trusts when it connects over TLS; the system's authorities without (and always 26.9).
pub(crate) fn prepare(
    release: Release,
    dir: &Path,
    ip: Ipv4Addr,
    spec: &LabSpec,
    authority: Option<&Path>,
) -> Result<ClickHouse, LabError> {
    let (python, packages) = install::modern_engine(release)?;
    let front = dir.join("front");
    fs::create_dir(&front).map_err(|source| LabError::File { action: "create", path: front.clone(), source })?;
    for (name, text) in FRONT {
        write(&front.join(name), text)?;
    }
    let users: BTreeMap<String, serde_json::Value> = accounts(&spec.users)
        .into_iter()
        .filter(|user| user.databases.is_empty())
        .map(|user| (user.name, json!({"password": user.password, "readonly": user.readonly})))
        .collect();
    let config = json!({
        "host": ip.to_string(),
        "port": HTTP_PORT,
        "packages": packages.to_string_lossy(),
        "data": dir.join("data").to_string_lossy(),
        "users": users,
        "serial": release == Release::V24_5,
        "authority": authority,
        "profile": spec.settings,
        "grants": spec.grants,
    });
    let file = dir.join("front.json");
    write(&file, &config.to_string())?;
    let command = vec![python.into(), "-B".into(), front.join("front.py").into(), file.into()];
    Ok(ClickHouse::new("modern node", dir, ip, command, &[]))
}
