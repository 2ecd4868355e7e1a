//! Facts → findings. Pure.

use std::collections::BTreeMap;

use super::{About, CheckReport, Finding, Level};
use crate::client::Mutation;
use crate::model::counted;
use crate::operations::check::{Expiry, NodeFacts, Observed, PlanFacts, TableFacts, TargetFacts};
use crate::planning::errors::Fault;
use crate::sql::canonical_zone;
use crate::task::IfTargetNotEmpty;

use super::super::leftovers::size;

/// So many seconds a clock may differ from ours.
const CLOCK_SECONDS: i64 = 5;

/// What follows from what was found.
pub fn judge(observed: &Observed) -> CheckReport {
    let mut findings = Findings { observed, all: Vec::new() };
    findings.of_task();
    findings.of_nodes();
    for table in &observed.tables {
        findings.of_table(table);
    }
    findings.of_rooms();
    if let Some(keeper) = &observed.keeper {
        findings.of_keeper(keeper);
    }
    CheckReport::of(findings.all)
}

pub(super) struct Findings<'a> {
    pub(super) observed: &'a Observed,
    all: Vec<Finding>,
}

/// A finding in the making.
pub(super) struct Place<'a> {
    pub(super) node: Option<String>,
    pub(super) table: Option<&'a str>,
}

pub(super) const NOWHERE: Place<'_> = Place { node: None, table: None };

impl<'a> Findings<'a> {
    pub(super) fn add(
        &mut self,
        level: Level,
        about: About,
        at: Place<'_>,
        what: impl Into<String>,
        todo: Option<&str>,
    ) {
        let Place { node, table } = at;
        let (table, todo) = (table.map(str::to_owned), todo.map(str::to_owned));
        self.all.push(Finding { level, about, node, table, what: what.into(), todo });
    }

    /// A sentence of the survey or the planner, which begins with its table and its node where it has them.
    fn told(&mut self, level: Level, about: About, line: &str, table: Option<&str>) {
        let (mut rest, mut table) = (line, table.map(str::to_owned));
        for job in &self.observed.jobs {
            if let Some(after) = rest.strip_prefix(&format!("table {job}: ")) {
                (rest, table) = (after, Some(job.clone()));
                break;
            }
        }
        let addresses = self.observed.nodes.iter().map(|facts| facts.node.address());
        let found = addresses.filter_map(|node| Some((rest.strip_prefix(&format!("{node}: "))?, node))).next();
        let (what, node) = found.map_or((rest, None), |(rest, node)| (rest, Some(node)));
        self.all.push(Finding { level, about, node, table, what: what.to_owned(), todo: None });
    }

    /// A question without an answer.
    fn unknown(&mut self, about: About, error: &crate::client::Error, table: Option<&str>) {
        self.told(Level::Warning, about, &error.to_string(), table);
    }

    fn of_task(&mut self) {
        for warning in &self.observed.warnings {
            self.add(Level::Warning, About::Task, NOWHERE, warning, None);
        }
        for fault in &self.observed.faults {
            self.fault(fault);
        }
        for line in &self.observed.settings.unknown {
            self.add(Level::Warning, About::Settings, NOWHERE, line, Some("Is it mistyped?"));
        }
        for line in &self.observed.settings.renamed {
            self.add(Level::Remark, About::Settings, NOWHERE, line, None);
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match fault {
            Fault::Task(line) => self.add(Level::Fault, About::Task, NOWHERE, line, None),
            Fault::World(line) => {
                let about = if line.starts_with("table ") { About::Table } else { About::Server };
                self.told(Level::Fault, about, line, None);
            }
        }
    }

    fn of_nodes(&mut self) {
        let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut guarded: Vec<String> = Vec::new();
        let (nodes, answers) = (&self.observed.nodes, |facts: &&NodeFacts| facts.about.is_ok());
        for facts in nodes {
            let at = || Place { node: Some(facts.node.address()), table: None };
            let about = match &facts.about {
                Ok(about) => about,
                // Where none of a shard answers, the survey says so.
                Err(error) if nodes.iter().filter(answers).any(|other| other.shard == facts.shard) => {
                    let todo = Some("The copy goes on without this replica");
                    self.add(
                        Level::Warning,
                        About::Server,
                        at(),
                        without(&error.to_string(), &facts.node.address()),
                        todo,
                    );
                    continue;
                }
                Err(_) => continue,
            };
            versions.entry(&about.version).or_default().push(facts.node.address());
            if about.guards_drops {
                guarded.push(facts.node.address());
            }
            for zone in about.zones.iter().map(|zone| canonical_zone(zone)) {
                zones.entry(zone).or_default().push(facts.node.address());
            }
            match &about.ahead {
                Ok(seconds) if seconds.abs() >= CLOCK_SECONDS => {
                    let word = if *seconds > 0 { "ahead of" } else { "behind" };
                    let what = format!("the server's clock is {} s {word} ours", seconds.abs());
                    let todo = Some("now() and TTLs count by the server's own time: set the clocks");
                    self.add(Level::Warning, About::Clock, at(), what, todo);
                }
                Ok(_) => {}
                Err(error) => self.unknown(About::Clock, error, None),
            }
            match &about.left {
                Ok(left) => left.iter().for_each(|left| self.left(left, at())),
                Err(error) => self.unknown(About::Leftover, error, None),
            }
        }
        for (version, nodes) in versions {
            let what = format!("ClickHouse {version}: {}", nodes.join(", "));
            self.add(Level::Remark, About::Version, NOWHERE, what, None);
        }
        self.zones(&zones);
        self.guarded(&guarded);
    }

    /// Servers whose guard against drops no statement can lift.
    fn guarded(&mut self, nodes: &[String]) {
        if nodes.is_empty() {
            return;
        }
        let what = format!(
            "tables and partitions above max_table_size_to_drop and max_partition_size_to_drop of the configuration (50 GB unless written \
             there) cannot be dropped or replaced: {}",
            nodes.join(", ")
        );
        let todo =
            Some("Where partitions are larger, raise both before copying, or tables of the task stay there at the end");
        self.add(Level::Remark, About::Server, NOWHERE, what, todo);
    }

    fn zones(&mut self, zones: &BTreeMap<String, Vec<String>>) {
        if zones.len() < 2 {
            return;
        }
        let listed: Vec<String> = zones.iter().map(|(zone, nodes)| format!("{zone}: {}", nodes.join(", "))).collect();
        let what = format!("time zones differ: {}", listed.join("; "));
        let todo =
            Some("What depends on the zone is refused, or computed in the target's; dates as text differ between them");
        self.add(Level::Warning, About::Clock, NOWHERE, what, todo);
    }

    fn left(&mut self, left: &crate::operations::check::Left, at: Place<'_>) {
        let counts = [(left.tables, "table"), (left.statements, "running statement")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| counted(*count, word)).collect();
        let (id, counts) = (&left.task.0, counts.join(" and "));
        if left.own {
            let what = format!("{counts} of this task ({id}), from a run that goes on or was broken off");
            return self.add(
                Level::Remark,
                About::Leftover,
                at,
                what,
                Some("A run goes on with them, or removes them"),
            );
        }
        let path = self.observed.keeper.as_ref().and_then(|keeper| keeper.neighbours.get(&left.task));
        let what = format!("{counts} of another task ({id}{})", path.map(|at| format!(" at {at}")).unwrap_or_default());
        let todo = match path {
            Some(path) => format!("If it is dead: cleanup --task-path {path}"),
            None => format!("If it is dead: cleanup --task-file … --task-id {id}"),
        };
        self.add(Level::Warning, About::Leftover, at, what, Some(&todo));
    }

    fn of_table(&mut self, facts: &'a TableFacts) {
        let table = Some(facts.name.as_str());
        for line in &facts.remarks {
            self.told(Level::Remark, About::Table, line, table);
        }
        match &facts.plan {
            PlanFacts::Fresh(plan) => {
                // What the planner says beside the survey is about partitions.
                for line in plan.remarks.iter().skip(facts.remarks.len()) {
                    let level = if facts.policy == IfTargetNotEmpty::Skip { Level::Remark } else { Level::Warning };
                    self.told(level, About::Partitions, line, table);
                }
                let rows: u64 = plan.partitions.iter().map(|partition| partition.rows).sum();
                let (partitions, pieces) = (plan.partitions.len(), plan.pieces.len());
                let what = format!(
                    "{} with {rows} rows would be copied in {}",
                    counted(partitions, "partition"),
                    counted(pieces, "piece")
                );
                let at = Place { node: None, table };
                if rows == 0 {
                    let what = "there is nothing to copy: no row is selected";
                    self.add(Level::Warning, About::Partitions, at, what, None);
                } else {
                    self.add(Level::Remark, About::Partitions, at, what, None);
                }
            }
            PlanFacts::Stored(_) => {
                let what = "a run has planned it already, and goes on where it stands";
                self.add(Level::Remark, About::Partitions, Place { node: None, table }, what, None);
            }
            PlanFacts::Refused(Fault::World(line)) => self.told(Level::Fault, About::Partitions, line, table),
            PlanFacts::Refused(fault) => self.fault(fault),
            PlanFacts::Unread(error) => {
                self.add(Level::Fault, About::Zookeeper, Place { node: None, table }, error, None);
            }
        }
        for (version, words) in &facts.left_out {
            let what = format!(
                "ClickHouse {version} does not know everything that the definition of {} has; left out there: {}",
                facts.target,
                words.join(", ")
            );
            self.add(Level::Warning, About::Version, Place { node: None, table }, what, None);
        }
        self.expiry(facts);
        self.spread(facts);
        for source in &facts.sources {
            self.mutations(&source.mutations, &source.node.address(), &facts.name, Side::Source);
        }
        for target in &facts.targets {
            self.of_target(facts, target);
        }
    }

    fn of_target(&mut self, facts: &TableFacts, target: &TargetFacts) {
        let (address, table) = (target.node.address(), Some(facts.name.as_str()));
        let at = || Place { node: Some(address.clone()), table };
        self.mutations(&target.mutations, &address, &facts.name, Side::Target);
        match &target.views {
            Ok(views) => {
                for view in views {
                    let what = format!("materialized view {view} reads {}", facts.target);
                    let todo = "Copied rows do not reach it, since partitions are moved and not inserted: copy what it fills, or \
                                fill it by hand";
                    self.add(Level::Warning, About::View, at(), what, Some(todo));
                }
            }
            Err(error) => self.unknown(About::View, error, table),
        }
        match &target.rights {
            Ok(rights) => {
                let missing: Vec<&str> =
                    rights.iter().filter(|(_, given)| *given == Some(false)).map(|(right, _)| right.words()).collect();
                if !missing.is_empty() {
                    let (missing, user, database) = (missing.join(", "), &target.node.user, &facts.target.database);
                    let what = format!("user {user} lacks {missing} on {database}.*");
                    let todo = format!("GRANT {missing} ON {database}.* TO {user}");
                    self.add(Level::Fault, About::Rights, at(), what, Some(&todo));
                }
            }
            Err(error) => self.unknown(About::Rights, error, table),
        }
    }

    fn mutations(
        &mut self,
        mutations: &Result<Vec<Mutation>, crate::client::Error>,
        node: &str,
        table: &str,
        side: Side,
    ) {
        let mutations = match mutations {
            Ok(mutations) => mutations,
            Err(error) => return self.unknown(About::Mutation, error, Some(table)),
        };
        for mutation in mutations {
            let Mutation { id, command, failure } = mutation;
            let mut what = format!("mutation {id} of the {} is not done: {command}", side.word());
            if !failure.is_empty() {
                what += &format!("; it failed last with: {failure}");
            }
            let at = Place { node: Some(node.to_owned()), table: Some(table) };
            self.add(Level::Warning, About::Mutation, at, what, Some(side.advice()));
        }
    }

    /// Names the shards that would get few rows.
    fn spread(&mut self, facts: &TableFacts) {
        let Some((sharding, spread)) = &facts.spread else { return };
        let thin = spread.thin(sharding);
        if thin.is_empty() {
            return;
        }
        let shards = spread.shards.iter().enumerate().map(|(shard, rows)| format!("shard {} {rows}", shard + 1));
        let what = format!(
            "by sharding key {} rows spread unevenly over the target's shards: of {} that were looked at, {} would get less than \
             half of a fair share ({})",
            sharding.key,
            counted(spread.rows as usize, "row"),
            counted(thin.len(), "shard"),
            shards.collect::<Vec<_>>().join(", ")
        );
        let todo =
            "Where that is not meant, give a sharding key that depends on many values, such as a hash of a column";
        self.add(Level::Warning, About::Table, Place { node: None, table: Some(&facts.name) }, what, Some(todo));
    }

    fn expiry(&mut self, facts: &TableFacts) {
        let at = Place { node: None, table: Some(&facts.name) };
        let todo = Some("Take the TTL away, or leave those rows out with <where_condition>");
        match facts.expiry {
            Expiry::None => {}
            Expiry::Rows(0) => {
                let what = format!("{} has a TTL; none of the rows to copy is beyond it today", facts.target);
                self.add(Level::Remark, About::Ttl, at, what, None);
            }
            Expiry::Rows(rows) => {
                let what = format!("the TTL of {} will remove {rows} of the rows to copy", facts.target);
                self.add(Level::Warning, About::Ttl, at, what, todo);
            }
            Expiry::Unknown => {
                let what = format!(
                    "{} has a TTL, and how many of the rows to copy, or of their values, it would remove is not known",
                    facts.target
                );
                self.add(Level::Warning, About::Ttl, at, what, todo);
            }
        }
    }

    /// Tables that share a node's disks need room together.
    fn of_rooms(&mut self) {
        let mut rooms: BTreeMap<(String, &str), (u64, u64)> = BTreeMap::new();
        let mut silent: Vec<String> = Vec::new();
        let tables = &self.observed.tables;
        for facts in tables {
            let needed = match &facts.needed {
                Ok(needed) => needed,
                Err(error) => {
                    self.unknown(About::Disk, error, Some(&facts.name));
                    continue;
                }
            };
            for target in &facts.targets {
                let address = target.node.address();
                match &target.disks {
                    Ok(Some((policy, disks))) => {
                        let free = disks.iter().fold(0u64, |free, disk| free.saturating_add(disk.free));
                        let room = rooms.entry((address, policy)).or_insert((0, free));
                        room.0 = room.0.saturating_add(needed.get(target.shard).copied().unwrap_or_default());
                    }
                    Ok(None) => silent.extend((!silent.contains(&address)).then_some(address)),
                    Err(error) => self.unknown(About::Disk, error, Some(&facts.name)),
                }
            }
        }
        for ((node, policy), (needed, free)) in rooms {
            let wanted = needed.saturating_add(needed / 5);
            if free >= wanted {
                continue;
            }
            let what = format!(
                "the disks of policy {policy} have {} free; the copy takes about {}, and a fifth more should be free",
                size(free),
                size(needed)
            );
            let level = if free < needed { Level::Fault } else { Level::Warning };
            self.add(
                level,
                About::Disk,
                Place { node: Some(node), table: None },
                what,
                Some("Make room, or copy less"),
            );
        }
        if !silent.is_empty() {
            let what =
                format!("free disk space is not known: these do not tell of the target's disks: {}", silent.join(", "));
            self.add(
                Level::Remark,
                About::Disk,
                NOWHERE,
                what,
                Some("Look yourself: the source's size and a fifth more"),
            );
        }
    }
}

/// Which table a mutation belongs to.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Source => {
                "Rows that change while they are copied are copied again, and fail in the end: wait for it, or end it"
            }
            Self::Target => "It is about rows that are there already; what is copied is not changed by it",
        }
    }
}

/// An error's text without the node that it begins with.
fn without<'t>(text: &'t str, node: &str) -> &'t str {
    text.strip_prefix(node).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
