//! Tests of transfers: which rows arrive, and on which node.

use std::collections::BTreeSet;

use super::super::codes::{ALL_CONNECTION_TRIES_FAILED, UNKNOWN_TABLE};
use super::*;
use crate::sql::{Expression, PartitionFilter, Slice, SlotFilter, SlotKey, SlotWidth};

/// A server that looks for a table on another server answers with the log of its connection attempts (code 279). In
/// modern servers the log contains that server's error 60.
pub async fn a_transfer_without_its_table_is_an_error_with_its_code(servers: &TestServers<'_>) {
    servers.databases().await;
    let (client, node) = (servers.client, &servers.first);
    let (a, no) = (servers.create(node, "a", ENGINE).await, servers.name("no"));
    servers.add(&a, 0).await;
    for &way in servers.ways {
        let (source, target): (&[u32], &[u32]) = match way {
            Way::Push => (&[UNKNOWN_TABLE], &[UNKNOWN_TABLE, ALL_CONNECTION_TRIES_FAILED]),
            Way::Pull => (&[UNKNOWN_TABLE, ALL_CONNECTION_TRIES_FAILED], &[UNKNOWN_TABLE]),
            Way::Relay | Way::Clone => (&[UNKNOWN_TABLE], &[UNKNOWN_TABLE]),
        };
        for (from, to, codes) in [(&no, &a, source), (&a, &no, target)] {
            let outcome = client.transfer(&Transfer { way, ..servers.copy(from, node, to) }).await;
            let answered = outcome.as_ref().err().and_then(Error::code);
            assert!(answered.is_some_and(|code| codes.contains(&code)), "{way}: {outcome:?}");
        }
    }
}

/// Columns match by position, whatever their names in the source; conditions see the source's columns.
pub async fn a_transfer_gives_each_column_its_value(servers: &TestServers<'_>) {
    servers.databases().await;
    let a = servers.filled("a", 6).await;
    for &way in servers.ways {
        let b = servers.create(&servers.second, &format!("b_{way}"), ENGINE).await;
        let values = ["toDate('2018-03-01')", "toUInt32(toUInt32(s) + 100)", "toString(id)"].map(str::to_owned).into();
        let mut transfer = Transfer { way, values, ..servers.copy(&a, &servers.second, &b) };
        transfer.rows.relation.condition = Some(Expression::parse("id < 3 AND s != '1'").unwrap());
        servers.client.transfer(&transfer).await.unwrap();
        let columns = ["id", "s"].map(|name| KeyElement { expression: name.into(), type_name: "String".into() });
        let rows = servers
            .client
            .tally(&servers.second, &Selection::all(Relation::plain(b)), &columns, &none())
            .await
            .unwrap();
        let mut rows: Vec<String> = rows.into_iter().map(|tally| tally.value.0.join("=")).collect();
        rows.sort();
        assert_eq!(rows, ["100=0", "102=2"], "{way}");
    }
}

pub async fn a_transfer_without_rows_succeeds(servers: &TestServers<'_>) {
    servers.databases().await;
    let a = servers.create(&servers.first, "a", ENGINE).await;
    for &way in servers.ways {
        let b = servers.create(&servers.second, &format!("b_{way}"), ENGINE).await;
        servers.client.transfer(&Transfer { way, ..servers.copy(&a, &servers.second, &b) }).await.unwrap();
        assert!(servers.rows(&servers.second, &b).await.is_empty(), "{way}");
    }
}

pub async fn a_transfer_writes_the_selected_rows_to_their_shard(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 12).await;
    let key = SlotKey { key: Expression::parse("id % 3").unwrap(), width: SlotWidth(32), total: 3 };
    let filter = PartitionFilter { elements: month(), values: vec![PartitionValue(vec!["201801".into()])] };
    for &way in servers.ways {
        let mut landed = 0;
        for (node, slots) in [(&servers.first, 0..1), (&servers.second, 1..3)] {
            let b = servers.create(node, &format!("b_{way}"), ENGINE).await;
            let mut transfer = Transfer { way, ..servers.copy(&a, node, &b) };
            transfer.rows.partitions = Some(filter.clone());
            transfer.rows.slots = Some(SlotFilter { key: key.clone(), slots: slots.clone() });
            transfer.rows.relation.condition = Some(Expression::parse("id < 10 OR s = 'never'").unwrap());
            let tallies = client.tally(&servers.first, &transfer.rows, &month(), &none()).await.unwrap();
            let selected: u64 = tallies.iter().map(|tally| tally.rows).sum();
            client.transfer(&transfer).await.unwrap();
            // 0, 2, 4, 6, 8 are in January: 0 and 6 on the first slot.
            let expected = if slots.start == 0 { 2 } else { 3 };
            assert_eq!(selected, expected);
            assert_eq!(servers.rows(node, &b).await, counts(&[("201801", expected)]), "{way}");
            let every = Selection::all(Relation::plain(b));
            let ids = [KeyElement { expression: "id".into(), type_name: "UInt32".into() }];
            let found = client.tally(node, &every, &ids, &none()).await.unwrap();
            let found: BTreeSet<String> = found.into_iter().map(|tally| tally.value.0.concat()).collect();
            let wanted: &[&str] = if slots.start == 0 { &["0", "6"] } else { &["2", "4", "8"] };
            assert_eq!(found, wanted.iter().map(|text| (*text).to_owned()).collect(), "{way}");
            landed += found.len();
        }
        assert_eq!(landed, 5);
    }
}

pub async fn a_relay_sends_each_row_to_the_node_of_its_slot(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 12).await;
    let mut tables = Vec::new();
    for node in [&servers.first, &servers.second] {
        tables.push(servers.create(node, "b", ENGINE).await);
    }
    let key = SlotKey { key: Expression::parse("id").unwrap(), width: SlotWidth(32), total: 3 };
    let to = |node, slots| Destination { slots, ..Destination::of_all(node, format!("{}:{node}", servers.database)) };
    for compress in [true, false] {
        let transfer = Transfer {
            way: Way::Relay,
            dealt: Some(key.clone()),
            to: vec![to(&servers.first, 0..1), to(&servers.second, 1..3)],
            compress,
            ..servers.copy(&a, &servers.second, &tables[1])
        };
        client.transfer(&transfer).await.unwrap();
    }
    // Two transfers: 0, 3, 6, 9 on the first node, the other rows here; odd ids are in February.
    assert_eq!(servers.rows(&servers.first, &tables[0]).await, counts(&[("201801", 4), ("201802", 4)]));
    assert_eq!(servers.rows(&servers.second, &tables[1]).await, counts(&[("201801", 8), ("201802", 8)]));
    let every = Selection::all(Relation::plain(tables[0].clone()));
    let ids = [KeyElement { expression: "id".into(), type_name: "UInt32".into() }];
    let found = client.tally(&servers.first, &every, &ids, &none()).await.unwrap();
    let found: BTreeSet<String> = found.into_iter().map(|tally| tally.value.0.concat()).collect();
    assert_eq!(found, ["0", "3", "6", "9"].map(str::to_owned).into());
    // One of the targets lacks the table: the transfer fails, whatever the other target got.
    client.drop_table(&servers.second, &tables[1], &none()).await.unwrap();
    let transfer = Transfer {
        way: Way::Relay,
        dealt: Some(key),
        to: vec![to(&servers.first, 0..1), to(&servers.second, 1..3)],
        ..servers.copy(&a, &servers.second, &tables[1])
    };
    code(client.transfer(&transfer).await, 60);
}

pub async fn slices_contain_every_row_once(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 9).await;
    let element = |name: &str, type_name: &str| KeyElement { expression: name.into(), type_name: type_name.into() };
    let columns = vec![element("d", "Date"), element("id", "UInt32")];
    let all = Selection::all(Relation::plain(a));
    let keys = client.sample_keys(&servers.first, &all, &columns, 1, &none()).await.unwrap();
    assert_eq!(keys.len(), 9);
    assert!(keys.is_sorted());
    let range = |from, to| Slice::Range { columns: columns.clone(), from, to };
    let bound = Some(keys[4].clone());
    let hash = |number| Slice::Hash { expressions: vec!["id".into()], count: 2, number };
    let buckets =
        |numbers: &[u64]| Slice::Buckets { hash: "cityHash64(id)".into(), count: 3, numbers: numbers.to_vec() };
    for (slices, first) in [
        ([range(None, bound.clone()), range(bound, None)], Some(4)),
        ([hash(0), hash(1)], None),
        ([buckets(&[0, 2]), buckets(&[1])], None),
    ] {
        let mut rows = Vec::new();
        for slice in slices {
            let selection = Selection { slice: Some(slice), ..all.clone() };
            let tallies = client.tally(&servers.first, &selection, &month(), &none()).await.unwrap();
            rows.push(tallies.iter().map(|tally| tally.rows).sum::<u64>());
        }
        assert_eq!(rows.iter().sum::<u64>(), 9);
        assert!(first.is_none_or(|first| rows[0] == first), "{rows:?}");
    }
}
