//! The door to ClickHouse on real servers: the suite that also runs on the double.

use std::sync::Arc;

use clickhouse_copier::cluster::http::HttpWarehouse;
use clickhouse_copier::model::{Node, Secret};
use clickhouse_copier::warehouse_conformance;
use lab::Lab;

async fn servers(test: &str) -> (HttpWarehouse, [Arc<Node>; 2], String) {
    let lab = Lab::shared();
    let database = format!("it_warehouse__{test}");
    let nodes = [0, 1].map(|index| {
        let server = lab.clickhouse(index);
        server.query(&format!("DROP DATABASE IF EXISTS {database}")).unwrap();
        Arc::new(Node {
            host: server.host().to_owned(),
            port: 9000,
            http_port: 8123,
            user: "default".into(),
            password: Secret::default(),
            secure: false,
            default_database: None,
        })
    });
    (HttpWarehouse::default(), nodes, database)
}

warehouse_conformance!(servers);
