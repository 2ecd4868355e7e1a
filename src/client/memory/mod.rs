//! A double of the servers of a task, for simulations: databases, tables, parts and statements in memory, and faults on
//! request.
//!
//! # What it is like
//! - Every deed is a task of its own: it goes on when the future of its caller was dropped, and it may be held back and
//!   arrive late ([`MemoryServerClient::hold`]). A transfer reads its rows at once, and writes them block by block. A relay
//!   ends when its caller has gone, after the block that was on its way.
//! - Nothing is random, and time is tokio's.
//! - Replicas of a Replicated table share a log, as real ones do; the order in which a replica catches up does not matter.
//!
//! # Limits
//! - Expressions: columns, numbers, texts, `AND OR NOT IN`, comparisons, `+ - * / %`, and the functions of `value.rs`.
//!   Hashes spread evenly but are not the numbers of the real functions. There is no NULL, no array, no float.
//! - A merge of any engine that merges rows does what Replacing does.
//! - `REPLACE` and `ATTACH` of several partitions in one statement happen at one instant.
//! - All servers have the same ZooKeeper. Parts lie in `detached` for no time: what is fetched is in the table at once.
//! - A restart loses nothing but statements; memory limits, disks and part counts do not exist.

mod client;
mod expression;
mod faults;
mod inspector;
mod parts;
mod probe;
mod refused;
mod statement;
mod table;
mod value;
mod world;

#[cfg(test)]
mod tests;

pub use faults::{Held, Statement};
pub use parts::Row;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::{Node, TableName};

use super::{ClusterSeat, Disk, Kind};
use faults::Faults;
use world::{Server, World};

/// What a server of the double knows: those of 18.16 that a worker asks for.
const SETTINGS: &[(&str, &str)] =
    &[("readonly", "0"), ("insert_deduplicate", "1"), ("replication_alter_partitions_sync", "1"), ("max_threads", "2")];

/// The double. Clones are the same servers.
#[derive(Clone, Default)]
pub struct MemoryServerClient {
    world: Arc<Mutex<World>>,
    faults: Arc<Mutex<Faults>>,
    /// Changes whenever a node is cut off or restarted.
    lines: Arc<Notify>,
}

impl MemoryServerClient {
    /// Without any node.
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

    /// Cuts a node off or mends it. Whoever waits for an answer of it gets a network error; its statements go on, but
    /// pushes from or to it fail with their next block.
    pub fn set_reachable(&self, node: &Node, reachable: bool) {
        let mut world = self.world();
        if let Some(server) = world.servers.get_mut(&node.address()) {
            server.reachable = reachable;
        }
        world.replicate();
        drop(world);
        self.lines.notify_waiters();
    }

    /// Kills a server and starts it again: its statements are over, and what is displaced and still on its disk comes back
    /// (docs/clickhouse-behaviour.md, T3).
    pub fn restart(&self, node: &Node) {
        self.world().restart(&node.address());
        self.lines.notify_waiters();
    }

    /// Whether a node's replicas fetch nothing from others until they are told to sync.
    pub fn set_lagging(&self, node: &Node, lagging: bool) {
        let mut world = self.world();
        if let Some(server) = world.servers.get_mut(&node.address()) {
            server.lagging = lagging;
        }
        world.replicate();
    }

    /// Raises a wall before a node's native port, or takes it away: another node cannot connect to it, we can.
    pub fn set_wall(&self, from: &Node, to: &Node, stands: bool) {
        let (mut world, pair) = (self.world(), (from.address(), to.address()));
        if stands {
            world.walls.insert(pair);
        } else {
            world.walls.remove(&pair);
        }
    }

    /// Whether our account on a node may only read.
    pub fn set_read_only(&self, node: &Node, only: bool) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.settings.insert("readonly".into(), u8::from(only).to_string());
        }
    }

    /// How many seconds a node's clock is ahead of ours.
    pub fn set_clock_ahead(&self, node: &Node, seconds: i64) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.clock_ahead = seconds;
        }
    }

    /// The disks that a node tells of; as 18.16, it tells of none before.
    pub fn set_disks(&self, node: &Node, disks: Vec<Disk>) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.disks = Some(disks);
        }
    }

    /// The clusters that a node knows.
    pub fn set_clusters(&self, node: &Node, clusters: Vec<ClusterSeat>) {
        if let Some(server) = self.world().servers.get_mut(&node.address()) {
            server.clusters = clusters;
        }
    }

    /// How many rows a transfer writes at a time (100).
    pub fn set_block_rows(&self, rows: usize) {
        self.world().block_rows = rows.max(1);
    }

    /// How long displaced parts stay (one second).
    pub fn set_linger(&self, linger: Duration) {
        self.world().linger = linger;
    }

    /// Adds rows to a table as one INSERT without deduplication.
    ///
    /// # Errors
    /// As the server would answer.
    pub fn insert(&self, node: &Node, name: &TableName, rows: Vec<Row>) -> Result<(), Kind> {
        self.world().insert(&node.address(), name, rows, false)
    }

    /// The rows of a table, sorted; even of a node that is cut off.
    ///
    /// # Errors
    /// As the server would answer.
    pub fn rows(&self, node: &Node, name: &TableName) -> Result<Vec<Row>, Kind> {
        let world = self.world();
        let mut rows = world.rows(world.table(&node.address(), name)?);
        rows.sort();
        Ok(rows)
    }

    /// Every table of a node but those of the database `system`.
    pub fn tables(&self, node: &Node) -> Vec<TableName> {
        let world = self.world();
        let databases = world.servers.get(&node.address()).into_iter().flat_map(|server| &server.databases);
        let databases = databases.filter(|(database, _)| *database != "system");
        databases.flat_map(|(database, of)| of.keys().map(move |table| TableName::new(database, table))).collect()
    }

    /// The tables of a node with their rows counted, even of a node that is cut off.
    pub fn census(&self, node: &Node) -> BTreeMap<TableName, usize> {
        let world = self.world();
        let databases = world.servers.get(&node.address()).into_iter().flat_map(|server| &server.databases);
        let tables = databases.flat_map(|(database, of)| of.iter().map(move |(name, table)| (database, name, table)));
        let count = |table| world.parts(table).iter().map(|part| part.rows.len()).sum();
        tables.map(|(database, name, table)| (TableName::new(database, name), count(table))).collect()
    }

    /// Numbers of the active parts of a table: they tell whether its rows have changed.
    pub fn part_numbers(&self, node: &Node, name: &TableName) -> Vec<u64> {
        let world = self.world();
        let parts = world.table(&node.address(), name).map(|table| world.parts(table)).unwrap_or_default();
        parts.iter().map(|part| part.number).collect()
    }

    /// Grows whenever anything that a table holds, or its name, may have changed.
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// Ids of all statements that run on a node and have one.
    pub fn statements(&self, node: &Node) -> Vec<String> {
        let world = self.world();
        let queries = world.servers.get(&node.address()).into_iter().flat_map(|server| server.queries.values());
        queries.map(|query| query.id.clone()).filter(|id| !id.is_empty()).collect()
    }

    /// Merges the parts of a table, unless its merges are stopped.
    ///
    /// # Errors
    /// As the server would answer.
    pub fn merge(&self, node: &Node, name: &TableName) -> Result<(), Kind> {
        self.world().merge(&node.address(), name)
    }
}
