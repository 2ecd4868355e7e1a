//! The door to ClickHouse on real servers: the suite that also runs on the double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clickhouse_copier::cluster::http::HttpWarehouse;
use clickhouse_copier::cluster::{Destination, Origin, Settings, Transfer, Warehouse};
use clickhouse_copier::model::{Node, TableName, Tls, Way};
use clickhouse_copier::sql::{Relation, Selection};
use clickhouse_copier::{inspector_conformance, warehouse_conformance};
use lab::Lab;

async fn servers(test: &str) -> (HttpWarehouse, [Arc<Node>; 2], String) {
    let lab = Lab::shared();
    let database = format!("it_warehouse__{test}");
    let nodes = [0, 1].map(|index| {
        let server = lab.clickhouse(index);
        server.query(&format!("DROP DATABASE IF EXISTS {database}")).unwrap();
        Arc::new(Node::new(server.host()))
    });
    (HttpWarehouse::new(&Tls::default()).unwrap(), nodes, database)
}

warehouse_conformance!(servers);
inspector_conformance!(servers);

/// Waits until statements run, or none does any more; servers tell nobody, so they are asked now and then.
async fn until_running(warehouse: &HttpWarehouse, node: &Node, prefix: &str, wanted: bool) {
    let begun = Instant::now();
    while warehouse.running(node, prefix).await.unwrap().is_empty() == wanted {
        assert!(begun.elapsed() < Duration::from_secs(30), "not within 30 s: statements {prefix} running: {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the double's tests of the same content take for granted.
#[tokio::test]
async fn a_push_goes_on_without_its_sender_until_it_is_killed() {
    let (warehouse, [one, two], database) = servers("endless").await;
    let none = Settings::new();
    warehouse.create_database(&two, &database, &none).await.unwrap();
    let into = TableName::new(&database, "into");
    let statement = format!("CREATE TABLE {into} (n UInt64) ENGINE = Null");
    warehouse.create_table(&two, &into, &statement, &none).await.unwrap();
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
    };
    let sent = tokio::spawn({
        let (warehouse, push) = (warehouse.clone(), push(1));
        async move { warehouse.transfer(&push).await }
    });
    let (first, second) = (format!("{database}:1"), format!("{database}:2"));
    until_running(&warehouse, &one, &first, true).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    // An id that is in use is refused, so the first one goes on.
    let again = warehouse.transfer(&push(1)).await;
    assert_eq!(again.as_ref().unwrap_err().code(), Some(216), "{again:?}");
    let watched = tokio::spawn({
        let (warehouse, push) = (warehouse.clone(), push(2));
        async move { warehouse.transfer(&push).await }
    });
    until_running(&warehouse, &one, &second, true).await;
    warehouse.kill(&one, &first).await.unwrap();
    until_running(&warehouse, &one, &first, false).await;
    assert!(!watched.is_finished());
    warehouse.kill(&one, &format!("{database}:")).await.unwrap();
    let ended = watched.await.unwrap();
    assert_eq!(ended.as_ref().unwrap_err().code(), Some(394), "{ended:?}");
    until_running(&warehouse, &one, &second, false).await;
}
