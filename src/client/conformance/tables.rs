//! Tests of databases, tables and partitions, and of questions about them.

use super::*;
use crate::sql::DefaultKind;

pub async fn databases_and_tables_are_created_listed_renamed_and_dropped(servers: &TestServers<'_>) {
    let (client, node) = (servers.client, &servers.first);
    assert_eq!(client.database_engine(node, &servers.database).await.unwrap(), None);
    assert_eq!(client.table(node, &servers.name("a")).await.unwrap(), None);
    assert!(client.tables_with_prefix(node, &servers.database, "").await.unwrap().is_empty());
    servers.databases().await;
    client.create_database(node, &servers.database, &none()).await.unwrap();
    assert!(client.database_engine(node, &servers.database).await.unwrap().is_some());
    assert_eq!(client.table(node, &servers.name("a")).await.unwrap(), None);
    let a = servers.create(node, "a", ENGINE).await;
    let ab = servers.create(node, "ab", ENGINE).await;
    assert_eq!(client.tables_with_prefix(node, &servers.database, "a").await.unwrap(), ["a", "ab"]);
    assert_eq!(client.tables_with_prefix(node, &servers.database, "ab").await.unwrap(), ["ab"]);
    assert!(client.tables_with_prefix(&servers.second, &servers.database, "").await.unwrap().is_empty());
    client.rename(node, &[]).await.unwrap();
    client.rename(node, &[(a.clone(), servers.name("x")), (ab, servers.name("y"))]).await.unwrap();
    assert_eq!(client.tables_with_prefix(node, &servers.database, "").await.unwrap(), ["x", "y"]);
    client.drop_table(node, &servers.name("x"), &none()).await.unwrap();
    client.drop_table(node, &servers.name("x"), &none()).await.unwrap();
    assert_eq!(client.tables_with_prefix(node, &servers.database, "").await.unwrap(), ["y"]);
    assert_eq!(client.replica_state(node, &servers.name("y")).await.unwrap(), None);
}

pub async fn missing_and_existing_tables_are_errors_with_their_codes(servers: &TestServers<'_>) {
    let (client, node) = (servers.client, &servers.first);
    let a = servers.name("a");
    let statement = format!("CREATE TABLE {} {COLUMNS} ENGINE = {ENGINE}", quote::table(&a));
    code(client.create_table(node, &a, &statement, &none()).await, 81);
    servers.databases().await;
    client.create_table(node, &a, &statement, &none()).await.unwrap();
    code(client.create_table(node, &a, &statement, &none()).await, 57);
    let lenient = statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
    client.create_table(node, &a, &lenient, &none()).await.unwrap();
    let (b, no) = (servers.create(node, "b", ENGINE).await, servers.name("no"));
    code(client.rename(node, &[(no.clone(), servers.name("c"))]).await, 60);
    code(client.rename(node, &[(a.clone(), b)]).await, 57);
    code(client.rows_by_partition(node, &no, None).await, 60);
    code(client.tally(node, &Selection::all(Relation::plain(no.clone())), &month(), &none()).await, 60);
    code(client.values_by_partition(node, &no, &month()).await, 60);
    code(client.value_by_partition(node, &no, &month()).await, 60);
    code(client.checksum(node, &no, None, &client.table(node, &a).await.unwrap().unwrap().columns).await, 60);
    for placing in [Placing::Attach, Placing::Replace] {
        code(client.place(node, placing, &a, &no, &[id("201801")], &none()).await, 60);
        code(client.place(node, placing, &no, &a, &[id("201801")], &none()).await, 60);
        let other = servers.create(node, &format!("{placing:?}"), "MergeTree PARTITION BY d ORDER BY (d, id)").await;
        code(client.place(node, placing, &a, &other, &[id("201801")], &none()).await, 36);
    }
    code(client.drop_partitions(node, &no, &[id("201801")], &none()).await, 60);
    code(client.insert_partition(node, &a, &no, &["d".into()], &id("201801"), &none()).await, 60);
    assert!(client.parts(node, &no).await.unwrap().is_empty());
}

pub async fn a_table_definition_is_read_as_it_was_created(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.create(&servers.first, "a", "ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)").await;
    let found = client.table(&servers.first, &a).await.unwrap().unwrap();
    assert_eq!((&found.name, found.engine.name.as_str()), (&a, "ReplacingMergeTree"));
    assert_eq!(found.engine.partition_key().as_deref(), Some("toYYYYMM(d)"));
    assert_eq!(found.sorting_key, "d, id");
    let columns: Vec<(&str, &str)> =
        found.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())).collect();
    assert_eq!(columns, [("d", "Date"), ("id", "UInt32"), ("s", "String")]);
    let last = found.column("s").unwrap();
    assert_eq!((last.default_kind, last.default_expression.as_str()), (DefaultKind::Default, "'none'"));
    // The statement of the table creates an equal table, and a staging table whose partitions fit.
    let again = found.create(&servers.name("b"), &found.engine);
    client.create_table(&servers.second, &servers.name("b"), &again, &none()).await.unwrap();
    let copy = client.table(&servers.second, &servers.name("b")).await.unwrap().unwrap();
    assert_eq!((copy.engine, copy.columns), (found.engine.clone(), found.columns.clone()));
    let order = ["s", "id", "d"].map(str::to_owned);
    let staging = found.create_staging(&servers.name("st"), &order).unwrap();
    client.create_table(&servers.first, &servers.name("st"), &staging, &none()).await.unwrap();
    let staged = client.table(&servers.first, &servers.name("st")).await.unwrap().unwrap();
    assert_eq!(staged.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["s", "id", "d"]);
    assert_eq!(staged.engine.name, "MergeTree");
    let seed = TableName::new("system", "one");
    let values = ["'x'", "toUInt32(5)", "toDate('2018-03-01')"].map(str::to_owned).into();
    let columns = order.into();
    client
        .transfer(&Transfer { columns, values, ..servers.copy(&seed, &servers.first, &servers.name("st")) })
        .await
        .unwrap();
    client.place(&servers.first, Placing::Replace, &a, &servers.name("st"), &[id("201803")], &none()).await.unwrap();
    let sum = async |name: &TableName| client.checksum(&servers.first, name, None, &found.columns).await.unwrap();
    let moved = sum(&a).await;
    assert_eq!(moved.0, 1);
    assert_eq!(moved, sum(&servers.name("st")).await);
}

pub async fn all_ways_to_count_rows_agree(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 5).await;
    let all = Selection::all(Relation::plain(a.clone()));
    assert_eq!(servers.rows(&servers.first, &a).await, counts(&[("201801", 3), ("201802", 2)]));
    let only = client.rows_by_partition(&servers.first, &a, Some(&[id("201802"), id("201803")])).await.unwrap();
    assert_eq!(only.into_iter().collect::<Vec<_>>(), [(id("201802"), 2)]);
    assert!(client.rows_by_partition(&servers.first, &a, Some(&[])).await.unwrap().is_empty());
    let mut tallies = client.tally(&servers.first, &all, &month(), &none()).await.unwrap();
    tallies.sort_by(|a, b| a.value.cmp(&b.value));
    let tally = |text: &str, rows| Tally {
        value: PartitionValue(vec![text.into()]),
        shown: vec![text.into()],
        id: Some(id(text)),
        rows,
    };
    assert_eq!(tallies, [tally("201801", 3), tally("201802", 2)]);
    let whole = client.tally(&servers.first, &all, &[], &none()).await.unwrap();
    assert_eq!(whole.iter().map(|tally| (tally.id.clone(), tally.rows)).collect::<Vec<_>>(), [(Some(id("all")), 5)]);
    let mut values = client.values_by_partition(&servers.first, &a, &month()).await.unwrap();
    values.sort();
    let value = |text: &str, rows| (id(text), PartitionValue(vec![text.into()]), rows);
    assert_eq!(values, [value("201801", 3), value("201802", 2)]);
    let mut one_each = client.value_by_partition(&servers.first, &a, &month()).await.unwrap();
    one_each.sort();
    assert_eq!(one_each, values);
    let mut parts = client.parts(&servers.first, &a).await.unwrap();
    parts.sort_by(|a, b| a.id.cmp(&b.id));
    let parts: Vec<(&str, &str, u64)> =
        parts.iter().map(|part| (part.id.0.as_str(), part.name.as_str(), part.rows)).collect();
    assert_eq!(parts, [("201801", "201801", 3), ("201802", "201802", 2)]);
    // The parts one by one: a later insert makes another part, and the others stay.
    let before = client.part_list(&servers.first, &a).await.unwrap();
    assert_eq!(before.parts.iter().map(|part| part.rows).sum::<u64>(), 5);
    assert!(before.parts.iter().all(|part| part.name.starts_with(&format!("{}_", part.id))), "{before:?}");
    assert!(!before.table.is_empty());
    assert_eq!(client.part_list(&servers.first, &a).await.unwrap().table, before.table);
    assert!(client.part_list(&servers.first, &servers.name("no")).await.unwrap().parts.is_empty());
    // The checksum adds up over partitions, distinguishes equal rows from none, and is the same on another node.
    let columns = client.table(&servers.first, &a).await.unwrap().unwrap().columns;
    let january = client.checksum(&servers.first, &a, Some(&id("201801")), &columns).await.unwrap();
    let february = client.checksum(&servers.first, &a, Some(&id("201802")), &columns).await.unwrap();
    let both = client.checksum(&servers.first, &a, None, &columns).await.unwrap();
    assert_eq!(both, (5, january.1.wrapping_add(february.1)));
    assert_ne!(january.1, february.1);
    assert_eq!(client.checksum(&servers.first, &a, Some(&id("201803")), &columns).await.unwrap(), (0, 0));
    let b = servers.create(&servers.second, "b", ENGINE).await;
    client.transfer(&servers.copy(&a, &servers.second, &b)).await.unwrap();
    assert_eq!(client.checksum(&servers.second, &b, None, &columns).await.unwrap(), both);
    // Rows of one table are searched in another table of the same node.
    let c = servers.create(&servers.first, "c", ENGINE).await;
    let sampled = async |name, sample, month| {
        client.sampled_rows(&servers.first, name, sample, &id(month), &columns).await.unwrap()
    };
    assert_eq!((sampled(&a, &a, "201801").await, sampled(&c, &a, "201801").await), (3, 0));
    client.transfer(&servers.copy(&a, &servers.first, &c)).await.unwrap();
    assert_eq!((sampled(&c, &a, "201801").await, sampled(&c, &a, "201802").await), (3, 2));
    assert_eq!(sampled(&c, &a, "201803").await, 0);
    let empty = servers.create(&servers.first, "empty", ENGINE).await;
    let nothing = Selection::all(Relation::plain(empty));
    assert!(client.tally(&servers.first, &nothing, &[], &none()).await.unwrap().is_empty());
    assert!(client.tally(&servers.first, &nothing, &month(), &none()).await.unwrap().is_empty());
}

pub async fn attach_adds_rows_and_replace_replaces_them(servers: &TestServers<'_>) {
    servers.databases().await;
    let (client, node) = (servers.client, &servers.first);
    let (a, b) = (servers.filled("a", 4).await, servers.create(node, "b", ENGINE).await);
    let ids = [id("201801"), id("201802")];
    client.place(node, Placing::Attach, &b, &a, &ids, &none()).await.unwrap();
    client.place(node, Placing::Attach, &b, &a, &ids[..1], &none()).await.unwrap();
    assert_eq!(servers.rows(node, &b).await, counts(&[("201801", 4), ("201802", 2)]));
    client.place(node, Placing::Replace, &b, &a, &ids[..1], &none()).await.unwrap();
    assert_eq!(servers.rows(node, &b).await, counts(&[("201801", 2), ("201802", 2)]));
    assert_eq!(client.displaced_parts(node, &b, &[id("201802")]).await.unwrap(), 0);
    assert_eq!(servers.rows(node, &a).await, counts(&[("201801", 2), ("201802", 2)]));
    let columns = ["d", "id", "s"].map(str::to_owned);
    client.insert_partition(node, &b, &a, &columns, &id("201802"), &none()).await.unwrap();
    assert_eq!(servers.rows(node, &b).await, counts(&[("201801", 2), ("201802", 4)]));
    client.drop_partitions(node, &b, &[id("201802"), id("201803")], &none()).await.unwrap();
    assert_eq!(servers.rows(node, &b).await, counts(&[("201801", 2)]));
    client.drop_partitions(node, &b, &[], &none()).await.unwrap();
    client.place(node, Placing::Replace, &b, &a, &[], &none()).await.unwrap();
    // The source of an ATTACH can be dropped afterwards.
    client.drop_table(node, &a, &none()).await.unwrap();
    assert_eq!(servers.rows(node, &b).await, counts(&[("201801", 2)]));
}

pub async fn replace_from_an_empty_partition_empties_the_partition(servers: &TestServers<'_>) {
    servers.databases().await;
    let (client, node) = (servers.client, &servers.first);
    let (a, empty) = (servers.filled("a", 2).await, servers.create(node, "empty", ENGINE).await);
    client.place(node, Placing::Attach, &a, &empty, &[id("201801")], &none()).await.unwrap();
    assert_eq!(servers.rows(node, &a).await, counts(&[("201801", 1), ("201802", 1)]));
    client.place(node, Placing::Replace, &a, &empty, &[id("201801")], &none()).await.unwrap();
    assert_eq!(servers.rows(node, &a).await, counts(&[("201802", 1)]));
}

pub async fn a_replicated_table_accepts_the_same_part_once(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let path = format!("/tables/{}", servers.database);
    let engine =
        |replica: &str| format!("ReplicatedMergeTree('{path}', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let b = servers.create(&servers.first, "b", &engine("r1")).await;
    servers.create(&servers.second, "b", &engine("r2")).await;
    let state = client.replica_state(&servers.second, &b).await.unwrap().unwrap();
    assert_eq!((state.path.as_str(), state.name.as_str()), (path.as_str(), "r2"));
    let mut replicas = client.zookeeper_children(&servers.first, &format!("{path}/replicas")).await.unwrap().unwrap();
    replicas.sort();
    assert_eq!(replicas, ["r1", "r2"]);
    let missing = client.zookeeper_children(&servers.first, &format!("{path}-no/replicas")).await.unwrap();
    assert_eq!(missing, None);
    let a = servers.create(&servers.first, "a", ENGINE).await;
    servers.add(&a, 0).await;
    let january = [id("201801")];
    for _ in 0..2 {
        client.place(&servers.first, Placing::Attach, &b, &a, &january, &none()).await.unwrap();
        assert_eq!(servers.rows(&servers.first, &b).await, counts(&[("201801", 1)]));
    }
    client.place(&servers.first, Placing::Replace, &b, &a, &january, &none()).await.unwrap();
    client.place(&servers.first, Placing::Replace, &b, &a, &january, &none()).await.unwrap();
    client.sync_replica(&servers.second, &b).await.unwrap();
    assert_eq!(servers.rows(&servers.second, &b).await, counts(&[("201801", 1)]));
    // A rewrite of the rows does not count as a repetition if the statement says so.
    let columns = ["d", "id", "s"].map(str::to_owned);
    let settings: Settings = vec![("insert_deduplicate".into(), "0".into())];
    client.insert_partition(&servers.first, &b, &a, &columns, &january[0], &settings).await.unwrap();
    client.sync_replica(&servers.second, &b).await.unwrap();
    assert_eq!(servers.rows(&servers.second, &b).await, counts(&[("201801", 2)]));
    client.drop_partitions(&servers.first, &b, &january, &none()).await.unwrap();
    client.sync_replica(&servers.second, &b).await.unwrap();
    assert_eq!(servers.rows(&servers.second, &b).await, counts(&[]));
    // After a drop, the part is accepted again.
    client.place(&servers.first, Placing::Attach, &b, &a, &january, &none()).await.unwrap();
    assert_eq!(servers.rows(&servers.first, &b).await, counts(&[("201801", 1)]));
    // Paths in ZooKeeper outlive databases.
    for node in [&servers.first, &servers.second] {
        client.drop_table(node, &b, &none()).await.unwrap();
    }
}

pub async fn expressions_have_types_or_error_codes(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 1).await;
    let all = Selection::all(Relation::plain(a));
    let list = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    let expressions = list(&["toYYYYMM(d)", "(id)", "(s = '1')", "intHash32(id)", "cityHash64(s)", "toMonday(d)"]);
    let types = client.types(&servers.first, Some(&all), &expressions).await.unwrap();
    assert_eq!(types, ["UInt32", "UInt32", "UInt8", "UInt32", "UInt64", "Date"]);
    code(client.types(&servers.first, Some(&all), &list(&["nowhere"])).await, 47);
    code(client.types(&servers.first, Some(&all), &list(&["noSuchFunction(d)"])).await, 46);
    code(client.types(&servers.first, None, &list(&["(id)"])).await, 47);
    assert_eq!(client.types(&servers.first, None, &list(&["(1)"])).await.unwrap(), ["UInt8"]);
    client.evaluate(&servers.first, &all, &list(&["toUInt8(s)"]), 10, &none()).await.unwrap();
    code(client.evaluate(&servers.first, &all, &list(&["toDate(s)", "nowhere"]), 10, &none()).await, 47);
    let facts = client.server(&servers.first).await.unwrap();
    assert!(!facts.is_read_only() && facts.release() > (0, 0), "{facts:?}");
}

/// All questions run at the same time, one of them about a missing table. Each gets its own answer, the same as
/// alone.
pub async fn simultaneous_questions_about_many_tables_are_answered_as_single_ones(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    client.answers(&servers.first).await.unwrap();
    let mut names = vec![servers.name("no")];
    for (name, months) in [("a", 1), ("b", 2), ("it's `c`", 3)] {
        names.push(servers.filled(name, months).await);
    }
    names.push(servers.create(&servers.first, "empty", ENGINE).await);
    let asked = |name| async move {
        let (table, parts, list) = tokio::try_join!(
            client.table(&servers.first, name),
            client.parts(&servers.first, name),
            client.part_list(&servers.first, name)
        )?;
        let mut rows: Vec<(String, u64)> = parts.into_iter().map(|part| (part.id.0, part.rows)).collect();
        rows.sort();
        let mut parts: Vec<String> = list.parts.into_iter().map(|part| part.name).collect();
        parts.sort();
        Ok::<_, Error>((table, rows, list.table, parts))
    };
    let together = futures::future::join_all(names.iter().map(asked)).await;
    for (name, together) in names.iter().zip(together) {
        let (table, rows, mark, parts) = together.unwrap();
        assert_eq!(table.as_ref().map(|table| &table.name), (*name != names[0]).then_some(name));
        assert_eq!((table, rows, mark, parts), asked(name).await.unwrap(), "{name}");
    }
    let months: Vec<usize> = futures::future::join_all(
        names.iter().map(|name| async move { client.parts(&servers.first, name).await.unwrap().len() }),
    )
    .await;
    assert_eq!(months, [0, 1, 2, 2, 0]);
    // A table that was created after the answer is found.
    let late = servers.create(&servers.first, "no", ENGINE).await;
    assert!(client.table(&servers.first, &late).await.unwrap().is_some());
}

pub async fn a_node_reaches_another(servers: &TestServers<'_>) {
    servers.client.reaches(&servers.first, &servers.second).await.unwrap();
}

pub async fn a_statement_that_has_ended_is_not_running(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let a = servers.filled("a", 1).await;
    let prefix = format!("{}:", servers.database);
    assert!(client.running(&servers.first, &prefix).await.unwrap().is_empty());
    // A kill without running statements is no error.
    client.kill(&servers.first, &prefix).await.unwrap();
    let b = servers.create(&servers.first, "b", ENGINE).await;
    client.transfer(&servers.copy(&a, &servers.first, &b)).await.unwrap();
    // A server answers shortly before it removes the statement from its list, and refuses a second one of the same id
    // until then.
    while !client.running(&servers.first, &prefix).await.unwrap().is_empty() {}
    client.transfer(&servers.copy(&a, &servers.first, &b)).await.unwrap();
    assert_eq!(servers.rows(&servers.first, &b).await, counts(&[("201801", 2)]));
}

/// Clones as the copier does: into a replica by REPLACE, which accepts equal parts, and from there into a replica on
/// another server.
pub async fn parts_are_fetched_unchanged(servers: &TestServers<'_>) {
    servers.databases().await;
    let client = servers.client;
    let passage = |path: &str| {
        let path = format!("/tables/{}/{path}", servers.database);
        (path.clone(), format!("ReplicatedMergeTree('{path}', 'r') PARTITION BY toYYYYMM(d) ORDER BY (d, id)"))
    };
    let ((path, out), (_, into)) = (passage("out"), passage("into"));
    let a = servers.filled("a", 3).await;
    servers.add(&a, 1).await;
    let out = servers.create(&servers.first, "out", &out).await;
    let ids = [id("201801"), id("201802")];
    client.place(&servers.first, Placing::Replace, &out, &a, &ids, &none()).await.unwrap();
    let into = servers.create(&servers.second, "into", &into).await;
    let parts = async |node| client.zookeeper_children(node, &format!("{path}/replicas/r/parts")).await.unwrap();
    assert_eq!(parts(&servers.first).await.map(|parts| parts.len()), Some(4));
    assert_eq!(parts(&servers.first).await, parts(&servers.second).await);
    client.fetch(&servers.second, &into, &path, &[], "none", &none()).await.unwrap();
    // Otherwise modern servers take equal parts for a repetition.
    let settings: Settings = vec![("insert_deduplicate".into(), "0".into())];
    client.fetch(&servers.second, &into, &path, &ids, &format!("{}:fetch", servers.database), &settings).await.unwrap();
    assert_eq!(servers.rows(&servers.second, &into).await, counts(&[("201801", 2), ("201802", 2)]));
    code(client.fetch(&servers.second, &into, &path, &[id("203001")], "none", &none()).await, 257);
    code(client.fetch(&servers.second, &into, &format!("{path}/no"), &ids, "none", &none()).await, 999);
    let plain = servers.create(&servers.second, "plain", ENGINE).await;
    code(client.fetch(&servers.second, &plain, &path, &ids, "none", &none()).await, 48);
    // Questions about the parts.
    let columns = client.table(&servers.first, &a).await.unwrap().unwrap().columns;
    assert_eq!(client.parts_lacking(&servers.first, &out, &columns).await.unwrap(), 0);
    let other = Column { type_name: "UInt64".into(), ..columns[1].clone() };
    assert_eq!(client.parts_lacking(&servers.first, &out, &[columns[0].clone(), other]).await.unwrap(), 4);
    let marks = client.zookeeper_marks(&servers.first).await.unwrap();
    assert!(!marks.is_disjoint(&client.zookeeper_marks(&servers.second).await.unwrap()), "{marks:?}");
    // Otherwise modern servers drop its nodes later.
    let wait = [("database_atomic_wait_for_drop_and_detach_synchronously".to_owned(), "1".to_owned())];
    let wait = client.server(&servers.first).await.unwrap().known(&wait);
    client.drop_table(&servers.first, &out, &wait).await.unwrap();
    assert_eq!(parts(&servers.second).await, None);
}

pub async fn a_mark_is_visible_only_on_its_own_server(servers: &TestServers<'_>) {
    let prefix = format!("copier_identity_{}_", servers.database);
    let mark = format!("{prefix}7");
    let small = vec![("max_block_size".to_owned(), "1".to_owned())];
    let searches = async {
        // The mark starts some time later; servers do not report its start.
        while !servers.client.marks(&servers.first, &prefix).await.unwrap().contains(&mark) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(servers.client.marks(&servers.second, &prefix).await.unwrap(), BTreeSet::new());
        assert_eq!(
            servers.client.marks_behind(&servers.second, &servers.first, &prefix).await.unwrap(),
            BTreeSet::from([mark.clone()])
        );
        assert_eq!(
            servers.client.marks_behind(&servers.first, &servers.second, &prefix).await.unwrap(),
            BTreeSet::new()
        );
        servers.client.fingerprint(&servers.first).await.unwrap();
    };
    tokio::select! {
        ended = servers.client.hold_mark(&servers.first, &mark, &small) => panic!("the mark has ended: {ended:?}"),
        () = searches => {}
    }
    servers.client.end_mark(&servers.first, &mark).await.unwrap();
}
