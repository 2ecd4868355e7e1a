//! Servers that give wrong answers without an error, or lose rows. Only the account (I7) detects this: a task on such servers may fail in
//! any way, but it never finishes with other rows than the source has.

use std::collections::BTreeMap;

use clickhouse_copier::client::PartSizes;
use clickhouse_copier::model::{Node, PartitionId, TableName};
use clickhouse_copier::sql::{Expression, Selection};

use crate::scene::{Scene, node, source, target};

/// A wrong answer of servers, which comes without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongAnswer {
    /// The listing of a source does not show a partition.
    HiddenPartition,
    /// The second target shard is the server of the first one under another name.
    SameServerTwice,
    /// A source returns fewer rows than a statement selects.
    FewerRows,
    /// A target loses a partition when the next one is put in place.
    LostPartition,
}

pub const WRONG_ANSWERS: [WrongAnswer; 4] =
    [WrongAnswer::HiddenPartition, WrongAnswer::SameServerTwice, WrongAnswer::FewerRows, WrongAnswer::LostPartition];

impl WrongAnswer {
    /// Returns the server that answers under this name.
    pub fn server_named(self, asked: &Node) -> Node {
        if self == WrongAnswer::SameServerTwice && asked.host == "t2a" { node("t1a") } else { asked.clone() }
    }

    /// Returns the parts that a listing shows.
    pub fn listed(self, name: &TableName, mut parts: Vec<PartSizes>) -> Vec<PartSizes> {
        if self == WrongAnswer::HiddenPartition && *name == source() {
            parts.sort_by(|a, b| a.id.cmp(&b.id));
            parts.truncate(parts.len().saturating_sub(1));
        }
        parts
    }

    /// Returns the rows that a statement really reads: without the id of the first row if it reads partitions.
    pub fn selected(self, scene: &Scene, mut rows: Selection) -> Selection {
        let lost = scene.rows.iter().flatten().next().map(|row| row[1].clone());
        if self == WrongAnswer::FewerRows
            && rows.relation.table == source()
            && rows.partitions.is_some()
            && let Some(lost) = lost
        {
            let condition = match &rows.relation.condition {
                Some(condition) => format!("({condition}) AND id != {lost}"),
                None => format!("id != {lost}"),
            };
            rows.relation.condition = Some(Expression::parse(&condition).expect("it is an expression"));
        }
        rows
    }

    /// Returns the partition that a node loses when the next one is published there. `placed` keeps the last one of each node.
    pub fn lost_partition(
        self,
        placed: &mut BTreeMap<String, PartitionId>,
        host: &str,
        into: &TableName,
        ids: &[PartitionId],
    ) -> Option<PartitionId> {
        if self != WrongAnswer::LostPartition || *into != target() {
            return None;
        }
        let before = ids.first().and_then(|id| placed.insert(host.to_owned(), id.clone()));
        before.filter(|id| !ids.contains(id))
    }
}
