//! What many table jobs cost: a task of thousands of small tables on real servers that take few statements and connections, by a program
//! that may open few files.
//!
//! ```sh
//! cargo bench --bench many_tables                                    # 2,000 tables on 25.8
//! cargo bench --bench many_tables -- --release 18.16 --tables 500
//! cargo bench --bench many_tables -- --binary target/debug/clickhouse-copier --verbs check,run
//! ```
//!
//! `planned` is the time until the first target table is made: survey, counts and plan. Statements are those of `system.query_log`;
//! requests are those that ZooKeeper received.

mod process;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Parser;
use lab::{Lab, LabSpec, Release};
use tempfile::TempDir;

use process::{Measured, measure};

/// Source and target.
const SERVERS: usize = 2;
/// Threads that make the source tables.
const MAKERS: usize = 4;

/// What many table jobs cost.
#[derive(Parser)]
struct Options {
    /// How many tables.
    #[arg(long, default_value_t = 2000)]
    tables: usize,
    /// Rows of each table.
    #[arg(long, default_value_t = 10)]
    rows: usize,
    /// The servers' release.
    #[arg(long, default_value = "25.8", value_parser = |name: &str| Release::named(name).ok_or("there is no such release"))]
    release: Release,
    /// Files that the program may have open (`ulimit -n`).
    #[arg(long, default_value_t = 256)]
    files: u32,
    /// `max_concurrent_queries` of the servers.
    #[arg(long, default_value_t = 100)]
    statements: u32,
    /// `max_connections` of the servers.
    #[arg(long, default_value_t = 200)]
    connections: u32,
    /// What to run, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "check,run,status,verify")]
    verbs: Vec<String>,
    /// The program.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_clickhouse-copier"))]
    binary: PathBuf,
    /// As cargo calls it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let limits = [("max_concurrent_queries", options.statements), ("max_connections", options.connections)];
    let server = limits.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    let lab = Lab::start(LabSpec { server, query_log: true, ..LabSpec::of(options.release, SERVERS) }).unwrap();
    let dir = TempDir::new().unwrap();
    make_tables(&lab, &options);
    write_files(&lab, &options, dir.path());
    println!("{} tables on {}, {} files", options.tables, options.release.name(), options.files);
    println!("verb      code  seconds  planned  CPU s  RSS MiB  files  statements/table  requests/table");
    let mut before = counts(&lab);
    for verb in &options.verbs {
        let measured = measure(&options.binary, options.files, verb, dir.path());
        let now = counts(&lab);
        print_line(verb, &measured, now.0 - before.0, now.1 - before.1, options.tables);
        before = now;
    }
    let copied =
        lab.clickhouse(1).value("SELECT uniq(table), sum(rows) FROM system.parts WHERE active AND database = 'dst'");
    println!("tables and rows at the target: {}", copied.unwrap());
}

fn print_line(verb: &str, measured: &Measured, statements: u64, requests: u64, tables: usize) {
    let planned = measured.planned.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
    println!(
        "{verb:<9} {:>4}  {:>7.1}  {planned:>7}  {:>5.1}  {:>7}  {:>5}  {:>16.1}  {:>14.1}",
        measured.code,
        measured.took.as_secs_f64(),
        measured.cpu.as_secs_f64(),
        measured.memory >> 20,
        measured.files,
        statements as f64 / tables as f64,
        requests as f64 / tables as f64
    );
    if measured.code != 0 {
        println!("{}", measured.said);
    }
}

fn make_tables(lab: &Lab, options: &Options) {
    let server = lab.clickhouse(0);
    server.query("CREATE DATABASE src").unwrap();
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            scope.spawn(move || {
                for number in (maker..options.tables).step_by(MAKERS) {
                    let columns =
                        "(id UInt64, d Date, s String) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id";
                    server.query(&format!("CREATE TABLE src.t{number} {columns}")).unwrap();
                    let rows = format!(
                        "SELECT number, toDate('2018-01-01'), toString(number) FROM system.numbers LIMIT {}",
                        options.rows
                    );
                    server.query(&format!("INSERT INTO src.t{number} {rows}")).unwrap();
                }
            });
        }
    });
}

/// Writes `task.xml` and `keeper.xml`.
fn write_files(lab: &Lab, options: &Options, dir: &Path) {
    let mut xml = "<clickhouse><remote_servers>".to_owned();
    for (name, server) in [("source", 0), ("target", 1)] {
        let host = lab.clickhouse(server).host();
        write!(xml, "<{name}><shard><replica><host>{host}</host></replica></shard></{name}>").unwrap();
    }
    xml.push_str("</remote_servers><tables>");
    for number in 0..options.tables {
        let table = format!("t{number}");
        write!(xml, "<{table}>").unwrap();
        for (way, cluster, database) in [("pull", "source", "src"), ("push", "target", "dst")] {
            write!(xml, "<cluster_{way}>{cluster}</cluster_{way}><database_{way}>{database}</database_{way}>").unwrap();
            write!(xml, "<table_{way}>{table}</table_{way}>").unwrap();
        }
        writeln!(xml, "</{table}>").unwrap();
    }
    xml.push_str("</tables></clickhouse>");
    fs::write(dir.join("task.xml"), xml).unwrap();
    let hosts = lab.zookeeper().hosts();
    let (host, port) = hosts.split_once(':').unwrap();
    let node = format!("<node><host>{host}</host><port>{port}</port></node>");
    fs::write(dir.join("keeper.xml"), format!("<clickhouse><zookeeper>{node}</zookeeper></clickhouse>")).unwrap();
}

/// Statements that the servers have run, and requests that ZooKeeper has received.
fn counts(lab: &Lab) -> (u64, u64) {
    let statements = lab.servers().iter().map(|server| {
        // There is no log before the first statement.
        server.query("SELECT 1").unwrap();
        server.query("SYSTEM FLUSH LOGS").unwrap();
        let count = server.value("SELECT count() FROM system.query_log WHERE type != 1").unwrap();
        count.parse::<u64>().unwrap()
    });
    let mut zookeeper = TcpStream::connect(lab.zookeeper().hosts()).unwrap();
    zookeeper.write_all(b"srvr").unwrap();
    let mut told = String::new();
    zookeeper.read_to_string(&mut told).unwrap();
    let received = told.lines().find_map(|line| line.strip_prefix("Received: ")).unwrap();
    (statements.sum(), received.trim().parse().unwrap())
}
