//! Whether the accounts and servers of a task allow what it needs: paths in ZooKeeper, macros, who may write, who speaks to
//! whom. Part of the survey; creates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::cluster::Error;
use crate::model::{Node, Way};
use crate::sql::TableDefinition;

use super::{Fault, Holders, Surveyor};

impl Surveyor<'_> {
    /// Macros in the path of a Replicated table must be known where it is made, and nobody else may live at that path.
    pub(super) async fn check_paths(&self, target: &TableDefinition, nodes: &[Arc<Node>]) -> Result<(), Vec<Fault>> {
        let Some((path, replica)) = target.engine.replica_arguments() else { return Ok(()) };
        let mut faults = Vec::new();
        for node in nodes {
            let facts = self.fleet.facts(node).await.map_err(|error| vec![self.world(&error.to_string())])?;
            let expanded = |text: &str| expand(text.trim_matches('\''), &facts.macros, target);
            match (expanded(path), expanded(replica)) {
                (Ok(path), Ok(replica)) => {
                    let Some(path) = path else { continue };
                    if !path.starts_with('/') {
                        faults.push(
                            self.task("engine", &format!("the path {path} of the Replicated table must start with /")),
                        );
                        continue;
                    }
                    let taken = self.fleet.warehouse.zookeeper_children(node, &format!("{path}/replicas")).await;
                    if let (Ok(Some(there)), Some(replica)) = (taken, replica)
                        && there.contains(&replica)
                    {
                        faults.push(self.world(&format!(
                            "{node}: {} cannot be made: replica {replica} exists already at {path} in ZooKeeper. Is that the \
                             source table's path? Give <engine> a path of its own",
                            target.name
                        )));
                    }
                }
                (Err(missing), _) | (_, Err(missing)) => {
                    faults.push(self.world(&format!(
                        "{node}: the server has no macro {{{missing}}}, which the engine of {} uses",
                        target.name
                    )));
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Whether rows can travel as the task says; where it leaves that to us, what we would choose, in remarks.
    pub(super) async fn can_transfer(
        &self,
        sources: &Holders,
        targets: &Holders,
        filtered: bool,
        remarks: &mut Vec<String>,
    ) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut found_ways: BTreeMap<Way, (String, usize)> = BTreeMap::new();
        for from in sources.iter().filter_map(|shard| shard.first()) {
            let found = join_all(targets.iter().map(|replicas| self.between(from, replicas, filtered))).await;
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
    ) -> Result<Option<(Way, String)>, String> {
        let text = |error: Error| error.to_string();
        let Some(first) = replicas.first() else { return Ok(None) };
        let Some(way) = self.job.transfer else {
            let choice = self.fleet.way(from, first, None, filtered).await.map_err(text)?;
            let told = |since| (choice.way, format!("transfer: {} from {from} to {first}, since {since}", choice.way));
            return Ok(choice.since.map(told));
        };
        let mut against = None;
        for to in replicas {
            let found = match way {
                Way::Push => self.fleet.against_push(from, to).await.map_err(text)?,
                Way::Pull => self.fleet.against_pull(from, to).await.map_err(text)?,
                Way::Relay => None,
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
            match self.fleet.facts(node).await {
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

/// A path with its macros in place; `None` where one of them is known to the server alone. `Err`: the macro it lacks.
fn expand(text: &str, macros: &BTreeMap<String, String>, table: &TableDefinition) -> Result<Option<String>, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}').map(|at| open + at) else { break };
        out.push_str(&rest[..open]);
        match &rest[open + 1..close] {
            "uuid" => return Ok(None),
            "database" => out.push_str(&table.name.database),
            "table" => out.push_str(&table.name.table),
            name => out.push_str(macros.get(name).ok_or_else(|| name.to_owned())?),
        }
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    Ok(Some(out))
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
        assert_eq!(expanded("/x/{shard}/{database}.{table}"), Ok(Some("/x/7/d.t".to_owned())));
        assert_eq!(expanded("/x/{uuid}"), Ok(None));
        assert_eq!(expanded("/x/{replica}"), Err("replica".to_owned()));
    }
}
