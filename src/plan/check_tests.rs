//! Any changed value of a plan is either refused or makes no difference.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::check::Contradiction;
use super::{
    Account, BatchSizing, Creation, Document, Found, Mark, Planned, Reading, ShardAccount, ShardMark, ShardSize,
    Sharding, TablePlan, assemble, batches,
};
use crate::model::{PartitionId, PartitionValue};
use crate::sql::{KeyElement, Slice, SlotWidth};

fn found(name: &str, shards: &[(u64, u64)]) -> Found {
    Found {
        value: PartitionValue(vec![name.to_owned()]),
        name: name.to_owned(),
        id: Some(PartitionId(name.to_owned())),
        shards: shards.iter().map(|&(rows, bytes)| ShardSize { rows, bytes }).collect(),
        mark: Some(Mark(vec![ShardMark::of(0, "t", [("201801_1_2_0", 10, "")])])),
        renews: name == "201801",
    }
}

fn slices(shard: usize) -> Vec<Slice> {
    let column = KeyElement { expression: "id".into(), type_name: "UInt64".into() };
    let range = |from: Option<u64>, to: Option<u64>| Slice::Range {
        columns: vec![column.clone()],
        from: from.map(|bound| vec![bound.to_string()]),
        to: to.map(|bound| vec![bound.to_string()]),
    };
    match shard {
        0 => vec![range(None, Some(10)), range(Some(10), Some(20)), range(Some(20), None)],
        _ => (0..2).map(|number| Slice::Hash { expressions: vec!["id".into()], count: 2, number }).collect(),
    }
}

/// Returns a plan with small partitions in one batch, a large one in slices of both kinds, and one that is only
/// dropped.
fn table() -> TablePlan {
    let found = [
        found("201801", &[(10, 10), (20, 20)]),
        found("201802", &[(30, 30), (0, 0)]),
        found("201803", &[(500, 500), (301, 301)]),
        found("201804", &[(0, 0), (0, 0)]),
    ];
    let sizing = BatchSizing { batch_bytes: 100, splits: 1 };
    let cut = |batch: usize, shard: usize| if batch == 1 { slices(shard) } else { Vec::new() };
    let (partitions, batches, pieces) = assemble(&found, &batches(&found, sizing), sizing, cut);
    let counted = |counted| ShardAccount { node: "h:9000".into(), counted, parts: None };
    let reading = Reading {
        columns: None,
        raw: Vec::new(),
        values: vec!["`id`".into(), "`d`".into()],
        condition: Some("id != 3".into()),
        left: Vec::new(),
    };
    TablePlan {
        columns: vec!["id".into(), "d".into()],
        key: vec![KeyElement { expression: "toYYYYMM(d)".into(), type_name: "UInt32".into() }],
        sharding: Some(Sharding { key: "id".into(), width: SlotWidth(64), total: 3, slots: vec![0..1, 1..3] }),
        replicated: vec![true, false],
        batches,
        pieces,
        account: Some(Account {
            shards: vec![counted(540), counted(330)],
            beside: Some(9),
            same_partitions: true,
            moved: false,
        }),
        ..TablePlan::empty(reading, partitions)
    }
}

fn document() -> Document {
    let create =
        vec![Creation { statement: "CREATE TABLE".into(), nodes: ["h".to_owned()].into(), left_out: Vec::new() }];
    Document {
        schema: Document::SCHEMA,
        inputs: [("a".to_owned(), "b".to_owned())].into(),
        tables: vec![Planned { plan: table(), create, travel: Vec::new() }],
    }
}

/// Returns the part of a plan that decides which rows are copied, from where to where, and how.
fn effect(document: &Document) -> Value {
    let of_table = |planned: &Planned| {
        let mut plan = planned.plan.clone();
        (plan.remarks, plan.account) = (Vec::new(), None);
        for partition in &mut plan.partitions {
            (partition.rows, partition.bytes, partition.mark) = (0, 0, None);
        }
        plan.pieces.iter_mut().flat_map(|piece| &mut piece.sources).for_each(|share| share.rows = 0);
        json!([
            plan,
            planned.create.iter().map(|creation| (&creation.statement, &creation.nodes)).collect::<BTreeSet<_>>()
        ])
    };
    document.tables.iter().map(of_table).collect()
}

/// Runs everything that is computed from a plan, to find panics.
fn use_all(plan: &TablePlan) {
    let live = vec![vec!["a".to_owned(), "b".to_owned()]; plan.replicated.len()];
    for batch in 0..plan.batches.len() {
        plan.nodes_for(batch, &live);
        plan.partitions_of(batch);
    }
    for piece in 0..plan.pieces.len() {
        plan.bytes_of(piece);
        plan.rows_of(piece);
        plan.target_shards().for_each(|shard| drop(plan.rows_for(piece, shard)));
    }
}

/// Returns values that differ from a value.
fn others(value: &Value) -> Vec<Value> {
    let mut others =
        vec![Value::Null, json!([]), json!({}), json!("x"), json!(""), json!(0), json!(1), json!(true), json!(-1)];
    others.extend([json!(u64::MAX), json!(1.5), json!(1e300), json!(u64::MAX / 2)]);
    match value {
        Value::Bool(flag) => others.push(json!(!flag)),
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or(0);
            others.extend([json!(number + 1), json!(number.saturating_sub(1)), json!(number * 2)]);
        }
        Value::String(text) => others.extend([json!(format!("{text}1")), json!("((")]),
        Value::Array(list) => {
            others.extend((0..list.len()).map(|index| {
                let mut fewer = list.clone();
                fewer.remove(index);
                Value::Array(fewer)
            }));
            others.extend(
                list.first().map(|first| Value::Array([list.as_slice(), std::slice::from_ref(first)].concat())),
            );
            others.push(Value::Array(list.iter().rev().cloned().collect()));
        }
        Value::Object(fields) => others.extend(fields.keys().map(|name| {
            let mut fewer = fields.clone();
            fewer.remove(name);
            Value::Object(fewer)
        })),
        Value::Null => {}
    }
    others.retain(|other| other != value);
    others
}

/// Collects the paths of all values.
fn paths(value: &Value, above: &str, found: &mut Vec<String>) {
    found.push(above.to_owned());
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| paths(value, &format!("{above}/{index}"), found))
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| paths(value, &format!("{above}/{name}"), found))
        }
        _ => {}
    }
}

#[test]
fn a_new_plan_is_accepted() {
    assert_eq!(table().check(), Ok(()));
    assert_eq!(table().check_shards(2, 2), Ok(()));
    assert_eq!(document().changes(&document()), Vec::<String>::new());
}

#[test]
fn any_changed_value_of_a_plan_is_refused_or_makes_no_difference() {
    let original = document();
    let written = serde_json::to_value(&original).unwrap();
    let mut found = Vec::new();
    paths(&written, "", &mut found);
    let (mut refused, mut harmless) = (0, 0);
    for path in found {
        for other in others(written.pointer(&path).unwrap()) {
            let mut changed = written.clone();
            *changed.pointer_mut(&path).unwrap() = other.clone();
            let Ok(read) = serde_json::from_value::<Document>(changed) else {
                refused += 1;
                continue;
            };
            let results =
                read.tables.iter().map(|planned| planned.plan.check().and_then(|()| planned.plan.check_shards(2, 2)));
            let checked: Result<(), Contradiction> = results.collect();
            if checked.is_err() || read.schema != Document::SCHEMA || read.inputs != original.inputs {
                refused += 1;
                continue;
            }
            read.tables.iter().for_each(|planned| use_all(&planned.plan));
            if read.changes(&original).is_empty() {
                assert_eq!(effect(&read), effect(&original), "{path} = {other}");
                harmless += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(refused > 1000 && harmless > 10, "{refused} refused, {harmless} harmless");
}

/// A plan in the coordinator is not compared with another plan: its own parts must fit each other.
#[test]
fn a_contradiction_in_a_plan_is_reported_with_its_place() {
    let with = |change: fn(&mut TablePlan)| {
        let mut plan = table();
        change(&mut plan);
        plan.check().unwrap_err().to_string()
    };
    for (message, expected) in [
        (with(|plan| plan.pieces[0].sources.clear()), "batch 0: one of its pieces has no source"),
        (with(|plan| plan.batches[1].pieces.end -= 1), "the pieces of batch 2 are 6 to 6, of 6, and should begin at 5"),
        (with(|plan| plan.batches[0].pieces = 0..0), "the pieces of batch 1 are 1 to 6, of 6, and should begin at 0"),
        (
            with(|plan| plan.batches[2].partitions = 3..9),
            "the partitions of batch 2 are 3 to 9, of 4, and should begin at 3",
        ),
        (with(|plan| plan.pieces[0].batch = 1), "batch 0: one of its pieces says that it belongs to batch 1"),
        (
            with(|plan| plan.pieces[0].sources[1].shard = 0),
            "batch 0: one of its pieces names its source shards in another order, or twice",
        ),
        (with(|plan| plan.pieces[0].sources[0].rows += 1), "batch 0: its partitions have 60 rows, and its pieces 61"),
        (with(|plan| plan.partitions[2].rows = 900), "batch 1: its partitions have 900 rows, and its pieces 798"),
        (with(|plan| plan.pieces.swap(1, 2)), "batch 1: slice 0 does not begin where the one before ends"),
        (with(|plan| plan.pieces[5].slice = plan.pieces[4].slice.clone()), "batch 1: slice 1 of 2 is another one"),
        (with(|plan| plan.partitions[1].rows = u64::MAX), "its partitions have more rows or bytes than can be counted"),
        (
            with(|plan| plan.account.as_mut().unwrap().shards[0].counted += 7),
            "877 rows were counted at the source, and its partitions have 861, beside 9 others",
        ),
    ] {
        assert_eq!(message, format!("the plan contradicts itself: {expected}"));
    }
    assert_eq!(
        table().check_shards(1, 2).unwrap_err().to_string(),
        "the plan contradicts itself: it reads source shard 2, and there are 1"
    );
}
