//! The door to ClickHouse: what we ask of a server, as [`ServerClient`] (and, before a copy, as [`Inspector`]), and how it is asked, over HTTP. [`memory`] is a double
//! for simulations; one suite, [`conformance`], runs on both.
//!
//! # Guarantees
//! - An answer is whole or an error: results are buffered by the server until they are complete.
//! - "No answer" is an error, never an empty result.
//! - A request that was sent may go on after its future was dropped or its connection broke: only looking tells.
//!
//! # Timeouts
//! Everything but [`ServerClient::transfer`] and the statements on partitions has a bound of its own (see [`http`]). Those run as long as they
//! must. Statements on partitions are given up when they have moved nothing for a while; whether a transfer still moves, the caller
//! decides (see [`Watch`]). The bound begins when a request is sent: before that it waits for its
//! turn, and up to ten minutes for a server that is full.

#[doc(hidden)]
#[allow(missing_docs)] // tests, named by what they check
pub mod conformance;
mod error;
pub mod http;
mod inspect;
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
use crate::sql::{Column, KeyElement, PolicyKind, Selection, TableDefinition};

pub use error::{Error, Kind, Remedy};
pub use inspect::{ClusterSeat, Disk, Inspector, Mutation};
pub use native::{has_dictionary_in_array, is_dealable};
pub use probe::{Fingerprint, Loss, Probe};
pub use stall::{Course, Look, STALL_SECONDS, STALL_TIMEOUT, Verdict, Watch, look_every};
pub use throttle::Throttle;
pub use transfer::{Destination, Origin, Transfer};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// `18.16.1`
    pub version: String,
    /// The settings it knows, with their values for our account.
    pub settings: BTreeMap<String, String>,
    /// What our account may not do to settings, where there is such a rule.
    pub setting_rules: BTreeMap<String, SettingRule>,
}

/// What definitions of tables, keys and conditions depend on at a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerContext {
    /// Its macros. Empty where the account has no right to see them.
    pub macros: BTreeMap<String, String>,
    /// The time zone of our sessions, and after it that of the server where it is another one.
    pub zones: Vec<String>,
    /// Functions that users defined, with the statement that made them; `None` for a program.
    pub functions: BTreeMap<String, Option<String>>,
}

impl ServerFacts {
    /// `(18, 16)`.
    pub fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Whether our account there may only read (`readonly` 1 or 2).
    pub fn is_read_only(&self) -> bool {
        self.settings.get("readonly").is_some_and(|value| value != "0")
    }

    /// The name by which this server knows a setting: the one given, or the other one of a setting that was renamed.
    pub fn setting_name<'a>(&self, name: &'a str) -> Option<&'a str> {
        setting_names(name).find(|name| self.settings.contains_key(*name))
    }

    /// Whether a SELECT of our account shows what mutations will change that are not done yet. Parts do not have that.
    pub fn applies_mutations_on_fly(&self) -> bool {
        self.settings.get("apply_mutations_on_fly").is_some_and(|value| value == "1")
    }

    /// The settings whose values for our account are not what we need.
    pub fn corrections(&self) -> Vec<Correction> {
        corrections(&self.settings, &self.setting_rules)
    }

    /// Those of the wanted settings that this server knows, by its name for them: an unknown one is an error there.
    pub fn known(&self, wanted: &[(String, String)]) -> Settings {
        let known = |(name, value): &(String, String)| Some((self.setting_name(name)?.to_owned(), value.clone()));
        wanted.iter().filter_map(known).collect::<BTreeMap<_, _>>().into_iter().collect()
    }
}

/// What the parts of a partition say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSizes {
    /// The partition.
    pub id: PartitionId,
    /// `system.parts.partition`.
    pub name: String,
    /// Rows that the active parts claim.
    pub rows: u64,
    /// Uncompressed bytes of the active parts.
    pub bytes: u64,
    /// Whether a query would find as many rows: not where some were deleted and are still in the parts.
    pub exact: bool,
    /// Whether patch parts change its rows ([`PartitionId::patched`]): a query applies them, parts that travel as files do not have them.
    pub patched: bool,
}

/// The active parts of a table: what a later look tells by whether its rows are still the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartList {
    /// Another one when the table was made anew or its definition was changed: its `uuid`, where it has one, and
    /// `metadata_modification_time`.
    pub table: String,
    /// In no order.
    pub parts: Vec<PartName>,
}

/// An active part of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    /// The partition.
    pub id: PartitionId,
    /// Its name: `<partition>_<first block>_<last block>_<level>`, with `_<version>` after a mutation.
    pub name: String,
    /// Rows that it claims.
    pub rows: u64,
    /// A hash of its files as they are before compression; empty where the server does not tell (18.16).
    pub hash: String,
}

/// How many rows have a value of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The value.
    pub value: PartitionValue,
    /// The text of each element that a person knows.
    pub shown: Vec<String>,
    /// The partition's id where it can be told from the value.
    pub id: Option<PartitionId>,
    /// Rows, counted by query.
    pub rows: u64,
}

/// What the rows with a value of the key are, in two numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The value.
    pub value: PartitionValue,
    /// Rows, counted by query.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: u64,
}

/// A statement that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its id.
    pub query_id: String,
    /// Seconds.
    pub elapsed: f64,
    /// Rows read so far.
    pub read_rows: u64,
    /// Rows written so far.
    pub written_rows: u64,
    /// A number that grows while the statement moves anything else: bytes, files, parts.
    pub moved: u64,
}

impl Running {
    /// Whether this is the SELECT of a relay (see [`Transfer::reading_id`]).
    pub fn only_reads(&self) -> bool {
        self.query_id.rsplit(':').next().is_some_and(|last| last.starts_with("read"))
    }
}

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaState {
    /// Path of the table in the servers' ZooKeeper.
    pub path: String,
    /// The replica's name.
    pub name: String,
    /// Whether it takes no writes at the moment.
    pub readonly: bool,
    /// Entries that it has yet to do, without its merges.
    pub queue: u64,
}

/// Settings for one statement, already known to the server that gets them.
pub type Settings = Vec<(String, String)>;

/// How partitions of one table get into another on the same node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// Added to what is there.
    Attach,
    /// In the place of what is there, each partition atomically. Never for a partition that the source table lacks: that
    /// would empty it (docs/clickhouse-behaviour.md, T4).
    Replace,
}

/// What we ask of ClickHouse. Every method names the node that it asks.
#[async_trait]
pub trait ServerClient: Probe {
    /// What the server is.
    async fn server(&self, node: &Node) -> Result<ServerFacts, Error>;
    /// Whether the server answers now. Cheaper than [`server`](Self::server) where what it is was asked lately.
    async fn answers(&self, node: &Node) -> Result<(), Error> {
        self.server(node).await.map(drop)
    }
    /// What definitions and expressions depend on there.
    async fn context(&self, node: &Node) -> Result<ServerContext, Error>;
    /// The settings that tables of the MergeTree family can have there.
    async fn merge_tree_settings(&self, node: &Node) -> Result<BTreeSet<String>, Error>;
    /// The engine of a database (`Ordinary`, `Atomic`, `Replicated`, …); `None` when there is no such one.
    async fn database_engine(&self, node: &Node, database: &str) -> Result<Option<String>, Error>;
    /// A table's definition; `None` when there is no such table. An error when the account may not know.
    async fn table(&self, node: &Node, name: &TableName) -> Result<Option<TableDefinition>, Error>;
    /// Names of the tables of a database that start with a prefix.
    async fn tables_with_prefix(&self, node: &Node, database: &str, prefix: &str) -> Result<Vec<String>, Error>;
    /// What a replicated table's replica is; `None` when the table is not replicated.
    async fn replica_state(&self, node: &Node, name: &TableName) -> Result<Option<ReplicaState>, Error>;
    /// Whether a node can speak to another over the native protocol, with the account of the task.
    async fn reaches(&self, from: &Node, to: &Node) -> Result<(), Error>;
    /// Nodes under a path of the server's own ZooKeeper; `None` when there is no such path.
    async fn zookeeper_children(&self, node: &Node, path: &str) -> Result<Option<Vec<String>>, Error>;
    /// What tells the server's own ZooKeeper from others; two servers with something in common have the same one. An error
    /// when it has none.
    async fn zookeeper_marks(&self, node: &Node) -> Result<BTreeSet<String>, Error>;
    /// How many active parts of a table do not have each of these columns with its type.
    async fn parts_lacking(&self, node: &Node, name: &TableName, columns: &[Column]) -> Result<u64, Error>;
    /// Active parts by partition. Patch parts are no partition of their own: they mark the one that they change.
    async fn parts(&self, node: &Node, name: &TableName) -> Result<Vec<PartSizes>, Error>;
    /// Active parts one by one.
    async fn part_list(&self, node: &Node, name: &TableName) -> Result<PartList, Error>;
    /// How many displaced parts of some partitions are still there.
    async fn displaced_parts(&self, node: &Node, name: &TableName, ids: &[PartitionId]) -> Result<u64, Error>;
    /// Rows for each value of a key, by query.
    async fn tally(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        settings: &Settings,
    ) -> Result<Vec<Tally>, Error>;
    /// Rows of each partition of a MergeTree table, by query.
    async fn rows_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
    ) -> Result<BTreeMap<PartitionId, u64>, Error>;
    /// The same with settings, which say how the rows are counted.
    async fn count_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        only: Option<&[PartitionId]>,
        _: &Settings,
    ) -> Result<BTreeMap<PartitionId, u64>, Error> {
        self.rows_by_partition(node, name, only).await
    }
    /// The key's values in each partition of a MergeTree table with their rows, by query.
    async fn values_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error>;
    /// The same of a table that is partitioned by this key, so that all rows of a partition have the same values.
    async fn value_by_partition(
        &self,
        node: &Node,
        name: &TableName,
        key: &[KeyElement],
    ) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Error> {
        self.values_by_partition(node, name, key).await
    }
    /// Rows and checksum of a partition of a MergeTree table, or of all of a table of any engine.
    async fn checksum(
        &self,
        node: &Node,
        name: &TableName,
        id: Option<&PartitionId>,
        columns: &[Column],
    ) -> Result<(u64, u64), Error>;
    /// How many different rows of a sample a partition of a MergeTree table holds. The sample are the rows of the same partition of
    /// another table on the node, up to [`MOST_SAMPLED`](crate::sql::MOST_SAMPLED) of them, those with the smallest hashes.
    async fn sampled_rows(
        &self,
        node: &Node,
        name: &TableName,
        sample: &TableName,
        id: &PartitionId,
        columns: &[Column],
    ) -> Result<u64, Error>;
    /// Rows and checksum for each value of a key, in one reading; the checksum is the sum of a hash (see
    /// [`values_hash`](crate::sql::values_hash)).
    async fn digest(
        &self,
        node: &Node,
        rows: &Selection,
        key: &[KeyElement],
        hash: &str,
        settings: &Settings,
    ) -> Result<Vec<Digest>, Error>;
    /// Keys of about one row in `every`, sorted.
    async fn sample_keys(
        &self,
        node: &Node,
        rows: &Selection,
        columns: &[KeyElement],
        every: u64,
        settings: &Settings,
    ) -> Result<Vec<Vec<String>>, Error>;
    /// Types of expressions over some rows (without reading any), or without any table.
    async fn types(&self, node: &Node, over: Option<&Selection>, expressions: &[String]) -> Result<Vec<String>, Error>;
    /// Evaluates expressions over the first rows: whether values can be converted is seen only then.
    async fn evaluate(
        &self,
        node: &Node,
        over: &Selection,
        expressions: &[String],
        rows: u64,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Names of the policies of a kind that apply to our account on a table; none where the server does not tell them.
    async fn policies(&self, node: &Node, name: &TableName, kind: PolicyKind) -> Result<Vec<String>, Error> {
        let _ = (node, name, kind);
        Ok(Vec::new())
    }
    /// Running statements whose id starts with a prefix.
    async fn running(&self, node: &Node, prefix: &str) -> Result<Vec<Running>, Error>;
    /// Whether statements run whose id starts with a prefix, or that such a statement of another server began here.
    async fn is_at_work(&self, node: &Node, prefix: &str) -> Result<bool, Error> {
        Ok(!self.running(node, prefix).await?.is_empty())
    }

    /// Ends running statements whose id starts with a prefix, and what they began on other servers where those are asked, without waiting for
    /// their end.
    async fn kill(&self, node: &Node, prefix: &str) -> Result<(), Error>;
    /// Makes a database where there is none.
    async fn create_database(&self, node: &Node, database: &str, settings: &Settings) -> Result<(), Error>;
    /// Makes a table by a statement of [`TableDefinition`].
    async fn create_table(
        &self,
        node: &Node,
        name: &TableName,
        statement: &str,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Removes a table if it is there.
    async fn drop_table(&self, node: &Node, name: &TableName, settings: &Settings) -> Result<(), Error>;
    /// Renames tables.
    async fn rename(&self, node: &Node, pairs: &[(TableName, TableName)]) -> Result<(), Error>;
    /// Stops merges of a table.
    async fn stop_merges(&self, node: &Node, name: &TableName) -> Result<(), Error>;
    /// Waits until a replica has caught up with its queue.
    async fn sync_replica(&self, node: &Node, name: &TableName) -> Result<(), Error>;
    /// Puts partitions of one table into another. As long as it moves anything, no bound on its time.
    async fn place(
        &self,
        node: &Node,
        placing: Placing,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Fetches partitions of a Replicated table of another server, as files, and adds them to a Replicated table of this one.
    /// `path` is that of the other table in the ZooKeeper that both have. As long as it moves anything, no bound on its time; dropping the
    /// future does not end the statements.
    async fn fetch(
        &self,
        node: &Node,
        into: &TableName,
        path: &str,
        ids: &[PartitionId],
        query_id: &str,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Removes the rows of partitions. As long as it moves anything, no bound on its time.
    async fn drop_partitions(
        &self,
        node: &Node,
        name: &TableName,
        ids: &[PartitionId],
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Copies a partition within a node by reading and writing its rows. As long as it moves anything, no bound on its time.
    async fn insert_partition(
        &self,
        node: &Node,
        into: &TableName,
        from: &TableName,
        columns: &[String],
        id: &PartitionId,
        settings: &Settings,
    ) -> Result<(), Error>;
    /// Moves rows from one server to another. No bound on its time: the caller looks whether it still moves.
    ///
    /// Dropping the future does not end the statement of a push or a pull. It breaks a relay off: nothing more is read or
    /// written, what is written already may stay.
    async fn transfer(&self, transfer: &Transfer) -> Result<(), Error>;
}
