use super::*;
use crate::client::memory::MemoryServerClient;
use crate::client::{ClusterMember, Settings};

fn replica(cluster: &str, shard: u64, host: &str) -> ClusterMember {
    ClusterMember {
        cluster: cluster.into(),
        shard,
        weight: u32::try_from(shard).unwrap(),
        host: host.into(),
        address: host.into(),
        port: 9000,
        is_local: false,
        internal_replication: None,
    }
}

/// `d.t` on the nodes `a` and `b`; `c` and `d` are empty.
async fn servers() -> (MemoryServerClient, Servers) {
    let memory = MemoryServerClient::new();
    for host in ["a", "b", "c", "d"] {
        memory.add_node(&Node::new(host), &[]);
    }
    let name = TableName::new("d", "t");
    for host in ["a", "b"] {
        memory.create_database(&Node::new(host), "d", &Settings::new()).await.unwrap();
        let create =
            "CREATE TABLE d.t (`m` UInt8, `id` UInt64) ENGINE = ReplicatedMergeTree('/t/@', 'r') ORDER BY (m, id)";
        memory.create_table(&Node::new(host), &name, &create.replace('@', host), &Settings::new()).await.unwrap();
    }
    let servers = Servers { client: Arc::new(memory.clone()), inspector: Arc::new(memory.clone()) };
    (memory, servers)
}

fn copy() -> FirstCopy {
    let side = |host: &str| Side { node: Node::new(host), password_env: None, cluster: None };
    FirstCopy { from: side("a"), to: side("c"), tables: vec![TableName::new("d", "t")], database: None }
}

#[tokio::test]
async fn the_only_cluster_with_the_tables_is_chosen() {
    let (memory, servers) = servers().await;
    let replicas =
        [replica("whole", 1, "a"), replica("whole", 2, "b"), replica("wider", 1, "a"), replica("wider", 2, "c")];
    memory.set_clusters(&Node::new("a"), replicas.to_vec());
    memory.set_clusters(&Node::new("c"), vec![replica("new", 1, "c"), replica("new", 2, "d")]);
    let xml = init(&servers, &copy()).await.unwrap().to_xml();
    assert!(xml.contains("one cluster that fits: whole") && xml.contains("<host>b</host>"), "{xml}");
    assert!(xml.contains("<weight>2</weight>") && xml.contains("<sharding_key>intHash64(`id`)<"), "{xml}");
    // The target has no macros for a Replicated table.
    assert!(xml.contains("<engine>MergeTree ORDER BY (m, id)"), "{xml}");
}

#[tokio::test]
async fn the_user_names_the_cluster_if_several_fit() {
    let (memory, servers) = servers().await;
    let both = |name: &str| vec![replica(name, 1, "a"), replica(name, 2, "b")];
    memory.set_clusters(&Node::new("a"), [both("x"), both("y")].concat());
    let xml = init(&servers, &copy()).await.unwrap().to_xml();
    assert!(xml.contains("in several clusters (x, y)") && !xml.contains("<host>b</host>"), "{xml}");
    let mut named = copy();
    named.from.cluster = Some("y".into());
    let xml = init(&servers, &named).await.unwrap().to_xml();
    assert!(xml.contains("The cluster y of a:9000") && xml.contains("<host>b</host>"), "{xml}");
    named.from.cluster = Some("z".into());
    let refused = init(&servers, &named).await.unwrap_err().to_string();
    assert!(refused.contains("knows no cluster z; it knows x, y"), "{refused}");
}
