//! What coordination costs: many pieces without rows, real ZooKeeper, workers with a session each, and servers that answer at
//! once ([`servers`]).
//!
//! ```sh
//! cargo bench --bench coordination                                   # the goal: 100,000 pieces, 16 workers, each shape
//! cargo bench --bench coordination -- --local                      # the same over the local coordinator
//! cargo bench --bench coordination -- --pieces 1000,10000 --workers 1,4,16 --case slices
//! ```
//!
//! Each worker has a thread of its own, as a process would. The wall clock runs from the start of all workers to the end of the
//! last one, so that planning, waiting for the plan and the end of the task are in it. `wall/piece` is that divided by the
//! pieces; `a worker's ms/piece` is the time that a worker spends for each piece it copies: the wall clock times workers,
//! divided by pieces. Writes are commits, also those that were in vain.

mod counted;
mod servers;
mod shape;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use clickhouse_copier::coordinator::{
    Coordinator, LocalCoordinator, MemoryCoordinator, ZooKeeperCoordinator, ZooKeeperOptions,
};
use clickhouse_copier::model::Tls;
use clickhouse_copier::report::Report;
use clickhouse_copier::runtime::random::Randomness;
use clickhouse_copier::runtime::signals::Interrupt;
use clickhouse_copier::task::{GivenSecrets, TaskText};
use clickhouse_copier::worker::context::WorkerOptions;
use clickhouse_copier::worker::ending::Ending;
use clickhouse_copier::worker::launch::Launch;
use clickhouse_copier::worker::limits::concurrency::Jobs;
use clickhouse_copier::worker::retry_policy::RetryPolicy;
use clickhouse_copier::worker::run;
use lab::{Lab, LabSpec, Release};
use tempfile::TempDir;

use counted::{Counted, Counts};
use servers::Servers;
use shape::{Case, Shape};

/// What coordination costs.
#[derive(Parser)]
struct Options {
    /// Numbers of pieces.
    #[arg(long, value_delimiter = ',', default_value = "100000")]
    pieces: Vec<u64>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    workers: Vec<usize>,
    /// Pieces that a worker copies at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Shapes of the task; all of them when none is named.
    #[arg(long, value_delimiter = ',')]
    case: Vec<Case>,
    /// Without ZooKeeper, over the double: what the workers themselves cost.
    #[arg(long)]
    memory: bool,
    /// Without ZooKeeper, over a file in $TMPDIR.
    #[arg(long, conflicts_with = "memory")]
    local: bool,
    /// As cargo calls it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The coordinator of one measurement.
enum Place {
    ZooKeeper(Box<Lab>),
    Memory(MemoryCoordinator),
    Local(TempDir),
}

impl Place {
    /// A fresh one: what another measurement left would slow it down.
    fn start(options: &Options) -> Self {
        if options.memory {
            return Self::Memory(MemoryCoordinator::new());
        }
        if options.local {
            return Self::Local(tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}")));
        }
        let spec = LabSpec::of(Release::V25_8, 0);
        Self::ZooKeeper(Box::new(Lab::start(spec).unwrap_or_else(|error| panic!("no ZooKeeper: {error}"))))
    }

    fn coordinator(&self) -> Arc<dyn Coordinator> {
        match self {
            Self::Memory(double) => Arc::new(double.clone()),
            Self::Local(folder) => Arc::new(LocalCoordinator::new(folder.path())),
            Self::ZooKeeper(lab) => Arc::new(ZooKeeperCoordinator::new(ZooKeeperOptions {
                hosts: vec![(lab.zookeeper().host().to_owned(), 2181)],
                secure: false,
                tls: Tls::default(),
                session_timeout: Duration::from_secs(10),
                root: None,
                identity: None,
            })),
        }
    }

    fn nodes(&self) -> u64 {
        match self {
            Self::Memory(double) => double.tree().len() as u64,
            // Nobody counts them there.
            Self::Local(_) => 0,
            Self::ZooKeeper(lab) => {
                let mut stream = TcpStream::connect(lab.zookeeper().hosts()).unwrap();
                stream.write_all(b"mntr").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                let line = answer.lines().find_map(|line| line.strip_prefix("zk_znode_count"));
                line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
            }
        }
    }

    fn cpu(&self) -> Duration {
        match self {
            Self::Memory(_) | Self::Local(_) => Duration::ZERO,
            Self::ZooKeeper(lab) => cpu(&lab.zookeeper().pid().unwrap_or_default().to_string()),
        }
    }
}

/// What a process has used of the processors: user and system, in hundredths of a second on every Linux.
fn cpu(process: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

async fn work(worker: usize, jobs: usize, task: String, coordinator: Arc<dyn Coordinator>, servers: Arc<Servers>) {
    let launch = Launch {
        coordinator,
        client: servers,
        secrets: Arc::new(GivenSecrets::default()),
        task_path: "/task".into(),
        description: Some(TaskText::new(task, "task.xml").parse(&GivenSecrets::default()).expect("a task")),
        upload_force: false,
        agreed: None,
        incremental: None,
        worker_options: WorkerOptions {
            retry: RetryPolicy {
                piece_attempts: 3,
                publication_attempts: 3,
                rounds: 1,
                first_pause: Duration::from_millis(100),
            },
            stall_timeout: clickhouse_copier::client::STALL_TIMEOUT,
            copy_fault_probability: 0.0,
            move_fault_probability: 0.0,
            jobs: Jobs::Fixed(jobs),
            safe_mode: false,
        },
        host: format!("host{worker}"),
        worker: format!("host{worker}-{worker}"),
        randomness: Randomness::seeded(worker as u64),
    };
    let (_sender, interrupt) = Interrupt::manual();
    let summary = run(launch, &interrupt, async || Ok(())).await.unwrap_or_else(|error| panic!("{error}"));
    let finished = matches!(summary.ending, Ending::Finished | Ending::WasFinished);
    assert!(finished, "{:?}: {}", summary.ending, Report::of(&summary.plans, &summary.by_table));
}

fn measure(case: Case, pieces: u64, workers: usize, options: &Options) {
    let shape = Shape::new(case, pieces);
    let keeper = Place::start(options);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = Arc::new(runtime().block_on(Servers::new(shape)));
    let counts = Arc::new(Counts::default());
    let (nodes, keeper_cpu, own_cpu, started) = (keeper.nodes(), keeper.cpu(), cpu("self"), Instant::now());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (inner, counts, servers) = (keeper.coordinator(), counts.clone(), servers.clone());
            let coordinator = Arc::new(Counted { inner, counts, started });
            scope.spawn(move || {
                runtime().block_on(work(worker, options.jobs, shape.task(), coordinator, servers));
            });
        }
    });
    let lost = counts.sessions.load(Ordering::Relaxed) - workers as u64;
    if lost > 0 {
        eprintln!("{lost} sessions were lost: the machine is too busy for this measurement");
    }
    let (wall, pieces) = (started.elapsed(), shape.pieces() as f64);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0 / pieces;
    let each = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as f64 / pieces;
    println!(
        "| {} | {} | {workers} | {:.1} | {:.1} | {:.2} | {:.1} | {:.2} | {:.3} | {:.1} | {:.0} | {:.1} | {:.0} | {} | {:.2} | {:.2} |",
        format!("{case:?}").to_lowercase(),
        shape.pieces(),
        wall.as_secs_f64(),
        counts.first_claim.load(Ordering::Relaxed) as f64 / 1e6,
        millis(wall),
        millis(wall) * workers as f64,
        each(&counts.commits),
        each(&counts.conflicts),
        each(&counts.steps),
        each(&counts.bytes),
        each(&counts.reads),
        each(&counts.read_bytes),
        keeper.nodes() - nodes,
        millis(cpu("self") - own_cpu),
        millis(keeper.cpu() - keeper_cpu),
    );
}

fn main() {
    let options = Options::parse();
    // What is tried again makes a measurement worthless, and is not to be overlooked.
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let all = [Case::Slices, Case::Batches, Case::Shards];
    let cases = if options.case.is_empty() { all.as_slice() } else { &options.case };
    println!(
        "| shape | pieces | workers | wall, s | until the first piece, s | wall/piece, ms | a worker's ms/piece | writes/piece \
         | in vain | steps | bytes written/piece | reads/piece | bytes read/piece | nodes | workers' CPU, ms/piece | ZooKeeper's |"
    );
    println!("|{}", " ---: |".repeat(16));
    for case in cases {
        for pieces in &options.pieces {
            for workers in &options.workers {
                measure(*case, *pieces, *workers, &options);
            }
        }
    }
}
