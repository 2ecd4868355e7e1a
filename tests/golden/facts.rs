//! A task in progress: plans, records and its status, with a different value in each field.

use std::collections::BTreeMap;
use std::sync::Arc;

use clickhouse_copier::client::Running;
use clickhouse_copier::ledger::overview::{TaskOverview, TaskStatement};
use clickhouse_copier::model::{AttemptNo, Generation, PartitionId, PartitionValue, PublicationNo, TableName};
use clickhouse_copier::plan::{
    Account, BatchPlan, Mark, PartitionPlan, PiecePlan, Reading, Remark, ShardAccount, ShardMark, Sharding,
    SourceShare, TablePlan,
};
use clickhouse_copier::protocol::account::{Blocks, Findings, PartitionBlocks, Placed};
use clickhouse_copier::protocol::{
    BatchRecord, BatchState, Claim, Copied, HeldClaim, Order, PartitionResult, PieceRecord, PieceRef, PieceState,
    Published, ServerPlace, TableRecords, TaskId, TaskRecord,
};
use clickhouse_copier::sql::{KeyElement, Slice, SlotWidth};

pub fn text(text: &str) -> String {
    text.to_owned()
}

pub fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| text(one)).collect()
}

pub fn element(expression: &str, type_name: &str) -> KeyElement {
    KeyElement { expression: text(expression), type_name: text(type_name) }
}

pub fn id(id: &str) -> PartitionId {
    PartitionId(text(id))
}

fn value(of: &[&str]) -> PartitionValue {
    PartitionValue(texts(of))
}

pub fn reading() -> Reading {
    Reading {
        columns: Some(vec![(text("d"), text("toDate(d)")), (text("id"), text("`id`"))]),
        raw: texts(&["d", "id", "extra"]),
        values: texts(&["`d`", "`id`"]),
        condition: Some(text("id > 7")),
        left: texts(&["computed"]),
    }
}

pub fn sharding() -> Sharding {
    Sharding { key: text("intHash64(id)"), width: SlotWidth(64), total: 3, slots: vec![0..1, 1..3] }
}

/// With all optional fields.
pub fn partition() -> PartitionPlan {
    let parts = [("201801_1_2_1", 5, "aa"), ("201801_4_4_0_9", 6, "bb")];
    PartitionPlan {
        value: value(&["201801", "x"]),
        name: text("(201801, 'x')"),
        id: Some(id("201801-x")),
        rows: 11,
        bytes: 1100,
        mark: Some(Mark(vec![ShardMark::of(1, "made at noon", parts)])),
        renews: true,
    }
}

/// With no optional fields.
pub fn small_partition(name: &str, rows: u64) -> PartitionPlan {
    PartitionPlan {
        value: value(&[name, "y"]),
        name: text(name),
        id: None,
        rows,
        bytes: rows * 100,
        mark: None,
        renews: false,
    }
}

pub fn slices() -> [Slice; 3] {
    [
        Slice::Range {
            columns: vec![element("id", "UInt64"), element("d", "Date")],
            from: Some(texts(&["7", "2018-01-01"])),
            to: None,
        },
        Slice::Hash { expressions: texts(&["id", "d"]), count: 4, number: 3 },
        Slice::Buckets { hash: text("cityHash64(id)"), count: 8, numbers: vec![1, 5] },
    ]
}

pub fn blocks() -> Blocks {
    let blocks = PartitionBlocks { rows: 12, first: 3, last: 45, mutation: 6 };
    Blocks { table: text("made at noon"), partitions: BTreeMap::from([(id("201801"), blocks)]) }
}

pub fn account() -> Account {
    let shards = vec![
        ShardAccount { node: text("s1:9000"), counted: 21, parts: Some(blocks()) },
        ShardAccount { node: text("s2:9000"), counted: 22, parts: None },
    ];
    Account { shards, beside: Some(23), same_partitions: true, moved: true }
}

/// Four batches: two partitions published, then one each that is being published, has failed, and is being copied.
pub fn plan() -> TablePlan {
    let piece = |batch, shard, rows, slice| PiecePlan { batch, sources: vec![SourceShare { shard, rows }], slice };
    let [range, hash, _] = slices();
    TablePlan {
        name: text("hits"),
        source: TableName::new("a", "hits"),
        target: TableName::new("b", "visits"),
        reading: reading(),
        columns: texts(&["d", "id"]),
        key: vec![element("toYYYYMM(d)", "UInt32"), element("kind", "String")],
        sharding: Some(sharding()),
        replicated: vec![true, false],
        engine_replicates: true,
        partitions: vec![
            partition(),
            small_partition("201802", 20),
            small_partition("201803", 30),
            small_partition("201804", 40),
            small_partition("201805", 50),
        ],
        batches: vec![
            BatchPlan { partitions: 0..2, pieces: 0..1 },
            BatchPlan { partitions: 2..3, pieces: 1..2 },
            BatchPlan { partitions: 3..4, pieces: 2..3 },
            BatchPlan { partitions: 4..5, pieces: 3..6 },
        ],
        pieces: vec![
            piece(0, 0, 31, None),
            piece(1, 1, 30, None),
            piece(2, 0, 40, None),
            piece(3, 0, 20, Some(range)),
            piece(3, 1, 20, Some(hash)),
            PiecePlan {
                batch: 3,
                sources: vec![SourceShare { shard: 0, rows: 4 }, SourceShare { shard: 1, rows: 6 }],
                slice: None,
            },
        ],
        remarks: vec![Remark::new("a remark of the plan")],
        clones: true,
        unchanged: 9,
        account: Some(account()),
    }
}

pub fn task() -> TaskRecord {
    TaskRecord {
        format: TaskRecord::FORMAT,
        id: TaskId(text("0123456789ab")),
        inputs: BTreeMap::from([(text("tables/hits/sharding_key"), text("intHash64(id)"))]),
        planned: true,
        prepared: true,
        finished: false,
        pass: 2,
        drops_vanished: true,
        forgotten: true,
        account: Findings { differences: texts(&["a difference"]), unaccounted: texts(&["an unknown"]) },
    }
}

pub fn copied() -> Copied {
    Copied {
        selected: vec![11, 20],
        staged: vec![14, 17],
        checksums: vec![101, 102],
        millis: 3000,
        began: 1_700_000_000_000,
        verifying: 400,
        waiting: 500,
    }
}

pub fn pieces() -> Vec<PieceRecord> {
    let lent = ["s1:9000", "s2:9000"].map(text).into();
    let full = |state| PieceRecord {
        attempt: AttemptNo(3),
        failures: 2,
        rounds: 1,
        generation: Generation(4),
        narrow: 5,
        lent: std::collections::BTreeSet::clone(&lent),
        last_error: Some(text("an earlier error")),
        state,
    };
    vec![
        PieceRecord { attempt: AttemptNo(1), state: PieceState::Copied(copied()), ..PieceRecord::default() },
        PieceRecord { attempt: AttemptNo(2), ..full(PieceState::Copied(Copied { selected: vec![30], ..copied() })) },
        full(PieceState::Failed { error: text("no such table"), transient: true }),
        full(PieceState::Running { worker: text("host-1-aaaa") }),
        full(PieceState::Pending),
        PieceRecord::default(),
    ]
}

pub fn published() -> Published {
    Published {
        partitions: vec![
            PartitionResult { selected: 11, target: 10, checksum: Some(101) },
            PartitionResult { selected: 20, target: 20, checksum: None },
        ],
        millis: 700,
        began: 1_700_000_010_000,
        verifying: 80,
        gathering: 90,
        remarks: texts(&["a remark of a publication"]),
        placed: Some(Placed {
            ids: vec![id("201801-x"), id("201802")],
            added: BTreeMap::from([(text("t1:9000"), vec![11, 20])]),
            before: BTreeMap::from([(text("t1:9000"), BTreeMap::from([(id("201802"), 6)]))]),
        }),
    }
}

pub fn batches() -> Vec<BatchRecord> {
    let before = || BTreeMap::from([(text("t1:9000"), BTreeMap::from([(id("201803"), 8)]))]);
    let full = |state| BatchRecord {
        nodes: vec![texts(&["t1:9000", "t2:9000"]), Vec::new()],
        former: texts(&["t3:9000"]),
        generation: Generation(4),
        publication: PublicationNo(5),
        failures: 2,
        rounds: 1,
        last_error: Some(text("an earlier error")),
        state,
    };
    vec![
        full(BatchState::Done(published())),
        full(BatchState::Publishing { worker: text("host-1-aaaa"), before: before() }),
        full(BatchState::Failed { error: text("disk full"), transient: true, before: before() }),
        full(BatchState::Copying),
    ]
}

pub fn records() -> TableRecords {
    TableRecords {
        batches: batches(),
        pieces_of: vec![0..1, 1..2, 2..3, 3..6],
        batch_of: vec![0, 1, 2, 3, 3, 3],
        pieces: pieces(),
    }
}

pub fn overview() -> TaskOverview {
    let running = Running {
        query_id: text("copier:0123456789ab:t0:p3:a3:s0r0"),
        elapsed: 1.5,
        read_rows: 12,
        written_rows: 10,
        moved: 9,
    };
    TaskOverview {
        record: task(),
        order: Order::Run,
        max_jobs_per_server: Some(1),
        max_workers: Some(2),
        plans: Arc::new(vec![plan()]),
        by_table: vec![records()],
        places: texts(&["host-1-aaaa", "host-2-bbbb"]),
        claims: [
            ("t0-p3", "host-1-aaaa"),
            ("t0-p4", "host-2-bbbb"),
            ("t0-b1", "host-1-aaaa"),
            ("finishing", "host-2-bbbb"),
        ]
        .map(|(claim, worker)| HeldClaim { claim: Claim::parse(claim), worker: text(worker) })
        .into(),
        on_servers: vec![ServerPlace { address: text("s1:9000"), number: 0 }],
        statements: vec![TaskStatement { node: text("s1:9000"), piece: PieceRef { table: 0, index: 3 }, running }],
        silent: texts(&["t9:9000: no answer"]),
    }
}
