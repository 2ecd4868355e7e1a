//! ZooKeeper sessions of the tests themselves.

use std::sync::Arc;
use std::time::Duration;

use clickhouse_copier::coordinator::{Coordinator, Session, ZooKeeperCoordinator, ZooKeeperOptions, delete_tree};
use clickhouse_copier::model::Tls;
use lab::{Lab, Release};

/// Returns host and port of the ZooKeeper that the tests of a release share.
pub fn zookeeper_hosts(release: Release) -> Vec<(String, u16)> {
    let hosts = Lab::shared(release).zookeeper().hosts();
    let (host, port) = hosts.split_once(':').expect("the laboratory says host:port");
    vec![(host.to_owned(), port.parse().expect("the laboratory says host:port"))]
}

/// Opens a session at the ZooKeeper that the tests of a release share.
pub async fn zookeeper_session(release: Release) -> Arc<dyn Session> {
    let options = ZooKeeperOptions {
        hosts: zookeeper_hosts(release),
        secure: false,
        tls: Tls::default(),
        session_timeout: Duration::from_secs(20),
        root: None,
        identity: None,
    };
    ZooKeeperCoordinator::new(options).session().await.unwrap()
}

/// Deletes a node and everything below it.
#[tokio::main(flavor = "current_thread")]
pub async fn delete_nodes(release: Release, path: &str) {
    let session = zookeeper_session(release).await;
    delete_tree(session.as_ref(), path).await.unwrap();
    session.close().await;
}
