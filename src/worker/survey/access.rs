//! Whether the accounts and servers of a task allow what it needs: paths in ZooKeeper, macros, who may write, who speaks to
//! whom. Part of the survey; creates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::cluster::Error;
use crate::model::Node;
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

    /// Whether the source may write, and speaks to the targets.
    pub(super) async fn can_push(&self, sources: &Holders, targets: &Holders) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for shard in sources {
            let Some(node) = shard.first() else { continue };
            match self.fleet.facts(node).await {
                Ok(facts) if facts.is_read_only() => faults.push(self.world(&format!(
                    "{node}: user {} may only read, but the source server sends the rows (INSERT INTO FUNCTION remote)",
                    node.user
                ))),
                Ok(_) => {
                    let reached = join_all(targets.iter().map(|replicas| self.any_reached(node, replicas))).await;
                    faults.extend(
                        reached.into_iter().filter_map(Result::err).map(|error| self.world(&error.to_string())),
                    );
                }
                Err(error) => faults.push(self.world(&error.to_string())),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    async fn any_reached(&self, from: &Node, replicas: &[Arc<Node>]) -> Result<(), Error> {
        let mut first = None;
        for to in replicas {
            match self.fleet.warehouse.reaches(from, to).await {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(()), Err)
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
