//! What the tests share: a scene on real servers for each test, task files, the program as a process, fixtures, checks.

mod browser;
mod checks;
mod dashboard;
mod forwarder;
mod http;
mod killed_workers;
mod merging_client;
mod modern_tables;
mod proxy;
mod slow_tasks;
mod tables;
mod task;
mod worker;
mod zookeeper;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::{ClickHouse, Lab, LabSpec, Release};
use serde_json::Value;
use tempfile::TempDir;

pub use browser::Browser;
pub use checks::{Digest, quote, tick};
pub use dashboard::{Dashboard, TOKEN};
pub use forwarder::Forwarder;
pub use http::{ask, stream};
pub use killed_workers::{PLAIN, REPLICATED, kill_at, task_of_several_pieces};
pub use merging_client::MergingClient;
pub use modern_tables::{FEATURES, Feature, node_of, settings_for_definitions};
pub use proxy::{Harm, Proxy, Rule};
pub use slow_tasks::{task_with_slow_push, task_with_slow_source, wait_for_transfer, xml_without_limits};
pub use tables::{BY_MONTH, COLUMNS, MONTHLY_KEYS, fill, fill_every_type, removing_old_parts_soon, rows};
pub use task::{Table, Task, cluster_of_shards};
pub use worker::{Ended, FEW_TRIES, Launch, SCREEN, Worker};
pub use zookeeper::delete_nodes;
pub use zookeeper::{zookeeper_hosts, zookeeper_session};

/// A scene named after the test that asks for it: on the shared laboratory of a release, or on one of its own with
/// `scene!(own LabSpec { … })`, for tests that kill or freeze servers.
macro_rules! scene {
    (own $spec:expr) => {{
        fn here() {}
        crate::harness::Scene::own(std::any::type_name_of_val(&here), $spec)
    }};
    ($release:expr) => {{
        fn here() {}
        crate::harness::Scene::shared(std::any::type_name_of_val(&here), $release, "")
    }};
    // On the servers of one release, for a test that runs for several others.
    ($release:expr, for $other:expr) => {{
        fn here() {}
        crate::harness::Scene::shared(std::any::type_name_of_val(&here), $release, $other.name())
    }};
}
pub(crate) use scene;

/// The most scenes at the same time. Each has one to three copiers, and all of them share two cores and six servers.
const SCENES: usize = 6;

/// How long [`Scene::eventually`] waits, for example until an ephemeral node is deleted or a replica has fetched its parts.
const PATIENCE: Duration = Duration::from_secs(120);

enum Place {
    Shared(&'static Lab),
    Own(Box<Lab>),
}

/// The databases on the servers, the path in ZooKeeper and the folder of one test. The databases are dropped at its start and at
/// its end.
pub struct Scene {
    place: Place,
    name: String,
    dir: TempDir,
    /// The number of task files written so far.
    files: AtomicUsize,
    /// The source database.
    pub src: String,
    /// The target database. The scene does not create it.
    pub dst: String,
    _slot: Slot,
}

impl Scene {
    /// `here` is the path of a function inside the test; `case` distinguishes scenes of one test.
    pub fn shared(here: &str, release: Release, case: &str) -> Scene {
        let slot = Slot::wait_for_one();
        Scene::new(here, case, Place::Shared(Lab::shared(release)), slot)
    }

    /// A scene on servers of its own.
    pub fn own(here: &str, spec: LabSpec) -> Scene {
        let slot = Slot::wait_for_one();
        Scene::new(here, "", Place::Own(Box::new(Lab::start(spec).unwrap())), slot)
    }

    fn new(here: &str, case: &str, place: Place, slot: Slot) -> Scene {
        // it::copy::month_to_week::here (in a closure: …::{{closure}}::here) → copy_month_to_week
        let parts: Vec<&str> = here.split("::").filter(|part| !part.starts_with("{{")).collect();
        let name = parts[1..parts.len() - 1].join("_") + &case.replace('.', "_");
        let dir = tempfile::Builder::new().prefix("copier-it-").tempdir().unwrap();
        let (src, dst) = (format!("{}src", prefix(&name)), format!("{}dst", prefix(&name)));
        let scene = Scene { place, name, dir, files: AtomicUsize::new(0), src, dst, _slot: slot };
        scene.drop_databases().unwrap();
        for server in scene.lab().servers() {
            server.query(&format!("CREATE DATABASE {}", scene.src)).unwrap();
        }
        fs::write(scene.keeper_xml(), scene.keeper_text("")).unwrap();
        scene
    }

    pub fn lab(&self) -> &Lab {
        match &self.place {
            Place::Shared(lab) => lab,
            Place::Own(lab) => lab,
        }
    }

    /// The release of the first server.
    pub fn release(&self) -> Release {
        self.server(0).release()
    }

    pub fn server(&self, index: usize) -> &ClickHouse {
        self.lab().clickhouse(index)
    }

    /// The test's name, `copy_month_to_week`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of another database, which is dropped at the end too. The suffix may be any text.
    pub fn database(&self, suffix: &str) -> String {
        format!("{}{suffix}", prefix(&self.name))
    }

    /// The task's path in ZooKeeper.
    pub fn task_path(&self) -> String {
        format!("/it/{}", self.name)
    }

    /// The test's folder: configurations, and the launches' logs in `logs`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Reads a file of the test's folder.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Reads a JSON file of the test's folder.
    #[track_caller]
    pub fn read_json(&self, file: &str) -> Value {
        parse_json(&self.read(file))
    }

    /// The folder with the logs of the only launch.
    #[track_caller]
    pub fn log_folder(&self) -> PathBuf {
        let folders: Vec<PathBuf> =
            fs::read_dir(self.dir().join("logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [folder] = folders.as_slice() else { panic!("not one folder: {folders:?}") };
        folder.clone()
    }

    pub fn keeper_xml(&self) -> PathBuf {
        self.dir().join("keeper.xml")
    }

    /// A `keeper.xml` for the laboratory's ZooKeeper with more elements in `<zookeeper>`.
    pub fn keeper_text(&self, more: &str) -> String {
        self.keeper_text_of(self.lab(), more)
    }

    /// The same for the ZooKeeper of another laboratory: then workers and servers have different ZooKeepers.
    pub fn keeper_text_of(&self, lab: &Lab, more: &str) -> String {
        let hosts = lab.zookeeper().hosts();
        let (host, port) = hosts.split_once(':').unwrap();
        let node = format!("<node><host>{host}</host><port>{port}</port></node>");
        format!("<clickhouse><zookeeper>{node}{more}</zookeeper></clickhouse>")
    }

    /// An address of the laboratory where no server listens. Different numbers give different addresses.
    pub fn unused_host(&self, number: u8) -> String {
        let host = self.server(0).host();
        format!("{}.{number}", &host[..host.rfind('.').unwrap()])
    }

    /// Returns the engine of a Replicated table with a partition for each month. Its path in ZooKeeper is the test's own, with
    /// `suffix` at its end; tables with the same path are replicas of each other.
    pub fn replicated_engine(&self, suffix: &str) -> String {
        let path = format!("/tables/{}{suffix}", self.name);
        format!("ENGINE = ReplicatedMergeTree('{path}', '{{replica}}') {MONTHLY_KEYS}")
    }

    /// From now on workers' sessions end two seconds after they are killed.
    pub fn short_sessions(&self) {
        let text = self.keeper_text("<session_timeout_ms>2000</session_timeout_ms>");
        fs::write(self.keeper_xml(), text).unwrap();
    }

    /// Runs a statement on one server; its answer without the line feed at the end.
    pub fn ask(&self, server: usize, sql: &str) -> String {
        self.server(server).value(sql).unwrap()
    }

    /// Runs a statement on each of some servers.
    pub fn on(&self, servers: &[usize], sql: &str) {
        for &server in servers {
            self.ask(server, sql);
        }
    }

    /// Runs an INSERT into any number of partitions on one server. Modern servers accept at most 100 without a setting.
    pub fn insert(&self, server: usize, sql: &str) {
        let many = [("max_partitions_per_insert_block", "0")];
        let settings = if self.server(server).release().is_modern() { &many[..] } else { &[] };
        self.server(server).query_with(settings, sql).unwrap();
    }

    /// Starts a mutation on one server and does not wait for it.
    pub fn mutate(&self, server: usize, sql: &str) {
        let settings = if self.server(server).release().is_modern() { &[("mutations_sync", "0")][..] } else { &[] };
        self.server(server).query_with(settings, sql).unwrap();
    }

    /// Creates a table in the syntax of 18.16. Modern servers accept it with a setting.
    pub fn create_old(&self, servers: &[usize], sql: &str) {
        let allow = [("allow_deprecated_syntax_for_merge_tree", "1")];
        for &server in servers {
            let settings = if self.server(server).release().is_modern() { &allow[..] } else { &[] };
            self.server(server).query_with(settings, sql).unwrap();
        }
    }

    /// The lines of the answers of some servers, sorted.
    pub fn lines(&self, servers: &[usize], sql: &str) -> Vec<String> {
        let mut lines: Vec<String> = servers
            .iter()
            .flat_map(|&server| self.ask(server, sql).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort();
        lines
    }

    /// The sum of a number over some servers.
    pub fn sum(&self, servers: &[usize], sql: &str) -> u64 {
        servers.iter().map(|&server| self.ask(server, sql).parse::<u64>().unwrap()).sum()
    }

    /// A task without tables, from a cluster `source` to a cluster `target`. Each is a list of shards, each shard a list of servers.
    pub fn task(&self, source: &[&[usize]], target: &[&[usize]]) -> Task {
        Task::new(self.task_path(), self.lab().cluster("source", source), self.lab().cluster("target", target))
    }

    /// A table job from the source database to the target database, the tables named like the job.
    pub fn table(&self, name: &str) -> Table {
        Table::new(name, (&self.src, name), (&self.dst, name))
    }

    /// Writes a task file and returns a command line that uses it.
    pub fn launch(&self, task: &Task) -> Launch<'_> {
        self.launch_text(&task.xml()).task_path(&task.path)
    }

    /// The same with any text as the task file.
    pub fn launch_text(&self, xml: &str) -> Launch<'_> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let file = self.dir().join(format!("task-{number}.xml"));
        fs::write(&file, xml).unwrap();
        Launch::new(self, file)
    }

    /// Writes a task file of this name and returns a command line that uses it without ZooKeeper.
    pub fn launch_local(&self, task: &Task, file: &str) -> Launch<'_> {
        let file = self.dir().join(file);
        // Another worker may be reading the old file.
        let new = file.with_extension("new");
        fs::write(&new, task.xml()).unwrap();
        fs::rename(&new, &file).unwrap();
        Launch::new(self, file).without_keeper()
    }

    /// Runs one worker to its end.
    pub fn run(&self, task: &Task) -> Ended {
        self.launch(task).run()
    }

    /// Waits until a condition on servers holds. It is checked again and again, since servers send no events. While it does not
    /// hold, the condition returns what it found instead.
    pub fn eventually(&self, what: &str, mut condition: impl FnMut() -> Result<(), String>) {
        let begun = Instant::now();
        while let Err(instead) = condition() {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; instead: {instead}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn drop_databases(&self) -> Result<(), lab::LabError> {
        let prefix = prefix(&self.name);
        for server in self.lab().servers().iter().filter(|server| server.pid().is_some()) {
            let names = server.query("SELECT name FROM system.databases FORMAT TSVRaw")?;
            let ours: BTreeSet<&str> = names.lines().filter(|name| name.starts_with(&prefix)).collect();
            // Without SYNC, Atomic databases drop tables and their nodes in ZooKeeper minutes later.
            let sync = if server.release().is_modern() { " SYNC" } else { "" };
            for name in ours {
                server.query(&format!("DROP DATABASE {}{sync}", tick(name)))?;
            }
        }
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Servers of its own end with it.
        if matches!(self.place, Place::Own(_)) {
            return;
        }
        let dropped = self.drop_databases();
        if !std::thread::panicking() {
            dropped.unwrap();
        }
    }
}

/// Parses JSON; the text is shown if that fails.
#[track_caller]
pub fn parse_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// No test's prefix is the start of another's: their names hold no double underscore.
fn prefix(name: &str) -> String {
    format!("it_{name}__")
}

/// One of [`SCENES`].
struct Slot;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    fn wait_for_one() -> Slot {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= SCENES {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
