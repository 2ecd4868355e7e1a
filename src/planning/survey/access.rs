//! Whether the accounts and servers of a task allow what it needs: paths in ZooKeeper, macros, who may write, who speaks to
//! whom. Part of the survey; creates nothing.

use crate::nodes::routes::against_pull;
use crate::nodes::routes::against_push;
use crate::nodes::routes::way_of;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::client::Error;
use crate::model::{Node, Way};
use crate::sql::TableDefinition;

use super::super::errors::Fault;
use super::{Holders, Surveyor};
use crate::nodes::column_routes::ColumnRoutes;

impl Surveyor<'_> {
    /// Replicas of a table meet at a path in ZooKeeper, and nowhere else: macros in it must be known where the table is made;
    /// each shard needs a path of its own; and nobody else may live there, or the new table would join theirs (the source's,
    /// with the source's path), fetch its rows, and hand on what is done to it.
    pub(super) async fn check_paths(
        &self,
        target: &TableDefinition,
        targets: &Holders,
        missing: &[Arc<Node>],
        source: (&TableDefinition, &Holders),
    ) -> Result<(), Vec<Fault>> {
        if !target.engine.is_replicated() || missing.is_empty() {
            return Ok(());
        }
        if target.engine.has_open_identity() {
            return Err(vec![self.world(&format!(
                "{} is missing on {}, and its path in ZooKeeper on the other nodes has {{uuid}}, which ClickHouse alone fills \
                 in: make the table there yourself",
                target.name, missing[0]
            ))]);
        }
        let mut faults = Vec::new();
        let mut seats: Vec<Seat> = Vec::new();
        for (shard, nodes) in targets.iter().enumerate() {
            for node in nodes {
                let is_new = missing.iter().any(|other| other.address() == node.address());
                let seat = if is_new { self.new_seat(target, node).await } else { self.seat(target, node).await };
                match seat {
                    Ok(Some((path, replica))) => {
                        seats.push(Seat { shard, node: node.clone(), path, replica, is_new });
                    }
                    Ok(None) => {}
                    Err(fault) => faults.push(fault),
                }
            }
        }
        let fetch = |shard: usize| self.task.target(self.job).shards[shard].internal_replication;
        for problem in conflicts(&seats, fetch) {
            faults.push(self.task("engine", &format!("{} cannot be made: {problem}", target.name)));
        }
        if faults.is_empty() {
            let shards = &self.task.target(self.job).shards;
            let (source, holders) = source;
            let mut of_source = Vec::new();
            for node in holders.iter().flatten().filter(|_| source.engine.is_replicated()) {
                match self.seat(source, node).await {
                    Ok(seat) => of_source.extend(seat),
                    Err(fault) => faults.push(fault),
                }
            }
            for seat in seats.iter().filter(|seat| seat.is_new) {
                let path = format!("{}/replicas", seat.path);
                // An account that may not look there has made no mistake by that.
                let Ok(Some(there)) = self.pool.client.zookeeper_children(&seat.node, &path).await else {
                    continue;
                };
                let silent = shards[seat.shard].replicas.len().saturating_sub(targets[seat.shard].len());
                if let Some(problem) = seat.strangers(&seats, &there, silent, &of_source) {
                    faults.push(self.world(&format!("{}: {} cannot be made: {problem}", seat.node, target.name)));
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Where the replica that a node has lives.
    async fn seat(&self, target: &TableDefinition, node: &Node) -> Result<Option<(String, String)>, Fault> {
        let state = self.pool.client.replica_state(node, &target.name).await;
        let state = state.map_err(|error| self.world(&error.to_string()))?;
        Ok(state.map(|state| (state.path, state.name)))
    }

    /// Where the replica that is to be made on a node would live; `None` where the database says.
    async fn new_seat(&self, target: &TableDefinition, node: &Node) -> Result<Option<(String, String)>, Fault> {
        let Some((path, replica)) = target.engine.replica_arguments() else { return Ok(None) };
        let world = |error: Error| self.world(&error.to_string());
        let database = self.pool.client.database_engine(node, &target.name.database).await.map_err(world)?;
        if database.as_deref() == Some("Replicated") {
            return Ok(None);
        }
        let context = self.pool.context(node).await.map_err(world)?;
        let expanded = |text: &str| {
            expand(&unquoted(text), &context.macros, target).map_err(|missing| {
                self.world(&format!(
                    "{node}: the server has no macro {{{missing}}}, which the engine of {} uses",
                    target.name
                ))
            })
        };
        let (path, replica) = (expanded(path)?, expanded(replica)?);
        if !path.starts_with('/') {
            return Err(self.task("engine", &format!("the path {path} of the Replicated table must start with /")));
        }
        Ok(Some((path, replica)))
    }

    /// Whether rows can travel as the task says; where it leaves that to us, what we would choose, in remarks.
    pub(super) async fn can_transfer(
        &self,
        sources: &Holders,
        targets: &Holders,
        (filtered, columns): (bool, &ColumnRoutes),
        remarks: &mut Vec<String>,
    ) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut found_ways: BTreeMap<Way, (String, usize)> = BTreeMap::new();
        for from in sources.iter().filter_map(|shard| shard.first()) {
            let found = join_all(targets.iter().map(|replicas| self.between(from, replicas, filtered, columns))).await;
            for answer in found {
                match answer {
                    Ok(None) => {}
                    Ok(Some((way, remark))) => found_ways.entry(way).or_insert((remark, 0)).1 += 1,
                    Err(problem) => {
                        let fault = self.world(&problem);
                        if !faults.contains(&fault) {
                            faults.push(fault);
                        }
                    }
                }
            }
        }
        // A line for each pair would be very many.
        remarks.extend(found_ways.into_values().map(|(remark, pairs)| match pairs {
            1 => remark,
            more => format!("{remark} (so, or likewise, between {more} pairs of nodes)"),
        }));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// A remark, or a fault, about the way to a shard's replicas: one that it works for is enough.
    async fn between(
        &self,
        from: &Node,
        replicas: &[Arc<Node>],
        filtered: bool,
        columns: &ColumnRoutes,
    ) -> Result<Option<(Way, String)>, String> {
        let text = |error: Error| error.to_string();
        let Some(first) = replicas.first() else { return Ok(None) };
        let Some(way) = self.job.transfer else {
            let choice = way_of(self.pool, self.job, (from, first), filtered, columns).await.map_err(text)?;
            let told = |since| (choice.way, format!("transfer: {} from {from} to {first}, since {since}", choice.way));
            return Ok(choice.since.map(told));
        };
        let mut against = None;
        for to in replicas {
            let found = match way {
                Way::Push if columns.against_push().is_some() => columns.against_push().map(str::to_owned),
                Way::Push => against_push(self.pool, from, to).await.map_err(text)?,
                Way::Pull => against_pull(self.pool, from, to).await.map_err(text)?,
                // Where parts cannot travel, that is found out with more than two nodes in view.
                Way::Relay | Way::Clone => None,
            };
            match found {
                None => return Ok(None),
                found => against = against.or(found),
            }
        }
        let of = against.unwrap_or_default();
        Err(format!("{way} does not work: {of}. Without <transfer> the worker looks for another way"))
    }

    /// Whether tables can be made on the targets.
    pub(super) async fn may_write(&self, targets: &Holders) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for node in targets.iter().flatten() {
            match self.pool.facts(node).await {
                Ok(facts) if facts.is_read_only() => {
                    faults.push(
                        self.world(&format!(
                            "{node}: user {} may only read, but tables are to be made there",
                            node.user
                        )),
                    );
                }
                Ok(_) => {}
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Where a replica lives, or is to live.
struct Seat {
    shard: usize,
    node: Arc<Node>,
    path: String,
    replica: String,
    is_new: bool,
}

impl Seat {
    /// What is wrong with the replicas that live at the path of a new one already. They may be those of nodes of the shard
    /// that do not answer, so many as there are of such, unless one of them is a replica of the source's table.
    fn strangers(
        &self,
        seats: &[Seat],
        there: &[String],
        silent: usize,
        of_source: &[(String, String)],
    ) -> Option<String> {
        let Self { path, replica, .. } = self;
        if there.contains(replica) {
            return Some(format!(
                "replica {replica} exists already at {path} in ZooKeeper. Is that the source table's path? Give <engine> a path \
                 of its own"
            ));
        }
        // A replica of the same shard that is there already says that the path is this table's.
        let at_home = seats.iter().any(|seat| !seat.is_new && seat.shard == self.shard && seat.path == *path);
        let is_sources = of_source.iter().any(|(at, named)| at == path && there.contains(named));
        (is_sources || (!at_home && there.len() > silent)).then(|| {
            format!(
                "at its path {path} in ZooKeeper live replicas of another table already ({}), which it would join. Is that the \
                 source table's path? Give <engine> a path of its own",
                there.join(", ")
            )
        })
    }
}

/// Which of the replicas cannot be what they are to be beside the others. Only such as are to be made are spoken of. `fetch`: whether
/// the replicas of a shard are to have their rows from each other.
fn conflicts(seats: &[Seat], fetch: impl Fn(usize) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, seat) in seats.iter().enumerate() {
        let first = seats[..at].iter().find(|other| other.shard == seat.shard).filter(|_| fetch(seat.shard));
        if let Some(first) = first.filter(|first| (first.is_new || seat.is_new) && first.path != seat.path) {
            problems.push(format!(
                "{} and {} are replicas of shard {}, and would have the paths {} and {} in ZooKeeper, so that none would fetch \
                 rows of the other: the macros of the path must be the same on all servers of a shard",
                first.node,
                seat.node,
                seat.shard + 1,
                first.path,
                seat.path
            ));
        }
        let others = seats[..at].iter().filter(|other| (other.is_new || seat.is_new) && other.path == seat.path);
        for other in others {
            if other.shard != seat.shard {
                problems.push(format!(
                    "shards {} and {} would have the same path {} in ZooKeeper, and be replicas of each other: put a macro that \
                     differs between shards into it, such as {{shard}}",
                    other.shard + 1,
                    seat.shard + 1,
                    seat.path
                ));
            } else if other.replica == seat.replica {
                problems.push(format!(
                    "{} and {} would both be replica {} at {} in ZooKeeper: use a macro that differs between them, such as \
                     {{replica}}",
                    other.node, seat.node, seat.replica, seat.path
                ));
            }
        }
    }
    problems.dedup();
    problems
}

fn unquoted(literal: &str) -> String {
    crate::sql::unquoted_elements(literal).ok().and_then(|texts| texts.into_iter().next()).unwrap_or_default()
}

/// A path with its macros in place. `Err`: the macro that the server lacks.
fn expand(text: &str, macros: &BTreeMap<String, String>, table: &TableDefinition) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}').map(|at| open + at) else { break };
        out.push_str(&rest[..open]);
        match &rest[open + 1..close] {
            "database" => out.push_str(&table.name.database),
            "table" => out.push_str(&table.name.table),
            name => out.push_str(macros.get(name).ok_or_else(|| name.to_owned())?),
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    #[test]
    fn macros_are_put_in_and_a_missing_one_is_named() {
        let engine = "ReplicatedMergeTree ORDER BY a";
        let table = TableDefinition::read(TableName::new("d", "t"), engine, "", Vec::new(), "").unwrap();
        let macros = BTreeMap::from([("shard".to_owned(), "7".to_owned())]);
        let expanded = |text| expand(text, &macros, &table);
        assert_eq!(expanded("/x/{shard}/{database}.{table}"), Ok("/x/7/d.t".to_owned()));
        assert_eq!(expanded("/x/{replica}"), Err("replica".to_owned()));
    }

    fn seat(shard: usize, path: &str, replica: &str, is_new: bool) -> Seat {
        let node = Arc::new(Node::new(format!("{shard}{replica}.example")));
        Seat { shard, node, path: path.into(), replica: replica.into(), is_new }
    }

    #[test]
    fn shards_that_would_be_replicas_of_each_other_are_refused() {
        let fine = [seat(0, "/t/1", "a", true), seat(0, "/t/1", "b", true), seat(1, "/t/2", "a", true)];
        assert_eq!(conflicts(&fine, |_| true), Vec::<String>::new());
        let shared = conflicts(&[seat(0, "/t", "a", false), seat(1, "/t", "b", true)], |_| true);
        assert!(shared[0].contains("shards 1 and 2 would have the same path /t"), "{shared:?}");
        let twice = conflicts(&[seat(0, "/t", "a", true), seat(0, "/t", "a", true)], |_| true);
        assert!(twice[0].contains("would both be replica a at /t"), "{twice:?}");
        // What is there is not ours to judge.
        assert_eq!(conflicts(&[seat(0, "/t", "a", false), seat(1, "/t", "b", false)], |_| true), Vec::<String>::new());
        // Replicas that never meet; where each is written to, they need not.
        let apart = [seat(0, "/t/1", "a", true), seat(0, "/t/2", "b", true)];
        let told = conflicts(&apart, |_| true);
        assert!(told[0].contains("replicas of shard 1") && told[0].contains("/t/1 and /t/2"), "{told:?}");
        assert_eq!(conflicts(&apart, |_| false), Vec::<String>::new());
    }

    #[test]
    fn a_new_replica_joins_only_its_own_table() {
        let there = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let new = [seat(0, "/t", "a", true)];
        assert_eq!(new[0].strangers(&new, &[], 0, &[]), None);
        let joins = new[0].strangers(&new, &there(&["z"]), 0, &[]).unwrap();
        assert!(joins.contains("live replicas of another table already (z)"), "{joins}");
        let taken = new[0].strangers(&new, &there(&["a"]), 0, &[]).unwrap();
        assert!(taken.contains("replica a exists already"), "{taken}");
        // Beside a live one of its shard there may be others that do not answer.
        let beside = [seat(0, "/t", "b", false), seat(0, "/t", "a", true)];
        assert_eq!(beside[1].strangers(&beside, &there(&["b", "dead"]), 0, &[]), None);
        // All others of its shard are dead: their replicas may be there, but not the source's.
        assert_eq!(new[0].strangers(&new, &there(&["dead"]), 1, &[]), None);
        let of_source = [("/t".to_owned(), "dead".to_owned())];
        assert!(new[0].strangers(&new, &there(&["dead"]), 1, &of_source).is_some());
        let of_another_shard = [seat(1, "/t", "b", false), seat(0, "/t", "a", true)];
        assert!(of_another_shard[1].strangers(&of_another_shard, &there(&["b"]), 0, &[]).is_some());
    }
}
