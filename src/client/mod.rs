//! The client of ClickHouse servers: the traits [`ServerClient`] (and [`Inspector`] for questions before a copy), and their
//! implementation over HTTP. [`memory`] is a double for simulations; one suite, [`conformance`], runs on both.
//!
//! # Guarantees
//! - An answer is complete or an error: servers buffer results until they are complete.
//! - A missing answer is an error, never an empty result.
//! - A request that was sent may continue after its future was dropped or its connection broke. Only a query shows
//!   whether it runs.
//!
//! # Timeouts
//! Every request except [`ServerClient::transfer`] and the statements on partitions has a time limit of its own (see
//! [`http`]). Those two run as long as they must. Statements on partitions are given up when they have moved nothing
//! for a while. For a transfer the caller decides whether it still moves (see [`Watch`]). The limit starts when a
//! request is sent. Before that the request waits for its permits, and up to ten minutes for a server that is full.

pub(crate) mod codes;
#[doc(hidden)]
#[allow(missing_docs)] // tests, named by what they check
#[cfg(any(test, feature = "doubles"))]
pub mod conformance;
mod error;
pub mod http;
mod inspect;
#[cfg(any(test, feature = "doubles"))]
pub mod memory;
pub(crate) mod native;
mod probe;
mod stall;
mod throttle;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use crate::model::{Node, PartitionId, PartitionValue, TableName, setting_names};
use crate::sql::required_settings::{Correction, SettingRule, corrections};
use crate::sql::{Behind, Column, KeyElement, PolicyKind, Selection, TableDefinition};

pub(crate) use error::Remedy;
pub use error::{Error, Kind};
pub(crate) use inspect::{ClusterMember, Disk, Inspector, Mutation};
pub(crate) use native::{has_dictionary_in_array, is_dealable};
pub use probe::{Fingerprint, Loss, Probe};
pub use stall::STALL_TIMEOUT;
pub(crate) use stall::{Course, STALL_SECONDS, StallVerdict, TransferObservation, Watch, observation_pause};
pub(crate) use throttle::Throttle;
pub use transfer::{Destination, Origin, Transfer};

/// The version and settings of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// `18.16.1`
    pub(crate) version: String,
    /// The settings that it knows, with their values for our account.
    pub(crate) settings: BTreeMap<String, String>,
    /// Restrictions on settings for our account, by setting.
    pub(crate) setting_rules: BTreeMap<String, SettingRule>,
}

/// Properties of a server that definitions of tables, keys and conditions depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerContext {
    /// The macros of the server; empty if the account may not see them.
    pub macros: BTreeMap<String, String>,
    /// The time zone of our sessions, followed by the server's if it differs.
    pub zones: Vec<String>,
    /// User-defined functions with the statement that created them; `None` for an external program.
    pub functions: BTreeMap<String, Option<String>>,
}

impl ServerFacts {
    /// Returns the release, such as `(18, 16)`.
    pub(crate) fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Returns whether our account there may only read (`readonly` 1 or 2).
    pub(crate) fn is_read_only(&self) -> bool {
        self.settings.get("readonly").is_some_and(|value| value != "0")
    }

    /// Returns the server's name for a setting: the given name, or the other name of a renamed setting.
    pub(crate) fn setting_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        setting_names(name).find(|name| self.settings.contains_key(*name))
    }

    /// Returns whether a SELECT of our account already shows the changes of unfinished mutations. Parts do not
    /// contain them.
    pub(crate) fn applies_mutations_on_fly(&self) -> bool {
        self.settings.get("apply_mutations_on_fly").is_some_and(|value| value == "1")
    }

    /// Returns the settings whose values for our account differ from those we need.
    pub(crate) fn corrections(&self) -> Vec<Correction> {
        corrections(&self.settings, &self.setting_rules)
    }

    /// Returns the wanted settings that this server knows, with its names for them. An unknown setting would be an
    /// error there.
    pub fn known(&self, wanted: &[(String, String)]) -> Settings {
        let known = |(name, value): &(String, String)| Some((self.setting_name(name)?.to_owned(), value.clone()));
        wanted.iter().filter_map(known).collect::<BTreeMap<_, _>>().into_iter().collect()
    }
}

/// The size of a partition, according to its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSizes {
    /// The partition.
    pub id: PartitionId,
    /// `system.parts.partition`.
    pub name: String,
    /// Rows according to the active parts.
    pub rows: u64,
    /// Uncompressed bytes of the active parts.
    pub bytes: u64,
    /// Whether a query would count the same rows. False if deleted rows are still in the parts.
    pub exact: bool,
    /// Whether patch parts change its rows ([`PartitionId::patched`]). A query applies them; parts that travel as
    /// files do not contain them.
    pub patched: bool,
}

/// The active parts of a table. A later list shows whether its rows are still the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartList {
    /// A text that changes when the table is recreated or its definition changes: its `uuid`, if it has one, and
    /// `metadata_modification_time`.
    pub(crate) table: String,
    /// The parts, in no order.
    pub(crate) parts: Vec<PartName>,
}

/// An active part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartName {
    /// The partition.
    pub(crate) id: PartitionId,
    /// The name of the part: `<partition>_<first block>_<last block>_<level>`, with `_<version>` after a mutation.
    pub(crate) name: String,
    /// The number of rows of the part.
    pub(crate) rows: u64,
    /// A hash of its files before compression; empty if the server does not report it (18.16).
    pub(crate) hash: String,
}

/// The number of rows with a value of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The value.
    pub value: PartitionValue,
    /// The text of each element as a person knows it.
    pub shown: Vec<String>,
    /// The partition's id, if it can be computed from the value.
    pub id: Option<PartitionId>,
    /// Rows, counted by query.
    pub rows: u64,
}

/// A checksum of the rows with a value of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The value.
    pub value: PartitionValue,
    /// Rows, counted by query.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: u64,
}

/// A running statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// The id of the statement.
    pub query_id: String,
    /// Running time in seconds.
    pub elapsed: f64,
    /// Rows read so far.
    pub read_rows: u64,
    /// Rows written so far.
    pub written_rows: u64,
    /// A number that grows while the statement moves anything else: bytes, files, parts.
    pub moved: u64,
}

impl Running {
    /// Returns whether this is the SELECT of a relay (see [`Transfer::reading_id`]).
    pub(crate) fn only_reads(&self) -> bool {
        self.query_id.rsplit(':').next().is_some_and(|last| last.starts_with("read"))
    }
}

/// The state of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// Path of the table in the servers' ZooKeeper.
    pub(crate) path: String,
    /// The replica's name.
    pub(crate) name: String,
    /// Whether it accepts no writes at the moment.
    pub(crate) readonly: bool,
    /// Entries in its queue, without merges.
    pub(crate) queue: u64,
}

/// Settings for one statement. The server that gets them knows all of them.
pub type Settings = Vec<(String, String)>;

/// How partitions of one table are put into another on the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// They are added to the present rows.
    Attach,
    /// They replace the present rows, each partition atomically. Never use it for a partition that the source table
    /// lacks: that would empty the target's partition (docs/clickhouse-behaviour.md, T4).
    Replace,
}

/// The requests to ClickHouse. Every method names its node.
#[async_trait]
pub trait ServerClient: Probe {
    /// Returns the server's version and settings.
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error>;
    /// Checks whether the server answers now. It is cheaper than [`server`](Self::server) if the server's facts were
    /// read recently.
    async fn answers(&self, node: &Node) -> Result<(), Error> {
        self.server(node).await.map(drop)
    }
    /// Returns the properties that definitions and expressions depend on.
    async fn context(&self, node: &Node) -> Result<ServerContext, Error>;
    /// Returns the settings that tables of the MergeTree family can have there.
    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error>;
    /// Returns the engine of a database (`Ordinary`, `Atomic`, `Replicated`, …); `None` if it does not exist.
    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error>;
    /// Returns a table's definition; `None` if it does not exist. An error if the account may not know.
    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error>;
    /// Returns the names of the tables of a database that start with a prefix.
    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error>;
    /// Returns the state of a replicated table's replica; `None` if the table is not replicated.
    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error>;
    /// Checks whether a node can reach another over the native protocol, with the account of the task.
    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error>;
    /// Returns the nodes under a path of the server's own ZooKeeper; `None` if the path does not exist.
    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error>;
    /// Returns marks that identify the server's own ZooKeeper: two servers with a common mark use the same one. An
    /// error if the server has none.
    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error>;
    /// Returns how many active parts of a table lack one of these columns with its type.
    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error>;
    /// Returns the active parts by partition. Patch parts are no partition of their own: they mark the one that they
    /// change.
    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error>;
    /// Returns the active parts of the table behind a Distributed table by partition, on one replica of each shard.
    async fn parts_behind(&self, node: &Node, behind: &Behind, settings: &Settings) -> Result<Vec<PartSizes>, Error>;
    /// Returns the active parts one by one.
    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error>;
    /// Returns how many displaced parts of some partitions are still on the disk.
    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error>;
    /// Counts rows for each value of a key, by query.
    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error>;
    /// Counts rows of each partition of a MergeTree table, by query.
    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error>;
    /// Counts rows of each partition with settings that decide how the rows are counted.
    async fn count_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        _: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        self.rows_by_partition(node, name, only).await
    }
    /// Returns the key's values in each partition of a MergeTree table with their rows, by query.
    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error>;
    /// Returns the same for a table that is partitioned by this key, so that all rows of a partition have the same
    /// values.
    async fn value_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values_by_partition(node, name, key).await
    }
    /// Returns rows and checksum of a partition of a MergeTree table, or of a whole table of any engine.
    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error>;
    /// Returns how many different rows of a sample a partition of a MergeTree table holds. The sample consists of the
    /// rows with the smallest hashes in the same partition of another table on the node, up to
    /// [`MOST_SAMPLED`](crate::sql::MOST_SAMPLED).
    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error>;
    /// Returns rows and checksum for each value of a key, in one read. The checksum is the sum of a hash (see
    /// [`values_hash`](crate::sql::values_hash)).
    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error>;
    /// Returns the keys of about one row in `every`, sorted.
    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error>;
    /// Returns the types of expressions over some rows (without reading any), or without any table.
    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error>;
    /// Evaluates expressions over the first rows. Only this shows whether values can be converted.
    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Returns the names of the policies of a kind that apply to our account on a table; none if the server does not
    /// list them.
    async fn policies(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Vec<String>, Error> {
        let _ = (node, name, kind);
        Ok(Vec::new())
    }
    /// Returns the running statements whose id starts with a prefix.
    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error>;
    /// Returns whether statements run here whose id starts with a prefix, or which such a statement of another server
    /// started.
    async fn is_at_work(&self, node: &Node, prefix: &str) -> Result<bool, Error> {
        Ok(!self.running(node, prefix).await?.is_empty())
    }

    /// Kills running statements whose id starts with a prefix, and the statements that they started on other servers
    /// if those are asked too. It does not wait for their end.
    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error>;
    /// Creates a database if it does not exist.
    async fn create_database(&self, node: &Node, database: &str, settings: &Settings) -> Result<(), Error>;
    /// Creates a table by a statement of [`TableDefinition`].
    async fn create_table(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Drops a table if it exists.
    async fn drop_table(&self, node: &Node, name: &TableName, settings: &Settings) -> Result<(), Error>;
    /// Renames tables.
    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error>;
    /// Stops merges of a table.
    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error>;
    /// Waits until a replica has caught up with its queue.
    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error>;
    /// Puts partitions of one table into another. No time limit while it makes progress.
    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Fetches partitions of a Replicated table of another server, as files, and adds them to a Replicated table of
    /// this one. `path` is the other table's path in the ZooKeeper that both use. No time limit while it makes
    /// progress. Dropping the future does not end the statements.
    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        query_id: &str,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Removes the rows of partitions. No time limit while it makes progress.
    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Copies a partition within a node by reading and writing its rows. No time limit while it makes progress.
    async fn insert_partition(
        &self,
        node: &Node,
        into: &TableName,
        from: &TableName,
        columns: &[String],
        id: &PartitionId,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Moves rows from one server to another. It has no time limit: the caller checks whether it still moves.
    ///
    /// Dropping the future does not end the statement of a push or a pull. It ends a relay: nothing more is read or
    /// written, but written rows may stay.
    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error>;
}
