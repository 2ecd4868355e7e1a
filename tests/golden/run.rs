//! A small task and servers in memory for it.

use std::sync::Arc;
use std::time::Duration;

use clickhouse_copier::client::memory::MemoryServerClient;
use clickhouse_copier::client::{STALL_TIMEOUT, ServerClient};
use clickhouse_copier::coordinator::Coordinator;
use clickhouse_copier::model::{Node, TableName};
use clickhouse_copier::planning::errors::RunError;
use clickhouse_copier::runtime::random::Randomness;
use clickhouse_copier::runtime::signals::Interrupt;
use clickhouse_copier::task::{GivenSecrets, TaskText};
use clickhouse_copier::worker::context::WorkerOptions;
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::launch::{Incremental, Launch};
use clickhouse_copier::worker::limits::concurrency::Jobs;
use clickhouse_copier::worker::retry_policy::RetryPolicy;
use clickhouse_copier::worker::run;

/// A task with one source shard and two target shards.
pub const TASK: &str = "<clickhouse><max_jobs_per_server>2</max_jobs_per_server><remote_servers>
    <src><shard><replica><host>s1</host></replica></shard></src>
    <dst><shard><replica><host>t1</host></replica></shard><shard><replica><host>t2</host></replica></shard></dst>
    </remote_servers><tables><hits>
    <cluster_pull>src</cluster_pull><database_pull>a</database_pull><table_pull>hits</table_pull>
    <cluster_push>dst</cluster_push><database_push>b</database_push><table_push>hits</table_push>
    <engine>ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id</engine>
    <sharding_key>id</sharding_key><number_of_splits>3</number_of_splits>
    </hits></tables></clickhouse>";

pub const HOSTS: [&str; 3] = ["s1", "t1", "t2"];

pub fn source() -> TableName {
    TableName::new("a", "hits")
}

/// Three servers; the source has ninety rows in three partitions.
pub async fn servers() -> MemoryServerClient {
    let servers = MemoryServerClient::new();
    servers.set_block_rows(5);
    servers.set_linger(Duration::from_millis(50));
    for host in HOSTS {
        servers.add_node(&Node::new(host), &[]);
    }
    let create =
        "CREATE TABLE `a`.`hits` (`d` Date, `id` UInt64) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";
    servers.create_database(&Node::new("s1"), "a", &Vec::new()).await.expect("a database");
    servers.create_table(&Node::new("s1"), &source(), create, &Vec::new()).await.expect("a table");
    insert(&servers, 0..90);
    servers
}

/// Adds rows to the source.
pub fn insert(servers: &MemoryServerClient, ids: std::ops::Range<u64>) {
    let row = |id: u64| vec![format!("2018-0{}-01", id % 3 + 1), id.to_string()];
    servers.insert(&Node::new("s1"), &source(), ids.map(row).collect()).expect("rows");
}

/// Runs a worker until its end.
pub async fn copy(
    coordinator: Arc<dyn Coordinator>,
    servers: MemoryServerClient,
    path: &str,
    incremental: bool,
) -> Result<Ending, RunError> {
    let launch = Launch {
        coordinator,
        client: Arc::new(servers),
        secrets: Arc::new(GivenSecrets::default()),
        task_path: path.to_owned(),
        description: Some(TaskText::new(TASK, "task.xml").parse(&GivenSecrets::default()).expect("a task")),
        upload_force: false,
        incremental: incremental.then_some(Incremental { drop_vanished: false }),
        agreed: None,
        worker_options: WorkerOptions {
            retry: RetryPolicy {
                piece_attempts: 3,
                publication_attempts: 3,
                rounds: 1,
                first_pause: Duration::from_millis(10),
            },
            stall_timeout: STALL_TIMEOUT,
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: Jobs::Fixed(1),
            safe_mode: false,
        },
        host: "host".into(),
        worker: "host-1-aaaa".into(),
        randomness: Randomness::seeded(1),
    };
    let (_sender, interrupt) = Interrupt::manual();
    run(launch, &interrupt, async || Ok(())).await.map(|summary| summary.ending)
}
