//! A test's own corner of the laboratory, and what it does there.

mod browser;
mod checks;
mod http;
mod proxy;
mod task;
mod worker;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::{ClickHouse, Lab, LabSpec, Release};
use tempfile::TempDir;

pub use browser::Browser;
pub use checks::{Digest, quote, tick};
pub use http::{ask, stream};
pub use proxy::{Harm, Proxy, Rule};
pub use task::{Table, Task};
pub use worker::{Ended, Launch, SCREEN, Worker};

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

/// Scenes at work at a time. Each has one to three copiers, and all of them share two cores and six servers.
const SCENES: usize = 6;

/// How long anything that is to become true by itself may take: an ephemeral node to go, a replica to catch up.
const PATIENCE: Duration = Duration::from_secs(120);

enum Place {
    Shared(&'static Lab),
    Own(Box<Lab>),
}

/// What a test has for itself: databases on the servers, a path in ZooKeeper, a folder. The databases are dropped at its
/// start and its end.
pub struct Scene {
    place: Place,
    name: String,
    dir: TempDir,
    /// How many task files were written.
    files: AtomicUsize,
    /// The database that is copied from.
    pub src: String,
    /// The database that is copied to; not created beforehand.
    pub dst: String,
    _slot: Slot,
}

impl Scene {
    /// `here` is the path of a function inside of the test; `case` tells scenes of one test apart.
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

    /// A name for another database, dropped in the end like the other two. Any text.
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

    pub fn keeper_xml(&self) -> PathBuf {
        self.dir().join("keeper.xml")
    }

    /// A `keeper.xml` for the laboratory's ZooKeeper with more elements in `<zookeeper>`.
    pub fn keeper_text(&self, more: &str) -> String {
        self.keeper_text_of(self.lab(), more)
    }

    /// The same for another laboratory's, so that workers and servers don't have the same ZooKeeper.
    pub fn keeper_text_of(&self, lab: &Lab, more: &str) -> String {
        let hosts = lab.zookeeper().hosts();
        let (host, port) = hosts.split_once(':').unwrap();
        let node = format!("<node><host>{host}</host><port>{port}</port></node>");
        format!("<clickhouse><zookeeper>{node}{more}</zookeeper></clickhouse>")
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

    /// Runs an INSERT of any number of partitions on one server; modern ones take at most 100 unless they are told to.
    pub fn insert(&self, server: usize, sql: &str) {
        let many = [("max_partitions_per_insert_block", "0")];
        let settings = if self.server(server).release().is_modern() { &many[..] } else { &[] };
        self.server(server).query_with(settings, sql).unwrap();
    }

    /// Begins a mutation on one server and does not wait for it.
    pub fn mutate(&self, server: usize, sql: &str) {
        let settings = if self.server(server).release().is_modern() { &[("mutations_sync", "0")][..] } else { &[] };
        self.server(server).query_with(settings, sql).unwrap();
    }

    /// Creates a table in the syntax of 18.16, which modern servers take when they are told to.
    pub fn create_old(&self, servers: &[usize], sql: &str) {
        let allow = [("allow_deprecated_syntax_for_merge_tree", "1")];
        for &server in servers {
            let settings = if self.server(server).release().is_modern() { &allow[..] } else { &[] };
            self.server(server).query_with(settings, sql).unwrap();
        }
    }

    /// The lines that some servers answer, sorted.
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

    /// A task from a cluster `source` to a cluster `target`, each given as shards of replicas, without tables so far.
    pub fn task(&self, source: &[&[usize]], target: &[&[usize]]) -> Task {
        Task::new(self.task_path(), self.lab().cluster("source", source), self.lab().cluster("target", target))
    }

    /// A table job from the source database to the target database, the tables named like the job.
    pub fn table(&self, name: &str) -> Table {
        Table::new(name, (&self.src, name), (&self.dst, name))
    }

    /// The program, about to be started on a task that is written to a file now.
    pub fn launch(&self, task: &Task) -> Launch<'_> {
        self.launch_text(&task.xml()).task_path(&task.path)
    }

    /// The same with any text for a task.
    pub fn launch_text(&self, xml: &str) -> Launch<'_> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let file = self.dir().join(format!("task-{number}.xml"));
        fs::write(&file, xml).unwrap();
        Launch::new(self, file)
    }

    /// The program without ZooKeeper, about to be started on a task that is written to a file of this name now.
    pub fn launch_local(&self, task: &Task, file: &str) -> Launch<'_> {
        let file = self.dir().join(file);
        // Another worker may read it just now.
        let new = file.with_extension("new");
        fs::write(&new, task.xml()).unwrap();
        fs::rename(&new, &file).unwrap();
        Launch::new(self, file).without_keeper()
    }

    /// One worker, from its start to its end.
    pub fn run(&self, task: &Task) -> Ended {
        self.launch(task).run()
    }

    /// Waits until something holds that comes about by itself, and asks for it now and then: what is asked here are
    /// servers, which tell nobody. `told` says what there is instead.
    pub fn eventually(&self, what: &str, mut told: impl FnMut() -> Result<(), String>) {
        let begun = Instant::now();
        while let Err(instead) = told() {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; instead: {instead}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn drop_databases(&self) -> Result<(), lab::LabError> {
        let prefix = prefix(&self.name);
        for server in self.lab().servers().iter().filter(|server| server.pid().is_some()) {
            let names = server.query("SELECT name FROM system.databases FORMAT TSVRaw")?;
            let ours: BTreeSet<&str> = names.lines().filter(|name| name.starts_with(&prefix)).collect();
            // Atomic databases drop tables minutes later unless told otherwise, and their nodes in ZooKeeper with them.
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
