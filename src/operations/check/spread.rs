//! The distribution of rows over the target's shards, estimated from a sample.

use crate::plan::Sharding;

/// The number of sampled rows of a source shard: the first ones that its server reads.
pub(crate) const SAMPLED_ROWS: u64 = 100_000;
/// The time limit of a sample on the server, in seconds. Without a sample nothing is reported.
pub(crate) const SAMPLE_SECONDS: u32 = 20;
/// The fewest sampled rows of a fair share. Smaller shares are not judged.
const MIN_FAIR_SHARE: u64 = 100;

/// The sampled rows of each shard of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spread {
    /// How the rows are distributed.
    pub(crate) sharding: Sharding,
    /// The number of sampled rows.
    pub(crate) rows: u64,
    /// The number of sampled rows of each target shard.
    pub(crate) shards: Vec<u64>,
}

impl Spread {
    /// Adds up the rows of the slots of each shard.
    pub(crate) fn of(sharding: Sharding, slots: &[(u64, u64)]) -> Self {
        let of_shard = |range: &std::ops::Range<u64>| {
            slots.iter().filter(|(slot, _)| range.contains(slot)).map(|(_, rows)| *rows).sum::<u64>()
        };
        let shards = sharding.slots.iter().map(of_shard).collect();
        Self { sharding, rows: slots.iter().map(|(_, rows)| *rows).sum(), shards }
    }

    /// Returns the shards that would get less than half of a fair share, by their weights.
    pub(crate) fn shards_below_half(&self) -> Vec<usize> {
        let is_small = |(shard, rows): (usize, &u64)| {
            let slots = &self.sharding.slots[shard];
            let total = u128::from(self.sharding.total.max(1));
            let fair = u128::from(self.rows) * u128::from(slots.end - slots.start) / total;
            (fair >= u128::from(MIN_FAIR_SHARE) && u128::from(*rows) * 2 < fair).then_some(shard)
        };
        self.shards.iter().enumerate().filter_map(is_small).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SlotWidth;

    #[test]
    fn a_shard_with_less_than_half_of_its_share_is_found() {
        let sharding =
            Sharding { key: "k".into(), width: SlotWidth(64), total: 4, slots: vec![0..1, 1..2, 2..4, 4..4] };
        let small = |slots: &[(u64, u64)]| Spread::of(sharding.clone(), slots).shards_below_half();
        assert_eq!(small(&[(0, 1000), (1, 900), (2, 1000), (3, 1100)]), Vec::<usize>::new());
        assert_eq!(small(&[(0, 2000), (1, 2000)]), [2], "the third shard has two slots, and no row");
        assert_eq!(small(&[(0, 400), (1, 3000), (2, 600)]), [0, 2]);
        assert_eq!(small(&[(0, 9)]), Vec::<usize>::new(), "too few rows to say");
        let spread = Spread::of(sharding.clone(), &[(0, 5), (3, 7)]);
        assert_eq!(spread, Spread { sharding, rows: 12, shards: vec![5, 0, 7, 0] });
    }
}
