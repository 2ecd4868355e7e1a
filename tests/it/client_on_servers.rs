//! The client for ClickHouse on real servers: the conformance suite that also runs on the double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{Destination, Origin, ServerClient, Settings, Transfer};
use clickhouse_copier::model::{Node, TableName, Tls, Way};
use clickhouse_copier::sql::{Relation, Selection};
use clickhouse_copier::{client_conformance, inspector_conformance};
use lab::{Lab, Release};
use rstest_reuse::apply;

use crate::both;

/// Returns two servers of the release, and the name of a database that does not exist.
async fn servers(release: Release, test: &str) -> (HttpServerClient, [Arc<Node>; 2], String) {
    let lab = Lab::shared(release);
    let database = format!("it_warehouse__{test}");
    let sync = if release.is_modern() { " SYNC" } else { "" };
    let nodes = [0, 1].map(|index| {
        let server = lab.clickhouse(index);
        server.query(&format!("DROP DATABASE IF EXISTS {database}{sync}")).unwrap();
        Arc::new(Node::new(server.host()))
    });
    (HttpServerClient::new(&Tls::default()).unwrap(), nodes, database)
}

/// Runs the suite on servers of one release.
macro_rules! conformance {
    ($name:ident, $release:expr, $($only:tt)*) => {
        mod $name {
            use super::*;

            async fn servers(test: &str) -> (HttpServerClient, [Arc<Node>; 2], String) {
                super::servers($release, test).await
            }

            client_conformance!(servers $($only)*);
            inspector_conformance!(servers);
        }
    };
}

conformance!(on_18_16, Release::V18_16,);
conformance!(on_24_8, Release::V24_8,);
conformance!(on_25_8, Release::V25_8,);
// 26.9 cannot replicate here, and 26.6 and later refuse to replace a partition by nothing.
conformance!(on_26_9, Release::V26_9, , [Push, Pull, Relay]:
    databases_and_tables_are_created_listed_renamed_and_dropped,
    missing_and_existing_tables_are_errors_with_their_codes,
    a_transfer_without_its_table_is_an_error_with_its_code,
    a_transfer_gives_each_column_its_value,
    a_transfer_without_rows_succeeds,
    a_table_definition_is_read_as_it_was_created,
    all_ways_to_count_rows_agree,
    a_transfer_writes_the_selected_rows_to_their_shard,
    a_relay_sends_each_row_to_the_node_of_its_slot,
    slices_contain_every_row_once,
    attach_adds_rows_and_replace_replaces_them,
    expressions_have_types_or_error_codes,
    a_node_reaches_another,
    a_statement_that_has_ended_is_not_running,
    a_mark_is_visible_only_on_its_own_server,
);

/// Waits until statements with this prefix run, or until none runs. Servers send no events, so they are asked again and again.
async fn until_running(client: &HttpServerClient, node: &Node, prefix: &str, wanted: bool) {
    let begun = Instant::now();
    while client.running(node, prefix).await.unwrap().is_empty() == wanted {
        assert!(begun.elapsed() < Duration::from_secs(30), "not within 30 s: statements {prefix} running: {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The tests on the double rely on this behaviour.
#[apply(both)]
#[tokio::test]
async fn a_push_continues_without_its_client_until_it_is_killed(#[case] release: Release) {
    let (client, [one, two], database) = servers(release, "endless").await;
    let none = Settings::new();
    client.create_database(&two, &database, &none).await.unwrap();
    let into = TableName::new(&database, "into");
    let statement = format!("CREATE TABLE {into} (n UInt64) ENGINE = Null");
    client.create_table(&two, &into, &statement, &none).await.unwrap();
    let push = |number: u32| Transfer {
        way: Way::Push,
        from: vec![Origin::of(&one)],
        to: vec![Destination::of_all(&two, format!("{database}:{number}"))],
        dealt: None,
        into: into.clone(),
        columns: vec!["n".into()],
        values: vec!["number".into()],
        rows: Selection::all(Relation::plain(TableName::new("system", "numbers"))),
        compress: true,
        throttles: Vec::new(),
        course: Arc::default(),
    };
    let sent = tokio::spawn({
        let (client, push) = (client.clone(), push(1));
        async move { client.transfer(&push).await }
    });
    let (first, second) = (format!("{database}:1"), format!("{database}:2"));
    until_running(&client, &one, &first, true).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    // The server refuses a query id that is in use, so the first statement continues.
    let again = client.transfer(&push(1)).await;
    assert_eq!(again.as_ref().unwrap_err().code(), Some(216), "{again:?}");
    let watched = tokio::spawn({
        let (client, push) = (client.clone(), push(2));
        async move { client.transfer(&push).await }
    });
    until_running(&client, &one, &second, true).await;
    client.kill(&one, &first).await.unwrap();
    until_running(&client, &one, &first, false).await;
    assert!(!watched.is_finished());
    client.kill(&one, &format!("{database}:")).await.unwrap();
    let ended = watched.await.unwrap();
    assert_eq!(ended.as_ref().unwrap_err().code(), Some(394), "{ended:?}");
    until_running(&client, &one, &second, false).await;
}
