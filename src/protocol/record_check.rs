//! Checks that a record fits the plan of its table. Records come from the coordinator, and a record that does not fit
//! is refused before anything acts on it. A list that is too short would leave out rows, and sums that overflow would
//! be meaningless.

use thiserror::Error;

use super::record::{BatchRecord, BatchState, Copied, PieceRecord, PieceState};
use crate::model::{AttemptNo, PublicationNo};

/// The lengths that a batch's record lists must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of partitions of the batch.
    pub(crate) partitions: usize,
    /// Number of target shards of the table.
    pub(crate) shards: usize,
}

/// Why a record does not fit its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Misfit {
    /// A list has another length than the plan requires.
    #[error("it lists {found} {what}, and the plan has {expected}")]
    Length {
        /// What is listed.
        what: &'static str,
        /// Length in the record.
        found: usize,
        /// Length in the plan.
        expected: usize,
    },
    /// The numbers contradict each other or are larger than any table.
    #[error("its numbers of rows contradict each other")]
    Rows,
    /// A time or a duration is outside the range of clocks.
    #[error("its times are later than any clock tells")]
    Time,
    /// The record reports work of an attempt that was never given out.
    #[error("no attempt was made at what it says is done")]
    NoAttempt,
    /// The account lacks a node that got rows.
    #[error("its account leaves out a node that has its rows")]
    Account,
}

impl PieceRecord {
    /// Checks the record of a piece of a batch.
    ///
    /// # Errors
    /// Returns the first contradiction.
    pub(crate) fn check(&self, extent: Extent) -> Result<(), Misfit> {
        match &self.state {
            PieceState::Copied(_) if self.attempt == AttemptNo(0) => Err(Misfit::NoAttempt),
            PieceState::Copied(copied) => check_copied(copied, extent),
            PieceState::Pending | PieceState::Running { .. } | PieceState::Failed { .. } => Ok(()),
        }
    }
}

fn check_copied(copied: &Copied, extent: Extent) -> Result<(), Misfit> {
    length("partitions", copied.selected.len(), extent.partitions)?;
    length("target shards", copied.staged.len(), extent.shards)?;
    if !copied.checksums.is_empty() {
        length("checksums", copied.checksums.len(), extent.partitions)?;
    }
    times([copied.millis, copied.began, copied.verifying, copied.waiting])?;
    match (sum(&copied.selected), sum(&copied.staged)) {
        (Some(selected), Some(staged)) if selected == staged => Ok(()),
        _ => Err(Misfit::Rows),
    }
}

impl BatchRecord {
    /// Checks the record of a batch.
    ///
    /// # Errors
    /// Returns the first contradiction.
    pub(crate) fn check(&self, extent: Extent) -> Result<(), Misfit> {
        length("target shards", self.nodes.len(), extent.shards)?;
        let BatchState::Done(published) = &self.state else { return Ok(()) };
        if self.publication == PublicationNo(0) {
            return Err(Misfit::NoAttempt);
        }
        length("partitions", published.partitions.len(), extent.partitions)?;
        times([published.millis, published.began, published.verifying, published.gathering])?;
        let selected: Vec<u64> = published.partitions.iter().map(|result| result.selected).collect();
        let target: Vec<u64> = published.partitions.iter().map(|result| result.target).collect();
        if sum(&selected).is_none() || sum(&target).is_none() {
            return Err(Misfit::Rows);
        }
        let Some(placed) = &published.placed else { return Ok(()) };
        if placed.added.values().any(|rows| rows.len() != placed.ids.len() || sum(rows).is_none()) {
            return Err(Misfit::Rows);
        }
        match self.nodes.iter().flatten().all(|node| placed.added.contains_key(node)) {
            true => Ok(()),
            false => Err(Misfit::Account),
        }
    }
}

fn length(what: &'static str, found: usize, expected: usize) -> Result<(), Misfit> {
    if found == expected { Ok(()) } else { Err(Misfit::Length { what, found, expected }) }
}

/// Checks times and durations in milliseconds: at most [`LATEST`].
fn times(all: [u64; 4]) -> Result<(), Misfit> {
    if all.iter().all(|time| *time <= LATEST) { Ok(()) } else { Err(Misfit::Time) }
}

/// Returns the sum if it is a number of rows that a table can have: at most [`MOST_ROWS`].
fn sum(rows: &[u64]) -> Option<u64> {
    rows.iter().try_fold(0u64, |all, rows| all.checked_add(*rows)).filter(|rows| *rows <= MOST_ROWS)
}

/// More rows than any table holds. Sums of such numbers over all pieces and batches of a task stay below 2^64.
const MOST_ROWS: u64 = 1 << 44;
/// The year 10,889, in milliseconds since 1970. Sums of times over all pieces stay below 2^64.
const LATEST: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::PartitionId;
    use crate::protocol::account::Placed;
    use crate::protocol::{PartitionResult, Published};

    const EXTENT: Extent = Extent { partitions: 2, shards: 2 };

    fn piece() -> PieceRecord {
        let copied = Copied { selected: vec![3, 4], staged: vec![2, 5], checksums: vec![7, 8], ..Copied::default() };
        PieceRecord { attempt: AttemptNo(1), state: PieceState::Copied(copied), ..PieceRecord::default() }
    }

    fn batch() -> BatchRecord {
        let ids = vec![PartitionId("1".into()), PartitionId("2".into())];
        let added = BTreeMap::from([("a".to_owned(), vec![1, 1]), ("b".to_owned(), vec![2, 3])]);
        let placed = Some(Placed { ids, added, before: BTreeMap::new() });
        let partitions = vec![PartitionResult { selected: 3, target: 3, checksum: None }; 2];
        let done = Published { partitions, placed, ..Published::default() };
        let nodes = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
        BatchRecord { publication: PublicationNo(1), state: BatchState::Done(done), ..BatchRecord::new(nodes) }
    }

    #[test]
    fn records_that_workers_write_are_accepted() {
        assert_eq!(piece().check(EXTENT), Ok(()));
        assert_eq!(PieceRecord::default().check(EXTENT), Ok(()));
        assert_eq!(batch().check(EXTENT), Ok(()));
        assert_eq!(BatchRecord::new(vec![Vec::new(); 2]).check(EXTENT), Ok(()));
    }

    /// Returns copies of a value, each with one element replaced.
    fn mutations(value: &Value, put: &Value) -> Vec<Value> {
        let mut all = vec![put.clone()];
        match value {
            Value::Array(values) => {
                for (index, inner) in values.iter().enumerate() {
                    let with = |inner: Value| {
                        let mut values = values.clone();
                        values[index] = inner;
                        Value::Array(values)
                    };
                    all.extend(mutations(inner, put).into_iter().map(with));
                }
                let mut longer = values.clone();
                longer.push(put.clone());
                all.extend([Value::Array(longer), Value::Array(values[..values.len().saturating_sub(1)].to_vec())]);
            }
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let mut without = fields.clone();
                    without.remove(name);
                    all.push(Value::Object(without));
                    all.extend(mutations(inner, put).into_iter().map(|inner| {
                        let mut fields = fields.clone();
                        fields.insert(name.clone(), inner);
                        Value::Object(fields)
                    }));
                }
            }
            _ => {}
        }
        all
    }

    /// A changed record is either refused, or its lists have the plan's lengths and its sums are valid numbers of
    /// rows.
    #[test]
    fn a_record_that_does_not_fit_its_plan_is_refused() {
        let (mut refused, mut taken) = (0, 0);
        for put in [json!(0), json!(u64::MAX), json!(-1), json!([]), json!([1, 2]), json!(""), json!({}), json!(null)] {
            for changed in mutations(&serde_json::to_value(piece()).unwrap(), &put) {
                let Ok(record) = serde_json::from_value::<PieceRecord>(changed) else { continue };
                if record.check(EXTENT).is_err() {
                    refused += 1;
                } else if let Some(copied) = record.copied() {
                    taken += 1;
                    assert_eq!((copied.selected.len(), copied.staged.len()), (2, 2));
                    assert_eq!(copied.selected.iter().sum::<u64>(), copied.staged.iter().sum::<u64>());
                }
            }
            for changed in mutations(&serde_json::to_value(batch()).unwrap(), &put) {
                let Ok(record) = serde_json::from_value::<BatchRecord>(changed) else { continue };
                match (record.check(EXTENT), record.state) {
                    (Err(_), _) => refused += 1,
                    (Ok(()), BatchState::Done(done)) => {
                        taken += 1;
                        assert_eq!((record.nodes.len(), done.partitions.len()), (2, 2));
                    }
                    (Ok(()), _) => {}
                }
            }
        }
        assert!(refused > 40 && taken > 20, "{refused} refused, {taken} taken");
    }
}
