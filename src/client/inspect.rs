//! What is asked of a server before a copy begins, and by nobody who copies: [`Inspector`], a door of its own, so that who
//! only copies need not answer it.

use async_trait::async_trait;

use crate::model::{Node, TableName};
use crate::sql::{Privilege, Selection, SlotKey};

use super::{Error, Settings};

/// A disk of a server, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// What is free.
    pub free: u64,
    /// How large it is.
    pub total: u64,
}

/// A mutation that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// `mutation_3.txt`
    pub id: String,
    /// What it does.
    pub command: String,
    /// Why it failed last, in the server's words; empty where it did not, or where the version does not tell.
    pub failure: String,
}

/// A place in a cluster that a server knows (`system.clusters`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSeat {
    /// The cluster.
    pub cluster: String,
    /// Number of the shard, from 1.
    pub shard: u64,
    /// Its weight.
    pub weight: u32,
    /// The replica's host as the configuration has it.
    pub host: String,
    /// The address that the server found for it.
    pub address: String,
    /// The native port.
    pub port: u16,
    /// Whether it is the server that was asked.
    pub is_local: bool,
    /// `internal_replication`, where the version tells (not 18.16).
    pub internal_replication: Option<bool>,
}

/// Questions about a server and its tables. Every answer is whole or an error; all of them have a bound on their time, and
/// none changes anything.
#[async_trait]
pub trait Inspector: Send + Sync {
    /// The server's clock: seconds since 1970.
    async fn clock(&self, node: &Node) -> Result<i64, Error>;
    /// The disks of a storage policy; `None` where the version does not tell (18.16), none where there is no such policy.
    async fn disks(&self, node: &Node, policy: &str) -> Result<Option<Vec<Disk>>, Error>;
    /// Compressed bytes of the active parts of a table.
    async fn stored_bytes(&self, node: &Node, name: &TableName) -> Result<u64, Error>;
    /// Mutations of a table that are not done.
    async fn mutations(&self, node: &Node, name: &TableName) -> Result<Vec<Mutation>, Error>;
    /// The views that get what is inserted into a table.
    async fn views_over(&self, node: &Node, name: &TableName) -> Result<Vec<TableName>, Error>;
    /// The tables of an engine.
    async fn tables_of_engine(&self, node: &Node, engine: &str) -> Result<Vec<TableName>, Error>;
    /// Whether our account has rights on all tables of a database, in the order asked; `None` where nobody can tell (before
    /// grants there were, or through roles on versions that only list them).
    async fn may(&self, node: &Node, database: &str, rights: &[Privilege]) -> Result<Vec<Option<bool>>, Error>;
    /// The slots of the first rows of a selection that the server reads, `most` of them: each with its number of rows.
    async fn sampled_slots(
        &self,
        node: &Node,
        rows: &Selection,
        key: &SlotKey,
        most: u64,
        settings: &Settings,
    ) -> Result<Vec<(u64, u64)>, Error>;
    /// The clusters that a server knows, shard by shard.
    async fn clusters(&self, node: &Node) -> Result<Vec<ClusterSeat>, Error>;
}
