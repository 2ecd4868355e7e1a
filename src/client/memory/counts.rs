//! Selected rows: their number, their keys and their expressions.

use std::collections::BTreeMap;

use super::super::{Kind, Tally};
use super::expression::parse;
use super::table::{Chooser, Named, over};
use super::value::type_of;
use super::world::World;
use crate::model::{PartitionId, PartitionValue, TableName};
use crate::sql::{KeyElement, Selection};

/// Returns the selected rows of a table, with the names of their columns.
pub(super) fn selected(world: &World, node: &str, selection: &Selection) -> Result<Vec<Named>, Kind> {
    let table = world.table(node, &selection.relation.table)?;
    let chooser = Chooser::new(selection)?;
    chooser.types(table)?;
    let mut rows = Vec::new();
    for row in world.rows(table) {
        rows.extend(chooser.choose(table.named(&row)?)?);
    }
    Ok(rows)
}

/// Returns the values of expressions over a row, as text.
pub(super) fn texts(expressions: impl IntoIterator<Item = String>, row: &Named) -> Result<Vec<String>, Kind> {
    expressions.into_iter().map(|text| Ok(over(&parse(&text)?, row)?.text())).collect()
}

/// Returns the number of rows for each value of a key.
pub(super) fn tally(world: &World, node: &str, rows: &Selection, key: &[KeyElement]) -> Result<Vec<Tally>, Kind> {
    let mut found: BTreeMap<Vec<String>, Tally> = BTreeMap::new();
    for row in selected(world, node, rows)? {
        let value = texts(key.iter().map(KeyElement::value), &row)?;
        if let Some(tally) = found.get_mut(&value) {
            tally.rows += 1;
            continue;
        }
        let shown = texts(key.iter().map(KeyElement::shown), &row)?;
        let id = partition_id(key, &row)?;
        found.insert(value.clone(), Tally { value: PartitionValue(value), shown, id, rows: 1 });
    }
    Ok(found.into_values().collect())
}

/// Returns the id of the partition of a row, or `None` where the key does not tell it.
fn partition_id(key: &[KeyElement], row: &Named) -> Result<Option<PartitionId>, Kind> {
    let ids: Option<Vec<String>> = key.iter().map(KeyElement::id).collect();
    Ok(match ids {
        Some(ids) if ids.is_empty() => Some(PartitionId("all".to_owned())),
        Some(ids) => Some(PartitionId(texts(ids, row)?.join("-"))),
        None => None,
    })
}

/// Returns the number of rows of each partition of a table, or of some of them.
pub(super) fn rows_by_partition(
    world: &World,
    node: &str,
    name: &TableName,
    only: Option<&[PartitionId]>,
) -> Result<BTreeMap<PartitionId, u64>, Kind> {
    let mut found = BTreeMap::new();
    for part in world.parts(world.table(node, name)?) {
        if only.is_none_or(|only| only.contains(&part.id)) && !part.rows.is_empty() {
            *found.entry(part.id.clone()).or_default() += part.rows.len() as u64;
        }
    }
    Ok(found)
}

/// Returns the number of rows of each value of a key in each partition of a table.
pub(super) fn values_by_partition(
    world: &World,
    node: &str,
    name: &TableName,
    key: &[KeyElement],
) -> Result<Vec<(PartitionId, PartitionValue, u64)>, Kind> {
    let table = world.table(node, name)?;
    let mut found: BTreeMap<(PartitionId, PartitionValue), u64> = BTreeMap::new();
    for part in world.parts(table) {
        for row in &part.rows {
            let value = texts(key.iter().map(KeyElement::value), &table.named(row)?)?;
            *found.entry((part.id.clone(), PartitionValue(value))).or_default() += 1;
        }
    }
    Ok(found.into_iter().map(|((id, value), rows)| (id, value, rows)).collect())
}

/// Returns the keys of every `every`th row, in the order of the keys.
pub(super) fn sample_keys(
    world: &World,
    node: &str,
    rows: &Selection,
    columns: &[KeyElement],
    every: u64,
) -> Result<Vec<Vec<String>>, Kind> {
    let mut keyed = Vec::new();
    for row in selected(world, node, rows)? {
        let key = columns.iter().map(|column| over(&parse(&column.expression)?, &row));
        let key = key.collect::<Result<Vec<_>, Kind>>()?;
        keyed.push((key, texts(columns.iter().map(KeyElement::value), &row)?));
    }
    keyed.sort();
    Ok(keyed.into_iter().step_by(every.max(1) as usize).map(|(_, texts)| texts).collect())
}

/// Returns the types of expressions over the selected rows, or without any table.
pub(super) fn types(
    world: &World,
    node: &str,
    rows: Option<&Selection>,
    expressions: &[String],
) -> Result<Vec<String>, Kind> {
    let types = match rows {
        Some(rows) => Chooser::new(rows)?.types(world.table(node, &rows.relation.table)?)?,
        None => BTreeMap::new(),
    };
    expressions.iter().map(|text| type_of(&parse(text)?, &|name| types.get(name).cloned())).collect()
}

/// Evaluates expressions over the first selected rows.
pub(super) fn evaluate(
    world: &World,
    node: &str,
    selection: &Selection,
    expressions: &[String],
    rows: u64,
) -> Result<(), Kind> {
    for row in selected(world, node, selection)?.iter().take(rows as usize) {
        texts(expressions.iter().cloned(), row)?;
    }
    Ok(())
}
