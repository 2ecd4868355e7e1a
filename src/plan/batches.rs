//! Groups partitions into batches and cuts batches into pieces.

use std::ops::Range;

use super::{BatchPlan, Mark, PartitionPlan, PiecePlan, SourceShare};
use crate::model::{PartitionId, PartitionValue};
use crate::sql::Slice;

/// The rows of a partition on one source shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardSize {
    /// The number of rows.
    pub(crate) rows: u64,
    /// The estimated bytes.
    pub(crate) bytes: u64,
}

/// A partition and its rows on each source shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The partition's value.
    pub(crate) value: PartitionValue,
    /// The name of the partition as a person writes it.
    pub(crate) name: String,
    /// The id of the partition, if it can be computed from the value.
    pub(crate) id: Option<PartitionId>,
    /// The size of its share on each source shard.
    pub(crate) shards: Vec<ShardSize>,
    /// See [`PartitionPlan::mark`].
    pub(crate) mark: Option<Mark>,
    /// See [`PartitionPlan::renews`].
    pub(crate) renews: bool,
}

/// The task's settings for the sizes of batches and pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchSizing {
    /// Uncompressed bytes of a batch of small partitions, and of a piece of a large one.
    pub(crate) batch_bytes: u64,
    /// The smallest number of pieces of a partition; 1 leaves it to the sizes.
    pub(crate) splits: u64,
}

/// A batch of one partition that is to be cut into slices on one source shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Index of the batch.
    pub(crate) batch: usize,
    /// Index of the source shard.
    pub(crate) shard: usize,
    /// Number of slices.
    pub(crate) count: u64,
}

/// The largest number of partitions in a batch: every record of a piece has a number for each of them.
pub(crate) const MOST_PARTITIONS: usize = 250;

/// The smallest number of rows in a slice by size: a server reads this many at once even if fewer are requested.
const GRANULE: u64 = 8192;

impl Found {
    fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rows).sum()
    }
}

/// Returns the usual bytes of a piece if the task gives none: an eighth of the table, so that the last piece takes
/// little time. Limits keep a piece worth its overhead, and keep the loss small when an attempt fails.
pub(crate) fn usual_batch_bytes(found: &[Found]) -> u64 {
    let all: u64 = found.iter().map(Found::bytes).sum();
    (all / 8).clamp(128 << 20, 1 << 30)
}

/// Groups partitions, in their order, into batches: consecutive small ones together up to `batch_bytes`, a large one
/// alone. If a task wants several pieces for each partition, each partition is alone.
pub(crate) fn batches(found: &[Found], sizing: BatchSizing) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, partition) in found.iter().enumerate() {
        let together = match batches.last() {
            // Partitions that are only dropped do not share a batch with partitions that are copied.
            Some(last) => {
                (found[last.start].rows() > 0) == (partition.rows() > 0)
                    && sizing.splits <= 1
                    && last.len() < MOST_PARTITIONS
                    && bytes + partition.bytes() <= sizing.batch_bytes
            }
            None => false,
        };
        match batches.last_mut() {
            Some(last) if together => {
                last.end = at + 1;
                bytes += partition.bytes();
            }
            _ => {
                batches.push(at..at + 1);
                bytes = partition.bytes();
            }
        }
    }
    batches
}

/// Returns the number of slices of each source shard's share of a batch, if it is more than one.
pub(crate) fn cuts(found: &[Found], batches: &[Range<usize>], sizing: BatchSizing) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (batch, range) in batches.iter().enumerate() {
        let [partition] = &found[range.clone()] else { continue };
        let holders = partition.shards.iter().filter(|shard| shard.rows > 0).count().max(1) as u64;
        for (shard, &ShardSize { rows, bytes }) in partition.shards.iter().enumerate() {
            // Rounds to the nearest number: slices of one and a half times the size are better than two of three
            // quarters.
            let size = sizing.batch_bytes.max(1);
            let by_size = (bytes.saturating_add(size / 2) / size).min(rows.div_ceil(GRANULE));
            let count = by_size.max(sizing.splits.div_ceil(holders)).min(rows.max(1));
            if count > 1 {
                cuts.push(Cut { batch, shard, count });
            }
        }
    }
    cuts
}

/// Combines partitions, batches and slices. `slices` returns the slices of a batch on a source shard; an empty list
/// if it is not cut.
///
/// A batch that fits into one piece becomes one piece, whatever the number of source shards. The overhead of a piece,
/// a staging table on each target node and a part for each partition in it, then arises once.
pub(crate) fn assemble(
    found: &[Found],
    batches: &[Range<usize>],
    sizing: BatchSizing,
    mut slices: impl FnMut(usize, usize) -> Vec<Slice>,
) -> (Vec<PartitionPlan>, Vec<BatchPlan>, Vec<PiecePlan>) {
    let partitions = found
        .iter()
        .map(|partition| PartitionPlan {
            value: partition.value.clone(),
            name: partition.name.clone(),
            id: partition.id.clone(),
            rows: partition.rows(),
            bytes: partition.bytes(),
            mark: partition.mark.clone(),
            renews: partition.renews,
        })
        .collect();
    let mut pieces = Vec::new();
    let mut plans = Vec::new();
    for (batch, range) in batches.iter().enumerate() {
        let first = pieces.len();
        let shards = found.first().map_or(0, |partition| partition.shards.len());
        let rows = |shard: usize| found[range.clone()].iter().map(|partition| partition.shards[shard].rows).sum();
        let shares = (0..shards).map(|shard| SourceShare { shard, rows: rows(shard) }).filter(|share| share.rows > 0);
        let (shares, cut): (Vec<SourceShare>, Vec<Vec<Slice>>) =
            shares.map(|share| (share, slices(batch, share.shard))).unzip();
        let bytes: u64 = found[range.clone()].iter().map(Found::bytes).sum();
        if sizing.splits <= 1 && bytes <= sizing.batch_bytes && cut.iter().all(Vec::is_empty) {
            pieces.extend((!shares.is_empty()).then_some(PiecePlan { batch, sources: shares, slice: None }));
        } else {
            for (share, slices) in shares.into_iter().zip(cut) {
                let sources = vec![SourceShare { rows: share.rows / slices.len().max(1) as u64, ..share }];
                let piece = |slice| PiecePlan { batch, sources: sources.clone(), slice };
                match slices.is_empty() {
                    true => pieces.push(piece(None)),
                    false => pieces.extend(slices.into_iter().map(|slice| piece(Some(slice)))),
                }
            }
        }
        plans.push(BatchPlan { partitions: range.clone(), pieces: first..pieces.len() });
    }
    (partitions, plans, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sizes: &[(u64, u64)]) -> Vec<Found> {
        sizes
            .iter()
            .enumerate()
            .map(|(i, (a, b))| Found {
                value: PartitionValue(vec![i.to_string()]),
                name: i.to_string(),
                id: None,
                shards: [*a, *b].map(|size| ShardSize { rows: size, bytes: size }).to_vec(),
                mark: None,
                renews: false,
            })
            .collect()
    }

    const SIZING: BatchSizing = BatchSizing { batch_bytes: 100, splits: 1 };

    #[test]
    fn small_partitions_share_a_batch_and_a_large_one_has_its_own() {
        let found = found(&[(10, 20), (30, 40), (500, 0), (1, 1), (1, 0)]);
        let batches = batches(&found, SIZING);
        assert_eq!(batches, [0..2, 2..3, 3..5]);
        let (_, plans, pieces) = assemble(&found, &batches, SIZING, |_, _| Vec::new());
        let shares =
            |piece: &PiecePlan| piece.sources.iter().map(|source| (source.shard, source.rows)).collect::<Vec<_>>();
        assert_eq!(
            pieces.iter().map(|piece| (piece.batch, shares(piece))).collect::<Vec<_>>(),
            [(0, vec![(0, 40), (1, 60)]), (1, vec![(0, 500)]), (2, vec![(0, 2), (1, 1)])]
        );
        assert_eq!(plans[2].pieces, 2..3);
        // If several pieces are wanted, each source shard gets pieces of its own.
        let (_, plans, _) = assemble(&found, &batches, BatchSizing { splits: 2, ..SIZING }, |_, _| Vec::new());
        assert_eq!(plans[0].pieces, 0..2);
    }

    #[test]
    fn a_large_partition_is_cut_by_size_into_at_most_one_slice_for_each_8192_rows() {
        let cut = |rows| {
            let found = found(&[(rows, 0)]);
            let batches = batches(&found, SIZING);
            cuts(&found, &batches, SIZING).first().map_or(1, |cut| cut.count)
        };
        assert_eq!((cut(500), cut(8193), cut(81920)), (1, 2, 10));
    }

    #[test]
    fn a_table_is_cut_into_about_eight_pieces_unless_they_are_too_small_or_too_large() {
        let usual = |bytes| usual_batch_bytes(&found(&[(bytes, bytes)]));
        assert_eq!([1, 1 << 30, 1 << 40].map(usual), [128 << 20, 256 << 20, 1 << 30]);
        // A share that is a little larger than a piece stays one piece.
        let half = 10_000_000;
        let found = found(&[(half, half + half / 4)]);
        let sizing = BatchSizing { batch_bytes: half, splits: 1 };
        assert_eq!(cuts(&found, &batches(&found, sizing), sizing), []);
    }

    #[test]
    fn number_of_splits_is_reached_unless_a_partition_has_fewer_rows() {
        let found = found(&[(10, 10), (3, 0), (1, 0)]);
        let sizing = BatchSizing { splits: 5, ..SIZING };
        let batches = batches(&found, sizing);
        assert_eq!(batches.len(), 3);
        assert_eq!(
            cuts(&found, &batches, sizing),
            [
                Cut { batch: 0, shard: 0, count: 3 },
                Cut { batch: 0, shard: 1, count: 3 },
                Cut { batch: 1, shard: 0, count: 3 },
            ]
        );
    }

    #[test]
    fn many_tiny_partitions_make_few_pieces() {
        let found = found(&vec![(1, 1); 3000]);
        let batches = batches(&found, BatchSizing { batch_bytes: 1 << 30, splits: 1 });
        assert_eq!(batches.len(), 12);
    }
}
