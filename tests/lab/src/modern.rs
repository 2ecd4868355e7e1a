//! A node of ClickHouse 26.9: the embedded engine chdb in a Python process, behind `modern/front.py`.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use crate::addresses::HTTP_PORT;
use crate::clickhouse::write;
use crate::config::accounts;
use crate::{ClickHouse, LabError, User, install};

/// The front's modules, all from Python's standard library.
const FRONT: [(&str, &str); 4] = [
    ("front.py", include_str!("../modern/front.py")),
    ("engine.py", include_str!("../modern/engine.py")),
    ("http_body.py", include_str!("../modern/http_body.py")),
    ("statement.py", include_str!("../modern/statement.py")),
];

/// Writes the front and its configuration into `dir`, starts nothing; fetches the engine where it is missing.
///
/// Accounts that are bound to databases are left out: the engine has no grants.
pub(crate) fn prepare(dir: &Path, ip: Ipv4Addr, users: &[User]) -> Result<ClickHouse, LabError> {
    let (python, packages) = install::modern_engine()?;
    let front = dir.join("front");
    fs::create_dir(&front).map_err(|source| LabError::File { action: "create", path: front.clone(), source })?;
    for (name, text) in FRONT {
        write(&front.join(name), text)?;
    }
    let users: BTreeMap<String, serde_json::Value> = accounts(users)
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
    });
    let file = dir.join("front.json");
    write(&file, &config.to_string())?;
    let command = vec![python.into(), "-B".into(), front.join("front.py").into(), file.into()];
    Ok(ClickHouse::new("modern node", dir, ip, command, &[]))
}
