//! Parts of tables, and the state that the replicas of a table share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::value::hash;
use crate::model::PartitionId;

/// The values of a table's stored columns, in their order, each as the text that `toString` returns.
pub type Row = Vec<String>;

/// A part, which never changes.
#[derive(Debug)]
pub(super) struct Part {
    pub(crate) number: u64,
    pub(crate) id: PartitionId,
    pub(crate) rows: Vec<Row>,
}

impl Part {
    /// Returns the block by which a Replicated table recognises a part: its content, and how it arrived (by INSERT or
    /// by ATTACH).
    fn block(&self, how: &str) -> String {
        format!("{how}-{}-{}-{}", self.id, self.rows.len(), self.content())
    }

    /// Returns a hash of its rows.
    pub(crate) fn content(&self) -> String {
        format!("{:016x}", hash(self.rows.iter().flat_map(|row| row.iter().map(String::as_str))))
    }
}

/// How rows arrive in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// By INSERT. `deduplicate`: whether repetitions are detected.
    Insert { deduplicate: bool },
    /// By ATTACH PARTITION, whose parts are always compared by content (docs/clickhouse-behaviour.md, T5).
    Attach,
    /// By REPLACE PARTITION or a merge.
    Replace,
}

#[derive(Debug, Default)]
struct Entry {
    removes: BTreeSet<u64>,
    adds: Vec<Arc<Part>>,
}

/// The log of a table: of a table that is not replicated, or of all replicas together. A replica's parts depend only
/// on the set of entries that it has executed, not on their order: an entry removes parts by number, even parts of
/// later entries.
#[derive(Debug, Default)]
pub(super) struct TableLog {
    log: Vec<Entry>,
    numbers: u64,
    blocks: BTreeSet<String>,
    /// Whether blocks are remembered at all.
    pub(crate) replicated: bool,
}

/// Two equal parts arrived at once.
#[derive(Debug)]
pub(super) struct NodeExists;

impl TableLog {
    pub(crate) fn entries(&self) -> usize {
        self.log.len()
    }

    /// Returns the parts of a replica that has executed these entries.
    pub(crate) fn parts(&self, done: &BTreeSet<usize>) -> Vec<Arc<Part>> {
        let entries = || done.iter().filter_map(|at| self.log.get(*at));
        let removed: BTreeSet<u64> = entries().flat_map(|entry| entry.removes.iter().copied()).collect();
        entries().flat_map(|entry| &entry.adds).filter(|part| !removed.contains(&part.number)).cloned().collect()
    }

    /// Writes an entry and returns its index; `None` if there was nothing to do. `removes`: whole partitions, with
    /// all parts that any replica has of them, and single parts.
    pub(crate) fn write(
        &mut self,
        partitions: &[PartitionId],
        numbers: &[u64],
        adds: Vec<(PartitionId, Vec<Row>)>,
        arrival: Arrival,
    ) -> Result<Option<usize>, NodeExists> {
        // For a partition, all parts that ever existed: a replica that lags may still have parts that were merged
        // since.
        let added = self.log.iter().flat_map(|entry| &entry.adds);
        let gone = added.filter(|part| partitions.contains(&part.id) || numbers.contains(&part.number));
        let mut entry = Entry { removes: gone.map(|part| part.number).collect(), adds: Vec::new() };
        let how = match arrival {
            Arrival::Insert { deduplicate: true } => Some("insert"),
            Arrival::Attach => Some("attach"),
            Arrival::Insert { .. } | Arrival::Replace => None,
        };
        let mut blocks = BTreeSet::new();
        for (id, rows) in adds {
            let part = Part { number: self.numbers, id, rows };
            if let Some(block) = how.filter(|_| self.replicated).map(|how| part.block(how)) {
                if self.blocks.contains(&block) {
                    continue;
                }
                if !blocks.insert(block) {
                    return Err(NodeExists);
                }
            }
            self.numbers += 1;
            entry.adds.push(Arc::new(part));
        }
        // DROP and REPLACE of a partition forget its blocks.
        let is_in = |block: &String, id: &PartitionId| {
            ["insert", "attach"].iter().any(|how| block.starts_with(&format!("{how}-{id}-")))
        };
        self.blocks.retain(|block| !partitions.iter().any(|id| is_in(block, id)));
        self.blocks.extend(blocks);
        if entry.removes.is_empty() && entry.adds.is_empty() {
            return Ok(None);
        }
        self.log.push(entry);
        Ok(Some(self.log.len() - 1))
    }
}

/// Groups rows by partition, one part each.
pub(super) fn grouped(rows: Vec<(PartitionId, Row)>) -> Vec<(PartitionId, Vec<Row>)> {
    let mut parts: BTreeMap<PartitionId, Vec<Row>> = BTreeMap::new();
    for (id, row) in rows {
        parts.entry(id).or_default().push(row);
    }
    parts.into_iter().collect()
}
