//! Clusters, shards and nodes, as a task names them.

use std::fmt;

use super::Secret;

/// A cluster of a task's `<remote_servers>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The element's name.
    pub name: String,
    /// At least one; the order decides which slots a shard owns.
    pub shards: Vec<Shard>,
}

/// A shard: nodes that hold the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// How many slots of the sharding key this shard owns; 1 unless written. 0 means it gets no rows.
    pub weight: u32,
    /// Whether the replicas fetch from each other (then one of them is written to) or not (then each is).
    pub internal_replication: bool,
    /// At least one.
    pub replicas: Vec<Node>,
}

/// A ClickHouse server and the account to use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Host name or address.
    pub host: String,
    /// Port of the native protocol, which the servers use among themselves (9000; 9440 with `secure`).
    pub port: u16,
    /// Port of HTTP, which we use (8123; 8443 with `secure`).
    pub http_port: u16,
    /// `default` unless written.
    pub user: String,
    /// Empty unless written.
    pub password: Secret,
    /// TLS on both ports.
    pub secure: bool,
    /// The database of tables that name none.
    pub default_database: Option<String>,
    /// Under which named collection the servers that exchange rows with this one keep its address and account, so that no
    /// password stands in a statement. We ourselves use the account above.
    pub named_collection: Option<String>,
}

impl Cluster {
    /// Sum of the shards' weights: the number of slots.
    pub fn total_weight(&self) -> u64 {
        self.shards.iter().map(|shard| u64::from(shard.weight)).sum()
    }

    /// The slots `[from, to)` that a shard owns (docs/clickhouse-behaviour.md, §8).
    pub fn slots(&self, shard: usize) -> std::ops::Range<u64> {
        let from: u64 = self.shards[..shard].iter().map(|s| u64::from(s.weight)).sum();
        from..from + u64::from(self.shards[shard].weight)
    }

    /// Every node with the index of its shard.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.shards.iter().enumerate().flat_map(|(i, shard)| shard.replicas.iter().map(move |node| (i, node)))
    }
}

impl Node {
    /// A replica of which nothing is known but its host: usual ports, no TLS, the account `default` without a password.
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

    /// `host:port` of the native protocol, brackets around an IPv6 address: what `remote()` takes, and the
    /// node's name in records and messages.
    pub fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// Where we send our requests.
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
    fn a_shard_owns_as_many_slots_in_a_row_as_its_weight() {
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
