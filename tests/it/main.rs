//! What holds on real servers, seen from outside: task files in, the program run as people run it, rows and remains
//! looked at on the servers. One binary; each test works in databases and under a ZooKeeper path of its own.
//!
//! A test with `#[apply(both)]` runs on 18.16 and on 25.8. A test of other releases says why in its comment.

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
mod broken_answers;
mod changed_rows;
mod check;
mod cleanup;
mod client_on_servers;
mod clone;
mod column_names;
mod column_types;
mod configuration;
mod control;
mod control_characters;
mod conversions;
mod copy;
mod cross_version;
mod damaged_rows;
mod dashboard;
mod dashboard_page;
mod documents;
mod expressions;
mod final_cleanup;
mod frozen_workers;
mod hidden_rows;
mod incremental;
mod init;
mod killed_workers;
mod limits;
mod local_state;
mod logging;
mod low_cardinality;
mod matrix;
mod modern_copies;
mod modern_definitions;
mod nondeterministic_expressions;
mod partition_values;
mod plan;
mod policies;
mod profile_settings;
mod progress;
mod quoting;
mod repeated_runs;
mod replicas;
mod replicated_paths;
mod reports;
mod restore_drill;
mod scale;
mod secrets;
mod secrets_in_descriptions;
mod server_identity;
mod server_restarts;
mod settings;
mod sharding;
mod shards_differ;
mod source_engines;
mod standard_output;
mod status_and_logs;
mod target_defaults;
mod time_zones;
mod tls;
mod transfers;
mod unwritable_targets;
mod verify_command;
mod verify_element;
mod zookeeper_outages;
mod zookeeper_sessions;
