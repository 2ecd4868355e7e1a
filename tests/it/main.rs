//! What holds on real servers, seen from outside: task files in, the program run as people run it, rows and remains
//! looked at on the servers. One binary; each test works in databases and under a ZooKeeper path of its own.
//!
//! A test with `#[apply(both)]` runs on 18.16 and on 25.8. A test of other releases says why in its comment.

use lab::Release;
#[allow(clippy::single_component_path_imports)] // the templates' macros need it by this name
use rstest_reuse;
use rstest_reuse::template;

/// Runs a test on the oldest release and on the reference.
#[template]
#[rstest::rstest]
#[case::on_18_16(Release::V18_16)]
#[case::on_25_8(Release::V25_8)]
fn both(#[case] release: Release) {}

/// Runs a test on the reference and on the newest release.
#[template]
#[rstest::rstest]
#[case::on_25_8(Release::V25_8)]
#[case::on_26_9(Release::V26_9)]
fn modern_ones(#[case] release: Release) {}

mod harness;

mod account;
mod bad_input;
mod changed_rows;
mod check;
mod cleanup;
mod client;
mod clone;
mod columns;
mod compare;
mod configuration;
mod control;
mod conversions;
mod copy;
mod crash;
mod cross_version;
mod damaged;
mod dashboard;
mod dictionaries;
mod documents;
mod drill;
mod ending;
mod expressions;
mod features;
mod frozen;
mod hidden_rows;
mod identity;
mod incremental;
mod init;
mod keeper;
mod local;
mod logging;
mod lying;
mod matrix;
mod merging;
mod modern;
mod names;
mod no_room;
mod output;
mod page;
mod partition_values;
mod plan;
mod policies;
mod progress;
mod quoting;
mod relaunch;
mod replicas;
mod replicated;
mod reports;
mod restarts;
mod row_functions;
mod scale;
mod secrets;
mod secure;
mod settings;
mod settings_in_force;
mod sharding;
mod shards_differ;
mod sources;
mod status;
mod target_defaults;
mod terminal;
mod throttle;
mod time_zones;
mod transfers;
mod trust;
mod verify;
mod zookeeper_away;

/// The ZooKeeper that tests of a release share.
fn zookeeper_hosts(release: Release) -> Vec<(String, u16)> {
    let hosts = lab::Lab::shared(release).zookeeper().hosts();
    let (host, port) = hosts.split_once(':').expect("the laboratory says host:port");
    vec![(host.to_owned(), port.parse().expect("the laboratory says host:port"))]
}
