//! Clusters, shards and nodes, as a task names them.

use std::fmt;

use super::Secret;

/// A cluster of a task's `<remote_servers>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Name of the cluster's XML element.
    pub(crate) name: String,
    /// The shards, at least one. Their order decides which slots each of them owns.
    pub shards: Vec<Shard>,
}

/// A shard: nodes that hold the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Number of slots of the sharding key that this shard owns; 1 by default. A shard with 0 slots gets no rows.
    pub weight: u32,
    /// Whether the replicas replicate to each other. If true, rows are written to one replica; if false, to each of
    /// them.
    pub internal_replication: bool,
    /// The replicas, at least one.
    pub replicas: Vec<Node>,
}

/// A ClickHouse server and the account to use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Host name or address.
    pub host: String,
    /// Port of the native protocol, which the servers use among themselves (9000; 9440 with `secure`).
    pub port: u16,
    /// HTTP port, which the copier uses (8123; 8443 with `secure`).
    pub http_port: u16,
    /// User name; `default` if the task gives none.
    pub user: String,
    /// Password; empty if the task gives none.
    pub password: Secret,
    /// Whether both ports use TLS.
    pub secure: bool,
    /// The database of tables that are named without one.
    pub default_database: Option<String>,
    /// The named collection in which other servers keep this server's address and account, so that statements contain
    /// no password. The copier itself uses the account above.
    pub named_collection: Option<String>,
}

impl Cluster {
    /// Returns the number of slots: the sum of the shards' weights.
    pub fn total_weight(&self) -> u64 {
        self.shards.iter().map(|shard| u64::from(shard.weight)).sum()
    }

    /// Returns the slots `[from, to)` that a shard owns (docs/clickhouse-behaviour.md, §8).
    pub(crate) fn slots(&self, shard: usize) -> std::ops::Range<u64> {
        let from: u64 = self.shards[..shard].iter().map(|s| u64::from(s.weight)).sum();
        from..from + u64::from(self.shards[shard].weight)
    }

    /// Returns every node with the index of its shard.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.shards.iter().enumerate().flat_map(|(i, shard)| shard.replicas.iter().map(move |node| (i, node)))
    }
}

impl Node {
    /// Returns a node with this host and defaults otherwise: usual ports, no TLS, the account `default` without a
    /// password.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: 9000,
            http_port: 8123,
            user: "default".into(),
            password: Secret::default(),
            secure: false,
            default_database: None,
            named_collection: None,
        }
    }

    /// Returns `host:port` of the native protocol, with brackets around an IPv6 address. `remote()` takes this form;
    /// records and messages use it as the node's name.
    pub fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// Returns the URL for HTTP requests.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}:{}/", bracketed(&self.host), self.http_port)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(weight: u32) -> Shard {
        Shard { weight, internal_replication: true, replicas: Vec::new() }
    }

    #[test]
    fn the_weight_of_a_shard_is_the_number_of_its_consecutive_slots() {
        let cluster = Cluster { name: "c".into(), shards: vec![shard(2), shard(0), shard(3)] };
        assert_eq!(cluster.total_weight(), 5);
        assert_eq!((cluster.slots(0), cluster.slots(1), cluster.slots(2)), (0..2, 2..2, 2..5));
    }

    #[test]
    fn an_ipv6_address_gets_brackets() {
        let node = Node { port: 9440, http_port: 8443, secure: true, ..Node::new("::1") };
        assert_eq!((node.address().as_str(), node.url().as_str()), ("[::1]:9440", "https://[::1]:8443/"));
    }
}
