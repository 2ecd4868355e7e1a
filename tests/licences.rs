//! The dependencies: none is banned by deny.toml, every licence is allowed by it, and docs/licences.md lists all of them.
//!
//! `UPDATE_LICENCES=1 cargo test --test licences` writes that list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

const LIST: &str = "docs/licences.md";
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Packages that are shipped, with version and licence. Needs no network: what was built from is here.
fn shipped() -> BTreeSet<(String, String, String)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", TARGET]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages: BTreeMap<&str, &Value> =
        metadata["packages"].as_array().unwrap().iter().map(|of| (of["id"].as_str().unwrap(), of)).collect();
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|of| (of["id"].as_str().unwrap(), of)).collect();
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let (mut seen, mut open) = (BTreeSet::from([root]), vec![root]);
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            // Build dependencies may become part of the program; test dependencies do not.
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let pkg = dependency["pkg"].as_str().unwrap();
            if kinds.iter().any(|of| of["kind"] != "dev") && seen.insert(pkg) {
                open.push(pkg);
            }
        }
    }
    seen.remove(root);
    let text = |of: &Value| of.as_str().unwrap_or("(none)").to_owned();
    let of = |id| (text(&packages[id]["name"]), text(&packages[id]["version"]), text(&packages[id]["license"]));
    seen.into_iter().map(of).collect()
}

fn allowed() -> Vec<LicenseReq> {
    let deny: toml::Table = fs::read_to_string(path("deny.toml")).unwrap().parse().unwrap();
    let names = deny["licenses"]["allow"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let requirement = |name| Expression::parse(name).unwrap().requirements().next().unwrap().req.clone();
    names.map(requirement).collect()
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed();
    for (name, version, licence) in shipped() {
        let expression = Expression::parse_mode(&licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{name} {version}: {licence}: {error}"));
        let is_allowed = expression.evaluate(|wanted| allowed.contains(wanted));
        assert!(is_allowed, "{name} {version} is under {licence}, which deny.toml does not allow");
    }
}

/// The same checks as `cargo deny check bans sources`, without that program.
#[test]
fn no_dependency_is_banned_and_all_come_from_the_registry() {
    let read = |name: &str| -> toml::Table { fs::read_to_string(path(name)).unwrap().parse().unwrap() };
    let deny = read("deny.toml");
    let banned: Vec<&str> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert!(!banned.is_empty());
    for (name, version, _) in shipped() {
        assert!(!banned.contains(&name.as_str()), "{name} {version} is banned by deny.toml");
    }
    for package in read("Cargo.lock")["package"].as_array().unwrap() {
        // The packages of this repository have none.
        let Some(source) = package.get("source") else { continue };
        let source = source.as_str().unwrap();
        assert!(source.starts_with("registry+") && package.get("checksum").is_some(), "{package:?}");
    }
    let manifest = read("Cargo.toml");
    for section in ["dependencies", "dev-dependencies"] {
        for (name, wanted) in manifest[section].as_table().unwrap() {
            let version = wanted.as_str().or_else(|| wanted.get("version").and_then(toml::Value::as_str));
            assert!(version.is_none_or(|version| !version.contains('*')), "{name} is wanted in any version");
        }
    }
}

#[test]
fn the_list_of_licences_is_up_to_date() {
    let mut text = "# Licences\n\nWritten by `UPDATE_LICENCES=1 cargo test --test licences`. \
                    `deny.toml` says what is allowed.\n\n| package | version | licence |\n| --- | --- | --- |\n"
        .to_owned();
    let packages = shipped();
    assert!(packages.len() > 100, "{}", packages.len());
    for (name, version, licence) in packages {
        writeln!(text, "| {name} | {version} | {licence} |").unwrap();
    }
    if std::env::var_os("UPDATE_LICENCES").is_some() {
        fs::write(path(LIST), &text).unwrap();
    }
    let kept = fs::read_to_string(path(LIST)).unwrap_or_default();
    assert!(kept == text, "{LIST} is old: UPDATE_LICENCES=1 cargo test --test licences");
}
