//! The questions about a server before a copy: [`Inspector`]. They are a trait of their own, so that a client that
//! only copies need not implement them.

use async_trait::async_trait;

use super::{Error, Settings};
use crate::model::{Node, TableName};
use crate::sql::{Privilege, Selection, SlotKey};

/// A disk of a server, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The name of the disk.
    pub(crate) name: String,
    /// Free bytes.
    pub(crate) free: u64,
    /// Total bytes.
    pub(crate) total: u64,
}

/// An unfinished mutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The id of the mutation, such as `mutation_3.txt`.
    pub(crate) id: String,
    /// The command of the mutation.
    pub(crate) command: String,
    /// The server's text of its last failure; empty if it did not fail, or if the version does not report it.
    pub(crate) failure: String,
}

/// A replica in a cluster that a server knows (`system.clusters`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMember {
    /// The cluster.
    pub(crate) cluster: String,
    /// Number of the shard, from 1.
    pub(crate) shard: u64,
    /// The weight of the shard.
    pub(crate) weight: u32,
    /// The replica's host in the configuration.
    pub(crate) host: String,
    /// The address to which the server resolved it.
    pub(crate) address: String,
    /// The native port.
    pub(crate) port: u16,
    /// Whether it is the queried server itself.
    pub(crate) is_local: bool,
    /// `internal_replication`, if the version reports it (not 18.16).
    pub(crate) internal_replication: Option<bool>,
}

/// Questions about a server and its tables. Every answer is complete or an error. All questions have a time limit,
/// and none changes anything.
#[async_trait]
pub trait Inspector: Send + Sync {
    /// Returns the server's clock in seconds since 1970.
    async fn clock(&self, node: &Node) -> Result<i64, Error>;
    /// Returns the disks of a storage policy; `None` if the version does not report them (18.16), an empty list if
    /// the policy does not exist.
    async fn disks(&self, node: &Node, policy: &str) -> Result<Option<Vec<Disk>>, Error>;
    /// Returns the compressed bytes of the active parts of a table.
    async fn stored_bytes(&self, node: &Node, name: &TableName) -> Result<u64, Error>;
    /// Returns the unfinished mutations of a table.
    async fn mutations(&self, node: &Node, name: &TableName) -> Result<Vec<Mutation>, Error>;
    /// Returns the views that receive what is inserted into a table.
    async fn views_over(&self, node: &Node, name: &TableName) -> Result<Vec<TableName>, Error>;
    /// Returns the tables with an engine.
    async fn tables_of_engine(&self, node: &Node, engine: &str) -> Result<Vec<TableName>, Error>;
    /// Returns whether our account has rights on all tables of a database, in the order of `rights`; `None` if the
    /// server cannot tell (before grants existed, or through roles on versions that only list them).
    async fn may(&self, node: &Node, database: &str, rights: &[Privilege]) -> Result<Vec<Option<bool>>, Error>;
    /// Returns the slots of the first `most` rows of a selection that the server reads, each with its number of rows.
    async fn sampled_slots(
        &self,
        node: &Node,
        rows: &Selection,
        key: &SlotKey,
        most: u64,
        settings: &Settings,
    ) -> Result<Vec<(u64, u64)>, Error>;
    /// Returns the clusters that a server knows, shard by shard.
    async fn clusters(&self, node: &Node) -> Result<Vec<ClusterMember>, Error>;
}
