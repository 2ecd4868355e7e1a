//! Tests of the cleanup with the in-memory doubles: a cleaner that froze for too long does no harm.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;
use crate::client::ServerClient;
use crate::client::memory::MemoryServerClient;
use crate::coordinator::MemoryCoordinator;
use crate::model::{Node, TableName};
use crate::planning::errors::RunError;
use crate::runtime::random::Randomness;
use crate::runtime::signals::Interrupt;
use crate::task::{GivenSecrets, TaskText};
use crate::worker::context::WorkerOptions;
use crate::worker::ending::Ending;
use crate::worker::launch::Launch;
use crate::worker::retry_policy::RetryPolicy;
use crate::worker::run;

const TASK: &str = "<clickhouse><remote_servers>
    <src><shard><replica><host>s1</host></replica></shard></src>
    <dst><shard><replica><host>t1</host></replica></shard><shard><replica><host>t2</host></replica></shard></dst>
    </remote_servers><tables><hits>
    <cluster_pull>src</cluster_pull><database_pull>a</database_pull><table_pull>hits</table_pull>
    <cluster_push>dst</cluster_push><database_push>b</database_push><table_push>hits</table_push>
    <engine>ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id</engine>
    <sharding_key>id</sharding_key><number_of_splits>3</number_of_splits>
    </hits></tables></clickhouse>";

fn node(host: &str) -> Node {
    Node::new(host)
}

struct Setup {
    coordinator: MemoryCoordinator,
    client: MemoryServerClient,
}

impl Setup {
    async fn new() -> Self {
        let setup = Self { coordinator: MemoryCoordinator::new(), client: MemoryServerClient::new() };
        setup.client.set_block_rows(5);
        for host in ["s1", "t1", "t2"] {
            setup.client.add_node(&node(host), &[]);
        }
        setup.client.create_database(&node("s1"), "a", &Vec::new()).await.unwrap();
        let create =
            "CREATE TABLE `a`.`hits` (`d` Date, `id` UInt64) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";
        let source = TableName::new("a", "hits");
        setup.client.create_table(&node("s1"), &source, create, &Vec::new()).await.unwrap();
        let row = |i: u64| vec![format!("2018-0{}-01", i % 3 + 1), i.to_string()];
        setup.client.insert(&node("s1"), &source, (0..90).map(row).collect()).unwrap();
        setup
    }

    fn start(&self) -> JoinHandle<Result<Ending, RunError>> {
        let launch = Launch {
            coordinator: Arc::new(self.coordinator.clone()),
            client: Arc::new(self.client.clone()),
            secrets: Arc::new(GivenSecrets::default()),
            task_path: "/copy/hits".into(),
            description: Some(TaskText::new(TASK, "task.xml").parse(&GivenSecrets::default()).unwrap()),
            upload_force: false,
            incremental: None,
            agreed: None,
            worker_options: WorkerOptions {
                retry: RetryPolicy {
                    piece_attempts: 3,
                    publication_attempts: 3,
                    rounds: 1,
                    first_pause: Duration::from_millis(10),
                },
                stall_timeout: crate::client::STALL_TIMEOUT,
                copy_fault_probability: 0.0,
                move_fault_probability: 0.0,
                jobs: crate::worker::limits::concurrency::Jobs::Fixed(2),
                safe_mode: false,
            },
            host: "w".into(),
            worker: "w".into(),
            randomness: Randomness::seeded(1),
        };
        spawn_local(async move {
            let (_sender, interrupt) = Interrupt::manual();
            run(launch, &interrupt, async || Ok(())).await.map(|summary| summary.ending)
        })
    }

    async fn cleaner(&self) -> Cleaner {
        let request = Request {
            coordinator: Arc::new(self.coordinator.clone()),
            client: Arc::new(self.client.clone()),
            secrets: Arc::new(GivenSecrets::default()),
            task_path: "/copy/hits".into(),
            description: None,
            task_id: None,
            remove: true,
            host: "c".into(),
        };
        Cleaner::open(request).await.unwrap()
    }

    fn end_all_sessions(&self) {
        for session in self.coordinator.sessions() {
            self.coordinator.expire(&session);
        }
    }

    fn rows(&self, hosts: &[&str], database: &str) -> Vec<Vec<String>> {
        let table = TableName::new(database, "hits");
        let mut rows: Vec<_> =
            hosts.iter().flat_map(|host| self.client.rows(&node(host), &table).unwrap_or_default()).collect();
        rows.sort();
        rows
    }

    fn staging(&self) -> usize {
        let tables = ["t1", "t2"].map(|host| self.client.tables(&node(host)));
        tables.iter().flatten().filter(|name| name.table != "hits").count()
    }

    /// Returns the recorded generations of all batches.
    fn generations(&self) -> Vec<String> {
        let batches = self.coordinator.tree().into_iter().filter(|(path, _)| path.contains("/batches/"));
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        batches
            .filter_map(|(_, stored)| Some(text(&stored.data).split_once("\"generation\":")?.1[..1].to_owned()))
            .collect()
    }
}

async fn steps(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Runs this case: a worker dies after `life` steps. A cleaner records which batches it gives up, and freezes until its session is over.
/// Another worker makes `lead` steps. Then the cleaner drops all tables that it had found. Returns whether there were tables to drop
/// while the second worker was at work.
async fn run_with_frozen_cleaner(life: usize, lead: usize) -> bool {
    let setup = Setup::new().await;
    let dead = setup.start();
    steps(life).await;
    if dead.is_finished() || setup.staging() == 0 {
        return false;
    }
    dead.abort();
    setup.end_all_sessions();
    steps(50).await;

    let mut cleaner = setup.cleaner().await;
    let found = cleaner.find().await.unwrap();
    assert!(found.holders.is_empty() && found.silent.is_empty(), "{found}");
    let given_up = cleaner.give_up().await.unwrap();
    setup.end_all_sessions();
    let worker = setup.start();
    steps(lead).await;
    let at_work = !worker.is_finished();

    let mut removal = Removal::default();
    cleaner.clear(&found, &mut removal).await;
    assert_eq!(removal.failed, [""; 0], "life {life} lead {lead}");
    assert_eq!(worker.await.unwrap().unwrap(), Ending::Finished, "life {life} lead {lead}");
    assert_eq!(setup.rows(&["t1", "t2"], "b"), setup.rows(&["s1"], "a"), "life {life} lead {lead}");
    assert_eq!(setup.staging(), 0);
    // The worker lost no table of its own: only the cleaner gave up batches.
    let generations = setup.generations();
    assert_eq!(generations.len(), given_up, "life {life} lead {lead}");
    assert!(generations.iter().all(|generation| generation == "1"), "life {life} lead {lead}: {generations:?}");
    at_work && removal.tables > 0
}

#[test]
fn a_cleaner_that_was_frozen_drops_no_table_that_a_record_needs() {
    let mut at_work = 0;
    for life in (40..1040).step_by(25) {
        for lead in [40, 80, 120, 180, 240] {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            at_work += u32::from(LocalSet::new().block_on(&runtime, run_with_frozen_cleaner(life, lead)));
        }
    }
    assert!(at_work >= 10, "the cleaner continued beside a worker {at_work} times only");
}

#[tokio::test(start_paused = true)]
async fn a_cleaner_whose_session_is_over_removes_nothing() {
    let local = LocalSet::new();
    local
        .run_until(async {
            let setup = Setup::new().await;
            let dead = setup.start();
            let mut waited = 0;
            while setup.staging() == 0 {
                waited += 1;
                assert!(waited < 10_000);
                yield_now().await;
            }
            dead.abort();
            setup.end_all_sessions();
            steps(50).await;
            let mut cleaner = setup.cleaner().await;
            let found = cleaner.find().await.unwrap();
            let before = setup.staging();
            setup.end_all_sessions();
            let (_sender, interrupt) = Interrupt::manual();
            let refused = cleaner.remove(&found, &interrupt).await;
            assert!(refused.is_err_and(|error| error.is_session_lost()));
            assert!(before > 0 && setup.staging() == before);
        })
        .await;
}
