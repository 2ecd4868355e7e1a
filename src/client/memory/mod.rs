//! A double of a task's servers, for simulations: databases, tables, parts and statements in memory, with faults on
//! request.
//!
//! # Behaviour
//! - Every statement is a task of its own. It continues after the future of its caller was dropped, and it can be
//!   held back and arrive late ([`MemoryServerClient::hold`]). A transfer reads its rows at once, and writes them
//!   block by block. After its caller is gone, a relay ends after the block in progress.
//! - Nothing is random, and time is tokio's.
//! - Replicas of a Replicated table share a log, as real ones do. The order in which a replica catches up does not
//!   matter.
//!
//! # Limits
//! - Expressions: columns, numbers, texts, `AND OR NOT IN`, comparisons, `+ - * / %`, and the functions of `value.rs`.
//!   Hashes spread evenly but are not the numbers of the real functions. There is no NULL, no array, no float.
//! - A merge in any engine that merges rows does what Replacing does.
//! - `REPLACE` and `ATTACH` of several partitions in one statement happen at one instant.
//! - All servers have the same ZooKeeper. Parts spend no time in `detached`: fetched parts are in the table at once.
//! - A restart loses only statements; there are no memory limits, no disk limits and no limits on parts.

mod checksums;
mod client;
mod counts;
mod expression;
mod faults;
mod inspector;
mod partitions;
mod parts;
mod probe;
mod refused;
mod statement;
mod table;
mod tables;
mod value;
mod world;

#[cfg(test)]
mod tests;

pub use faults::{Held, Statement};
pub use parts::Row;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faults::Faults;
use tokio::sync::Notify;
use world::{Server, World};

use super::{ClusterMember, Disk, Kind};
use crate::model::{Node, TableName};

/// The settings that a server of the double knows: those of 18.16 that a worker asks for.
const SETTINGS: &[(&str, &str)] =
    &[("readonly", "0"), ("insert_deduplicate", "1"), ("replication_alter_partitions_sync", "1"), ("max_threads", "2")];

/// The double. Clones share the same servers.
#[derive(Clone, Default)]
pub struct MemoryServerClient {
    world: Arc<Mutex<World>>,
    faults: Arc<Mutex<Faults>>,
    /// Notified whenever a node is cut off or restarted.
    lines: Arc<Notify>,
}

impl MemoryServerClient {
    /// Returns a double without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an empty server with its macros, and the databases `default` and `system` (with the table `one`).
    pub fn add_node(&self, node: &Node, macros: &[(&str, &str)]) {
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let databases = ["default", "system"].map(|name| (name.to_owned(), BTreeMap::new())).into();
        let (macros, settings) = (owned(macros), owned(SETTINGS));
        let server = Server { reachable: true, macros, settings, databases, ..Server::default() };
        let (mut world, address) = (self.world(), node.address());
        world.servers.insert(address.clone(), server);
        let one = TableName::new("system", "one");
        let statement = "CREATE TABLE system.one (`dummy` UInt8) ENGINE = SystemOne";
        let row = vec![vec!["0".into()]];
        let made = world.create(&address, &one, statement).and_then(|()| world.insert(&address, &one, row, false));
        debug_assert!(made.is_ok(), "{made:?}");
    }

    /// Cuts a node off or reconnects it. Callers that wait for its answer get a network error. Its statements
    /// continue, but pushes from or to it fail with their next block.
    pub fn set_reachable(&self, node: &Node, reachable: bool) {
        let mut world = self.world();
        if let Some(server) = world.servers.get_mut(&node.address()) {
            server.reachable = reachable;
        }
        world.replicate();
        drop(world);
        self.lines.notify_waiters();
    }

    /// Kills a server and starts it again: its statements end, and displaced parts that are still on its disk come
    /// back (docs/clickhouse-behaviour.md, T3).
    pub fn restart(&self, node: &Node) {
        self.world().restart(&node.address());
        self.lines.notify_waiters();
    }

    /// Sets whether a node's replicas fetch nothing from others until they are told to sync.
    pub fn set_lagging(&self, node: &Node, lagging: bool) {
        let mut world = self.world();
        if let Some(server) = world.servers.get_mut(&node.address()) {
            server.lagging = lagging;
        }
        world.replicate();
    }

    /// Blocks a node's native port for another node, or unblocks it. The client can still connect.
    pub fn set_blocked(&self, from: &Node, to: &Node, stands: bool) {
        let (mut world, pair) = (self.world(), (from.address(), to.address()));
        if stands {
            world.walls.insert(pair);
        } else {
            world.walls.remove(&pair);
        }
    }

    /// Sets whether our account on a node may only read.
    pub fn set_read_only(&self, node: &Node, only: bool) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.settings.insert("readonly".into(), u8::from(only).to_string());
        }
    }

    /// Sets how many seconds a node's clock is ahead of ours.
    pub fn set_clock_ahead(&self, node: &Node, seconds: i64) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.clock_ahead = seconds;
        }
    }

    /// Sets the disks that a node reports; without this it reports none, like 18.16.
    pub fn set_disks(&self, node: &Node, disks: Vec<Disk>) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.disks = Some(disks);
        }
    }

    /// Sets the clusters that a node knows.
    pub fn set_clusters(&self, node: &Node, clusters: Vec<ClusterMember>) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.clusters = clusters;
        }
    }

    /// Sets how many rows a transfer writes at a time (100 by default).
    pub fn set_block_rows(&self, rows: usize) {
        self.world().block_rows = rows.max(1);
    }

    /// Sets how long displaced parts stay (one second by default).
    pub fn set_linger(&self, linger: Duration) {
        self.world().linger = linger;
    }

    /// Adds rows to a table as one INSERT without deduplication.
    ///
    /// # Errors
    ///
    /// Returns the server's error.
    pub fn insert(&self, node: &Node, name: &TableName, rows: Vec<Row>) -> Result<(), Kind> {
        self.world().insert(&node.address(), name, rows, false)
    }

    /// Returns the rows of a table, sorted, even if the node is cut off.
    ///
    /// # Errors
    ///
    /// Returns the server's error.
    pub fn rows(&self, node: &Node, name: &TableName) -> Result<Vec<Row>, Kind> {
        let world = self.world();
        let mut rows = world.rows(world.table(&node.address(), name)?);
        rows.sort();
        Ok(rows)
    }

    /// Returns every table of a node outside the database `system`.
    pub fn tables(&self, node: &Node) -> Vec<TableName> {
        let world = self.world();
        let databases = world.servers.get(&node.address()).into_iter().flat_map(|server| &server.databases);
        let databases = databases.filter(|(database, _)| *database != "system");
        databases
            .flat_map(|(database, tables)| tables.keys().map(move |table| TableName::new(database, table)))
            .collect()
    }

    /// Returns the tables of a node with their numbers of rows, even if the node is cut off.
    pub fn census(&self, node: &Node) -> BTreeMap<TableName, usize> {
        let world = self.world();
        let databases = world.servers.get(&node.address()).into_iter().flat_map(|server| &server.databases);
        let tables =
            databases.flat_map(|(database, tables)| tables.iter().map(move |(name, table)| (database, name, table)));
        let count = |table| world.parts(table).iter().map(|part| part.rows.len()).sum();
        tables.map(|(database, name, table)| (TableName::new(database, name), count(table))).collect()
    }

    /// Returns the numbers of the active parts of a table, which show whether its rows have changed.
    pub fn part_numbers(&self, node: &Node, name: &TableName) -> Vec<u64> {
        let world = self.world();
        let parts = world.table(&node.address(), name).map(|table| world.parts(table)).unwrap_or_default();
        parts.iter().map(|part| part.number).collect()
    }

    /// Returns a number that grows whenever the rows or the name of a table may have changed.
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// Returns the ids of all statements with an id that run on a node.
    pub fn statements(&self, node: &Node) -> Vec<String> {
        let world = self.world();
        let queries = world.servers.get(&node.address()).into_iter().flat_map(|server| server.queries.values());
        queries.map(|query| query.id.clone()).filter(|id| !id.is_empty()).collect()
    }

    /// Merges the parts of a table, unless its merges are stopped.
    ///
    /// # Errors
    ///
    /// Returns the server's error.
    pub fn merge(&self, node: &Node, name: &TableName) -> Result<(), Kind> {
        self.world().merge(&node.address(), name)
    }
}
