//! Turns facts into findings. Pure.

use std::collections::BTreeMap;

use super::super::leftovers::size;
use super::{CheckReport, Finding, Level, Topic};
use crate::client::Mutation;
use crate::model::counted;
use crate::operations::check::{Expiry, NodeFacts, Observed, PlanFacts, PolicyDisks, TableFacts, TargetFacts};
use crate::planning::errors::{Problem, ProblemKind};
use crate::sql::canonical_zone;
use crate::task::IfTargetNotEmpty;

/// The difference to the own clock, in seconds, from which a finding is a warning.
const MAX_CLOCK_SECONDS: i64 = 5;

/// Returns the findings that follow from the facts.
pub(crate) fn judge(observed: &Observed) -> CheckReport {
    let mut findings = Findings { observed, all: Vec::new() };
    findings.add_task();
    findings.add_nodes();
    for table in &observed.tables {
        findings.add_table(table);
    }
    findings.add_disks();
    if let Some(keeper) = &observed.keeper {
        findings.add_coordinator(keeper);
    }
    CheckReport::of(findings.all)
}

pub(super) struct Findings<'a> {
    pub(super) observed: &'a Observed,
    all: Vec<Finding>,
}

/// The subject of a finding.
pub(super) struct Subject<'a> {
    pub(super) node: Option<String>,
    pub(super) table: Option<&'a str>,
}

pub(super) const NO_SUBJECT: Subject<'_> = Subject { node: None, table: None };

impl<'a> Findings<'a> {
    pub(super) fn add(
        &mut self,
        level: Level,
        about: Topic,
        subject: Subject<'_>,
        what: impl Into<String>,
        todo: Option<&str>,
    ) {
        let Subject { node, table } = subject;
        let (table, todo) = (table.map(str::to_owned), todo.map(str::to_owned));
        self.all.push(Finding { level, about, node, table, what: what.into(), todo });
    }

    /// Adds a problem of the servers that the survey or the planner found.
    fn add_problem(&mut self, about: Topic, problem: &Problem, table: Option<&str>) {
        let subject = Subject { node: problem.node.clone(), table };
        self.add(Level::Fault, about, subject, problem.without_subject().to_string(), None);
    }

    /// Adds a question that a server did not answer.
    fn add_unanswered(&mut self, about: Topic, error: &crate::client::Error, table: Option<&str>) {
        let subject = Subject { node: Some(error.node.clone()), table };
        self.add(Level::Warning, about, subject, error.without_node(), None);
    }

    fn add_task(&mut self) {
        for warning in &self.observed.warnings {
            self.add(Level::Warning, Topic::Task, NO_SUBJECT, warning, None);
        }
        for fault in &self.observed.faults {
            self.add_fault(fault);
        }
        for line in &self.observed.settings.unknown {
            self.add(Level::Warning, Topic::Settings, NO_SUBJECT, line, Some("Is it mistyped?"));
        }
        for line in &self.observed.settings.renamed {
            self.add(Level::Remark, Topic::Settings, NO_SUBJECT, line, None);
        }
    }

    fn add_fault(&mut self, fault: &Problem) {
        match fault.kind {
            ProblemKind::Task => self.add(Level::Fault, Topic::Task, NO_SUBJECT, fault.to_string(), None),
            ProblemKind::Servers => {
                let topic = if fault.table.is_some() { Topic::Table } else { Topic::Server };
                self.add_problem(topic, fault, fault.table.as_deref());
            }
        }
    }

    fn add_nodes(&mut self) {
        let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut guarded: Vec<String> = Vec::new();
        let (nodes, answers) = (&self.observed.nodes, |facts: &&NodeFacts| facts.about.is_ok());
        for facts in nodes {
            let subject = || Subject { node: Some(facts.node.address()), table: None };
            let about = match &facts.about {
                Ok(about) => about,
                // If no replica of a shard answers, the survey reports that.
                Err(error) if nodes.iter().filter(answers).any(|other| other.shard == facts.shard) => {
                    let todo = Some("The copy goes on without this replica");
                    self.add(Level::Warning, Topic::Server, subject(), error.without_node(), todo);
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
                Ok(seconds) if seconds.abs() >= MAX_CLOCK_SECONDS => {
                    let word = if *seconds > 0 { "ahead of" } else { "behind" };
                    let what = format!("the server's clock is {} s {word} ours", seconds.abs());
                    let todo = Some("now() and TTLs count by the server's own time: set the clocks");
                    self.add(Level::Warning, Topic::Clock, subject(), what, todo);
                }
                Ok(_) => {}
                Err(error) => self.add_unanswered(Topic::Clock, error, None),
            }
            match &about.left {
                Ok(left) => left.iter().for_each(|left| self.add_leftovers(left, subject())),
                Err(error) => self.add_unanswered(Topic::Leftover, error, None),
            }
        }
        for (version, nodes) in versions {
            let what = format!("ClickHouse {version}: {}", nodes.join(", "));
            self.add(Level::Remark, Topic::Version, NO_SUBJECT, what, None);
        }
        self.add_time_zones(&zones);
        self.add_guarded_servers(&guarded);
    }

    /// Reports servers that no statement can make drop large tables.
    fn add_guarded_servers(&mut self, nodes: &[String]) {
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
        self.add(Level::Remark, Topic::Server, NO_SUBJECT, what, todo);
    }

    fn add_time_zones(&mut self, zones: &BTreeMap<String, Vec<String>>) {
        if zones.len() < 2 {
            return;
        }
        let listed: Vec<String> = zones.iter().map(|(zone, nodes)| format!("{zone}: {}", nodes.join(", "))).collect();
        let what = format!("time zones differ: {}", listed.join("; "));
        let todo =
            Some("What depends on the zone is refused, or computed in the target's; dates as text differ between them");
        self.add(Level::Warning, Topic::Clock, NO_SUBJECT, what, todo);
    }

    fn add_leftovers(&mut self, left: &crate::operations::check::Left, subject: Subject<'_>) {
        let counts = [(left.tables, "table"), (left.statements, "running statement")];
        let counts: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| counted(*count, word)).collect();
        let (id, counts) = (&left.task.0, counts.join(" and "));
        if left.own {
            let what = format!("{counts} of this task ({id}), from a run that goes on or was broken off");
            return self.add(
                Level::Remark,
                Topic::Leftover,
                subject,
                what,
                Some("A run goes on with them, or removes them"),
            );
        }
        let path = self.observed.keeper.as_ref().and_then(|keeper| keeper.neighbours.get(&left.task));
        let what =
            format!("{counts} of another task ({id}{})", path.map(|path| format!(" at {path}")).unwrap_or_default());
        let todo = match path {
            Some(path) => format!("If it is dead: cleanup --task-path {path}"),
            None => format!("If it is dead: cleanup --task-file … --task-id {id}"),
        };
        self.add(Level::Warning, Topic::Leftover, subject, what, Some(&todo));
    }

    fn add_table(&mut self, facts: &'a TableFacts) {
        let table = Some(facts.name.as_str());
        for remark in &facts.remarks {
            let subject = Subject { node: remark.node.clone(), table };
            self.add(Level::Remark, Topic::Table, subject, remark.without_node(), None);
        }
        match &facts.plan {
            PlanFacts::Fresh(plan) => {
                // The planner's remarks that follow those of the survey concern partitions.
                for remark in plan.remarks.iter().skip(facts.remarks.len()) {
                    let level = if facts.policy == IfTargetNotEmpty::Skip { Level::Remark } else { Level::Warning };
                    let subject = Subject { node: remark.node.clone(), table };
                    self.add(level, Topic::Partitions, subject, remark.without_node(), None);
                }
                let rows: u64 = plan.partitions.iter().map(|partition| partition.rows).sum();
                let (partitions, pieces) = (plan.partitions.len(), plan.pieces.len());
                let what = format!(
                    "{} with {rows} rows would be copied in {}",
                    counted(partitions, "partition"),
                    counted(pieces, "piece")
                );
                let subject = Subject { node: None, table };
                if rows == 0 {
                    let what = "there is nothing to copy: no row is selected";
                    self.add(Level::Warning, Topic::Partitions, subject, what, None);
                } else {
                    self.add(Level::Remark, Topic::Partitions, subject, what, None);
                }
            }
            PlanFacts::Stored(_) => {
                let what = "a run has planned it already, and goes on where it stands";
                self.add(Level::Remark, Topic::Partitions, Subject { node: None, table }, what, None);
            }
            PlanFacts::Refused(fault) if fault.kind == ProblemKind::Servers => {
                self.add_problem(Topic::Partitions, fault, table);
            }
            PlanFacts::Refused(fault) => self.add_fault(fault),
            PlanFacts::Unread(error) => {
                self.add(Level::Fault, Topic::Zookeeper, Subject { node: None, table }, error, None);
            }
        }
        for (version, words) in &facts.left_out {
            let what = format!(
                "ClickHouse {version} does not know everything that the definition of {} has; left out there: {}",
                facts.target,
                words.join(", ")
            );
            self.add(Level::Warning, Topic::Version, Subject { node: None, table }, what, None);
        }
        self.add_expiry(facts);
        self.add_uneven_shards(facts);
        for source in &facts.sources {
            self.add_mutations(&source.mutations, &source.node.address(), &facts.name, Side::Source);
        }
        for target in &facts.targets {
            self.add_target(facts, target);
        }
    }

    fn add_target(&mut self, facts: &TableFacts, target: &TargetFacts) {
        let (address, table) = (target.node.address(), Some(facts.name.as_str()));
        let subject = || Subject { node: Some(address.clone()), table };
        self.add_mutations(&target.mutations, &address, &facts.name, Side::Target);
        match &target.views {
            Ok(views) => {
                for view in views {
                    let what = format!("materialized view {view} reads {}", facts.target);
                    let todo = "Copied rows do not reach it, since partitions are moved and not inserted: copy what it fills, or \
                                fill it by hand";
                    self.add(Level::Warning, Topic::View, subject(), what, Some(todo));
                }
            }
            Err(error) => self.add_unanswered(Topic::View, error, table),
        }
        match &target.rights {
            Ok(rights) => {
                let missing: Vec<&str> = rights
                    .iter()
                    .filter(|right| right.given == Some(false))
                    .map(|right| right.privilege.words())
                    .collect();
                if !missing.is_empty() {
                    let (missing, user, database) = (missing.join(", "), &target.node.user, &facts.target.database);
                    let what = format!("user {user} lacks {missing} on {database}.*");
                    let todo = format!("GRANT {missing} ON {database}.* TO {user}");
                    self.add(Level::Fault, Topic::Rights, subject(), what, Some(&todo));
                }
            }
            Err(error) => self.add_unanswered(Topic::Rights, error, table),
        }
    }

    fn add_mutations(
        &mut self,
        mutations: &Result<Vec<Mutation>, crate::client::Error>,
        node: &str,
        table: &str,
        side: Side,
    ) {
        let mutations = match mutations {
            Ok(mutations) => mutations,
            Err(error) => return self.add_unanswered(Topic::Mutation, error, Some(table)),
        };
        for mutation in mutations {
            let Mutation { id, command, failure } = mutation;
            let mut what = format!("mutation {id} of the {} is not done: {command}", side.word());
            if !failure.is_empty() {
                what += &format!("; it failed last with: {failure}");
            }
            let subject = Subject { node: Some(node.to_owned()), table: Some(table) };
            self.add(Level::Warning, Topic::Mutation, subject, what, Some(side.advice()));
        }
    }

    /// Reports the shards that would get few rows.
    fn add_uneven_shards(&mut self, facts: &TableFacts) {
        let Some(spread) = &facts.spread else { return };
        let small = spread.shards_below_half();
        if small.is_empty() {
            return;
        }
        let shards = spread.shards.iter().enumerate().map(|(shard, rows)| format!("shard {} {rows}", shard + 1));
        let what = format!(
            "by sharding key {} rows spread unevenly over the target's shards: of {} that were looked at, {} would get less than \
             half of a fair share ({})",
            spread.sharding.key,
            counted(spread.rows as usize, "row"),
            counted(small.len(), "shard"),
            shards.collect::<Vec<_>>().join(", ")
        );
        let todo =
            "Where that is not meant, give a sharding key that depends on many values, such as a hash of a column";
        self.add(Level::Warning, Topic::Table, Subject { node: None, table: Some(&facts.name) }, what, Some(todo));
    }

    fn add_expiry(&mut self, facts: &TableFacts) {
        let subject = Subject { node: None, table: Some(&facts.name) };
        let todo = Some("Take the TTL away, or leave those rows out with <where_condition>");
        match facts.expiry {
            Expiry::None => {}
            Expiry::Rows(0) => {
                let what = format!("{} has a TTL; none of the rows to copy is beyond it today", facts.target);
                self.add(Level::Remark, Topic::Ttl, subject, what, None);
            }
            Expiry::Rows(rows) => {
                let what = format!("the TTL of {} will remove {rows} of the rows to copy", facts.target);
                self.add(Level::Warning, Topic::Ttl, subject, what, todo);
            }
            Expiry::Unknown => {
                let what = format!(
                    "{} has a TTL, and how many of the rows to copy, or of their values, it would remove is not known",
                    facts.target
                );
                self.add(Level::Warning, Topic::Ttl, subject, what, todo);
            }
        }
    }

    /// Reports disks without enough free space. Tables that share a node's disks need space together.
    fn add_disks(&mut self) {
        let mut disks_of_nodes: BTreeMap<(String, &str), (u64, u64)> = BTreeMap::new();
        let mut silent: Vec<String> = Vec::new();
        let tables = &self.observed.tables;
        for facts in tables {
            let needed = match &facts.needed {
                Ok(needed) => needed,
                Err(error) => {
                    self.add_unanswered(Topic::Disk, error, Some(&facts.name));
                    continue;
                }
            };
            for target in &facts.targets {
                let address = target.node.address();
                match &target.disks {
                    Ok(Some(PolicyDisks { policy, disks })) => {
                        let free = disks.iter().fold(0u64, |free, disk| free.saturating_add(disk.free));
                        let disk_space = disks_of_nodes.entry((address, policy)).or_insert((0, free));
                        disk_space.0 =
                            disk_space.0.saturating_add(needed.get(target.shard).copied().unwrap_or_default());
                    }
                    Ok(None) => silent.extend((!silent.contains(&address)).then_some(address)),
                    Err(error) => self.add_unanswered(Topic::Disk, error, Some(&facts.name)),
                }
            }
        }
        for ((node, policy), (needed, free)) in disks_of_nodes {
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
                Topic::Disk,
                Subject { node: Some(node), table: None },
                what,
                Some("Make room, or copy less"),
            );
        }
        if !silent.is_empty() {
            let what =
                format!("free disk space is not known: these do not tell of the target's disks: {}", silent.join(", "));
            self.add(
                Level::Remark,
                Topic::Disk,
                NO_SUBJECT,
                what,
                Some("Look yourself: the source's size and a fifth more"),
            );
        }
    }
}

/// The table that a mutation belongs to.
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

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
