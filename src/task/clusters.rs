//! `<remote_servers>`: clusters as ClickHouse's own configuration describes them.

use std::collections::BTreeMap;

use super::elements::{Element, ElementPath};
use super::fault::{Notice, Problem};
use super::walk::{Scope, closest};
use super::xml::trim;
use crate::model::{Cluster, Node, Secret, Shard};

/// Native ports of nodes without a port: the original took `<tcp_port>` and `<tcp_port_secure>` of the task.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    secure: u16,
}

/// Returns the clusters in the order written. The list is complete only if no fault was found.
pub(super) fn read(root: &Scope<'_>, servers: &Scope<'_>) -> Vec<Cluster> {
    let ports = Ports { plain: root.port("tcp_port", 9000), secure: root.port("tcp_port_secure", 9440) };
    servers.attributes(&[]);
    servers.no_text();
    let mut clusters = Vec::new();
    let mut lines = BTreeMap::new();
    for scope in servers.children() {
        if let Some(first) = lines.insert(scope.name(), scope.element.line) {
            scope.fault(Problem::Duplicate(first));
            lines.insert(scope.name(), first);
        } else {
            clusters.push(cluster(&scope, ports));
        }
    }
    if clusters.is_empty() {
        servers.fault(Problem::NoClusters);
    }
    clusters
}

fn cluster(scope: &Scope<'_>, ports: Ports) -> Cluster {
    scope.attributes(&[]);
    scope.no_text();
    let mut shards = Vec::new();
    let (mut written_shards, mut written_nodes) = (false, false);
    for child in scope.children() {
        // ClickHouse compares only the beginning of these names: <shard_1> is a shard.
        if child.name().starts_with("shard") {
            written_shards = true;
            shards.push(shard(&child, ports));
        } else if child.name().starts_with("node") {
            written_nodes = true;
            child.only(ElementPath::Node);
            shards.push(Shard {
                weight: child.number32("weight", 0, 1),
                internal_replication: child.boolean("internal_replication").unwrap_or(false),
                replicas: vec![node(&child, ports)],
            });
        } else if let Some(why) = Element::no_effect(ElementPath::Cluster, child.name()) {
            child.warn(Notice::NoEffect(why));
        } else {
            let suggestion = closest(child.name(), &Element::names(ElementPath::Cluster));
            child.fault(Problem::Unknown { parent: "cluster", suggestion });
        }
    }
    let cluster = Cluster { name: scope.name().to_owned(), shards };
    if cluster.shards.is_empty() {
        scope.fault(Problem::NoShards);
    } else if cluster.total_weight() == 0 {
        scope.fault(Problem::NoWeight);
    }
    if written_shards && written_nodes {
        scope.fault(Problem::ShardsAndNodes);
    }
    cluster
}

fn shard(scope: &Scope<'_>, ports: Ports) -> Shard {
    scope.attributes(ElementPath::Shard.attributes());
    scope.no_text();
    let mut replicas = Vec::new();
    for child in scope.children() {
        let known = Element::names(ElementPath::Shard);
        if child.name().starts_with("replica") {
            child.only(ElementPath::Replica);
            replicas.push(node(&child, ports));
        } else if let Some(why) = Element::no_effect(ElementPath::Shard, child.name()) {
            child.warn(Notice::NoEffect(why));
        } else if !known.contains(&child.name()) {
            child.fault(Problem::Unknown { parent: "shard", suggestion: closest(child.name(), &known) });
        }
    }
    if replicas.is_empty() {
        scope.fault(Problem::NoReplicas);
    }
    Shard {
        weight: scope.number32("weight", 0, 1),
        internal_replication: scope.boolean("internal_replication").unwrap_or(false),
        replicas,
    }
}

fn node(scope: &Scope<'_>, ports: Ports) -> Node {
    let secure = scope.boolean("secure").unwrap_or(false);
    let (port, http_port) = if secure { (ports.secure, 8443) } else { (ports.plain, 8123) };
    Node {
        host: host(scope),
        port: scope.port("port", port),
        http_port: scope.port("http_port", http_port),
        user: scope.optional("user").unwrap_or_else(|| "default".to_owned()),
        password: password(scope),
        secure,
        default_database: scope.optional("default_database"),
        named_collection: scope.optional("named_collection"),
    }
}

/// Returns a host's name or address. `remote()` would take a list or a pattern for several nodes, and a URL for more.
pub(super) fn host(scope: &Scope<'_>) -> String {
    let Some(text) = scope.required("host") else { return String::new() };
    let host = text.trimmed();
    if !host.chars().all(|c| c.is_alphanumeric() || "-._:[]".contains(c)) {
        text.fault(Problem::Host(text.shown()));
    }
    host.to_owned()
}

/// Returns the password. Blanks of a written password count, as in the original; a file's final line feed does not.
fn password(scope: &Scope<'_>) -> Secret {
    let file = scope.child("password_file");
    let Some(written) = scope.child("password") else {
        return file.and_then(|file| secret_file(&file)).unwrap_or_default();
    };
    if file.is_some() {
        written.fault(Problem::TwoSources("<password_file>"));
        return Secret::default();
    }
    match written.own_text() {
        Some(text) if !trim(&text.raw).is_empty() => Secret::new(text.raw),
        _ => Secret::default(),
    }
}

fn secret_file(scope: &Scope<'_>) -> Option<Secret> {
    let text = scope.own_text()?;
    let path = text.trimmed();
    if path.is_empty() {
        scope.fault(Problem::Empty);
        return None;
    }
    scope.file(path).map(|content| Secret::new(content.trim_end_matches(['\r', '\n'])))
}
