//! Counts of rows that really read the rows, for the account (I7).

use std::collections::BTreeMap;

use super::pool::NodePool;
use super::settings::{wanted_for_counting_source, wanted_for_counting_target};
use crate::client::{Error, PartList, Settings};
use crate::model::{Node, PartitionId, TableName};
use crate::plan::Reading;
use crate::protocol::account::Blocks;
use crate::sql::{Expression, Selection, quote};
use crate::task::Task;

/// The setting that lets servers answer a count from metadata.
const FROM_METADATA: &str = "optimize_trivial_count_query";

/// Counts rows of a source on a node by reading them. `columns` are columns that the account may read.
pub(crate) async fn source_rows(
    pool: &NodePool,
    task: &Task,
    node: &Node,
    rows: Selection,
    columns: &[String],
) -> Result<u64, Error> {
    let rows = rows.for_counting();
    let settings = pool.settings(node, &wanted_for_counting_source(task)).await?;
    let facts = pool.facts(node).await?;
    let answers_from_metadata = facts.settings.get(FROM_METADATA).is_some_and(|value| value != "0");
    let is_off = settings.iter().any(|(name, _)| name == FROM_METADATA);
    let rows = if answers_from_metadata && !is_off { reading(rows, columns) } else { rows };
    // Without a key the answer is one number for all rows.
    let tallies = pool.client.tally(node, &rows, &[], &settings).await?;
    Ok(tallies.iter().map(|tally| tally.rows).sum())
}

/// Adds a condition that makes the server read a column but selects the same rows. For accounts that may change no settings.
fn reading(mut rows: Selection, columns: &[String]) -> Selection {
    let Some(column) = columns.first() else { return rows };
    let reads = format!("NOT ignore({})", quote::ident(column));
    let text = match &rows.relation.condition {
        Some(condition) => format!("({condition}) AND {reads}"),
        None => reads,
    };
    // If the text does not parse, the server counts in its own way.
    if let Ok(condition) = Expression::parse(&text) {
        rows.relation.condition = Some(condition);
    }
    rows
}

/// Returns the columns of the source table itself that an account may read, for [`source_rows`].
pub(crate) fn readable<'a>(reading: &'a Reading, columns: &'a [String]) -> &'a [String] {
    if reading.columns.is_some() { &reading.raw } else { columns }
}

/// Counts rows of a target node by partition, by reading them.
pub(crate) async fn target_rows(
    pool: &NodePool,
    task: &Task,
    node: &Node,
    table: &TableName,
    only: Option<&[PartitionId]>,
) -> Result<BTreeMap<PartitionId, u64>, Error> {
    let settings: Settings = pool.settings(node, &wanted_for_counting_target(task)).await?;
    pool.client.count_by_partition(node, table, only, &settings).await
}

/// Returns the blocks of a table's parts. A table with a UUID is identified by it, since its definition may change while its rows stay.
pub(crate) fn blocks_of(list: &PartList) -> Blocks {
    let uuid = list.table.split_once('@').map(|(uuid, _)| uuid).filter(|uuid| !uuid.is_empty());
    Blocks::of(uuid.unwrap_or(&list.table), list.parts.iter().map(|part| (&part.id, part.name.as_str(), part.rows)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Relation;

    #[test]
    fn an_account_that_may_change_no_settings_counts_by_reading_a_column() {
        let mut rows = Selection::all(Relation::plain(TableName::new("d", "t")));
        let columns = ["a`b".to_owned()];
        let read = |rows| reading(rows, &columns).relation.condition.map(|condition| condition.to_string());
        assert_eq!(read(rows.clone()).as_deref(), Some("NOT ignore(`a\\`b`)"));
        rows.relation.condition = Expression::parse("x OR y").ok();
        assert_eq!(read(rows).as_deref(), Some("(x OR y) AND NOT ignore(`a\\`b`)"));
    }
}
