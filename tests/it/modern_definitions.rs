//! Table definitions of modern servers, and errors of a broken relay on modern servers.

use std::sync::Arc;

use clickhouse_copier::client::http::HttpServerClient;
use clickhouse_copier::client::{Destination, Origin, Placing, ServerClient, Settings, Transfer};
use clickhouse_copier::model::{Node, PartitionId, TableName, Tls, Way};
use clickhouse_copier::sql;
use clickhouse_copier::sql::{Column, Relation, Selection};
use lab::{ClickHouse, Lab, Release};
use rstest_reuse::apply;

use crate::harness::{FEATURES, Feature, node_of, settings_for_definitions};
use crate::modern_ones;

/// Two servers of a release, and a name for a database of which nothing exists.
fn modern(release: Release, test: &str) -> (HttpServerClient, [Arc<Node>; 2], String) {
    let nodes = [0, 1].map(|index| node_of(Lab::shared(release).clickhouse(index)));
    (HttpServerClient::new(&Tls::default()).unwrap(), nodes, format!("it_modern__{test}"))
}

/// The trap of old servers (docs/clickhouse-behaviour.md, T4), closed in 26.6.
#[tokio::test]
async fn release_26_9_refuses_to_replace_a_partition_by_nothing() {
    let (client, [node, _], database) = modern(Release::V26_9, "refused");
    let server = Lab::shared(Release::V26_9).clickhouse(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for name in ["a", "empty"] {
        let engine = "ENGINE = MergeTree PARTITION BY intDiv(n, 10) ORDER BY n";
        server.query(&format!("CREATE TABLE {database}.{name} (n UInt32) {engine}")).unwrap();
    }
    server.query(&format!("INSERT INTO {database}.a SELECT number FROM numbers(20)")).unwrap();
    let [a, empty] = ["a", "empty"].map(|name| TableName::new(&database, name));
    let refused = client.place(&node, Placing::Replace, &a, &empty, &[PartitionId("1".into())], &Settings::new()).await;
    assert_eq!(refused.as_ref().unwrap_err().code(), Some(36), "{refused:?}");
    assert_eq!(server.value(&format!("SELECT count() FROM {database}.a")).unwrap(), "20");
}

/// Between 18.16 and this one, the ways to say so have changed twice (docs/clickhouse-behaviour.md, §10).
#[apply(modern_ones)]
#[tokio::test]
async fn an_error_in_the_middle_of_a_relay_names_the_source(#[case] release: Release) {
    let (client, [one, two], database) = modern(release, "broken_relay");
    for node in [0, 1] {
        let server = Lab::shared(release).clickhouse(node);
        server.query(&format!("CREATE DATABASE {database}")).unwrap();
        server.query(&format!("CREATE TABLE {database}.t (n UInt64) ENGINE = MergeTree ORDER BY n")).unwrap();
    }
    let from = Lab::shared(release).clickhouse(0);
    from.query(&format!("INSERT INTO {database}.t SELECT number FROM numbers(2000000)")).unwrap();
    let name = TableName::new(&database, "t");
    let transfer = |value: &str, compress: bool| Transfer {
        way: Way::Relay,
        from: vec![Origin {
            node: one.clone(),
            settings: vec![("max_block_size".into(), "10000".into()), ("max_threads".into(), "1".into())],
        }],
        to: vec![Destination::of_all(&two, format!("{database}:{}", value.len()))],
        dealt: None,
        into: name.clone(),
        columns: vec!["n".into()],
        values: vec![value.to_owned()],
        rows: Selection::all(Relation::plain(name.clone())),
        compress,
        throttles: Vec::new(),
        course: Arc::default(),
    };
    for compress in [true, false] {
        let failed = client.transfer(&transfer("n + throwIf(n = 1900000)", compress)).await.unwrap_err();
        assert_eq!((failed.code(), failed.node.as_str()), (Some(395), one.to_string().as_str()), "{failed}");
        client.transfer(&transfer("n", compress)).await.unwrap();
    }
}

/// A table that is created from a definition has the same definition and accepts the same parts.
#[apply(modern_ones)]
#[tokio::test]
async fn table_definitions_are_recreated_with_all_their_features(#[case] release: Release) {
    let (client, [node, _], database) = modern(release, "features");
    let (server, settings) = (Lab::shared(release).clickhouse(0), settings_for_definitions(&client, &node).await);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    let mut failures = Vec::new();
    for feature in FEATURES {
        if let Err(why) = survives(&client, server, &node, &database, feature, &settings).await {
            failures.push(format!("{}: {why}", feature.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn survives(
    client: &HttpServerClient,
    server: &ClickHouse,
    node: &Node,
    database: &str,
    feature: &Feature,
    settings: &Settings,
) -> Result<(), Box<dyn std::error::Error>> {
    let [a, b, st] = ["a", "b", "st"].map(|kind| TableName::new(database, format!("{}_{kind}", feature.name)));
    let create = format!("CREATE TABLE {a} ({}) ENGINE = {}", feature.columns, feature.engine);
    if feature.name == "nested" {
        server.query(&create)?; // flattened
    } else {
        client.create_table(node, &a, &create, settings).await?;
    }
    let table = client.table(node, &a).await?.ok_or("not there")?;
    let stored: Vec<String> =
        table.columns.iter().filter(|c| c.default_kind.is_inserted()).map(|c| c.name.clone()).collect();
    let names: Vec<String> = stored.iter().map(|name| sql::quote::ident(name)).collect();
    server.query(&format!("INSERT INTO {a} ({}) SELECT {} FROM numbers(40)", names.join(", "), feature.row))?;
    // The server can evaluate the keys as expressions.
    let all = Selection::all(Relation::plain(a.clone()));
    for (_, key) in table.engine.expressions() {
        if !sql::key_elements(&key).is_empty() {
            client.types(node, Some(&all), &[format!("({key})")]).await?;
        }
    }
    // The copy has the same definition.
    client.create_table(node, &b, &table.create(&b, &table.engine), settings).await?;
    let copy = client.table(node, &b).await?.ok_or("no copy")?;
    for (what, same) in [
        ("engine", copy.engine == table.engine),
        ("columns", copy.columns == table.columns),
        ("declarations", copy.declarations == table.declarations),
        ("sorting key", copy.sorting_key == table.sorting_key),
        ("comment", copy.comment == table.comment && copy.comment.is_some() == feature.engine.contains("COMMENT")),
    ] {
        if !same {
            return Err(format!("{what} differs:\n{table:?}\n{copy:?}").into());
        }
    }
    // The staging table accepts every stored value, and its partitions can be attached to the copy.
    let order: Vec<String> =
        table.columns.iter().filter(|c| stores(c)).map(|column| column.name.clone()).rev().collect();
    let staging = table.create_staging(&st, &order).ok_or("no staging")?;
    client.create_table(node, &st, &staging, settings).await.map_err(|e| format!("{e}\n{staging}"))?;
    let names: Vec<String> = order.iter().map(|name| sql::quote::ident(name)).collect();
    let names = names.join(", ");
    server.query(&format!("INSERT INTO {st} ({names}) SELECT {names} FROM {a}"))?;
    let parts = client.parts(node, &st).await?;
    let ids: Vec<PartitionId> = parts.into_iter().map(|part| part.id).collect();
    client.place(node, Placing::Attach, &b, &st, &ids, settings).await?;
    client.place(node, Placing::Replace, &b, &st, &ids, settings).await?;
    let want = client.checksum(node, &a, None, &table.columns).await?;
    let got = client.checksum(node, &b, None, &table.columns).await?;
    let read =
        server.query(&format!("SELECT count() FROM (SELECT {names} FROM {b} INTERSECT SELECT {names} FROM {a})"));
    if want.0 != 40 || got != want {
        return Err(format!("{want:?} became {got:?} ({read:?})").into());
    }
    Ok(())
}

/// Views, dictionaries and engines without keys are read too, whether they can be copied or not.
#[apply(modern_ones)]
#[tokio::test]
async fn definitions_of_every_engine_are_read(#[case] release: Release) {
    let (client, [node, _], database) = modern(release, "engines");
    let server = Lab::shared(release).clickhouse(0);
    server.query(&format!("CREATE DATABASE {database}")).unwrap();
    for (name, engine, statement) in [
        ("memory", "Memory", "TABLE @ (n UInt8) ENGINE = Memory"),
        ("log", "Log", "TABLE @ (n UInt8) ENGINE = Log"),
        ("stripe", "StripeLog", "TABLE @ (n UInt8) ENGINE = StripeLog"),
        ("nothing", "Null", "TABLE @ (n UInt8) ENGINE = Null COMMENT 'ORDER BY (it\\'s)'"),
        ("set", "Set", "TABLE @ (n UInt8) ENGINE = Set"),
        ("join", "Join", "TABLE @ (n UInt8) ENGINE = Join(ANY, LEFT, n) SETTINGS persistent = 0"),
        ("buffer", "Buffer", "TABLE @ (n UInt8) ENGINE = Buffer('default', 'x', 1, 10, 100, 1, 10, 1, 10)"),
        ("merge", "Merge", "TABLE @ (n UInt8) ENGINE = Merge(currentDatabase(), '^x')"),
        ("file", "File", "TABLE @ (n UInt8) ENGINE = File(TSV)"),
        ("view", "View", "VIEW @ (n UInt8) AS SELECT 1 AS n WHERE (1 = 1)"),
        (
            "inner",
            "MaterializedView",
            "MATERIALIZED VIEW @ ENGINE = MergeTree ORDER BY tuple() AS SELECT toUInt8(dummy) AS n FROM system.one",
        ),
        (
            "words",
            "Dictionary",
            "DICTIONARY @ (n UInt64, s String DEFAULT '') PRIMARY KEY n SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)",
        ),
    ] {
        let name = TableName::new(&database, name);
        server.query(&format!("CREATE {}", statement.replace('@', &name.to_string()))).unwrap();
        let table = client.table(&node, &name).await.unwrap().unwrap();
        assert_eq!(table.engine.name, engine, "{table:?}");
        assert!(!table.engine.is_merge_tree() && !table.columns.is_empty(), "{table:?}");
    }
}

fn stores(column: &Column) -> bool {
    matches!(column.default_kind, sql::DefaultKind::None | sql::DefaultKind::Default | sql::DefaultKind::Materialized)
}
