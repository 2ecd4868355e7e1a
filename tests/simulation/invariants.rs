//! The invariants that hold at every instant (docs/design.md, §3), and the conditions at the end of a task.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse_copier::client::memory::Row;
use clickhouse_copier::model::{AttemptNo, TableName};
use clickhouse_copier::plan::TablePlan;
use clickhouse_copier::protocol::{
    BatchRecord, BatchRef, BatchState, PieceRecord, PieceRef, TaskId, TaskRecord, groups,
};
use tokio::time::Instant;

use crate::scene::{Before, Layout, Scene, Second, node, partition_of, target};
use crate::world::{DisabledGuard, World, task_path};

/// The records of one task.
#[derive(Default)]
struct Records {
    id: Option<TaskId>,
    planned: bool,
    finished: bool,
    plan: Option<TablePlan>,
    batches: Vec<BatchRecord>,
    pieces: Vec<PieceRecord>,
    /// The content of the nodes at the last check, by path.
    texts: BTreeMap<String, Vec<u8>>,
}

/// Checks the invariants, with what it saw at earlier checks.
pub struct InvariantChecker {
    started: Instant,
    /// The rows that a partition of a target host may hold: those from before, or those after the copy.
    before: BTreeMap<(&'static str, String), Vec<Row>>,
    after: BTreeMap<(&'static str, String), Vec<Row>>,
    /// The rows of a partition that a target shard gets.
    expected: BTreeMap<(usize, String), Vec<Row>>,
    shard_of: BTreeMap<&'static str, usize>,
    restarted: BTreeSet<&'static str>,
    records: Vec<Records>,
    /// Numbers of commits of the coordinator and of changes on the servers at the last check.
    seen: (u64, u64),
    /// In the second pass: the identities of the tasks in the first pass. Their published rows are the rows from before.
    past: BTreeSet<TaskId>,
    /// The parts of each target host's table, and the published partitions, at the last check.
    held: BTreeMap<&'static str, Vec<u64>>,
    done: BTreeSet<(&'static str, String)>,
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

fn held(world: &World, host: &str, partition: &str) -> Vec<Row> {
    let rows = world.client.rows(&node(host), &target()).unwrap_or_default();
    sorted(rows.into_iter().filter(|row| partition_of(row) == partition).collect())
}

fn parsed<T: serde::de::DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|error| format!("a record is damaged: {error}"))
}

impl InvariantChecker {
    pub fn new(scene: &Scene) -> Self {
        let (mut before, mut after, mut shard_of) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let expected = scene.expected();
        for (shard, hosts) in scene.targets().into_iter().enumerate() {
            for host in hosts {
                shard_of.insert(host, shard);
                for row in &scene.present[shard] {
                    before.entry((host, partition_of(row))).or_insert_with(Vec::new).push(row.clone());
                }
                for ((_, partition), rows) in expected.iter().filter(|((of, _), _)| *of == shard) {
                    let key = (host, partition.clone());
                    let mut rows = rows.clone();
                    if scene.before == Before::Append {
                        rows.extend(before.get(&key).into_iter().flatten().cloned());
                    }
                    after.insert(key, sorted(rows));
                }
            }
        }
        before.values_mut().for_each(|rows| rows.sort());
        // With `replace`, a partition of which this shard gets no row is emptied.
        if scene.before == Before::Replace {
            let copied: BTreeSet<&String> = expected.keys().map(|(_, partition)| partition).collect();
            for key in before.keys().filter(|(_, partition)| copied.contains(partition)) {
                after.entry(key.clone()).or_default();
            }
        }
        let records = (0..scene.tasks()).map(|_| Records::default()).collect();
        let (restarted, started) = (BTreeSet::new(), Instant::now());
        Self {
            started,
            before,
            after,
            expected,
            shard_of,
            restarted,
            records,
            seen: (u64::MAX, u64::MAX),
            past: BTreeSet::new(),
            held: BTreeMap::new(),
            done: BTreeSet::new(),
        }
    }

    /// Begins the second pass: the source has changed, and the rows that the target holds now are the rows from before.
    pub fn begin_pass(&mut self, world: &World) {
        let scene = &world.scene;
        let (now, drops) = (scene.afterwards(), scene.later.as_ref().is_some_and(|later| later.drops));
        let expected = now.expected();
        let copied: BTreeSet<String> = self.expected.keys().map(|(_, partition)| partition.clone()).collect();
        let found: BTreeSet<&String> = expected.keys().map(|(_, partition)| partition).collect();
        let keys: BTreeSet<(&'static str, String)> = self
            .shard_of
            .keys()
            .flat_map(|host| copied.iter().chain(found.iter().copied()).map(|partition| (*host, partition.clone())))
            .collect();
        for key in keys {
            // Without internal replication, a server that was away has no rows of the first pass.
            self.before.insert(key.clone(), held(world, key.0, &key.1));
            let rows = match expected.get(&(self.shard_of[key.0], key.1.clone())) {
                Some(rows) => sorted(rows.clone()),
                None if found.contains(&key.1) || drops => Vec::new(),
                None => self.before.get(&key).cloned().unwrap_or_default(),
            };
            // Rows of others in partitions that the task never copied stay.
            if copied.contains(&key.1) || found.contains(&key.1) {
                self.after.insert(key, rows);
            }
        }
        self.expected = expected;
        self.past = self.records.iter().filter_map(|known| known.id.clone()).collect();
        self.held.clear();
        self.done.clear();
    }

    pub fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// Replaced parts of a table without replication may be back for a while (docs/clickhouse-behaviour.md, T3).
    pub fn restarted(&mut self, host: &'static str) {
        self.restarted.insert(host);
    }

    pub fn is_finished(&self, task: usize) -> bool {
        self.records[task].finished
    }

    /// Returns the copied rows that a partition of a host must have.
    pub fn promised(&self, host: &str, partition: &str) -> u64 {
        let of = |rows: &BTreeMap<(&'static str, String), Vec<Row>>| {
            rows.iter().find(|((of, id), _)| *of == host && id == partition).map_or(0, |(_, rows)| rows.len() as u64)
        };
        of(&self.after)
    }

    /// Returns the name that all attempts use for a table, with the number of the last attempt.
    pub fn with_recorded_attempt(&self, task: usize, name: &str) -> String {
        let piece = name.split('_').find_map(|part| part.strip_prefix('p')?.parse::<usize>().ok());
        match piece.and_then(|piece| self.records[task].pieces.get(piece)) {
            Some(record) => name.replace("_a0", &format!("_a{}", record.attempt)),
            None => name.to_owned(),
        }
    }

    pub fn check(&mut self, world: &World) -> Result<(), String> {
        let now = (world.coordinator.commits(), world.client.changes());
        if now == self.seen {
            return Ok(());
        }
        let recorded = now.0 != self.seen.0;
        if recorded {
            self.read(world)?;
        }
        // Servers that give wrong answers may hold anything until the task says that it is finished.
        if world.wrong_answer.is_none() {
            self.targets(world)?;
            self.staged(world, recorded)?;
        }
        self.seen = now;
        Ok(())
    }

    /// Reads the records, and checks that no number of an attempt is given out twice and that nothing done is undone.
    fn read(&mut self, world: &World) -> Result<(), String> {
        for (task, known) in self.records.iter_mut().enumerate() {
            let root = task_path(task);
            if let Some(stored) = world.coordinator.peek(&format!("{root}/task")) {
                let record: TaskRecord = parsed(&stored.data)?;
                if known.id.as_ref().is_some_and(|id| *id != record.id) {
                    // A pass has a plan and records of its own.
                    *known = Records::default();
                }
            }
            // The changes since the last check.
            let mut changed = |path: String| {
                let stored = world.coordinator.peek(&format!("{root}/{path}"))?.data;
                let old = known.texts.insert(path, stored.clone());
                (old.as_ref() != Some(&stored)).then_some(stored)
            };
            if let Some(stored) = changed("task".into()) {
                let record: TaskRecord = parsed(&stored)?;
                known.planned = record.planned;
                known.finished = record.finished;
                known.id = Some(record.id);
            }
            if !known.planned {
                continue;
            }
            if known.plan.is_none() {
                let stored = world.coordinator.peek(&format!("{root}/plan/0.0")).ok_or("planned without a plan")?;
                let head = stored.data.iter().position(|byte| *byte == b'\n').ok_or("a plan without head")?;
                known.plan = Some(parsed(&stored.data[head + 1..])?);
            }
            let plan = known.plan.as_ref().ok_or("no plan")?;
            let mut batches = Vec::new();
            for batch in 0..plan.batches.len() {
                batches.push(match (changed(format!("batches/0.{batch}")), known.batches.get(batch)) {
                    (Some(stored), _) => parsed::<BatchRecord>(&stored)?,
                    (None, Some(known)) => known.clone(),
                    (None, None) => return Err(format!("batch {batch} has no record")),
                });
            }
            let pieces_of: Vec<_> = plan.batches.iter().map(|batch| batch.pieces.clone()).collect();
            let mut pieces: Vec<PieceRecord> = Vec::new();
            for (group, of) in groups(&pieces_of).into_iter().enumerate() {
                match (changed(format!("pieces/0.{group}")), known.pieces.get(of)) {
                    (Some(stored), _) => pieces.extend(parsed::<Vec<PieceRecord>>(&stored)?),
                    (None, Some(known)) => pieces.extend(known.iter().cloned()),
                    (None, None) => return Err(format!("group {group} has no records")),
                }
            }
            if pieces.len() != plan.pieces.len() || batches.len() != plan.batches.len() {
                return Err(format!("{} pieces are planned, and {} recorded", plan.pieces.len(), pieces.len()));
            }
            for (old, new) in known.batches.iter().zip(&batches) {
                if old.is_done() && new != old || new.publication < old.publication || new.generation < old.generation {
                    return Err(format!("a batch went back from {old:?} to {new:?}"));
                }
            }
            for (old, new) in known.pieces.iter().zip(&pieces) {
                let counted_twice = old.copied() != new.copied() && new.copied().is_some() && old.copied().is_some();
                if new.attempt < old.attempt || counted_twice && new.attempt == old.attempt {
                    return Err(format!("a piece went back from {old:?} to {new:?}"));
                }
            }
            (known.batches, known.pieces) = (batches, pieces);
        }
        Ok(())
    }

    /// I1 and I2: each partition of each target host has the rows from before or the rows after the copy; the latter if it is
    /// recorded as done (I3).
    fn targets(&mut self, world: &World) -> Result<(), String> {
        let scene = &world.scene;
        let done = self.done();
        let newly_done = done != self.done;
        for host in self.shard_of.keys() {
            let parts = world.client.part_numbers(&node(host), &target());
            if !newly_done && self.held.get(host) == Some(&parts) {
                continue;
            }
            self.held.insert(host, parts);
            let rows = world.client.rows(&node(host), &target()).unwrap_or_default();
            let mut held: BTreeMap<String, Vec<Row>> = BTreeMap::new();
            for row in rows {
                held.entry(partition_of(&row)).or_default().push(row);
            }
            let none = Vec::new();
            let keys = self.before.keys().chain(self.after.keys()).filter(|(of, _)| of == host);
            let partitions: BTreeSet<&String> = keys.map(|(_, partition)| partition).chain(held.keys()).collect();
            for partition in partitions {
                let key = (*host, partition.clone());
                let holds = held.get(partition).unwrap_or(&none);
                let before = self.before.get(&key).unwrap_or(&none);
                let after = self.after.get(&key);
                // A second task may have displaced the rows of the first.
                let displaced = (scene.before == Before::Replace || !self.past.is_empty())
                    && scene.layout != Layout::Replicated
                    && self.restarted.contains(host)
                    && (!before.is_empty() || scene.second == Second::Same)
                    && after.is_some();
                if done.contains(&key) && !(displaced && scene.second == Second::Same) {
                    if Some(holds) != after && !(after.is_none() && holds == before) {
                        return Err(format!("I3: partition {partition} of {host} is done, and holds {holds:?}"));
                    }
                    continue;
                }
                if holds != before && Some(holds) != after && !displaced {
                    return Err(format!("I1: partition {partition} of {host} holds {holds:?}"));
                }
            }
        }
        self.done = done;
        Ok(())
    }

    /// Returns the partitions that are recorded as done, by host.
    fn done(&self) -> BTreeSet<(&'static str, String)> {
        let mut done = BTreeSet::new();
        for known in self.records.iter().filter(|known| known.id.as_ref().is_none_or(|id| !self.past.contains(id))) {
            let Some(plan) = &known.plan else { continue };
            for (number, batch) in known.batches.iter().enumerate().filter(|(_, batch)| batch.is_done()) {
                for host in self.shard_of.keys() {
                    if batch.nodes.iter().flatten().any(|address| address.split(':').next() == Some(host)) {
                        let of = plan.partitions_of(number).iter().map(|partition| partition.name.clone());
                        done.extend(of.map(|partition| (*host, partition)));
                    }
                }
            }
        }
        done
    }

    /// I3 and I4: all rows of a piece that is recorded as copied are in a table of that attempt until the batch is done, and the
    /// pieces of a batch together have exactly its rows.
    fn staged(&self, world: &World, recorded: bool) -> Result<(), String> {
        let census: BTreeMap<&str, BTreeMap<TableName, usize>> =
            self.shard_of.keys().map(|host| (*host, world.client.census(&node(host)))).collect();
        for known in &self.records {
            let (Some(plan), Some(id)) = (&known.plan, &known.id) else { continue };
            for (number, batch) in known.batches.iter().enumerate().filter(|(_, batch)| !batch.is_done()) {
                for (shard, addresses) in batch.nodes.iter().enumerate() {
                    for address in addresses {
                        let host = address.split(':').next().unwrap_or_default();
                        let mut rows = Vec::new();
                        let mut all = true;
                        for piece in plan.batches[number].pieces.clone() {
                            let record = &known.pieces[piece];
                            let Some(copied) = record.copied().filter(|_| record.generation == batch.generation) else {
                                all = false;
                                continue;
                            };
                            let of = BatchRef { table: 0, index: number };
                            let attempt = if world.broken == Some(DisabledGuard::Fencing) {
                                AttemptNo(0)
                            } else {
                                record.attempt
                            };
                            let name = id.staging(of, PieceRef { table: 0, index: piece }, attempt);
                            let taken = format!("{name}_u");
                            let mut found = census[host]
                                .iter()
                                .filter(|(table, _)| table.table == name || table.table.starts_with(&taken));
                            let (table, count) = match (found.next(), found.next()) {
                                (Some((table, count)), None) => (table, *count as u64),
                                (found, _) => {
                                    let why = if found.is_some() { "there twice" } else { "gone" };
                                    return Err(format!("I4: {name} is recorded, and {why} on {host}"));
                                }
                            };
                            if count != copied.staged[shard] {
                                let recorded = copied.staged[shard];
                                return Err(format!("I3: {name} of {host} has {count} rows, recorded are {recorded}"));
                            }
                            if recorded {
                                rows.extend(world.client.rows(&node(host), table).unwrap_or_default());
                            }
                        }
                        if recorded && all {
                            let partitions = plan.partitions_of(number).iter().map(|partition| &partition.name);
                            let expected = partitions.flat_map(|partition| {
                                self.expected.get(&(shard, partition.clone())).cloned().unwrap_or_default()
                            });
                            let (rows, expected) = (sorted(rows), sorted(expected.collect()));
                            if rows != expected {
                                return Err(format!(
                                    "I3: batch {number} is copied, but {host} has {rows:?} instead of {expected:?}"
                                ));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// I6, and that a finished task has copied everything.
    pub fn end(&self, world: &World, task: usize, finished: bool) -> Result<(), String> {
        let known = &self.records[task];
        let undone = known.batches.iter().filter(|batch| !matches!(batch.state, BatchState::Done(_))).count();
        if !finished {
            return if undone > 0 || known.plan.is_none() || !known.finished {
                Ok(())
            } else {
                Err("the task has failed, and nothing is missing".into())
            };
        }
        if undone > 0 {
            return Err(format!("the task is finished, and {undone} batches are not done"));
        }
        if !self.past.is_empty() {
            self.all_is_there(world)?;
        }
        self.nothing_left(world, task, &world.orphans.lock().expect("nobody panics"))
    }

    /// I7: a finished task has all rows, whatever servers answered.
    pub fn accounted(&self, world: &World) -> Result<(), String> {
        self.all_is_there(world).map_err(|why| format!("I7: {why}"))
    }

    /// Checks the rows after a second pass. Unchanged partitions have no records in it.
    fn all_is_there(&self, world: &World) -> Result<(), String> {
        let gone = world.gone();
        for ((host, partition), after) in self.after.iter().filter(|((host, _), _)| !gone.contains(host)) {
            let shard = self.shard_of[host];
            let mut others = self.shard_of.iter().filter(|(other, of)| **of == shard && *other != host);
            // Without internal replication, a server may have been away.
            let excused =
                world.scene.layout == Layout::Twice && others.any(|(other, _)| held(world, other, partition) == *after);
            let held = held(world, host, partition);
            if held != *after && !excused {
                return Err(format!("I3: the pass is finished, and partition {partition} of {host} holds {held:?}"));
            }
        }
        Ok(())
    }

    /// Checks that no table, statement or ephemeral node of a task is left, except tables that nobody can know of.
    pub fn nothing_left(&self, world: &World, task: usize, orphans: &BTreeSet<TableName>) -> Result<(), String> {
        let Some(id) = &self.records[task].id else { return Ok(()) };
        let gone = world.gone();
        for host in world.scene.hosts().into_iter().filter(|host| !gone.contains(host)) {
            let left: Vec<TableName> = world.client.tables(&node(host));
            let mut left = left.into_iter().filter(|table| table.table.starts_with(&id.tables()));
            if let Some(table) = left.find(|table| !orphans.contains(table)) {
                return Err(format!("I6: {table} is left on {host}"));
            }
            let running = world.client.statements(&node(host));
            if let Some(statement) = running.iter().find(|statement| statement.starts_with(&id.queries())) {
                return Err(format!("I6: {statement} runs on {host}"));
            }
        }
        let claims = format!("{}/claims/", task_path(task));
        let active = format!("{}/task_active_workers/", task_path(task));
        let on_servers = format!("{}/on_servers/", task_path(task));
        let ours = [claims, active, on_servers];
        match world.coordinator.tree().keys().find(|path| ours.iter().any(|prefix| path.starts_with(prefix))) {
            Some(path) => Err(format!("I6: {path} is left")),
            None => Ok(()),
        }
    }
}
