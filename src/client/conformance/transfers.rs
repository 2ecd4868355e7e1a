//! Rows on their way: which arrive, and where.

use std::collections::BTreeSet;

use super::*;
use crate::sql::{Expression, PartitionFilter, Slice, SlotFilter, SlotKey, SlotWidth};

/// A server that looks for a table at another one answers with the log of its attempts to connect (code 279), in which modern
/// servers tell that server's error 60.
pub async fn a_transfer_tells_what_is_missing(at: &Place<'_>) {
    at.databases().await;
    let (of, node) = (at.of, &at.one);
    let (a, no) = (at.create(node, "a", ENGINE).await, at.name("no"));
    at.add(&a, 0).await;
    for &way in at.ways {
        let (source, target): (&[u32], &[u32]) = match way {
            Way::Push => (&[60], &[60, 279]),
            Way::Pull => (&[60, 279], &[60]),
            Way::Relay | Way::Clone => (&[60], &[60]),
        };
        for (from, to, codes) in [(&no, &a, source), (&a, &no, target)] {
            let outcome = of.transfer(&Transfer { way, ..at.copy(from, node, to) }).await;
            let answered = outcome.as_ref().err().and_then(Error::code);
            assert!(answered.is_some_and(|code| codes.contains(&code)), "{way}: {outcome:?}");
        }
    }
}

/// By its place, whatever its name is in the source; and conditions see the source's columns.
pub async fn a_transfer_gives_each_column_its_value(at: &Place<'_>) {
    at.databases().await;
    let a = at.filled("a", 6).await;
    for &way in at.ways {
        let b = at.create(&at.two, &format!("b_{way}"), ENGINE).await;
        let values = ["toDate('2018-03-01')", "toUInt32(toUInt32(s) + 100)", "toString(id)"].map(str::to_owned).into();
        let mut transfer = Transfer { way, values, ..at.copy(&a, &at.two, &b) };
        transfer.rows.relation.condition = Some(Expression::parse("id < 3 AND s != '1'").unwrap());
        at.of.transfer(&transfer).await.unwrap();
        let columns = ["id", "s"].map(|name| KeyElement { expression: name.into(), type_name: "String".into() });
        let rows = at.of.tally(&at.two, &Selection::all(Relation::plain(b)), &columns, &none()).await.unwrap();
        let mut rows: Vec<String> = rows.into_iter().map(|tally| tally.value.0.join("=")).collect();
        rows.sort();
        assert_eq!(rows, ["100=0", "102=2"], "{way}");
    }
}

pub async fn a_transfer_of_nothing_is_done(at: &Place<'_>) {
    at.databases().await;
    let a = at.create(&at.one, "a", ENGINE).await;
    for &way in at.ways {
        let b = at.create(&at.two, &format!("b_{way}"), ENGINE).await;
        at.of.transfer(&Transfer { way, ..at.copy(&a, &at.two, &b) }).await.unwrap();
        assert!(at.rows(&at.two, &b).await.is_empty(), "{way}");
    }
}

pub async fn a_transfer_lands_the_chosen_rows_on_their_shard(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 12).await;
    let key = SlotKey { key: Expression::parse("id % 3").unwrap(), width: SlotWidth(32), total: 3 };
    let filter = PartitionFilter { elements: month(), values: vec![PartitionValue(vec!["201801".into()])] };
    for &way in at.ways {
        let mut landed = 0;
        for (node, slots) in [(&at.one, 0..1), (&at.two, 1..3)] {
            let b = at.create(node, &format!("b_{way}"), ENGINE).await;
            let mut transfer = Transfer { way, ..at.copy(&a, node, &b) };
            transfer.rows.partitions = Some(filter.clone());
            transfer.rows.slots = Some(SlotFilter { key: key.clone(), slots: slots.clone() });
            transfer.rows.relation.condition = Some(Expression::parse("id < 10 OR s = 'never'").unwrap());
            let tallies = of.tally(&at.one, &transfer.rows, &month(), &none()).await.unwrap();
            let selected: u64 = tallies.iter().map(|tally| tally.rows).sum();
            of.transfer(&transfer).await.unwrap();
            // 0, 2, 4, 6, 8 are in January: 0 and 6 on the first slot.
            let expected = if slots.start == 0 { 2 } else { 3 };
            assert_eq!(selected, expected);
            assert_eq!(at.rows(node, &b).await, counts(&[("201801", expected)]), "{way}");
            let every = Selection::all(Relation::plain(b));
            let ids = [KeyElement { expression: "id".into(), type_name: "UInt32".into() }];
            let found = of.tally(node, &every, &ids, &none()).await.unwrap();
            let found: BTreeSet<String> = found.into_iter().map(|tally| tally.value.0.concat()).collect();
            let wanted: &[&str] = if slots.start == 0 { &["0", "6"] } else { &["2", "4", "8"] };
            assert_eq!(found, wanted.iter().map(|text| (*text).to_owned()).collect(), "{way}");
            landed += found.len();
        }
        assert_eq!(landed, 5);
    }
}

pub async fn a_relay_deals_each_row_to_its_slot(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 12).await;
    let mut tables = Vec::new();
    for node in [&at.one, &at.two] {
        tables.push(at.create(node, "b", ENGINE).await);
    }
    let key = SlotKey { key: Expression::parse("id").unwrap(), width: SlotWidth(32), total: 3 };
    let to = |node, slots| Destination { slots, ..Destination::of_all(node, format!("{}:{node}", at.database)) };
    for compress in [true, false] {
        let transfer = Transfer {
            way: Way::Relay,
            dealt: Some(key.clone()),
            to: vec![to(&at.one, 0..1), to(&at.two, 1..3)],
            compress,
            ..at.copy(&a, &at.two, &tables[1])
        };
        of.transfer(&transfer).await.unwrap();
    }
    // Twice: 0, 3, 6, 9 there, the others here; odd ids are in February.
    assert_eq!(at.rows(&at.one, &tables[0]).await, counts(&[("201801", 4), ("201802", 4)]));
    assert_eq!(at.rows(&at.two, &tables[1]).await, counts(&[("201801", 8), ("201802", 8)]));
    let every = Selection::all(Relation::plain(tables[0].clone()));
    let ids = [KeyElement { expression: "id".into(), type_name: "UInt32".into() }];
    let found = of.tally(&at.one, &every, &ids, &none()).await.unwrap();
    let found: BTreeSet<String> = found.into_iter().map(|tally| tally.value.0.concat()).collect();
    assert_eq!(found, ["0", "3", "6", "9"].map(str::to_owned).into());
    // One of the targets has no such table: nobody gets what is not counted as an error.
    of.drop_table(&at.two, &tables[1], &none()).await.unwrap();
    let transfer = Transfer {
        way: Way::Relay,
        dealt: Some(key),
        to: vec![to(&at.one, 0..1), to(&at.two, 1..3)],
        ..at.copy(&a, &at.two, &tables[1])
    };
    code(of.transfer(&transfer).await, 60);
}

pub async fn slices_hold_every_row_once(at: &Place<'_>) {
    at.databases().await;
    let of = at.of;
    let a = at.filled("a", 9).await;
    let element = |name: &str, of: &str| KeyElement { expression: name.into(), type_name: of.into() };
    let columns = vec![element("d", "Date"), element("id", "UInt32")];
    let all = Selection::all(Relation::plain(a));
    let keys = of.sample_keys(&at.one, &all, &columns, 1, &none()).await.unwrap();
    assert_eq!(keys.len(), 9);
    assert!(keys.is_sorted());
    let range = |from, to| Slice::Range { columns: columns.clone(), from, to };
    let bound = Some(keys[4].clone());
    let hash = |number| Slice::Hash { of: vec!["id".into()], count: 2, number };
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
            let tallies = of.tally(&at.one, &selection, &month(), &none()).await.unwrap();
            rows.push(tallies.iter().map(|tally| tally.rows).sum::<u64>());
        }
        assert_eq!(rows.iter().sum::<u64>(), 9);
        assert!(first.is_none_or(|first| rows[0] == first), "{rows:?}");
    }
}
