//! The job as written: the XML of a task → a checked [`Task`].
//!
//! The format is that of the original `clickhouse-copier` (up to ClickHouse 24.2): its task files work unchanged, and
//! ours adds elements to them. [`Task::parse`] reports every fault at once, each with the path of its element; what the
//! original ignored silently (an unknown element, a second one of the same name) is a [`Warning`].
//!
//! - `elements`: every element that is known, with what it does: the reference is written from it.
//! - `xml`: text → tree of elements; references, CDATA and comments are resolved there.
//! - `walk`, `values`: a walker over the tree that knows the path, collects faults, and reads numbers and booleans.
//! - `clusters`, `tables`, `partitions`, `settings`: one part of the file each.
//! - `file`: a text with its name, and the task that was parsed from it ([`TaskFile`]).
//! - `inputs`: what a plan depends on ([`Task::plan_inputs`], [`differences`]).
//! - `sketch`: the other way: a task file, written with comments ([`Sketch`]).
//! - `keeper`, `tls`: the other file, [`KeeperConfig`].
//! - `configuration`: the files that it may consist of, merged as ClickHouse does it.
//!
//! Nothing here does I/O but [`SystemSecrets`], through which `from_env`, `<password_file>` and certificates are read,
//! and [`system_authorities`]. Whether the
//! SQL of `engine`, `sharding_key` and `where_condition` makes sense is for others to say.

mod clusters;
mod configuration;
pub(crate) mod edited;
mod elements;
mod fault;
mod file;
#[cfg(any(test, feature = "doubles"))]
pub(crate) mod fuzzed;
mod inputs;
mod keeper;
mod partitions;
mod repair;
mod secrets;
mod settings;
mod sketch;
mod tables;
mod tls;
mod trust;
mod values;
mod walk;
mod xml;
#[cfg(test)]
mod xml_tests;

pub(crate) use configuration::MOST_FILES;
pub use configuration::{ConfigText, Rules, in_order, is_piece, merge_folders, merged_outline, outline_of};
pub use elements::{ELEMENTS, Element, ElementPath, ElementText, Meaning, Origin, Unwritten};
pub(crate) use fault::{Fault, Notice, Problem};
pub use fault::{Faults, Warning};
pub(crate) use file::TaskFile;
pub use file::TaskText;
pub use inputs::differences;
pub use keeper::{KeeperConfig, LogLevel};
pub(crate) use repair::{TablePartitions, replacing};
pub use secrets::{GivenSecrets, SecretSource, SystemSecrets};
pub(crate) use secrets::{MOST_BYTES, read_bounded};
pub(crate) use settings::Settings;
pub(crate) use sketch::kept_elements;
pub use sketch::{ClusterSketch, ClusterTable, Sketch, SketchElement, TableSketch};
pub(crate) use tables::{HiddenRows, TableJob};
pub use tables::{IfTargetNotEmpty, Verify};
pub(crate) use tls::system_authorities;
pub(crate) use trust::{Allowed, OperatorSecrets};

use std::num::{NonZeroU32, NonZeroU64};

use walk::Scope;

use crate::model::Cluster;

/// A task: one XML description under one ZooKeeper path. Made by [`Task::parse`] only, so what its fields promise holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// How many workers may be active at once; the others wait. The original demanded the element; left out, it is
    /// [`u32::MAX`] here: no limit. At 0 all wait, as they did in the original: a way to pause a task.
    pub max_workers: u32,
    /// `<max_bytes_per_second>` at the root: bytes of rows, uncompressed, that each worker moves in a second at most, over all
    /// its jobs. Like the next one it may change while the task runs.
    pub max_bytes_per_second: Option<NonZeroU64>,
    /// `<max_bytes_per_second_of_task>`: what all workers together move; each has its share.
    pub max_bytes_per_second_of_task: Option<NonZeroU64>,
    /// `<max_jobs_per_server>`: at most so many pieces are copied from or to a server at once, by all workers together. May change
    /// while the task runs.
    pub max_jobs_per_server: Option<NonZeroU32>,
    /// Settings of ClickHouse for our statements.
    pub settings: Settings,
    /// In the order written, at least one, each with a name of its own.
    pub clusters: Vec<Cluster>,
    /// In the order written, at least one, each with a name of its own.
    pub tables: Vec<TableJob>,
}

/// A task and what is worth a word about its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The task.
    pub task: Task,
    /// In the order of their lines.
    pub warnings: Vec<Warning>,
}

impl Task {
    /// Reads and checks the XML of a task.
    ///
    /// # Errors
    /// Every fault of the file at once. They call the file `task.xml`; see [`Faults::in_file`].
    pub fn parse(xml: &str, secrets: &dyn SecretSource) -> Result<Parsed, Faults> {
        let (task, warnings) = walk::document("task.xml", xml, secrets, read)?;
        Ok(Parsed { task, warnings })
    }

    /// The cluster a table is copied from.
    pub fn source(&self, job: &TableJob) -> &Cluster {
        &self.clusters[job.source_cluster]
    }

    /// The cluster a table is copied to.
    pub fn target(&self, job: &TableJob) -> &Cluster {
        &self.clusters[job.target_cluster]
    }
}

fn read(root: &Scope<'_>) -> Option<Task> {
    root.only(ElementPath::Root);
    let max_workers = root.number32("max_workers", 0, u32::MAX);
    if max_workers == 0
        && let Some(element) = root.child("max_workers")
    {
        element.warn(Notice::NobodyWorks);
    }
    let settings = settings::read(root);
    let servers = root.child("remote_servers");
    let clusters = servers.as_ref().map(|servers| clusters::read(root, servers)).unwrap_or_default();
    let tables = root.child("tables");
    let jobs = tables.as_ref().map(|tables| tables::read(root, tables, &clusters)).unwrap_or_default();
    match &servers {
        Some(servers) => tables::check_nodes(servers, &clusters, &jobs),
        None => root.fault(Problem::Missing("remote_servers")),
    }
    if tables.is_none() {
        root.fault(Problem::Missing("tables"));
    }
    let max_bytes_per_second = root.rate("max_bytes_per_second");
    let max_bytes_per_second_of_task = root.rate("max_bytes_per_second_of_task");
    let max_jobs_per_server = NonZeroU32::new(root.number32("max_jobs_per_server", 1, 0));
    let task = Task {
        max_workers,
        max_bytes_per_second,
        max_bytes_per_second_of_task,
        max_jobs_per_server,
        settings,
        clusters,
        tables: jobs,
    };
    (!root.cx.has_faults()).then_some(task)
}
