//! The check that accounts and servers allow the task: paths in ZooKeeper, macros, rights to write, and connections between servers.
//! Part of the survey; creates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::client::Error;
use crate::model::{Node, Way};
use crate::nodes::column_routes::ColumnRoutes;
use crate::nodes::routes::{against_pull, against_push, way_of};
use crate::plan::Remark;
use crate::sql::TableDefinition;

impl Surveyor<'_> {
    /// Checks the paths of the target's replicas in ZooKeeper. Replicas of a table belong together by their path alone, so the server
    /// must know the macros in it, and each shard needs its own path. No other table may use the path: the new table would become a
    /// replica of that table (of the source, with the source's path), fetch its rows, and pass on changes to it.
    pub(super) async fn check_paths(
        &self,
        target: &TableDefinition,
        targets: &Holders,
        missing: &[Arc<Node>],
        source: &TableDefinition,
        sources: &Holders,
    ) -> Result<(), Vec<Problem>> {
        if !target.engine.is_replicated() || missing.is_empty() {
            return Ok(());
        }
        if target.engine.has_open_identity() {
            return Err(vec![self.servers(&format!(
                "{} is missing on {}, and its path in ZooKeeper on the other nodes has {{uuid}}, which ClickHouse alone fills \
                 in: make the table there yourself",
                target.name, missing[0]
            ))]);
        }
        let mut faults = Vec::new();
        let mut replica_paths: Vec<ReplicaPath> = Vec::new();
        for (shard, nodes) in targets.iter().enumerate() {
            for node in nodes {
                let is_new = missing.iter().any(|other| other.address() == node.address());
                let replica_path = if is_new {
                    self.new_replica_path(target, node).await
                } else {
                    self.replica_path(target, node).await
                };
                match replica_path {
                    Ok(Some((path, replica))) => {
                        replica_paths.push(ReplicaPath { shard, node: node.clone(), path, replica, is_new });
                    }
                    Ok(None) => {}
                    Err(fault) => faults.push(fault),
                }
            }
        }
        let fetch = |shard: usize| self.task.target(self.job).shards[shard].internal_replication;
        for problem in conflicts(&replica_paths, fetch) {
            faults.push(self.task("engine", &format!("{} cannot be made: {problem}", target.name)));
        }
        if faults.is_empty() {
            let shards = &self.task.target(self.job).shards;
            let mut of_source = Vec::new();
            for node in sources.iter().flatten().filter(|_| source.engine.is_replicated()) {
                match self.replica_path(source, node).await {
                    Ok(replica_path) => of_source.extend(replica_path),
                    Err(fault) => faults.push(fault),
                }
            }
            for replica_path in replica_paths.iter().filter(|replica_path| replica_path.is_new) {
                let path = format!("{}/replicas", replica_path.path);
                // It is no fault of the task if the account may not read that path.
                let Ok(Some(existing)) = self.pool.client.zookeeper_children(&replica_path.node, &path).await else {
                    continue;
                };
                let silent =
                    shards[replica_path.shard].replicas.len().saturating_sub(targets[replica_path.shard].len());
                if let Some(problem) = replica_path.strangers(&replica_paths, &existing, silent, &of_source) {
                    faults.push(
                        self.servers(&format!("{} cannot be made: {problem}", target.name)).on_node(&replica_path.node),
                    );
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Returns the path and name of the replica on a node, if its table is replicated.
    async fn replica_path(&self, target: &TableDefinition, node: &Node) -> Result<Option<(String, String)>, Problem> {
        let state = self.pool.client.replica_state(node, &target.name).await;
        let state = state.map_err(|error| self.server_error(&error))?;
        Ok(state.map(|state| (state.path, state.name)))
    }

    /// Returns the path and name of the replica to create on a node, or `None` where the database sets them.
    async fn new_replica_path(
        &self,
        target: &TableDefinition,
        node: &Node,
    ) -> Result<Option<(String, String)>, Problem> {
        let Some((path, replica)) = target.engine.replica_arguments() else { return Ok(None) };
        let world = |error: Error| self.server_error(&error);
        let database = self.pool.client.database_engine(node, &target.name.database).await.map_err(world)?;
        if database.as_deref() == Some("Replicated") {
            return Ok(None);
        }
        let context = self.pool.context(node).await.map_err(world)?;
        let expanded = |text: &str| {
            expand(&unquoted(text), &context.macros, target).map_err(|missing| {
                let name = &target.name;
                let cause = format!("the server has no macro {{{missing}}}, which the engine of {name} uses");
                self.servers(&cause).on_node(node)
            })
        };
        let (path, replica) = (expanded(path)?, expanded(replica)?);
        if !path.starts_with('/') {
            return Err(self.task("engine", &format!("the path {path} of the Replicated table must start with /")));
        }
        Ok(Some((path, replica)))
    }

    /// Checks that the transfer that the task sets works. Where the task sets none, adds remarks about the chosen routes.
    pub(super) async fn can_transfer(
        &self,
        sources: &Holders,
        targets: &Holders,
        filtered: bool,
        columns: &ColumnRoutes,
        remarks: &mut Vec<Remark>,
    ) -> Result<(), Vec<Problem>> {
        let mut faults = Vec::new();
        let mut found_ways: BTreeMap<Way, (String, usize)> = BTreeMap::new();
        for from in sources.iter().filter_map(|shard| shard.first()) {
            let found = join_all(targets.iter().map(|replicas| self.between(from, replicas, filtered, columns))).await;
            for answer in found {
                match answer {
                    Ok(None) => {}
                    Ok(Some((way, remark))) => found_ways.entry(way).or_insert((remark, 0)).1 += 1,
                    Err(fault) => {
                        if !faults.contains(&fault) {
                            faults.push(fault);
                        }
                    }
                }
            }
        }
        // One line for each pair would be too many lines.
        remarks.extend(found_ways.into_values().map(|(remark, pairs)| match pairs {
            1 => Remark::on_transfer(remark),
            more => Remark::on_transfer(format!("{remark} (so, or likewise, between {more} pairs of nodes)")),
        }));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Returns the chosen transfer to a shard's replicas with a remark. It is enough if the transfer works for one of them.
    async fn between(
        &self,
        from: &Node,
        replicas: &[Arc<Node>],
        filtered: bool,
        columns: &ColumnRoutes,
    ) -> Result<Option<(Way, String)>, Problem> {
        let world = |error: Error| self.server_error(&error);
        let Some(first) = replicas.first() else { return Ok(None) };
        let Some(way) = self.job.transfer else {
            let route = way_of(self.pool, self.job, from, first, filtered, columns).await.map_err(world)?;
            let remark = |reason| (route.way, format!("{} from {from} to {first}, since {reason}", route.way));
            return Ok(route.reason.map(remark));
        };
        let mut against = None;
        for to in replicas {
            let found = match way {
                Way::Push if columns.against_push().is_some() => columns.against_push().map(str::to_owned),
                Way::Push => against_push(self.pool, from, to).await.map_err(world)?,
                Way::Pull => against_pull(self.pool, from, to).await.map_err(world)?,
                // Another check decides whether parts can be cloned, since it must know all nodes.
                Way::Relay | Way::Clone => None,
            };
            match found {
                None => return Ok(None),
                found => against = against.or(found),
            }
        }
        let reason = against.unwrap_or_default();
        Err(self
            .servers(&format!("{way} does not work: {reason}. Without <transfer> the worker looks for another way")))
    }

    /// Checks that tables can be created on the target nodes.
    pub(super) async fn may_write(&self, targets: &Holders) -> Result<(), Vec<Problem>> {
        let mut faults = Vec::new();
        for node in targets.iter().flatten() {
            match self.pool.facts(node).await {
                Ok(facts) if facts.is_read_only() => {
                    let cause = format!("user {} may only read, but tables are to be made there", node.user);
                    faults.push(self.servers(&cause).on_node(node));
                }
                Ok(_) => {}
                Err(error) => faults.push(self.server_error(&error)),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// The path of an existing or planned replica in ZooKeeper.
struct ReplicaPath {
    shard: usize,
    node: Arc<Node>,
    path: String,
    replica: String,
    is_new: bool,
}

impl ReplicaPath {
    /// Returns the problem with replicas that already exist at the path of a new one. They may belong to nodes of the shard that do not
    /// answer, up to the number `silent` of such nodes, unless one of them is a replica of the source's table.
    fn strangers(
        &self,
        replica_paths: &[ReplicaPath],
        existing: &[String],
        silent: usize,
        of_source: &[(String, String)],
    ) -> Option<String> {
        let Self { path, replica, .. } = self;
        if existing.contains(replica) {
            return Some(format!(
                "replica {replica} exists already at {path} in ZooKeeper. Is that the source table's path? Give <engine> a path \
                 of its own"
            ));
        }
        // If a replica of the same shard exists at the path, the path belongs to this table.
        let at_home = replica_paths
            .iter()
            .any(|replica_path| !replica_path.is_new && replica_path.shard == self.shard && replica_path.path == *path);
        let is_sources = of_source.iter().any(|(at, named)| at == path && existing.contains(named));
        (is_sources || (!at_home && existing.len() > silent)).then(|| {
            format!(
                "at its path {path} in ZooKeeper live replicas of another table already ({}), which it would join. Is that the \
                 source table's path? Give <engine> a path of its own",
                existing.join(", ")
            )
        })
    }
}

/// Returns the problems of planned replicas together with the others. `fetch` tells whether the replicas of a shard fetch rows from each
/// other.
fn conflicts(replica_paths: &[ReplicaPath], fetch: impl Fn(usize) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, replica_path) in replica_paths.iter().enumerate() {
        let first = replica_paths[..at]
            .iter()
            .find(|other| other.shard == replica_path.shard)
            .filter(|_| fetch(replica_path.shard));
        if let Some(first) =
            first.filter(|first| (first.is_new || replica_path.is_new) && first.path != replica_path.path)
        {
            problems.push(format!(
                "{} and {} are replicas of shard {}, and would have the paths {} and {} in ZooKeeper, so that none would fetch \
                 rows of the other: the macros of the path must be the same on all servers of a shard",
                first.node,
                replica_path.node,
                replica_path.shard + 1,
                first.path,
                replica_path.path
            ));
        }
        let others = replica_paths[..at]
            .iter()
            .filter(|other| (other.is_new || replica_path.is_new) && other.path == replica_path.path);
        for other in others {
            if other.shard != replica_path.shard {
                problems.push(format!(
                    "shards {} and {} would have the same path {} in ZooKeeper, and be replicas of each other: put a macro that \
                     differs between shards into it, such as {{shard}}",
                    other.shard + 1,
                    replica_path.shard + 1,
                    replica_path.path
                ));
            } else if other.replica == replica_path.replica {
                problems.push(format!(
                    "{} and {} would both be replica {} at {} in ZooKeeper: use a macro that differs between them, such as \
                     {{replica}}",
                    other.node, replica_path.node, replica_path.replica, replica_path.path
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

/// Returns a path with its macros replaced. The error is the macro that the server lacks.
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
    fn macros_are_replaced_and_a_missing_macro_is_named() {
        let engine = "ReplicatedMergeTree ORDER BY a";
        let table = TableDefinition::read(TableName::new("d", "t"), engine, "", Vec::new(), "").unwrap();
        let macros = BTreeMap::from([("shard".to_owned(), "7".to_owned())]);
        let expanded = |text| expand(text, &macros, &table);
        assert_eq!(expanded("/x/{shard}/{database}.{table}"), Ok("/x/7/d.t".to_owned()));
        assert_eq!(expanded("/x/{replica}"), Err("replica".to_owned()));
    }

    fn replica_path(shard: usize, path: &str, replica: &str, is_new: bool) -> ReplicaPath {
        let node = Arc::new(Node::new(format!("{shard}{replica}.example")));
        ReplicaPath { shard, node, path: path.into(), replica: replica.into(), is_new }
    }

    #[test]
    fn shards_that_would_be_replicas_of_each_other_are_refused() {
        let fine = [
            replica_path(0, "/t/1", "a", true),
            replica_path(0, "/t/1", "b", true),
            replica_path(1, "/t/2", "a", true),
        ];
        assert_eq!(conflicts(&fine, |_| true), Vec::<String>::new());
        let shared = conflicts(&[replica_path(0, "/t", "a", false), replica_path(1, "/t", "b", true)], |_| true);
        assert!(shared[0].contains("shards 1 and 2 would have the same path /t"), "{shared:?}");
        let twice = conflicts(&[replica_path(0, "/t", "a", true), replica_path(0, "/t", "a", true)], |_| true);
        assert!(twice[0].contains("would both be replica a at /t"), "{twice:?}");
        // Existing replicas are not checked.
        assert_eq!(
            conflicts(&[replica_path(0, "/t", "a", false), replica_path(1, "/t", "b", false)], |_| true),
            Vec::<String>::new()
        );
        // Independent replicas are a problem only where they must fetch from each other.
        let apart = [replica_path(0, "/t/1", "a", true), replica_path(0, "/t/2", "b", true)];
        let problems = conflicts(&apart, |_| true);
        assert!(problems[0].contains("replicas of shard 1") && problems[0].contains("/t/1 and /t/2"), "{problems:?}");
        assert_eq!(conflicts(&apart, |_| false), Vec::<String>::new());
    }

    #[test]
    fn a_new_replica_is_refused_at_the_path_of_another_table() {
        let existing = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let new = [replica_path(0, "/t", "a", true)];
        assert_eq!(new[0].strangers(&new, &[], 0, &[]), None);
        let joins = new[0].strangers(&new, &existing(&["z"]), 0, &[]).unwrap();
        assert!(joins.contains("live replicas of another table already (z)"), "{joins}");
        let taken = new[0].strangers(&new, &existing(&["a"]), 0, &[]).unwrap();
        assert!(taken.contains("replica a exists already"), "{taken}");
        // Next to a live replica of the shard there may be replicas of nodes that do not answer.
        let beside = [replica_path(0, "/t", "b", false), replica_path(0, "/t", "a", true)];
        assert_eq!(beside[1].strangers(&beside, &existing(&["b", "dead"]), 0, &[]), None);
        // All other nodes of the shard are dead. Their replicas may exist at the path, but not those of the source.
        assert_eq!(new[0].strangers(&new, &existing(&["dead"]), 1, &[]), None);
        let of_source = [("/t".to_owned(), "dead".to_owned())];
        assert!(new[0].strangers(&new, &existing(&["dead"]), 1, &of_source).is_some());
        let of_another_shard = [replica_path(1, "/t", "b", false), replica_path(0, "/t", "a", true)];
        assert!(of_another_shard[1].strangers(&of_another_shard, &existing(&["b"]), 0, &[]).is_some());
    }
}
