//! The choice of clusters, sharding keys and engines for a task file, from the answers of servers. Pure.

use std::collections::BTreeMap;

use crate::client::ClusterMember;
use crate::model::{Node, Shard, TableName};
use crate::sql::{Engine, TableDefinition, key_elements, quote};

/// Returns the clusters of a server that contain the server itself and other servers.
pub(super) fn candidates(members: &[ClusterMember], host: &str) -> BTreeMap<String, Vec<ClusterMember>> {
    let mut clusters: BTreeMap<String, Vec<ClusterMember>> = BTreeMap::new();
    for member in members {
        clusters.entry(member.cluster.clone()).or_default().push(member.clone());
    }
    clusters.retain(|_, members| members.len() > 1 && members.iter().any(|member| is_asked_server(member, host)));
    clusters
}

/// Returns whether an entry of a cluster is the asked server. Example clusters in a server's configuration name it `localhost`, which
/// means another server elsewhere.
fn is_asked_server(member: &ClusterMember, host: &str) -> bool {
    let loopback = member.host == "localhost" || member.address == "127.0.0.1" || member.address == "::1";
    member.host.eq_ignore_ascii_case(host) || member.address == host || (member.is_local && !loopback)
}

/// Returns the shards of a cluster, with the account of the asked server.
pub(super) fn shards(members: &[ClusterMember], asked: &Node, replicated: bool) -> Vec<Shard> {
    let mut shards: BTreeMap<u64, Shard> = BTreeMap::new();
    for member in members {
        let node = Node { host: member.host.clone(), port: member.port, ..asked.clone() };
        let internal_replication = member.internal_replication.unwrap_or(replicated);
        let shard = Shard { weight: member.weight, internal_replication, replicas: Vec::new() };
        shards.entry(member.shard).or_insert(shard).replicas.push(node);
    }
    shards.into_values().collect()
}

/// Returns the sharding key of a Distributed table, if it is a table over the given one.
pub(super) fn key_of(distributed: &Engine, over: &TableName) -> Option<String> {
    let arguments = distributed.arguments.as_deref()?;
    let plain = |text: &String| {
        if text.starts_with('\'') {
            crate::sql::unquoted_elements(text).unwrap_or_default().concat()
        } else {
            text.trim_matches(['`', '"']).to_owned()
        }
    };
    let [_, database, table, key, ..] = arguments else { return None };
    (plain(database) == over.database && plain(table) == over.table).then(|| key.clone())
}

/// Returns a sharding key that spreads rows evenly, and the reason.
pub(super) fn spreading_key(table: &TableDefinition) -> (String, String) {
    for element in key_elements(&table.sorting_key) {
        let Some(column) = table.column(element.trim_matches('`')) else {
            // An expression over columns is often a hash already, such as intHash32(UserID) for sampling.
            if element.to_lowercase().contains("hash") {
                let why = format!("the first part of the sorting key ({}) that spreads rows", table.sorting_key);
                return (format!("cityHash64({element})"), why);
            }
            continue;
        };
        let name = quote::ident(&column.name);
        let hash = match column.type_name.as_str() {
            "UInt32" | "UInt64" | "Int32" | "Int64" => format!("intHash64({name})"),
            "String" => format!("cityHash64({name})"),
            // 18.16 cannot hash a UUID. Later versions all hash its bytes in the same way.
            "UUID" => format!("cityHash64(reinterpretAsString({name}))"),
            _ => continue,
        };
        let why = format!(
            "the first column of the sorting key ({}) that has many values, as far as its type ({}) tells",
            table.sorting_key, column.type_name
        );
        return (hash, why);
    }
    let why = "no column of the sorting key has many values, as far as their types tell: rows are spread evenly by a hash of all \
               their columns";
    ("rand()".to_owned(), why.to_owned())
}

/// Returns the engine for a new table like another one, before it is adapted to a version, with a comment where it differs.
///
/// `macros` is whether the servers have the macros for the path of a Replicated table.
pub(super) fn engine_like(source: &Engine, macros: bool) -> (Engine, Option<String>) {
    if !source.is_merge_tree() {
        let engine = Engine {
            name: "MergeTree".into(),
            arguments: None,
            clauses: vec![(crate::sql::Clause::OrderBy, "tuple()".into())],
        };
        let why = format!("the source is a table of engine {}, which has no partitions: choose keys", source.name);
        return (engine, Some(why));
    }
    if !source.is_replicated() {
        return (source.clone(), None);
    }
    // Remove the path and the name of the replica. The new table gets its own path.
    let bare = source.in_database(Some("Replicated"));
    if macros {
        let why = "without arguments its path in ZooKeeper is one of its own: /clickhouse/tables/{uuid}/{shard}";
        return (bare, Some(why.to_owned()));
    }
    let name = bare.name.trim_start_matches("Replicated").to_owned();
    let why =
        "the source is Replicated; the target's servers have no macros {shard} and {replica}, which such a table needs";
    (Engine { name, ..bare }, Some(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Column, DefaultKind};

    fn replica(cluster: &str, shard: u64, host: &str, is_local: bool) -> ClusterMember {
        ClusterMember {
            cluster: cluster.into(),
            shard,
            weight: 1,
            host: host.into(),
            address: if host == "localhost" { "127.0.0.1".into() } else { format!("10.0.0.{shard}") },
            port: 9000,
            is_local,
            internal_replication: None,
        }
    }

    #[test]
    fn a_cluster_is_a_candidate_if_it_has_the_server_under_a_name_that_others_can_use() {
        let replicas = [
            replica("ours", 1, "a", true),
            replica("ours", 2, "b", false),
            replica("others", 1, "c", false),
            replica("others", 2, "d", false),
            replica("test_shard_localhost", 1, "localhost", true),
            replica("two_localhosts", 1, "localhost", true),
            replica("two_localhosts", 2, "localhost", true),
            replica("alone", 1, "a", true),
        ];
        let names = |host: &str| candidates(&replicas, host).into_keys().collect::<Vec<_>>();
        assert_eq!(names("a.example"), ["ours"]);
        assert_eq!(names("A"), ["ours"]);
        let target = shards(&candidates(&replicas, "a")["ours"], &Node { user: "u".into(), ..Node::new("a") }, true);
        assert_eq!((target.len(), target[1].replicas[0].host.as_str()), (2, "b"));
        assert!(target[1].replicas[0].user == "u" && target[1].internal_replication);
    }

    #[test]
    fn the_sharding_key_comes_from_the_distributed_table_of_the_same_table() {
        let engine = |text: &str| Engine::parse(text).unwrap();
        let over = TableName::new("d", "t");
        assert_eq!(key_of(&engine("Distributed(c, d, t, intHash64(id))"), &over).as_deref(), Some("intHash64(id)"));
        assert_eq!(key_of(&engine("Distributed('c', 'd', 't', rand(), 'p')"), &over).as_deref(), Some("rand()"));
        assert_eq!(key_of(&engine("Distributed(c, d, other, id)"), &over), None);
        assert_eq!(key_of(&engine("Distributed(c, d, t)"), &over), None);
    }

    #[test]
    fn the_sharding_key_uses_the_first_suitable_column_of_the_sorting_key() {
        let column = |name: &str, type_name: &str| Column {
            name: name.into(),
            type_name: type_name.into(),
            default_kind: DefaultKind::None,
            default_expression: String::new(),
            comment: String::new(),
        };
        let columns = vec![column("d", "Date"), column("id", "UInt64"), column("s", "String"), column("e", "UInt8")];
        let key = |sorting: &str| {
            let table = TableDefinition::read(TableName::new("d", "t"), "Log", "", columns.clone(), sorting).unwrap();
            spreading_key(&table).0
        };
        assert_eq!(key("d, id"), "intHash64(`id`)");
        assert_eq!(key("d, s, id"), "cityHash64(`s`)");
        assert_eq!(key("d, e, intHash32(id)"), "cityHash64(intHash32(id))");
        assert_eq!(key("d, e"), "rand()");
    }

    #[test]
    fn the_engine_of_a_new_table_has_no_replication_path() {
        let engine = Engine::parse("ReplicatedReplacingMergeTree('/p/{shard}', '{replica}', v) ORDER BY a").unwrap();
        assert_eq!(engine_like(&engine, true).0.to_string(), "ReplicatedReplacingMergeTree(v) ORDER BY a");
        assert_eq!(engine_like(&engine, false).0.to_string(), "ReplacingMergeTree(v) ORDER BY a");
        assert_eq!(engine_like(&Engine::parse("Log").unwrap(), true).0.to_string(), "MergeTree ORDER BY tuple()");
    }
}
