//! The distribution of rows over the target's shards, estimated from a sample.

use crate::plan::Sharding;

/// The number of sampled rows of a source shard: the first ones that its server reads.
pub const SAMPLED_ROWS: u64 = 100_000;
/// The time limit of a sample on the server, in seconds. Without a sample nothing is reported.
pub const SAMPLE_SECONDS: u32 = 20;
/// The fewest sampled rows of a fair share. Smaller shares are not judged.
const MIN_FAIR_SHARE: u64 = 100;

/// The sampled rows of each shard of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// The number of sampled rows.
    pub rows: u64,
    /// The number of sampled rows of each target shard.
    pub shards: Vec<u64>,
}

impl Spread {
    /// Adds up the rows of the slots of each shard.
    pub fn of(sharding: &Sharding, slots: &[(u64, u64)]) -> Self {
        let of_shard = |range: &std::ops::Range<u64>| {
            slots.iter().filter(|(slot, _)| range.contains(slot)).map(|(_, rows)| *rows).sum::<u64>()
        };
        let shards: Vec<u64> = sharding.slots.iter().map(of_shard).collect();
        Self { rows: slots.iter().map(|(_, rows)| *rows).sum(), shards }
    }

    /// Returns the shards that would get less than half of a fair share, by their weights.
    pub fn thin(&self, sharding: &Sharding) -> Vec<usize> {
        let is_thin = |(shard, rows): (usize, &u64)| {
            let slots = &sharding.slots[shard];
            let fair = u128::from(self.rows) * u128::from(slots.end - slots.start) / u128::from(sharding.total.max(1));
            (fair >= u128::from(MIN_FAIR_SHARE) && u128::from(*rows) * 2 < fair).then_some(shard)
        };
        self.shards.iter().enumerate().filter_map(is_thin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::SlotWidth;

    #[test]
    fn a_shard_below_half_of_its_share_is_thin() {
        let sharding =
            Sharding { key: "k".into(), width: SlotWidth(64), total: 4, slots: vec![0..1, 1..2, 2..4, 4..4] };
        let thin = |slots: &[(u64, u64)]| Spread::of(&sharding, slots).thin(&sharding);
        assert_eq!(thin(&[(0, 1000), (1, 900), (2, 1000), (3, 1100)]), Vec::<usize>::new());
        assert_eq!(thin(&[(0, 2000), (1, 2000)]), [2], "the third shard has two slots, and no row");
        assert_eq!(thin(&[(0, 400), (1, 3000), (2, 600)]), [0, 2]);
        assert_eq!(thin(&[(0, 9)]), Vec::<usize>::new(), "too few rows to say");
        assert_eq!(Spread::of(&sharding, &[(0, 5), (3, 7)]), Spread { rows: 12, shards: vec![5, 0, 7, 0] });
    }
}
