//! What holds on real servers. One binary; each test works in a place of its own.

mod keeper;

/// The ZooKeeper to test on.
fn zookeeper_hosts() -> Vec<(String, u16)> {
    let hosts = std::env::var("COPIER_TEST_ZOOKEEPER")
        .expect("COPIER_TEST_ZOOKEEPER must name a ZooKeeper to test on, as host:port");
    let (host, port) = hosts.split_once(':').expect("COPIER_TEST_ZOOKEEPER is host:port");
    vec![(host.to_owned(), port.parse().expect("COPIER_TEST_ZOOKEEPER is host:port"))]
}
