//! The servers of one case, with the source's rows, and runs of copiers there.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lab::{ClickHouse, Lab, LabSpec, Release};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zookeeper_client as zk;

use crate::Outcome;
use crate::arguments::Arguments;
use crate::case::Case;
use crate::copier::{self, Launch, Maker};
use crate::data::{self, Digest, SOURCE, TARGET};
use crate::task;
use crate::usage::{Cpu, Usage, cpu_seconds, machine_seconds};

/// How often the servers are asked whether they are at rest, and for how long.
const ASK_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(300);

/// A case made ready.
pub struct Ground<'a> {
    pub case: &'static Case,
    arguments: &'a Arguments,
    original: PathBuf,
    lab: Lab,
    dir: TempDir,
    /// To put task files where the original looks for them.
    runtime: Runtime,
    source: Digest,
    /// Uncompressed bytes of the source.
    pub bytes: u64,
    /// How many runs there were.
    runs: u32,
}

impl<'a> Ground<'a> {
    /// Starts servers and fills the source.
    pub fn prepare(case: &'static Case, arguments: &'a Arguments, query_log: bool) -> Outcome<Self> {
        let begun = Instant::now();
        let clickhouse = case.sources + case.targets;
        let lab = Lab::start(LabSpec { query_log, ..LabSpec::of(Release::V18_16, clickhouse) })?;
        let sources = &lab.servers()[..case.sources];
        let (shards, rows) = (u64::try_from(case.sources)?, case.rows(arguments.rows));
        thread::scope(|scope| {
            let filling: Vec<_> = (0..shards)
                .zip(sources)
                .map(|(shard, server)| {
                    scope.spawn(move || data::fill(server, case.partitions, shards, shard, rows / shards))
                })
                .collect();
            filling.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("filling panicked".into())))
        })?;
        let source = data::digest(sources, SOURCE)?;
        let bytes = sources.iter().map(|server| data::bytes(server, SOURCE)).sum::<Outcome<u64>>()?;
        let dir = tempfile::Builder::new().prefix("copier-bench-").tempdir()?;
        fs::write(dir.path().join("keeper.xml"), task::keeper_xml(&lab.zookeeper().hosts()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let original = lab::original_copier()?;
        let ground = Ground { case, arguments, original, lab, dir, runtime, source, bytes, runs: 0 };
        eprintln!(
            "case {}: {} ({} rows, {:.0} bytes a row; filled in {:.0} s)",
            case.name,
            case.title,
            ground.rows(),
            bytes as f64 / ground.rows() as f64,
            begun.elapsed().as_secs_f64()
        );
        Ok(ground)
    }

    /// The source's rows.
    pub fn rows(&self) -> u64 {
        self.source.values().map(|(rows, _)| rows).sum()
    }

    pub fn sources(&self) -> &[ClickHouse] {
        &self.lab.servers()[..self.case.sources]
    }

    pub fn targets(&self) -> &[ClickHouse] {
        &self.lab.servers()[self.case.sources..]
    }

    /// All servers, the source's first.
    pub fn all(&self) -> &[ClickHouse] {
        self.lab.servers()
    }

    /// The folder of the run before, with what its workers said.
    pub fn last_run(&self) -> PathBuf {
        self.dir.path().join(format!("run-{}", self.runs))
    }

    /// One copy by so many workers, from an empty target to the end, and the comparison of the rows. `elements` go into the
    /// root of the task of ours, with those of the case and of the command line.
    pub fn run(&mut self, maker: Maker, workers: u32, elements: &str) -> Outcome<Usage> {
        self.runs += 1;
        let dir = self.last_run();
        fs::create_dir(&dir)?;
        self.clean()?;
        let launch = self.launch(maker, workers, elements, &dir)?;
        let (before, machine) = (self.servers_cpu()?, machine_seconds()?);
        let took = copier::run(&launch)?;
        let machine = machine_seconds()? - machine;
        let cpu = Cpu { workers: took.cpu, ..self.servers_cpu()? - before };
        let parts = self.targets().iter().map(|server| data::parts(server, TARGET)).sum::<Outcome<u64>>()?;
        let found = data::digest(self.targets(), TARGET)?;
        if found != self.source {
            return Err(format!("{maker:?}: the rows differ.\nsource: {:?}\ntarget: {found:?}", self.source).into());
        }
        let usage = Usage {
            wall: took.wall.as_secs_f64(),
            cpu,
            memory: took.memory,
            others: (machine - cpu.total()).max(0.0),
            parts,
        };
        let Cpu { source, target, workers: own, zookeeper } = usage.cpu;
        eprintln!(
            "  {maker:?} with {workers} worker(s): {:.2} s; processor {source:.1} s source, {target:.1} s target, {own:.1} s workers, \
             {zookeeper:.1} s ZooKeeper, {:.1} s others; {} MiB, {parts} parts",
            usage.wall,
            usage.others,
            usage.memory >> 20,
        );
        Ok(usage)
    }

    fn launch<'b>(&'b self, maker: Maker, workers: u32, elements: &str, dir: &'b Path) -> Outcome<Launch<'b>> {
        let ours = format!("{}{}{elements}", self.case.elements, self.arguments.elements());
        let elements = if maker == Maker::Ours { ours.as_str() } else { "" };
        let xml = task::xml(self.case, self.sources(), self.targets(), workers, elements);
        let keeper = self.dir.path().join("keeper.xml").display().to_string();
        let path = format!("/bench/{}", self.runs);
        let mut arguments = vec!["--config-file".to_owned(), keeper, "--task-path".to_owned(), path.clone()];
        let program = match maker {
            Maker::Original => {
                self.upload(&path, &xml)?;
                &self.original
            }
            Maker::Ours => {
                let file = dir.join("task.xml");
                fs::write(&file, xml)?;
                arguments.extend(["--task-file".to_owned(), file.display().to_string()]);
                &self.arguments.binary
            }
        };
        Ok(Launch { program, arguments, workers, dir })
    }

    /// The original of that time takes no `--task-file`.
    fn upload(&self, path: &str, xml: &str) -> Outcome<()> {
        let hosts = self.lab.zookeeper().hosts();
        self.runtime.block_on(async {
            let client = zk::Client::connect(&hosts).await?;
            let options = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
            client.mkdir(path, &options).await?;
            client.create(&format!("{path}/description"), xml.as_bytes(), &options).await?;
            Ok(())
        })
    }

    /// An empty database on the targets, and servers that do nothing: no statement, no merge.
    fn clean(&self) -> Outcome<()> {
        let database = TARGET.0;
        for server in self.targets() {
            server.query(&format!("DROP DATABASE IF EXISTS {database}"))?;
            server.query(&format!("CREATE DATABASE {database}"))?;
        }
        for server in self.lab.servers() {
            let begun = Instant::now();
            // The question itself is one of the processes.
            let busy = "SELECT (SELECT count() FROM system.merges) + (SELECT count() FROM system.processes) - 1";
            while server.value(busy)? != "0" {
                if begun.elapsed() > PATIENCE {
                    return Err(format!("{} is still busy after {PATIENCE:?}", server.host()).into());
                }
                thread::park_timeout(ASK_EVERY);
            }
        }
        Ok(())
    }

    fn servers_cpu(&self) -> Outcome<Cpu> {
        let of = |pid: Option<u32>| cpu_seconds(pid.ok_or("a server does not run")?);
        let all = |servers: &[ClickHouse]| servers.iter().map(|server| of(server.pid())).sum::<Outcome<f64>>();
        Ok(Cpu {
            source: all(self.sources())?,
            target: all(self.targets())?,
            workers: 0.0,
            zookeeper: of(self.lab.zookeeper().pid())?,
        })
    }
}
