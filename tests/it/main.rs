//! What holds on real servers, seen from outside: task files in, the program run as people run it, rows and remains
//! looked at on the servers. One binary; each test works in databases and under a ZooKeeper path of its own.

mod harness;

mod aftermath;
mod again;
mod bad_input;
mod between;
mod check;
mod cleanup;
mod clone;
mod columns;
mod compare;
mod copy;
mod crash;
mod dashboard;
mod documents;
mod drill;
mod features;
mod frozen;
mod incremental;
mod init;
mod keeper;
mod local;
mod many;
mod matrix;
mod merging;
mod modern;
mod no_room;
mod orders;
mod page;
mod plan;
mod policies;
mod progress;
mod quoting;
mod replicas;
mod replicated;
mod restarts;
mod secrets;
mod secure;
mod settings;
mod sharding;
mod status;
mod throttle;
mod transfers;
mod verify;
mod warehouse;
mod zookeeper_away;

/// The ZooKeeper that all tests share.
fn zookeeper_hosts() -> Vec<(String, u16)> {
    let hosts = lab::Lab::shared().zookeeper().hosts();
    let (host, port) = hosts.split_once(':').expect("the laboratory says host:port");
    vec![(host.to_owned(), port.parse().expect("the laboratory says host:port"))]
}
