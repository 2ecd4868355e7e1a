//! Databases, tables and partitions, and what is asked about them.

use super::*;
use crate::sql::DefaultKind;

pub async fn databases_and_tables_come_and_go(at: &Place<'_>) {
    let (of, node) = (at.of, &at.one);
    assert_eq!(of.database_engine(node, &at.database).await.unwrap(), None);
    assert_eq!(of.table(node, &at.name("a")).await.unwrap(), None);
    assert!(of.tables_with_prefix(node, &at.database, "").await.unwrap().is_empty());
    at.databases().await;
    of.create_database(node, &at.database, &none()).await.unwrap();
    assert!(of.database_engine(node, &at.database).await.unwrap().is_some());
    assert_eq!(of.table(node, &at.name("a")).await.unwrap(), None);
    let a = at.create(node, "a", ENGINE).await;
    let ab = at.create(node, "ab", ENGINE).await;
    assert_eq!(of.tables_with_prefix(node, &at.database, "a").await.unwrap(), ["a", "ab"]);
    assert_eq!(of.tables_with_prefix(node, &at.database, "ab").await.unwrap(), ["ab"]);
    assert!(of.tables_with_prefix(&at.two, &at.database, "").await.unwrap().is_empty());
    of.rename(node, &[]).await.unwrap();
    of.rename(node, &[(a.clone(), at.name("x")), (ab, at.name("y"))]).await.unwrap();
    assert_eq!(of.tables_with_prefix(node, &at.database, "").await.unwrap(), ["x", "y"]);
    of.drop_table(node, &at.name("x"), &none()).await.unwrap();
    of.drop_table(node, &at.name("x"), &none()).await.unwrap();
    assert_eq!(of.tables_with_prefix(node, &at.database, "").await.unwrap(), ["y"]);
    assert_eq!(of.replica_state(node, &at.name("y")).await.unwrap(), None);
}

pub async fn what_is_missing_or_there_already_is_told_by_its_code(at: &Place<'_>) {
    let (of, node) = (at.of, &at.one);
    let a = at.name("a");
    let statement = format!("CREATE TABLE {} {COLUMNS} ENGINE = {ENGINE}", quote::table(&a));
    code(of.create_table(node, &a, &statement, &none()).await, 81);
    at.databases().await;
    of.create_table(node, &a, &statement, &none()).await.unwrap();
    code(of.create_table(node, &a, &statement, &none()).await, 57);
    let lenient = statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
    of.create_table(node, &a, &lenient, &none()).await.unwrap();
    let (b, no) = (at.create(node, "b", ENGINE).await, at.name("no"));
    code(of.rename(node, &[(no.clone(), at.name("c"))]).await, 60);
    code(of.rename(node, &[(a.clone(), b)]).await, 57);
    code(of.rows_by_partition(node, &no, None).await, 60);
    code(of.tally(node, &Selection::all(Relation::plain(no.clone())), &month(), &none()).await, 60);
    code(of.values_by_partition(node, &no, &month()).await, 60);
    code(of.value_by_partition(node, &no, &month()).await, 60);
    code(of.checksum(node, &no, None, &of.table(node, &a).await.unwrap().unwrap().columns).await, 60);
    for placing in [Placing::Attach, Placing::Replace] {
        code(of.place(node, placing, &a, &no, &[id("201801")], &none()).await, 60);
        code(of.place(node, placing, &no, &a, &[id("201801")], &none()).await, 60);
        let other = at.create(node, &format!("{placing:?}"), "MergeTree PARTITION BY d ORDER BY (d, id)").await;
        code(of.place(node, placing, &a, &other, &[id("201801")], &none()).await, 36);
    }
    code(of.drop_partitions(node, &no, &[id("201801")], &none()).await, 60);
    code(of.insert_partition(node, &a, &no, &["d".into()], &id("201801"), &none()).await, 60);
    assert!(of.parts(node, &no).await.unwrap().is_empty());
}

pub async fn a_definition_comes_back_as_it_was_written(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.create(&at.one, "a", "ReplacingMergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)").await;
    let found = of.table(&at.one, &a).await.unwrap().unwrap();
    assert_eq!((&found.name, found.engine.name.as_str()), (&a, "ReplacingMergeTree"));
    assert_eq!(found.engine.partition_key().as_deref(), Some("toYYYYMM(d)"));
    assert_eq!(found.sorting_key, "d, id");
    let columns: Vec<(&str, &str)> =
        found.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())).collect();
    assert_eq!(columns, [("d", "Date"), ("id", "UInt32"), ("s", "String")]);
    let last = found.column("s").unwrap();
    assert_eq!((last.default_kind, last.default_expression.as_str()), (DefaultKind::Default, "'none'"));
    // What is made of it is a table like it, and a staging table whose partitions fit.
    let again = found.create(&at.name("b"), &found.engine);
    of.create_table(&at.two, &at.name("b"), &again, &none()).await.unwrap();
    let copy = of.table(&at.two, &at.name("b")).await.unwrap().unwrap();
    assert_eq!((copy.engine, copy.columns), (found.engine.clone(), found.columns.clone()));
    let order = ["s", "id", "d"].map(str::to_owned);
    let staging = found.create_staging(&at.name("st"), &order).unwrap();
    of.create_table(&at.one, &at.name("st"), &staging, &none()).await.unwrap();
    let staged = of.table(&at.one, &at.name("st")).await.unwrap().unwrap();
    assert_eq!(staged.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["s", "id", "d"]);
    assert_eq!(staged.engine.name, "MergeTree");
    let seed = TableName::new("system", "one");
    let values = ["'x'", "toUInt32(5)", "toDate('2018-03-01')"].map(str::to_owned).into();
    let columns = order.into();
    of.transfer(&Transfer { columns, values, ..at.copy(&seed, &at.one, &at.name("st")) }).await.unwrap();
    of.place(&at.one, Placing::Replace, &a, &at.name("st"), &[id("201803")], &none()).await.unwrap();
    let sum = async |name: &TableName| of.checksum(&at.one, name, None, &found.columns).await.unwrap();
    let moved = sum(&a).await;
    assert_eq!(moved.0, 1);
    assert_eq!(moved, sum(&at.name("st")).await);
}

pub async fn rows_are_counted_alike_in_every_way(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 5).await;
    let all = Selection::all(Relation::plain(a.clone()));
    assert_eq!(at.rows(&at.one, &a).await, counts(&[("201801", 3), ("201802", 2)]));
    let only = of.rows_by_partition(&at.one, &a, Some(&[id("201802"), id("201803")])).await.unwrap();
    assert_eq!(only.into_iter().collect::<Vec<_>>(), [(id("201802"), 2)]);
    assert!(of.rows_by_partition(&at.one, &a, Some(&[])).await.unwrap().is_empty());
    let mut tallies = of.tally(&at.one, &all, &month(), &none()).await.unwrap();
    tallies.sort_by(|a, b| a.value.cmp(&b.value));
    let tally = |text: &str, rows| Tally {
        value: PartitionValue(vec![text.into()]),
        shown: vec![text.into()],
        id: Some(id(text)),
        rows,
    };
    assert_eq!(tallies, [tally("201801", 3), tally("201802", 2)]);
    let whole = of.tally(&at.one, &all, &[], &none()).await.unwrap();
    assert_eq!(whole.iter().map(|tally| (tally.id.clone(), tally.rows)).collect::<Vec<_>>(), [(Some(id("all")), 5)]);
    let mut values = of.values_by_partition(&at.one, &a, &month()).await.unwrap();
    values.sort();
    let value = |text: &str, rows| (id(text), PartitionValue(vec![text.into()]), rows);
    assert_eq!(values, [value("201801", 3), value("201802", 2)]);
    let mut one_each = of.value_by_partition(&at.one, &a, &month()).await.unwrap();
    one_each.sort();
    assert_eq!(one_each, values);
    let mut parts = of.parts(&at.one, &a).await.unwrap();
    parts.sort_by(|a, b| a.id.cmp(&b.id));
    let parts: Vec<(&str, &str, u64)> =
        parts.iter().map(|part| (part.id.0.as_str(), part.name.as_str(), part.rows)).collect();
    assert_eq!(parts, [("201801", "201801", 3), ("201802", "201802", 2)]);
    // Part by part; what is inserted later makes another one, and the others stay.
    let before = of.part_list(&at.one, &a).await.unwrap();
    assert_eq!(before.parts.iter().map(|part| part.rows).sum::<u64>(), 5);
    assert!(before.parts.iter().all(|part| part.name.starts_with(&format!("{}_", part.id))), "{before:?}");
    assert!(!before.table.is_empty());
    assert_eq!(of.part_list(&at.one, &a).await.unwrap().table, before.table);
    assert!(of.part_list(&at.one, &at.name("no")).await.unwrap().parts.is_empty());
    // The checksum adds up over partitions, knows equal rows from none, and is the same on another node.
    let columns = of.table(&at.one, &a).await.unwrap().unwrap().columns;
    let january = of.checksum(&at.one, &a, Some(&id("201801")), &columns).await.unwrap();
    let february = of.checksum(&at.one, &a, Some(&id("201802")), &columns).await.unwrap();
    let both = of.checksum(&at.one, &a, None, &columns).await.unwrap();
    assert_eq!(both, (5, january.1.wrapping_add(february.1)));
    assert_ne!(january.1, february.1);
    assert_eq!(of.checksum(&at.one, &a, Some(&id("201803")), &columns).await.unwrap(), (0, 0));
    let b = at.create(&at.two, "b", ENGINE).await;
    of.transfer(&at.copy(&a, &at.two, &b)).await.unwrap();
    assert_eq!(of.checksum(&at.two, &b, None, &columns).await.unwrap(), both);
    // Rows of one table are looked for in another one of the same node.
    let c = at.create(&at.one, "c", ENGINE).await;
    let sampled =
        async |name, sample, month| of.sampled_rows(&at.one, name, sample, &id(month), &columns).await.unwrap();
    assert_eq!((sampled(&a, &a, "201801").await, sampled(&c, &a, "201801").await), (3, 0));
    of.transfer(&at.copy(&a, &at.one, &c)).await.unwrap();
    assert_eq!((sampled(&c, &a, "201801").await, sampled(&c, &a, "201802").await), (3, 2));
    assert_eq!(sampled(&c, &a, "201803").await, 0);
    let empty = at.create(&at.one, "empty", ENGINE).await;
    let nothing = Selection::all(Relation::plain(empty));
    assert!(of.tally(&at.one, &nothing, &[], &none()).await.unwrap().is_empty());
    assert!(of.tally(&at.one, &nothing, &month(), &none()).await.unwrap().is_empty());
}

pub async fn attach_adds_and_replace_takes_the_place(at: &Place<'_>) {
    at.databases().await;
    let (of, node) = (at.of, &at.one);
    let (a, b) = (at.filled("a", 4).await, at.create(node, "b", ENGINE).await);
    let ids = [id("201801"), id("201802")];
    of.place(node, Placing::Attach, &b, &a, &ids, &none()).await.unwrap();
    of.place(node, Placing::Attach, &b, &a, &ids[..1], &none()).await.unwrap();
    assert_eq!(at.rows(node, &b).await, counts(&[("201801", 4), ("201802", 2)]));
    of.place(node, Placing::Replace, &b, &a, &ids[..1], &none()).await.unwrap();
    assert_eq!(at.rows(node, &b).await, counts(&[("201801", 2), ("201802", 2)]));
    assert_eq!(of.displaced_parts(node, &b, &[id("201802")]).await.unwrap(), 0);
    assert_eq!(at.rows(node, &a).await, counts(&[("201801", 2), ("201802", 2)]));
    let columns = ["d", "id", "s"].map(str::to_owned);
    of.insert_partition(node, &b, &a, &columns, &id("201802"), &none()).await.unwrap();
    assert_eq!(at.rows(node, &b).await, counts(&[("201801", 2), ("201802", 4)]));
    of.drop_partitions(node, &b, &[id("201802"), id("201803")], &none()).await.unwrap();
    assert_eq!(at.rows(node, &b).await, counts(&[("201801", 2)]));
    of.drop_partitions(node, &b, &[], &none()).await.unwrap();
    of.place(node, Placing::Replace, &b, &a, &[], &none()).await.unwrap();
    // The source of an ATTACH is free afterwards.
    of.drop_table(node, &a, &none()).await.unwrap();
    assert_eq!(at.rows(node, &b).await, counts(&[("201801", 2)]));
}

pub async fn replace_from_nothing_empties(at: &Place<'_>) {
    at.databases().await;
    let (of, node) = (at.of, &at.one);
    let (a, empty) = (at.filled("a", 2).await, at.create(node, "empty", ENGINE).await);
    of.place(node, Placing::Attach, &a, &empty, &[id("201801")], &none()).await.unwrap();
    assert_eq!(at.rows(node, &a).await, counts(&[("201801", 1), ("201802", 1)]));
    of.place(node, Placing::Replace, &a, &empty, &[id("201801")], &none()).await.unwrap();
    assert_eq!(at.rows(node, &a).await, counts(&[("201802", 1)]));
}

pub async fn a_replicated_table_takes_the_same_part_once(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let path = format!("/tables/{}", at.database);
    let engine =
        |replica: &str| format!("ReplicatedMergeTree('{path}', '{replica}') PARTITION BY toYYYYMM(d) ORDER BY (d, id)");
    let b = at.create(&at.one, "b", &engine("r1")).await;
    at.create(&at.two, "b", &engine("r2")).await;
    let state = of.replica_state(&at.two, &b).await.unwrap().unwrap();
    assert_eq!((state.path.as_str(), state.name.as_str()), (path.as_str(), "r2"));
    let mut replicas = of.zookeeper_children(&at.one, &format!("{path}/replicas")).await.unwrap().unwrap();
    replicas.sort();
    assert_eq!(replicas, ["r1", "r2"]);
    let missing = of.zookeeper_children(&at.one, &format!("{path}-no/replicas")).await.unwrap();
    assert_eq!(missing, None);
    let a = at.create(&at.one, "a", ENGINE).await;
    at.add(&a, 0).await;
    let january = [id("201801")];
    for _ in 0..2 {
        of.place(&at.one, Placing::Attach, &b, &a, &january, &none()).await.unwrap();
        assert_eq!(at.rows(&at.one, &b).await, counts(&[("201801", 1)]));
    }
    of.place(&at.one, Placing::Replace, &b, &a, &january, &none()).await.unwrap();
    of.place(&at.one, Placing::Replace, &b, &a, &january, &none()).await.unwrap();
    of.sync_replica(&at.two, &b).await.unwrap();
    assert_eq!(at.rows(&at.two, &b).await, counts(&[("201801", 1)]));
    // A rewrite of the rows is not a repetition when it says so.
    let columns = ["d", "id", "s"].map(str::to_owned);
    let settings: Settings = vec![("insert_deduplicate".into(), "0".into())];
    of.insert_partition(&at.one, &b, &a, &columns, &january[0], &settings).await.unwrap();
    of.sync_replica(&at.two, &b).await.unwrap();
    assert_eq!(at.rows(&at.two, &b).await, counts(&[("201801", 2)]));
    of.drop_partitions(&at.one, &b, &january, &none()).await.unwrap();
    of.sync_replica(&at.two, &b).await.unwrap();
    assert_eq!(at.rows(&at.two, &b).await, counts(&[]));
    // Dropped, the part is welcome again.
    of.place(&at.one, Placing::Attach, &b, &a, &january, &none()).await.unwrap();
    assert_eq!(at.rows(&at.one, &b).await, counts(&[("201801", 1)]));
    // Paths in ZooKeeper outlive databases.
    for node in [&at.one, &at.two] {
        of.drop_table(node, &b, &none()).await.unwrap();
    }
}

pub async fn expressions_have_types_or_codes(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 1).await;
    let all = Selection::all(Relation::plain(a));
    let list = |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    let expressions = list(&["toYYYYMM(d)", "(id)", "(s = '1')", "intHash32(id)", "cityHash64(s)", "toMonday(d)"]);
    let types = of.types(&at.one, Some(&all), &expressions).await.unwrap();
    assert_eq!(types, ["UInt32", "UInt32", "UInt8", "UInt32", "UInt64", "Date"]);
    code(of.types(&at.one, Some(&all), &list(&["nowhere"])).await, 47);
    code(of.types(&at.one, Some(&all), &list(&["noSuchFunction(d)"])).await, 46);
    code(of.types(&at.one, None, &list(&["(id)"])).await, 47);
    assert_eq!(of.types(&at.one, None, &list(&["(1)"])).await.unwrap(), ["UInt8"]);
    of.evaluate(&at.one, &all, &list(&["toUInt8(s)"]), 10, &none()).await.unwrap();
    code(of.evaluate(&at.one, &all, &list(&["toDate(s)", "nowhere"]), 10, &none()).await, 47);
    let facts = of.server(&at.one).await.unwrap();
    assert!(!facts.is_read_only() && facts.release() > (0, 0), "{facts:?}");
}

/// All at the same time, with one that is not there: each gets its own answer, the same as when it is asked for alone.
pub async fn what_is_asked_of_many_tables_at_once_is_what_each_one_says(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    of.answers(&at.one).await.unwrap();
    let mut names = vec![at.name("no")];
    for (name, months) in [("a", 1), ("b", 2), ("it's `c`", 3)] {
        names.push(at.filled(name, months).await);
    }
    names.push(at.create(&at.one, "empty", ENGINE).await);
    let asked = |name| async move {
        let (table, parts, list) =
            tokio::try_join!(of.table(&at.one, name), of.parts(&at.one, name), of.part_list(&at.one, name))?;
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
    let months: Vec<usize> =
        futures::future::join_all(names.iter().map(|name| async move { of.parts(&at.one, name).await.unwrap().len() }))
            .await;
    assert_eq!(months, [0, 1, 2, 2, 0]);
    // A table that was made after the answer is found.
    let late = at.create(&at.one, "no", ENGINE).await;
    assert!(of.table(&at.one, &late).await.unwrap().is_some());
}

pub async fn a_node_reaches_another(at: &Place<'_>) {
    at.of.reaches(&at.one, &at.two).await.unwrap();
}

pub async fn a_statement_that_has_ended_is_not_running(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 1).await;
    let prefix = format!("{}:", at.database);
    assert!(of.running(&at.one, &prefix).await.unwrap().is_empty());
    // Nothing to end is no error.
    of.kill(&at.one, &prefix).await.unwrap();
    let b = at.create(&at.one, "b", ENGINE).await;
    of.transfer(&at.copy(&a, &at.one, &b)).await.unwrap();
    // A server answers a little before it takes the statement from its list, and refuses a second one of the same id until then.
    while !of.running(&at.one, &prefix).await.unwrap().is_empty() {}
    of.transfer(&at.copy(&a, &at.one, &b)).await.unwrap();
    assert_eq!(at.rows(&at.one, &b).await, counts(&[("201801", 2)]));
}

/// As the copier clones: into a replica by REPLACE, which takes equal parts, and from there into one of another server.
pub async fn parts_are_fetched_as_they_are(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let passage = |path: &str| {
        let path = format!("/tables/{}/{path}", at.database);
        (path.clone(), format!("ReplicatedMergeTree('{path}', 'r') PARTITION BY toYYYYMM(d) ORDER BY (d, id)"))
    };
    let ((path, out), (_, into)) = (passage("out"), passage("into"));
    let a = at.filled("a", 3).await;
    at.add(&a, 1).await;
    let out = at.create(&at.one, "out", &out).await;
    let ids = [id("201801"), id("201802")];
    of.place(&at.one, Placing::Replace, &out, &a, &ids, &none()).await.unwrap();
    let into = at.create(&at.two, "into", &into).await;
    let parts = async |node| of.zookeeper_children(node, &format!("{path}/replicas/r/parts")).await.unwrap();
    assert_eq!(parts(&at.one).await.map(|parts| parts.len()), Some(4));
    assert_eq!(parts(&at.one).await, parts(&at.two).await);
    of.fetch(&at.two, &into, &path, &[], "none", &none()).await.unwrap();
    // Else modern servers take equal parts for a repetition.
    let settings: Settings = vec![("insert_deduplicate".into(), "0".into())];
    of.fetch(&at.two, &into, &path, &ids, &format!("{}:fetch", at.database), &settings).await.unwrap();
    assert_eq!(at.rows(&at.two, &into).await, counts(&[("201801", 2), ("201802", 2)]));
    code(of.fetch(&at.two, &into, &path, &[id("203001")], "none", &none()).await, 257);
    code(of.fetch(&at.two, &into, &format!("{path}/no"), &ids, "none", &none()).await, 999);
    let plain = at.create(&at.two, "plain", ENGINE).await;
    code(of.fetch(&at.two, &plain, &path, &ids, "none", &none()).await, 48);
    // What is told of the parts.
    let columns = of.table(&at.one, &a).await.unwrap().unwrap().columns;
    assert_eq!(of.parts_lacking(&at.one, &out, &columns).await.unwrap(), 0);
    let other = Column { type_name: "UInt64".into(), ..columns[1].clone() };
    assert_eq!(of.parts_lacking(&at.one, &out, &[columns[0].clone(), other]).await.unwrap(), 4);
    let marks = of.zookeeper_marks(&at.one).await.unwrap();
    assert!(!marks.is_disjoint(&of.zookeeper_marks(&at.two).await.unwrap()), "{marks:?}");
    // Else modern servers drop its nodes later.
    let wait = [("database_atomic_wait_for_drop_and_detach_synchronously".to_owned(), "1".to_owned())];
    let wait = of.server(&at.one).await.unwrap().known(&wait);
    of.drop_table(&at.one, &out, &wait).await.unwrap();
    assert_eq!(parts(&at.two).await, None);
}

pub async fn a_mark_is_seen_on_its_own_server(at: &Place<'_>) {
    let prefix = format!("copier_identity_{}_", at.database);
    let mark = format!("{prefix}7");
    let small = vec![("max_block_size".to_owned(), "1".to_owned())];
    let looks = async {
        // It begins by itself; servers tell nobody.
        while !at.of.marks(&at.one, &prefix).await.unwrap().contains(&mark) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(at.of.marks(&at.two, &prefix).await.unwrap(), BTreeSet::new());
        assert_eq!(at.of.marks_behind(&at.two, &at.one, &prefix).await.unwrap(), BTreeSet::from([mark.clone()]));
        assert_eq!(at.of.marks_behind(&at.one, &at.two, &prefix).await.unwrap(), BTreeSet::new());
        at.of.fingerprint(&at.one).await.unwrap();
    };
    tokio::select! {
        ended = at.of.hold_mark(&at.one, &mark, &small) => panic!("the mark has ended: {ended:?}"),
        () = looks => {}
    }
    at.of.end_mark(&at.one, &mark).await.unwrap();
}
