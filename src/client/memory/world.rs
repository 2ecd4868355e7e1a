//! The state of the servers, and its changes. No time passes here, and nothing waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{ClusterMember, Disk, Kind, Settings, codes};
use super::parts::{Arrival, NodeExists, Part, Row, TableLog, grouped};
use super::refused::refused;
use super::table::{Replica, Table, read_create};
use crate::model::{PartitionId, TableName};
use crate::sql::Clause;

/// A statement that runs on a node.
#[derive(Debug)]
pub(super) struct Query {
    pub(crate) id: String,
    pub(crate) since: Instant,
    pub(crate) rows: u64,
    pub(crate) killed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    pub(crate) reachable: bool,
    /// Whether it fetches nothing from other replicas by itself.
    pub(crate) lagging: bool,
    pub(crate) macros: BTreeMap<String, String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) databases: BTreeMap<String, BTreeMap<String, Table>>,
    /// By an internal number, because ids may repeat.
    pub(crate) queries: BTreeMap<u64, Query>,
    /// How often it was restarted: statements from before a restart have ended.
    pub(crate) life: u64,
    /// Seconds that its clock is ahead of ours.
    pub(crate) clock_ahead: i64,
    /// The disks that it reports, if it reports any.
    pub(crate) disks: Option<Vec<Disk>>,
    pub(crate) clusters: Vec<ClusterMember>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(crate) servers: BTreeMap<String, Server>,
    table_logs: BTreeMap<u64, TableLog>,
    /// Replicated tables by path, with the names of their replicas.
    pub(crate) paths: BTreeMap<String, (u64, BTreeSet<String>)>,
    numbers: u64,
    /// How long displaced parts stay on the disk.
    pub(crate) linger: Duration,
    /// Rows that a push sends at a time.
    pub(crate) block_rows: usize,
    /// How often the rows or the name of a table have changed.
    pub(crate) changes: u64,
    /// Pairs of nodes of which the first cannot connect to the second over the native protocol.
    pub(crate) walls: BTreeSet<(String, String)>,
    /// Nodes that are another name of a server.
    pub(crate) names: BTreeMap<String, String>,
    /// Running marks, with their servers.
    pub(crate) marks: BTreeSet<(String, String)>,
}

impl Default for World {
    fn default() -> Self {
        let (servers, table_logs, paths) = Default::default();
        let (linger, walls, names, marks) = (Duration::from_secs(1), BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        World { servers, table_logs, paths, numbers: 0, linger, block_rows: 100, changes: 0, walls, names, marks }
    }
}

pub(super) fn refused_by(node: &str) -> Kind {
    refused(codes::ALL_CONNECTION_TRIES_FAILED, format!("All connection tries failed ({node})"))
}

fn no_table(name: &TableName) -> Kind {
    refused(codes::UNKNOWN_TABLE, format!("Table {name} doesn't exist."))
}

fn no_database(database: &str) -> Kind {
    refused(codes::UNKNOWN_DATABASE, format!("Database {database} doesn't exist"))
}

/// Returns the value of `insert_deduplicate`: on by default.
pub(super) fn deduplicates(settings: &Settings) -> bool {
    !settings.iter().any(|(name, value)| name == "insert_deduplicate" && value == "0")
}

impl World {
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Returns a server if it can be reached.
    pub(crate) fn server(&mut self, node: &str) -> Result<&mut Server, Kind> {
        match self.servers.get_mut(node) {
            Some(server) if server.reachable => Ok(server),
            Some(_) => Err(Kind::Network("the node is unreachable".into())),
            None => Err(Kind::Network("there is no such node".into())),
        }
    }

    /// Checks whether a node can reach another over the native protocol. A source that finds no table there reports
    /// connection attempts too (measured on 18.16).
    pub(crate) fn speaks(&self, from: &str, to: &str) -> Result<(), Kind> {
        let live = self.servers.get(to).is_some_and(|server| server.reachable);
        let open = !self.walls.contains(&(from.to_owned(), to.to_owned()));
        if live && open { Ok(()) } else { Err(refused_by(to)) }
    }

    /// Checks that the account may write. A read-only account writes nothing and uses no table functions.
    pub(crate) fn may_write(&self, node: &str) -> Result<(), Kind> {
        let settings = self.servers.get(node).map(|server| &server.settings);
        match settings.and_then(|settings| settings.get("readonly")).map(String::as_str) {
            None | Some("0") => Ok(()),
            Some(_) => Err(refused(codes::READONLY, "Cannot insert into table in readonly mode")),
        }
    }

    pub(crate) fn table(&self, node: &str, name: &TableName) -> Result<&Table, Kind> {
        let server = self.servers.get(node).ok_or_else(|| Kind::Network("there is no such node".into()))?;
        let tables = server.databases.get(&name.database).ok_or_else(|| no_database(&name.database))?;
        tables.get(&name.table).ok_or_else(|| no_table(name))
    }

    pub(crate) fn table_mut(&mut self, node: &str, name: &TableName) -> Result<&mut Table, Kind> {
        let server = self.servers.get_mut(node).ok_or_else(|| Kind::Network("there is no such node".into()))?;
        let tables = server.databases.get_mut(&name.database).ok_or_else(|| no_database(&name.database))?;
        tables.get_mut(&name.table).ok_or_else(|| no_table(name))
    }

    /// Returns the active parts of a table.
    pub(crate) fn parts(&self, table: &Table) -> Vec<Arc<Part>> {
        self.table_logs.get(&table.table_log).map(|table_log| table_log.parts(&table.done)).unwrap_or_default()
    }

    /// Returns the rows of a table.
    pub(crate) fn rows(&self, table: &Table) -> Vec<Row> {
        self.parts(table).iter().flat_map(|part| part.rows.iter().cloned()).collect()
    }

    pub(crate) fn create(&mut self, node: &str, name: &TableName, statement: &str) -> Result<(), Kind> {
        let (definition, if_not_exists) = read_create(name, statement)?;
        let server = self.servers.get(node).ok_or_else(|| Kind::Network("there is no such node".into()))?;
        let tables = server.databases.get(&name.database).ok_or_else(|| no_database(&name.database))?;
        if tables.contains_key(&name.table) {
            let exists = refused(codes::TABLE_ALREADY_EXISTS, format!("Table {name} already exists."));
            return if if_not_exists { Ok(()) } else { Err(exists) };
        }
        let mut replica = None;
        if let Some((path, named)) = definition.engine.replica_arguments() {
            let expand = |text: &str| {
                let mut text = text.trim_matches('\'').to_owned();
                text = text.replace("{database}", &name.database).replace("{table}", &name.table);
                for (name, value) in &server.macros {
                    text = text.replace(&format!("{{{name}}}"), value);
                }
                if text.contains('{') {
                    Err(refused(codes::NO_ELEMENTS_IN_CONFIG, format!("No macro in config for {text}")))
                } else {
                    Ok(text)
                }
            };
            replica = Some(Replica { path: expand(path)?, name: expand(named)? });
        }
        let mut table_log = self.number();
        if let Some(replica) = &replica {
            let (shared, names) = self.paths.entry(replica.path.clone()).or_insert((table_log, BTreeSet::new()));
            if !names.insert(replica.name.clone()) {
                return Err(refused(
                    codes::REPLICA_IS_ALREADY_EXIST,
                    format!("Replica {} already exists.", replica.name),
                ));
            }
            table_log = *shared;
        }
        let replicated = replica.is_some();
        let table = Table::new(definition, table_log, replica)?;
        self.table_logs.entry(table_log).or_default().replicated = replicated;
        if let Some(tables) = self.servers.get_mut(node).and_then(|server| server.databases.get_mut(&name.database)) {
            tables.insert(name.table.clone(), table);
        }
        self.replicate();
        Ok(())
    }

    pub(crate) fn drop(&mut self, node: &str, name: &TableName) -> Result<(), Kind> {
        let server = self.servers.get_mut(node).ok_or_else(|| Kind::Network("there is no such node".into()))?;
        let tables = server.databases.get_mut(&name.database).ok_or_else(|| no_database(&name.database))?;
        let Some(table) = tables.remove(&name.table) else { return Ok(()) };
        self.changes += 1;
        let mut last = true;
        if let Some(replica) = &table.replica
            && let Some((_, names)) = self.paths.get_mut(&replica.path)
        {
            names.remove(&replica.name);
            last = names.is_empty();
            if last {
                self.paths.remove(&replica.path);
            }
        }
        if last {
            self.table_logs.remove(&table.table_log);
        }
        Ok(())
    }

    pub(crate) fn rename(&mut self, node: &str, pairs: &[(TableName, TableName)]) -> Result<(), Kind> {
        for (from, to) in pairs {
            self.table(node, from)?;
            match self.table(node, to) {
                Ok(_) => return Err(refused(codes::TABLE_ALREADY_EXISTS, format!("Table {to} already exists."))),
                Err(Kind::Server { code: codes::UNKNOWN_TABLE, .. }) => {}
                Err(other) => return Err(other),
            }
            let Some(server) = self.servers.get_mut(node) else { continue };
            let table = server.databases.get_mut(&from.database).and_then(|tables| tables.remove(&from.table));
            if let (Some(mut table), Some(tables)) = (table, server.databases.get_mut(&to.database)) {
                table.definition.name = to.clone();
                tables.insert(to.table.clone(), table);
            }
            self.changes += 1;
        }
        Ok(())
    }

    /// Adds rows to a table as one INSERT.
    pub(crate) fn insert(
        &mut self,
        node: &str,
        name: &TableName,
        rows: Vec<Row>,
        deduplicate: bool,
    ) -> Result<(), Kind> {
        let table = self.table(node, name)?;
        let rows = rows.into_iter().map(|row| Ok((table.partition(&row)?, row))).collect::<Result<Vec<_>, Kind>>()?;
        self.write(node, name, &[], &[], grouped(rows), Arrival::Insert { deduplicate })
    }

    pub(crate) fn place(
        &mut self,
        node: &str,
        into: &TableName,
        from: &TableName,
        ids: &[PartitionId],
        replace: bool,
    ) -> Result<(), Kind> {
        let (target, source) = (self.table(node, into)?, self.table(node, from)?);
        target.fits(source)?;
        let mut adds: BTreeMap<&PartitionId, Vec<Vec<Row>>> = ids.iter().map(|id| (id, Vec::new())).collect();
        for part in self.parts(source) {
            if let Some(parts) = adds.get_mut(&part.id) {
                let rows = part.rows.iter().map(|row| target.adopted(source, row));
                parts.push(rows.collect::<Result<_, Kind>>()?);
            }
        }
        // Each partition by itself: a statement that fails half way leaves the partitions that are done.
        let adds: Vec<(PartitionId, Vec<Vec<Row>>)> = adds.into_iter().map(|(id, parts)| (id.clone(), parts)).collect();
        for (id, parts) in adds {
            let adds = parts.into_iter().map(|rows| (id.clone(), rows)).collect();
            let (removes, arrival) =
                if replace { (vec![id.clone()], Arrival::Replace) } else { (Vec::new(), Arrival::Attach) };
            self.write(node, into, &removes, &[], adds, arrival)?;
        }
        Ok(())
    }

    /// Returns the numbers of the parts of a replica, by its path in ZooKeeper (`/table/replicas/name`).
    pub(crate) fn parts_at(&self, path: &str) -> Option<Vec<u64>> {
        let here = |table: &&Table| {
            let path_of = |replica: &Replica| format!("{}/replicas/{}", replica.path, replica.name);
            table.replica.as_ref().is_some_and(|replica| path_of(replica) == path)
        };
        let databases = self.servers.values().flat_map(|server| server.databases.values());
        let table = databases.flat_map(BTreeMap::values).find(here)?;
        Some(self.parts(table).iter().map(|part| part.number).collect())
    }

    /// Copies partitions from a replica of another server that has them. A block of that server's native port also
    /// blocks its port for parts.
    pub(crate) fn fetch(&mut self, node: &str, into: &TableName, path: &str, ids: &[PartitionId]) -> Result<(), Kind> {
        let target = self.table(node, into)?;
        if target.replica.is_none() {
            return Err(refused(codes::NOT_IMPLEMENTED, "Method fetchPartition is not supported by storage MergeTree"));
        }
        let at = |table: &&Table| table.replica.as_ref().is_some_and(|replica| replica.path == path);
        let tables = |server: &'_ Server| -> Vec<TableName> {
            let all = server.databases.values().flat_map(BTreeMap::values).filter(at);
            all.map(|table| table.definition.name.clone()).collect()
        };
        let holder = self.servers.iter().find_map(|(host, server)| Some((host, tables(server).pop()?)));
        let Some((host, name)) = holder else {
            return Err(refused(codes::KEEPER_EXCEPTION, "Coordination::Exception: No node"));
        };
        self.speaks(node, host)?;
        let source = self.table(host, &name)?;
        let mut adds = Vec::new();
        for part in self.parts(source).iter().filter(|part| ids.contains(&part.id)) {
            let rows = part.rows.iter().map(|row| target.adopted(source, row)).collect::<Result<_, Kind>>()?;
            adds.push((part.id.clone(), rows));
        }
        if let Some(id) = ids.iter().find(|id| !adds.iter().any(|(added, _)| added == *id)) {
            return Err(refused(codes::PARTITION_DOESNT_EXIST, format!("Partition {id} on {path} doesn't exist")));
        }
        // Parts attached from the disk are not compared with earlier blocks (measured on 18.16).
        self.write(node, into, &[], &[], adds, Arrival::Replace)
    }

    pub(crate) fn drop_partitions(&mut self, node: &str, name: &TableName, ids: &[PartitionId]) -> Result<(), Kind> {
        self.write(node, name, ids, &[], Vec::new(), Arrival::Replace)
    }

    /// Merges the parts of each partition into one. Engines that merge rows keep the last row of each sorting key
    /// (like Replacing).
    pub(crate) fn merge(&mut self, node: &str, name: &TableName) -> Result<(), Kind> {
        let table = self.table(node, name)?;
        let engine = &table.definition.engine;
        let never = "max_bytes_to_merge_at_max_space_in_pool = 1";
        // Replicas agree on merges: a lagging replica has not heard of the last entries.
        let lags =
            self.table_logs.get(&table.table_log).is_some_and(|table_log| table.done.len() < table_log.entries());
        if lags || table.merges_stopped || engine.clause(Clause::Settings).is_some_and(|text| text.contains(never)) {
            return Ok(());
        }
        let keys = crate::sql::key_elements(&table.definition.sorting_key);
        let keys = keys.iter().map(|text| super::expression::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut merged: BTreeMap<PartitionId, (Vec<u64>, Vec<Row>)> = BTreeMap::new();
        for part in self.parts(table) {
            let entry = merged.entry(part.id.clone()).or_default();
            entry.0.push(part.number);
            entry.1.extend(part.rows.iter().cloned());
        }
        if engine.merges_rows() {
            for (_, rows) in merged.values_mut() {
                let mut last = BTreeMap::new();
                for row in rows.drain(..) {
                    let named = table.named(&row)?;
                    let key = keys.iter().map(|ast| super::table::over(ast, &named)).collect::<Result<Vec<_>, _>>()?;
                    last.insert(key, row);
                }
                rows.extend(last.into_values());
            }
        }
        for (id, (numbers, rows)) in merged {
            self.write(node, name, &[], &numbers, vec![(id, rows)], Arrival::Replace)?;
        }
        Ok(())
    }

    fn write(
        &mut self,
        node: &str,
        name: &TableName,
        partitions: &[PartitionId],
        numbers: &[u64],
        adds: Vec<(PartitionId, Vec<Row>)>,
        arrival: Arrival,
    ) -> Result<(), Kind> {
        let table = self.table(node, name)?;
        let (table_log, before) = (table.table_log, self.parts(table));
        let exists = |NodeExists| refused(codes::KEEPER_EXCEPTION, "Coordination::Exception: Node exists");
        let table_log = self.table_logs.entry(table_log).or_default();
        let entry = table_log.write(partitions, numbers, adds, arrival).map_err(exists)?;
        let leaves = Instant::now() + self.linger;
        let table = self.table_mut(node, name)?;
        table.done.extend(entry);
        let after: BTreeSet<u64> = self.parts(self.table(node, name)?).iter().map(|part| part.number).collect();
        // Merged parts are covered by the merged result, and do not come back.
        if numbers.is_empty() {
            let gone = before.into_iter().filter(|part| !after.contains(&part.number)).map(|part| (part, leaves));
            self.table_mut(node, name)?.displaced.extend(gone);
        }
        self.replicate();
        Ok(())
    }

    /// Lets every replica catch up that does not lag.
    pub(crate) fn replicate(&mut self) {
        self.changes += 1;
        let live = self.servers.values_mut().filter(|server| server.reachable && !server.lagging);
        for table in live.flat_map(|server| server.databases.values_mut()).flat_map(BTreeMap::values_mut) {
            let entries = self.table_logs.get(&table.table_log).map_or(0, TableLog::entries);
            table.done = (0..entries).collect();
        }
    }

    /// Lets one replica catch up, even if it lags.
    pub(crate) fn sync(&mut self, node: &str, name: &TableName) -> Result<(), Kind> {
        let table = self.table(node, name)?;
        if table.replica.is_none() {
            return Err(refused(codes::BAD_ARGUMENTS, format!("Table {name} is not replicated")));
        }
        let entries = self.table_logs.get(&table.table_log).map_or(0, TableLog::entries);
        self.table_mut(node, name)?.done = (0..entries).collect();
        self.changes += 1;
        Ok(())
    }

    /// Applies the effects of a server's sudden end: its statements end, and displaced parts of plain tables that are
    /// still on the disk become active again (docs/clickhouse-behaviour.md, T3).
    pub(crate) fn restart(&mut self, node: &str) {
        let Some(server) = self.servers.get_mut(node) else { return };
        server.life += 1;
        server.queries.clear();
        let now = Instant::now();
        let mut back = Vec::new();
        for table in server.databases.values_mut().flat_map(BTreeMap::values_mut) {
            table.merges_stopped = false;
            let displaced = std::mem::take(&mut table.displaced);
            if table.replica.is_none() {
                let left = displaced.into_iter().filter(|(_, leaves)| *leaves > now);
                back.extend(left.map(|(part, _)| (table.definition.name.clone(), part)));
            }
        }
        for (name, part) in back {
            let again = vec![(part.id.clone(), part.rows.clone())];
            // A plain table refuses nothing, and the table exists.
            let _ = self.write(node, &name, &[], &[], again, Arrival::Replace);
        }
    }
}
