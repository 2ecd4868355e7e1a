//! The task file, the same for both copiers.

use std::fmt::Write as _;

use lab::ClickHouse;

use crate::case::{Case, Route};
use crate::data::{SOURCE, TARGET, keys};

/// A task for so many workers. `elements` are for its root.
pub fn xml(case: &Case, sources: &[ClickHouse], targets: &[ClickHouse], workers: u32, elements: &str) -> String {
    let (mut clusters, mut tables) = (String::new(), String::new());
    match case.route {
        Route::Reshard => {
            clusters += &(cluster("source", sources) + &cluster("target", targets));
            tables += &table(case, "", "intHash64(UserID)");
        }
        Route::Straight => {
            for (number, (source, target)) in sources.iter().zip(targets).enumerate() {
                let number = format!("_{number}");
                clusters += &cluster(&format!("source{number}"), std::slice::from_ref(source));
                clusters += &cluster(&format!("target{number}"), std::slice::from_ref(target));
                // The original wants a key. This is the cheapest.
                tables += &table(case, &number, "1");
            }
        }
    }
    // As in the sample of the original's documentation.
    let settings = "<settings_pull><readonly>1</readonly></settings_pull>\n\
                    <settings_push><readonly>0</readonly></settings_push>\n\
                    <settings><connect_timeout>3</connect_timeout><insert_distributed_sync>1</insert_distributed_sync></settings>";
    format!(
        "<yandex>\n<remote_servers>\n{clusters}</remote_servers>\n<max_workers>{workers}</max_workers>\n{settings}\n\
         {elements}\n<tables>\n{tables}</tables>\n</yandex>\n"
    )
}

/// What the original needs of a `keeper.xml`; ours reads the same.
pub fn keeper_xml(hosts: &str) -> String {
    let (host, port) = hosts.split_once(':').unwrap_or((hosts, "2181"));
    format!(
        "<yandex>\n<logger><level>information</level><size>100M</size><count>3</count></logger>\n\
         <zookeeper><node index=\"1\"><host>{host}</host><port>{port}</port></node></zookeeper>\n</yandex>\n"
    )
}

fn cluster(name: &str, servers: &[ClickHouse]) -> String {
    let mut xml = format!("  <{name}>\n");
    for server in servers {
        let replica = format!("<replica><host>{}</host><port>9000</port></replica>", server.host());
        let _ = writeln!(xml, "    <shard><internal_replication>false</internal_replication>{replica}</shard>"); // a String takes all
    }
    xml + &format!("  </{name}>\n")
}

fn table(case: &Case, number: &str, sharding_key: &str) -> String {
    let mut xml = format!("  <hits{number}>\n");
    for (way, cluster, (database, table)) in [("pull", "source", SOURCE), ("push", "target", TARGET)] {
        xml += &format!(
            "    <cluster_{way}>{cluster}{number}</cluster_{way}>\n    <database_{way}>{database}</database_{way}>\n    \
             <table_{way}>{table}</table_{way}>\n"
        );
    }
    // Without the parentheses the original crashes.
    let engine = format!("ENGINE=MergeTree() {}", keys(case.partitions));
    xml + &format!(
        "    <engine>{engine}</engine>\n    <sharding_key>{sharding_key}</sharding_key>\n  </hits{number}>\n"
    )
}
