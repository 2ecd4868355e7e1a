//! Marks of partitions: names and hashes of parts. Two marks show whether a partition of the source still holds the
//! same rows.
//!
//! A part never changes; rows that arrive, leave or are mutated make parts with other names (ClickHouse's own rule,
//! all versions). A merge gives the same rows a part with another name: its block numbers show that, as long as the
//! table is the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The mark of a partition: its parts on all source shards at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Mark(pub Vec<ShardMark>);

/// The mark of a partition on one source shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMark {
    /// Index of the source shard.
    #[serde(rename = "s")]
    shard: usize,
    /// Digest of the names and hashes of its parts, independent of their order.
    #[serde(rename = "d")]
    digest: String,
    /// A text that changes when the table is recreated or altered.
    #[serde(rename = "t")]
    table: String,
    /// Rows according to the parts.
    #[serde(rename = "r")]
    rows: u64,
    /// The ranges of block numbers that the parts cover, in their order; empty if they are too many or not known.
    #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<(u64, u64)>,
    /// The last mutation in any part.
    #[serde(rename = "m", default)]
    mutation: u64,
}

/// The largest number of ranges kept. A merge of more parts counts as a change.
const MOST_RANGES: usize = 40;
/// Bytes of a digest that are kept.
const DIGEST: usize = 16;

impl Mark {
    /// Returns the source shards that have parts of the partition.
    pub(crate) fn shards(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|mark| mark.shard)
    }

    /// Returns whether the rows are the same as `before`.
    pub(crate) fn is_as(&self, before: &Mark) -> bool {
        self.0.len() == before.0.len() && self.0.iter().zip(&before.0).all(|(now, before)| now.is_as(before))
    }
}

impl ShardMark {
    /// Returns the mark of parts, each given by its name, its rows and the hash of its contents (empty if the server
    /// does not report it: 18.16). `table` is a text that changes when the table is recreated or altered.
    pub fn of<'a>(shard: usize, table: &str, parts: impl IntoIterator<Item = (&'a str, u64, &'a str)>) -> Self {
        let mut parts: Vec<(&str, u64, &str)> = parts.into_iter().collect();
        parts.sort_unstable();
        let mut hash = Sha256::new();
        for (name, rows, content) in &parts {
            hash.update(format!("{name}\n{rows}\n{content}\n"));
        }
        // Without hashes, the names could be those of another table's parts.
        if parts.iter().any(|(_, _, content)| content.is_empty()) {
            hash.update(table);
        }
        let digest = hash.finalize().iter().take(DIGEST).map(|byte| format!("{byte:02x}")).collect();
        let names: Option<Vec<Blocks>> = parts.iter().map(|(name, ..)| Blocks::of(name)).collect();
        let names = names.filter(|names| names.len() <= MOST_RANGES).unwrap_or_default();
        let mut blocks: Vec<(u64, u64)> = names.iter().map(|name| (name.first, name.last)).collect();
        blocks.sort_unstable();
        Self {
            shard,
            digest,
            table: table.to_owned(),
            rows: parts.iter().map(|(_, rows, _)| rows).sum(),
            blocks,
            mutation: names.iter().map(|name| name.mutation).max().unwrap_or(0),
        }
    }

    fn is_as(&self, before: &Self) -> bool {
        self.shard == before.shard && (self.digest == before.digest || self.is_merged_from(before))
    }

    /// Returns whether merges of the parts of `before` alone could have made these parts: they are fewer, each covers
    /// whole parts of before, no mutation ran, and no row is missing. The blocks of a recreated table would have the
    /// same numbers.
    fn is_merged_from(&self, before: &Self) -> bool {
        let covered = |(first, last): &(u64, u64)| self.blocks.iter().any(|(from, to)| from <= first && last <= to);
        let made_of = |(first, last): &(u64, u64)| {
            before.blocks.iter().any(|(from, _)| from == first) && before.blocks.iter().any(|(_, to)| to == last)
        };
        self.table == before.table
            && (self.rows, self.mutation) == (before.rows, before.mutation)
            && self.blocks.len() < before.blocks.len()
            && !self.blocks.is_empty()
            && before.blocks.iter().all(covered)
            && self.blocks.iter().all(made_of)
    }
}

/// The block numbers in a part's name.
struct Blocks {
    first: u64,
    last: u64,
    mutation: u64,
}

impl Blocks {
    /// Parses `<partition>_<first>_<last>_<level>`, with `…_<version>` after a mutation. Returns `None` for other
    /// names, and for names of the old syntax (`20180101_20180131_1_5_1`), because a mutated part of a partition by
    /// day looks the same.
    fn of(name: &str) -> Option<Self> {
        let fields: Vec<&str> = name.split('_').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let is_day = |text: &str| text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit());
        match fields.as_slice() {
            [_, _, _, _] => Some(Self { first: number(1)?, last: number(2)?, mutation: 0 }),
            [from, to, ..] if is_day(from) && is_day(to) => None,
            [_, _, _, _, _] => Some(Self { first: number(1)?, last: number(2)?, mutation: number(4)? }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(table: &str, parts: &[(&str, u64, &str)]) -> Mark {
        Mark(vec![ShardMark::of(0, table, parts.iter().copied())])
    }

    #[test]
    fn the_same_parts_in_another_order_have_the_same_mark() {
        let before = mark("t", &[("1_1_1_0", 5, "a"), ("1_2_2_0", 6, "b")]);
        assert!(mark("t", &[("1_2_2_0", 6, "b"), ("1_1_1_0", 5, "a")]).is_as(&before));
        assert!(
            mark("altered", &[("1_1_1_0", 5, "a"), ("1_2_2_0", 6, "b")]).is_as(&before),
            "their contents are the same"
        );
        assert!(!mark("t", &[("1_1_1_0", 5, "a"), ("1_2_2_0", 6, "c")]).is_as(&before));
        assert!(!mark("t", &[("1_1_1_0", 5, "a")]).is_as(&before));
        assert!(!mark("t", &[("1_1_1_0", 5, "a"), ("1_2_2_0", 6, "b"), ("1_3_3_0", 1, "c")]).is_as(&before));
        assert!(!Mark::default().is_as(&before), "a shard that has no part any more");
    }

    #[test]
    fn part_names_without_checksums_are_compared_only_in_the_same_table() {
        let before = mark("t", &[("1_1_1_0", 5, "")]);
        assert!(mark("t", &[("1_1_1_0", 5, "")]).is_as(&before));
        assert!(!mark("recreated", &[("1_1_1_0", 5, "")]).is_as(&before));
    }

    #[test]
    fn a_merge_is_no_change() {
        let before = mark("t", &[("1_1_1_0", 5, "a"), ("1_3_3_0", 6, "b"), ("1_4_9_1", 1, "c")]);
        assert!(mark("t", &[("1_1_3_1", 11, "ab"), ("1_4_9_1", 1, "c")]).is_as(&before));
        assert!(mark("t", &[("1_1_9_2", 12, "abc")]).is_as(&before));
        let same_numbers = [("1_1_9_2", 12, "other")];
        assert!(!mark("recreated", &same_numbers).is_as(&before), "block numbers begin at one in every table");
        for changed in [
            ("1_1_9_2", 11, "a row is missing"),
            ("1_1_9_2_10", 12, "mutated"),
            ("1_1_10_2", 12, "another block"),
            ("1_1_8_2", 12, "a part is missing"),
            ("1_0_9_2", 12, "an earlier block"),
        ] {
            assert!(!mark("t", &[changed]).is_as(&before), "{changed:?}");
        }
    }

    #[test]
    fn ambiguous_part_names_are_not_read() {
        assert!(Blocks::of("20180101_20180131_1_5_1").is_none());
        assert!(Blocks::of("20180101_1_5_1_7").is_some_and(|blocks| blocks.mutation == 7));
        assert!(Blocks::of("all_1_5_1").is_some_and(|blocks| (blocks.first, blocks.last) == (1, 5)));
        let before = mark("t", &[("20180101_20180131_1_1_0", 5, "a"), ("20180101_20180131_2_2_0", 5, "b")]);
        assert!(!mark("t", &[("20180101_20180131_1_2_1", 10, "ab")]).is_as(&before));
    }

    #[test]
    fn a_merge_of_very_many_parts_counts_as_a_change() {
        let names: Vec<String> = (1..=41).map(|n| format!("1_{n}_{n}_0")).collect();
        let many: Vec<(&str, u64, &str)> = names.iter().map(|name| (name.as_str(), 1, "a")).collect();
        assert!(mark("t", &many).is_as(&mark("t", &many)));
        assert!(!mark("t", &[("1_1_41_1", 41, "b")]).is_as(&mark("t", &many)));
    }
}
