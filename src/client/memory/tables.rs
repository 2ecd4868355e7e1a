//! Definitions of tables, and what ZooKeeper holds of them.

use std::collections::BTreeMap;

use super::super::{Kind, ReplicaState, codes};
use super::world::World;
use crate::model::TableName;
use crate::sql::TableDefinition;

/// Returns the definition of a table, or `None` when there is no such table or database.
pub(super) fn definition(world: &World, node: &str, name: &TableName) -> Result<Option<TableDefinition>, Kind> {
    match world.table(node, name) {
        Ok(table) => Ok(Some(table.definition.clone())),
        Err(Kind::Server { code: codes::UNKNOWN_TABLE | codes::UNKNOWN_DATABASE, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Returns the names of the tables of a database that begin with a prefix.
pub(super) fn names_with_prefix(
    world: &mut World,
    node: &str,
    database: &str,
    prefix: &str,
) -> Result<Vec<String>, Kind> {
    let tables = world.server(node)?.databases.get(database);
    let names = tables.into_iter().flat_map(BTreeMap::keys);
    Ok(names.filter(|name| name.starts_with(prefix)).cloned().collect())
}

/// Returns the state of the replica of a table, or `None` when the table is not replicated.
pub(super) fn replica_state(world: &World, node: &str, name: &TableName) -> Result<Option<ReplicaState>, Kind> {
    let replica = world.table(node, name).ok().and_then(|table| table.replica.clone());
    Ok(replica.map(|replica| ReplicaState { path: replica.path, name: replica.name, readonly: false, queue: 0 }))
}

/// Returns the nodes under a path of ZooKeeper, which is the path of a table's replicas or of a replica's parts.
pub(super) fn zookeeper_children(world: &World, path: &str) -> Option<Vec<String>> {
    if let Some(replica) = path.strip_suffix("/parts") {
        return world.parts_at(replica).map(|numbers| numbers.iter().map(u64::to_string).collect());
    }
    let table = path.strip_suffix("/replicas").and_then(|path| world.paths.get(path));
    table.map(|(_, names)| names.iter().cloned().collect())
}
