//! Plans, as they are stored in the coordinator and as `plan --output` writes them.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse_copier::plan::{
    Account, CopiedPartition, Creation, Document, Earlier, Planned, Reading, ShardAccount, TablePlan, Travel,
};
use clickhouse_copier::protocol::account::Blocks;
use clickhouse_copier::task::{GivenSecrets, Task};

use super::facts::{element, partition, plan, reading, sharding, slices, small_partition, text, texts};
use super::{check, check_stored, json};

#[test]
fn the_plan_of_a_table_keeps_its_form() {
    check_stored("plan-table.json", &plan());
}

#[test]
fn a_minimal_plan_keeps_its_form() {
    let least = TablePlan {
        reading: Reading { columns: None, raw: Vec::new(), values: Vec::new(), condition: None, left: Vec::new() },
        key: Vec::new(),
        sharding: None,
        partitions: vec![small_partition("all", 1)],
        batches: Vec::new(),
        pieces: Vec::new(),
        remarks: Vec::new(),
        clones: false,
        unchanged: 0,
        account: None,
        ..plan()
    };
    check_stored("plan-table-least.json", &least);
}

#[test]
fn slices_keep_their_form() {
    check_stored("plan-slices.json", &slices());
}

#[test]
fn an_account_without_parts_keeps_its_form() {
    let shards = vec![ShardAccount { node: text("s1:9000"), counted: 1, parts: None }];
    check_stored("plan-account-least.json", &Account { shards, beside: None, same_partitions: false, moved: false });
    check_stored("plan-blocks-least.json", &Blocks::default());
}

#[test]
fn the_record_of_earlier_passes_keeps_its_form() {
    let earlier = Earlier {
        reading: reading(),
        columns: texts(&["d", "id"]),
        key: vec![element("toYYYYMM(d)", "UInt32")],
        sharding: Some(sharding()),
        partitions: vec![CopiedPartition { partition: partition(), target: 10 }],
    };
    check_stored("plan-earlier.json", &earlier);
}

#[test]
fn a_saved_plan_file_keeps_its_form() {
    let create = vec![Creation {
        statement: text("CREATE TABLE b.visits …"),
        nodes: BTreeSet::from([text("t1:9000"), text("t2:9000")]),
        left_out: texts(&["CODEC(ZSTD)"]),
    }];
    let travel = |way: &str, since: Option<&str>| Travel {
        from: text("s1:9000"),
        to: text("t1:9000"),
        way: text(way),
        since: since.map(text),
    };
    let document = Document {
        schema: Document::SCHEMA,
        inputs: BTreeMap::from([(text("tables/hits/sharding_key"), text("intHash64(id)"))]),
        tables: vec![Planned {
            plan: plan(),
            create,
            travel: vec![travel("push", None), travel("relay", Some("why"))],
        }],
    };
    check_stored("plan-document.json", &document);
}

/// If one of these texts changes, a running task is refused as another task.
#[test]
fn plan_inputs_keep_their_names_and_values() {
    let task = Task::parse(include_str!("task.xml"), &GivenSecrets::default()).expect("a task").task;
    check("plan-inputs.json", &json(&task.plan_inputs()));
}
