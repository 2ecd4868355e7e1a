//! The rows that a publication put on each node, in the form that is recorded for the account.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::PartitionId;
use crate::protocol::account::Placed;
use crate::protocol::{PartitionFacts, Step};

/// The rows of each partition of a node: those of this task that were added, and those of others that stayed.
pub(super) type NodeRows = BTreeMap<PartitionId, (u64, Option<u64>)>;

/// Returns the number of rows that were added to a partition, and the number of rows of others that stayed. Returns `None` where there
/// was nothing to do: the rows of such a partition are not part of the task's account.
pub(super) fn rows(step: &Step, facts: PartitionFacts) -> Option<(u64, Option<u64>)> {
    match step {
        Step::Leave => Some((0, Some(facts.present))),
        Step::Drop => Some((0, Some(0))),
        Step::Nothing if facts.staged == 0 => None,
        _ => Some((facts.staged, facts.before.filter(|rows| *rows > 0))),
    }
}

/// Returns the record for all nodes.
pub(super) fn of_nodes<'a>(nodes: impl Iterator<Item = (String, &'a NodeRows)>) -> Placed {
    let nodes: Vec<(String, &NodeRows)> = nodes.collect();
    let ids: BTreeSet<&PartitionId> = nodes.iter().flat_map(|(_, rows)| rows.keys()).collect();
    let mut placed = Placed { ids: ids.into_iter().cloned().collect(), ..Placed::default() };
    for (node, rows) in nodes {
        let added = placed.ids.iter().map(|id| rows.get(id).map_or(0, |(added, _)| *added)).collect();
        let stayed = rows.iter().filter_map(|(id, (_, before))| Some((id.clone(), (*before)?)));
        let stayed: BTreeMap<PartitionId, u64> = stayed.collect();
        if !stayed.is_empty() {
            placed.before.insert(node.clone(), stayed);
        }
        placed.added.insert(node, added);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(staged: u64, present: u64, before: Option<u64>) -> PartitionFacts {
        PartitionFacts { staged, present, same: None, before, retried: false, merges_rows: false, expires: false }
    }

    #[test]
    fn a_publication_records_only_its_own_rows() {
        assert_eq!(rows(&Step::Replace, facts(5, 3, None)), Some((5, None)), "the earlier rows are replaced");
        assert_eq!(rows(&Step::Append, facts(5, 3, Some(3))), Some((5, Some(3))));
        assert_eq!(rows(&Step::Nothing, facts(5, 8, Some(3))), Some((5, Some(3))), "an earlier attempt added them");
        assert_eq!(rows(&Step::Nothing, facts(0, 9, None)), None, "rows of others, and none for this node");
        assert_eq!(rows(&Step::Leave, facts(5, 3, None)), Some((0, Some(3))));
        assert_eq!(rows(&Step::Drop, facts(0, 3, None)), Some((0, Some(0))));
    }

    #[test]
    fn the_record_has_each_node_and_each_partition() {
        let id = |text: &str| PartitionId(text.into());
        let first = NodeRows::from([(id("1"), (5, None)), (id("2"), (4, Some(2)))]);
        let second = NodeRows::from([(id("3"), (0, Some(0)))]);
        let placed = of_nodes([("a".to_owned(), &first), ("b".to_owned(), &second)].into_iter());
        let rows_on = |node| -> Vec<(String, u64)> {
            placed.on(node).into_iter().map(|(id, expected)| (id.0.clone(), expected.rows())).collect()
        };
        assert_eq!(rows_on("a"), [("1".to_owned(), 5), ("2".to_owned(), 6)]);
        assert_eq!(rows_on("b"), [("3".to_owned(), 0)]);
    }
}
