use std::collections::BTreeMap;

use super::*;

/// Returns the status of a task: three of six partitions are done, one failed, and there are two workers.
pub(crate) fn status() -> Status {
    let failed = PartitionStatus {
        name: "a|b".into(),
        state: PartitionState::Failed,
        rows: 10,
        bytes: 100,
        rows_copied: 0,
        rows_published: None,
        compared: false,
        retries: 2,
        millis: 0,
        together: 1,
        began_at: None,
        copied_at: None,
        published_at: None,
        error: Some("disk\n full".into()),
    };
    let worker = |name: &str| WorkerStatus { name: name.into(), jobs: Vec::new() };
    Status {
        schema: SCHEMA,
        task: "0123456789ab".into(),
        path: "/copy".into(),
        state: TaskState::Copying,
        total: Amounts {
            partitions: BTreeMap::from([(PartitionState::Done, 3), (PartitionState::Pending, 3)]),
            ..Amounts::default()
        },
        bytes_per_second: None,
        seconds_left: None,
        tables: vec![TableStatus {
            name: "hits".into(),
            source: "a.hits".into(),
            target: "b.hits".into(),
            amounts: Amounts::default(),
            partitions: vec![failed],
            unchanged: 0,
            remarks: Vec::new(),
        }],
        workers: vec![worker("w-1"), worker("w-2")],
        waits: Vec::new(),
        errors: Vec::new(),
        account: Findings::default(),
        silent: Vec::new(),
    }
}

/// Returns the same status with this number of pending partitions in its table.
pub(crate) fn sample(partitions: usize) -> Status {
    let mut status = status();
    let one = PartitionStatus {
        state: PartitionState::Pending,
        retries: 0,
        error: None,
        ..status.tables[0].partitions[0].clone()
    };
    let named = |n: usize| PartitionStatus { name: format!("p{n}"), ..one.clone() };
    status.tables[0].partitions = (0..partitions).map(named).collect();
    status
}
