//! Hashes and checksums of rows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Digest, Kind, codes};
use super::counts::{selected, texts};
use super::expression::parse;
use super::refused::refused;
use super::table::over;
use super::value::{Value, hash};
use super::world::World;
use crate::model::{PartitionId, PartitionValue, TableName};
use crate::sql::{Column, KeyElement, MOST_SAMPLED, Selection};

/// Returns the hash of each row of a table, or of one partition of it.
fn row_hashes(
    world: &World,
    node: &str,
    name: &TableName,
    id: Option<&PartitionId>,
    columns: &[Column],
) -> Result<Vec<u64>, Kind> {
    let table = world.table(node, name)?;
    let mut hashes = Vec::new();
    for part in world.parts(table).iter().filter(|part| id.is_none_or(|id| &part.id == id)) {
        for row in &part.rows {
            let named = table.named(row)?;
            let inserted = columns.iter().filter(|column| column.default_kind.is_inserted());
            let texts: Option<Vec<String>> = inserted.map(|column| named.get(&column.name).map(Value::text)).collect();
            let texts = texts.ok_or_else(|| refused(codes::UNKNOWN_IDENTIFIER, "Unknown identifier"))?;
            hashes.push(hash(texts.iter().map(String::as_str)));
        }
    }
    Ok(hashes)
}

/// Returns the number of rows and the checksum of a table, or of one partition of it.
pub(super) fn of_table(
    world: &World,
    node: &str,
    name: &TableName,
    id: Option<&PartitionId>,
    columns: &[Column],
) -> Result<(u64, u64), Kind> {
    let hashes = row_hashes(world, node, name, id, columns)?;
    let sum = hashes.iter().fold(0, |sum: u64, hash| sum.wrapping_add(*hash));
    Ok((hashes.len() as u64, sum))
}

/// Returns how many different rows of a sample a partition of a table holds.
pub(super) fn sampled_rows(
    world: &World,
    node: &str,
    name: &TableName,
    sample: &TableName,
    id: &PartitionId,
    columns: &[Column],
) -> Result<u64, Kind> {
    let hashes = |name| row_hashes(world, node, name, Some(id), columns);
    let (mut wanted, held) = (hashes(sample)?, hashes(name)?);
    wanted.sort_unstable();
    wanted.truncate(MOST_SAMPLED);
    let wanted: BTreeSet<u64> = wanted.into_iter().collect();
    Ok(held.into_iter().filter(|hash| wanted.contains(hash)).collect::<BTreeSet<_>>().len() as u64)
}

/// Returns the number of rows and the sum of a hash for each value of a key.
pub(super) fn digest(
    world: &World,
    node: &str,
    rows: &Selection,
    key: &[KeyElement],
    hash: &str,
) -> Result<Vec<Digest>, Kind> {
    let hash = parse(hash)?;
    let mut found: BTreeMap<Vec<String>, Digest> = BTreeMap::new();
    for row in selected(world, node, rows)? {
        let value = texts(key.iter().map(KeyElement::value), &row)?;
        let new = Digest { value: PartitionValue(value.clone()), rows: 0, sum: 0 };
        let entry = found.entry(value).or_insert(new);
        let number = over(&hash, &row)?.text();
        let number: u64 =
            number.parse().map_err(|_| refused(codes::ILLEGAL_TYPE_OF_ARGUMENT, "the hash is no number"))?;
        entry.rows += 1;
        entry.sum = entry.sum.wrapping_add(number);
    }
    Ok(found.into_values().collect())
}
