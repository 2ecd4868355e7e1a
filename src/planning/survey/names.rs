//! Names of columns that servers confuse with virtual columns or expressions.

use std::collections::BTreeSet;

use super::super::errors::Problem;
use super::{Holders, Surveyor};
use crate::sql::TableDefinition;

/// The first release that distinguishes columns from expressions with the same text.
const DISTINGUISHES_NAMES: (u32, u32) = (24, 3);
/// The first release in which tables of the MergeTree family cannot have columns with the names in [`RESERVED`].
const RESERVES: (u32, u32) = (22, 8);

/// Virtual columns of the MergeTree family that the copy needs to find partitions.
const NEEDED: &[&str] = &["_part", "_partition_id"];
/// Virtual columns that old servers confuse with a table's own columns.
const CONFUSED: &[&str] = &["_part_index", "_sample_factor"];
/// Names that newer servers reserve.
const RESERVED: &[&str] = &["_row_exists", "_block_number", "_block_offset"];

/// Returns why a column with this name cannot be copied between servers of these releases (the oldest of all and the newest of
/// the target), or `None` where it can.
fn against_name(name: &str, oldest: (u32, u32), newest_target: (u32, u32)) -> Option<&'static str> {
    if NEEDED.contains(&name) {
        return Some(
            "it hides the column of that name by which ClickHouse tells where a row lies, and which the copy needs",
        );
    }
    if newest_target >= RESERVES && RESERVED.contains(&name) {
        return Some("the target's version keeps that name for itself");
    }
    let is_expression = name.contains('(')
        || name.starts_with(['\'', '[', '-', '+', '.'])
        || name.starts_with(|c: char| c.is_ascii_digit())
        || ["null", "inf", "nan", "infinity"].contains(&name.to_ascii_lowercase().as_str());
    if oldest < DISTINGUISHES_NAMES && (is_expression || CONFUSED.contains(&name)) {
        return Some(
            "servers older than 24.3 take that name for an expression or a column of their own, and read other values",
        );
    }
    None
}

impl Surveyor<'_> {
    /// Checks that no column has a name under which a server would read or write something else.
    pub(super) async fn check_names(
        &self,
        tables: [&TableDefinition; 2],
        sources: &Holders,
        targets: &Holders,
    ) -> Result<(), Vec<Problem>> {
        let mut oldest = (u32::MAX, 0);
        let mut newest_target = (0, 0);
        for (is_target, nodes) in [(false, sources), (true, targets)] {
            for node in nodes.iter().flatten() {
                let facts = self.pool.facts(node).await.map_err(|error| vec![self.server_error(&error)])?;
                oldest = oldest.min(facts.release());
                newest_target = if is_target { newest_target.max(facts.release()) } else { newest_target };
            }
        }
        let mut faults: Vec<Problem> = Vec::new();
        let mut seen = BTreeSet::new();
        for table in tables {
            // The same column on both sides is reported once.
            for column in table.columns.iter().filter(|column| seen.insert(column.name.clone())) {
                if let Some(why) = against_name(&column.name, oldest, newest_target) {
                    let line = format!("column {} of {} cannot be copied: {why}. Rename it", column.name, table.name);
                    faults.push(self.servers(&line));
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_that_a_version_misreads_are_found() {
        let (old, new) = ((18, 16), (25, 8));
        for (name, fine_on_new, fine_on_old) in [
            ("id", true, true),
            ("_table", true, true),
            ("a b", true, true),
            ("x-1", true, true),
            ("n.x", true, true),
            ("_part", false, false),
            ("_partition_id", false, false),
            ("_row_exists", false, true),
            ("_sample_factor", true, false),
            ("2", true, false),
            ("-1", true, false),
            ("toUInt64(id)", true, false),
            ("'a'", true, false),
            ("NULL", true, false),
        ] {
            assert_eq!(against_name(name, new, new).is_none(), fine_on_new, "{name} on new servers");
            assert_eq!(against_name(name, old, old).is_none(), fine_on_old, "{name} on old servers");
        }
    }
}
