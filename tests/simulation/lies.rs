//! Servers that do not say what they hold, or do not keep what they got. No guard of the protocol but the account (I7) sees it: a task
//! over such servers may fail in any way, and is never finished with other rows than the source has.

use std::collections::BTreeMap;

use clickhouse_copier::client::PartSizes;
use clickhouse_copier::model::{Node, PartitionId, TableName};
use clickhouse_copier::sql::{Expression, Selection};

use crate::scene::{Scene, node, source, target};

/// What servers do without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The listing of a source does not show a partition.
    HiddenPartition,
    /// The second target shard is the server of the first one under another name.
    Double,
    /// A source returns fewer rows than a statement selects.
    FewerRows,
    /// A target loses a partition when the next one is put in place.
    Swallowed,
}

pub const LIES: [Lie; 4] = [Lie::HiddenPartition, Lie::Double, Lie::FewerRows, Lie::Swallowed];

impl Lie {
    /// The server that answers under a name.
    pub fn who(self, asked: &Node) -> Node {
        if self == Lie::Double && asked.host == "t2a" { node("t1a") } else { asked.clone() }
    }

    /// What a listing shows.
    pub fn listed(self, name: &TableName, mut parts: Vec<PartSizes>) -> Vec<PartSizes> {
        if self == Lie::HiddenPartition && *name == source() {
            parts.sort_by(|a, b| a.id.cmp(&b.id));
            parts.truncate(parts.len().saturating_sub(1));
        }
        parts
    }

    /// The rows that a statement really gets: not those with the id of the first row, where it asks for partitions.
    pub fn selected(self, scene: &Scene, mut rows: Selection) -> Selection {
        let lost = scene.rows.iter().flatten().next().map(|row| row[1].clone());
        if self == Lie::FewerRows
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

    /// The partition that is lost on a node when others are put in place there; `placed` remembers what was.
    pub fn swallowed(
        self,
        placed: &mut BTreeMap<String, PartitionId>,
        host: &str,
        into: &TableName,
        ids: &[PartitionId],
    ) -> Option<PartitionId> {
        if self != Lie::Swallowed || *into != target() {
            return None;
        }
        let before = ids.first().and_then(|id| placed.insert(host.to_owned(), id.clone()));
        before.filter(|id| !ids.contains(id))
    }
}
