//! Partitions of tables, and their parts.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::{Kind, PartList, PartName, PartSizes};
use super::parts::Row;
use super::world::World;
use crate::model::{PartitionId, TableName};
use crate::sql::Column;

/// Returns how many parts of a table do not have each of the columns with its type.
pub(super) fn parts_lacking(world: &World, node: &str, name: &TableName, columns: &[Column]) -> u64 {
    let Ok(table) = world.table(node, name) else { return 0 };
    let has = |wanted: &Column| {
        table.definition.column(&wanted.name).is_some_and(|column| column.type_name == wanted.type_name)
    };
    // No statement of the double adds columns, so all parts have the columns of the table.
    if columns.iter().all(has) { 0 } else { world.parts(table).len() as u64 }
}

/// Returns the rows and bytes of each partition of a table.
pub(super) fn sizes(world: &World, node: &str, name: &TableName) -> Result<Vec<PartSizes>, Kind> {
    let Ok(table) = world.table(node, name) else { return Ok(Vec::new()) };
    let mut sizes: BTreeMap<PartitionId, PartSizes> = BTreeMap::new();
    for part in world.parts(table) {
        let Some(first) = part.rows.first() else { continue };
        let (id, partition) = (part.id.clone(), table.partition_name(first)?);
        let new = PartSizes { id, name: partition, rows: 0, bytes: 0, exact: true, patched: false };
        let entry = sizes.entry(part.id.clone()).or_insert(new);
        entry.rows += part.rows.len() as u64;
        entry.bytes += part.rows.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
    }
    Ok(sizes.into_values().collect())
}

/// Returns the active parts of a table one by one.
pub(super) fn list(world: &World, node: &str, name: &TableName) -> PartList {
    let Ok(table) = world.table(node, name) else { return PartList::default() };
    let parts = world.parts(table).into_iter().map(|part| PartName {
        id: part.id.clone(),
        name: format!("{}_{number}_{number}_0", part.id, number = part.number),
        rows: part.rows.len() as u64,
        hash: part.content(),
    });
    PartList { table: name.to_string(), parts: parts.collect() }
}

/// Returns how many displaced parts of the partitions are still on disk.
pub(super) fn displaced(world: &mut World, node: &str, name: &TableName, ids: &[PartitionId]) -> u64 {
    let now = Instant::now();
    let Ok(table) = world.table_mut(node, name) else { return 0 };
    table.displaced.retain(|(_, leaves)| *leaves > now);
    table.displaced.iter().filter(|(part, _)| ids.contains(&part.id)).count() as u64
}

/// Returns the rows of a partition of the source table with these columns only, in the form that the target table stores.
pub(super) fn rows_for(
    world: &World,
    node: &str,
    into: &TableName,
    from: &TableName,
    columns: &[String],
    id: &PartitionId,
) -> Result<Vec<Row>, Kind> {
    let (target, source) = (world.table(node, into)?, world.table(node, from)?);
    let mut rows = Vec::new();
    for part in world.parts(source).iter().filter(|part| part.id == *id) {
        for row in &part.rows {
            let mut named = source.named(row)?;
            named.retain(|name, _| columns.contains(name));
            rows.push(target.row(named)?);
        }
    }
    Ok(rows)
}
