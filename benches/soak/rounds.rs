//! The rounds of one release.

use std::fs;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Lab, LabSpec, Release};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::Options;
use crate::events::happen;
use crate::figures::Sample;
use crate::processes::{Process, Program};

/// Two servers of the source, two of the target.
const SERVERS: usize = 4;
const WORKERS: usize = 3;
/// Rows that a round adds on each source server, in so many partitions.
const ROWS: u64 = 40_000;
const MONTHS: u64 = 6;
/// Things that happen in a round, at most, and the longest pause before each, in milliseconds.
const EVENTS: usize = 4;
const PAUSE: u64 = 3000;
/// How long the slow worker may take until it copies.
const PATIENCE: Duration = Duration::from_secs(120);
/// Launches that may be needed to end a round when nothing happens any more.
const LAUNCHES: usize = 5;
/// Bytes that the slow worker moves in a second, and about how many a row of its table has.
const SLOW: u64 = 20_000;
const ROW: u64 = 26;
/// Retries enough for whatever happens.
const RUN: [&str; 9] = [
    "run",
    "--max-table-tries",
    "100000",
    "--max-shard-partition-tries",
    "100000",
    "--max-shard-partition-piece-tries-for-alter",
    "100000",
    "--retry-delay-ms",
    "500",
];
const TABLE: &str = "(id UInt64, d Date, s String) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY (d, id)";

/// Copies until the time is over. Gives the faults that were found; the first one ends the rounds.
pub fn soak(options: &Options, release: Release, recorder: &Sender<Sample>) -> Vec<String> {
    let lab = Lab::start(LabSpec::of(release, SERVERS)).unwrap();
    let dir = TempDir::new().unwrap();
    prepare(&lab, dir.path(), options.duration());
    let program = Program {
        binary: options.binary.canonicalize().unwrap(),
        dir: dir.path().to_owned(),
        release: release.name(),
        running: Arc::new(Mutex::new(Vec::new())),
    };
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let sampled = &program;
        scope.spawn(move || {
            while is_done.recv_timeout(Duration::from_secs(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                sampled.ask_dashboard();
                sampled.sample(recorder);
            }
        });
        let faults = rounds(options, &lab, &program);
        drop(done);
        if !faults.is_empty() {
            println!("{}: the files are kept: {}", release.name(), dir.keep().display());
        }
        faults
    })
}

fn rounds(options: &Options, lab: &Lab, program: &Program) -> Vec<String> {
    let begun = Instant::now();
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut dashboard =
        program.start("dashboard", true, &["dashboard", "--task-path", "/soak", "--listen", "127.0.0.1:0"]);
    let mut slow = SlowWorker::start(program);
    if !slow.begins(lab) {
        return vec![format!("{}: the slow worker does not begin:\n{}", program.release, slow.said())];
    }
    let mut faults = Vec::new();
    let mut round = 0;
    while begun.elapsed() < options.duration() && faults.is_empty() {
        round += 1;
        add_rows(lab, "hits", round, ROWS);
        faults.extend(one_round(lab, program, round, &mut random));
        faults.extend(
            dashboard.ended().map(|code| format!("the dashboard has ended with {code}:\n{}", dashboard.said())),
        );
        slow.look(program);
        faults.extend(program.panics());
        println!("{}: round {round} is over, {} faults, after {:?}", program.release, faults.len(), begun.elapsed());
    }
    if faults.is_empty() {
        faults.extend(slow.finish(program));
        faults.extend(differences(lab, "slow"));
        faults.extend(program.panics());
    }
    faults.iter().map(|fault| format!("{}: {fault}", program.release)).collect()
}

/// The worker that copies a large table slowly. It is started again where it has ended because a server was away for too long.
struct SlowWorker {
    /// `None` when it has finished.
    process: Option<Process>,
    launches: usize,
}

impl SlowWorker {
    fn start(program: &Program) -> Self {
        Self { process: Some(Self::launch(program, 1)), launches: 1 }
    }

    fn launch(program: &Program, number: usize) -> Process {
        let run = [&RUN[..], &["--task-path", "/slow", "--task-file", "slow.xml", "--jobs", "1"]].concat();
        program.start(&format!("slow worker {number}"), true, &run)
    }

    /// Waits until it copies; nothing happens before that.
    fn begins(&mut self, lab: &Lab) -> bool {
        let begun = Instant::now();
        let question = "SELECT sum(rows) FROM system.parts WHERE database = 'dst_slow'";
        while begun.elapsed() < PATIENCE && self.process.as_mut().is_some_and(|worker| worker.ended().is_none()) {
            if [2, 3].iter().any(|server| lab.clickhouse(*server).value(question).unwrap() != "0") {
                return true;
            }
            thread::sleep(Duration::from_millis(200));
        }
        false
    }

    fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }

    /// Starts it again if it has ended too early.
    fn look(&mut self, program: &Program) {
        let Some(code) = self.process.as_mut().and_then(Process::ended) else { return };
        println!("{}: the slow worker has ended with {code}:\n{}", program.release, self.said());
        self.process = None;
        if code != 0 {
            self.launches += 1;
            self.process = Some(Self::launch(program, self.launches));
        }
    }

    /// Waits for its end, when nothing happens any more.
    fn finish(mut self, program: &Program) -> Option<String> {
        for _ in 0..LAUNCHES {
            let code = self.process.take().map_or(0, Process::wait);
            if code == 0 {
                return None;
            }
            self.launches += 1;
            self.process = Some(Self::launch(program, self.launches));
        }
        Some(format!("the slow worker cannot end:\n{}", self.said()))
    }
}

/// Copies what was added, while things happen; then with nothing happening, and compares.
fn one_round(lab: &Lab, program: &Program, round: u64, random: &mut StdRng) -> Vec<String> {
    let run = [&RUN[..], &["--task-path", "/soak", "--task-file", "hits.xml", "--incremental"]].concat();
    let start = |number: usize| program.start(&format!("worker {round}.{number}"), false, &run);
    let mut workers: Vec<Process> = (0..WORKERS).map(start).collect();
    for _ in 0..random.random_range(1..=EVENTS) {
        thread::sleep(Duration::from_millis(random.random_range(0..PAUSE)));
        match happen(lab, &mut workers, random) {
            Ok(event) => println!("{}: round {round}: {event}", program.release),
            Err(error) => return vec![format!("round {round}: {error}")],
        }
    }
    let ended: Vec<i32> = workers.into_iter().map(Process::wait).collect();
    println!("{}: round {round}: workers have ended with {ended:?}", program.release);
    for launch in 0..=LAUNCHES {
        let worker = start(WORKERS + launch);
        let name = format!("worker-{round}.{}", WORKERS + launch);
        match worker.wait() {
            0 => break,
            code if launch == LAUNCHES => {
                return vec![format!("round {round} cannot be ended: {code}, see {name}.txt")];
            }
            code => println!("{}: round {round}: {name} has ended with {code}", program.release),
        }
    }
    let verified = program.start(&format!("verify {round}"), false, &["verify", "--task-path", "/soak"]).wait();
    let mut faults = differences(lab, "hits");
    faults.extend((verified != 0).then(|| format!("verify has ended with {verified}")));
    faults.into_iter().map(|fault| format!("round {round}: {fault}")).collect()
}

/// What differs between source and target, and tables that were left.
fn differences(lab: &Lab, table: &str) -> Vec<String> {
    let sum = |servers: [usize; 2], database: &str| -> (u64, u64) {
        let question = format!("SELECT count(), sum(cityHash64(id, d, s)) FROM {database}_{table}.t");
        let of_server = |server: usize| {
            let answer = lab.clickhouse(server).value(&question).unwrap();
            let (rows, hash) = answer.split_once('\t').unwrap();
            (rows.parse::<u64>().unwrap(), hash.parse::<u64>().unwrap())
        };
        let sums = servers.map(of_server);
        (sums[0].0 + sums[1].0, sums[0].1.wrapping_add(sums[1].1))
    };
    let (source, target) = (sum([0, 1], "src"), sum([2, 3], "dst"));
    let differs = (source != target).then(|| format!("{table}: the source has {source:?}, the target {target:?}"));
    // Each task has databases of its own.
    let left = lab.servers().iter().flat_map(|server| {
        let databases = format!("database IN ('src_{table}', 'dst_{table}')");
        let question =
            format!("SELECT database, name FROM system.tables WHERE {databases} AND startsWith(name, 'copier_')");
        let answer = server.value(&question).unwrap();
        answer.lines().map(|line| format!("{}: left: {line}", server.host())).collect::<Vec<_>>()
    });
    differs.into_iter().chain(left).collect()
}

fn add_rows(lab: &Lab, table: &str, round: u64, rows: u64) {
    for server in 0..2 {
        let first = (round * 2 + server as u64) * rows;
        // Each round fills half of the partitions.
        let month = format!("addMonths(toDate('2018-01-01'), number % {} * 2 + {})", MONTHS / 2, round % 2);
        let select = format!("SELECT number + {first}, {month}, toString(number) FROM system.numbers LIMIT {rows}");
        lab.clickhouse(server).query(&format!("INSERT INTO src_{table}.t {select}")).unwrap();
    }
}

/// Makes the source, `hits.xml`, `slow.xml` and `keeper.xml`.
fn prepare(lab: &Lab, dir: &Path, duration: Duration) {
    for server in 0..2 {
        for table in ["hits", "slow"] {
            lab.clickhouse(server).query(&format!("CREATE DATABASE src_{table}")).unwrap();
            lab.clickhouse(server).query(&format!("CREATE TABLE src_{table}.t {TABLE}")).unwrap();
        }
    }
    add_rows(lab, "slow", 0, duration.as_secs() * SLOW / ROW / 2);
    add_rows(lab, "hits", 0, ROWS);
    let cluster = |name: &str, servers: [usize; 2]| {
        let shard = |at: usize| format!("<shard><replica><host>{}</host></replica></shard>", lab.clickhouse(at).host());
        format!("<{name}>{}</{name}>", servers.map(shard).concat())
    };
    let clusters = cluster("source", [0, 1]) + &cluster("target", [2, 3]);
    for (table, more) in
        [("hits", String::new()), ("slow", format!("<max_bytes_per_second>{SLOW}</max_bytes_per_second>"))]
    {
        let job = format!(
            "<cluster_pull>source</cluster_pull><database_pull>src_{table}</database_pull><table_pull>t</table_pull>\
             <cluster_push>target</cluster_push><database_push>dst_{table}</database_push><table_push>t</table_push>\
             <sharding_key>cityHash64(id)</sharding_key><batch_bytes>400000</batch_bytes>"
        );
        let task = format!(
            "<clickhouse><remote_servers>{clusters}</remote_servers>{more}<tables><{table}>{job}</{table}></tables></clickhouse>"
        );
        fs::write(dir.join(format!("{table}.xml")), task).unwrap();
    }
    let hosts = lab.zookeeper().hosts();
    let (host, port) = hosts.split_once(':').unwrap();
    let node =
        format!("<node><host>{host}</host><port>{port}</port></node><session_timeout_ms>10000</session_timeout_ms>");
    fs::write(dir.join("keeper.xml"), format!("<clickhouse><zookeeper>{node}</zookeeper></clickhouse>")).unwrap();
}
