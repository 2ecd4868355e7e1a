//! The verdict on the measures of both sides, and the choice of what to measure next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::nodes::checksums::Measure;

/// The most rows of a bucket that is not split further. One group for each of its keys fits into memory.
const MAX_UNSPLIT_ROWS: u64 = 1000;
/// The most buckets that one statement returns.
const MAX_BUCKETS: u64 = 4096;
/// How often buckets are split. A bucket that is still large then has few keys.
pub(super) const LEVELS: u32 = 3;

/// The verdict on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionVerdict {
    /// Both sides hold the same rows.
    Equal,
    /// The sides differ, for a reason that is expected.
    Expected(String),
    /// The sides differ.
    Different,
}

/// The reasons why the sides may differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Why the target may have more rows.
    pub(crate) more: Option<String>,
    /// Why the target may have fewer rows, or changed rows.
    pub(crate) fewer: Option<String>,
}

impl Allowance {
    /// Compares the rows of a partition on both sides.
    pub(crate) fn judge(&self, source: Measure, target: Measure) -> PartitionVerdict {
        let reason = match target.rows.cmp(&source.rows) {
            _ if source == target => return PartitionVerdict::Equal,
            std::cmp::Ordering::Greater => &self.more,
            std::cmp::Ordering::Less | std::cmp::Ordering::Equal => &self.fewer,
        };
        reason.clone().map_or(PartitionVerdict::Different, PartitionVerdict::Expected)
    }
}

/// A sample of partitions for a day. Partitions are divided into classes, and each day takes some of them in rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The number of classes for one day.
    pub take: u64,
    /// The number of all classes. At least `take`, and at least one.
    pub classes: u64,
    /// The number of the day.
    pub day: u64,
}

impl Sample {
    /// Returns whether the sample contains the partition with this index in the order of names.
    pub(crate) fn holds(&self, index: usize) -> bool {
        let first = (self.day % self.classes) * self.take % self.classes;
        (index as u64 % self.classes + self.classes - first) % self.classes < self.take
    }
}

/// Returns into how many buckets to split a bucket of this number of rows. 1 means that it is small enough.
pub(super) fn finer(rows: u64) -> u64 {
    if rows <= MAX_UNSPLIT_ROWS { 1 } else { (rows / (MAX_UNSPLIT_ROWS / 2)).next_power_of_two().min(MAX_BUCKETS) }
}

/// The measures by bucket or by key.
pub(super) type Measures<K> = BTreeMap<K, Measure>;

/// Returns the buckets or keys that differ, with the measures of both sides.
pub(super) fn differing<K: Ord + Clone>(source: &Measures<K>, target: &Measures<K>) -> Vec<(K, Measure, Measure)> {
    let all: BTreeSet<&K> = source.keys().chain(target.keys()).collect();
    let both = all.into_iter().map(|key| {
        let measure = |side: &Measures<K>| side.get(key).copied().unwrap_or_default();
        (key.clone(), measure(source), measure(target))
    });
    both.filter(|(_, source, target)| source != target).collect()
}

/// Returns the first and the last of some keys, whose values are texts. Numbers are ordered by value, other texts by their bytes.
pub(super) fn outermost<'k>(keys: impl Iterator<Item = &'k Vec<String>>) -> Option<(Vec<String>, Vec<String>)> {
    let order = |one: &&Vec<String>, other: &&Vec<String>| {
        let values =
            one.iter().zip(other.iter()).map(|(one, other)| match (one.parse::<i128>(), other.parse::<i128>()) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                _ => one.cmp(other),
            });
        values.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let mut sorted: Vec<&Vec<String>> = keys.collect();
    sorted.sort_by(order);
    Some(((*sorted.first()?).clone(), (*sorted.last()?).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(rows: u64, sum: u64) -> Measure {
        Measure { rows, sum }
    }

    #[test]
    fn an_allowed_difference_is_expected_only_in_its_direction() {
        let strict = Allowance::default();
        let more = Allowance { more: Some("append".into()), fewer: None };
        let fewer = Allowance { more: None, fewer: Some("merges".into()) };
        let (expected_more, expected_fewer) =
            (PartitionVerdict::Expected("append".into()), PartitionVerdict::Expected("merges".into()));
        for (target, of_strict, of_more, of_fewer) in [
            (measure(2, 7), PartitionVerdict::Equal, PartitionVerdict::Equal, PartitionVerdict::Equal),
            (measure(3, 8), PartitionVerdict::Different, expected_more, PartitionVerdict::Different),
            (measure(1, 3), PartitionVerdict::Different, PartitionVerdict::Different, expected_fewer.clone()),
            (measure(2, 8), PartitionVerdict::Different, PartitionVerdict::Different, expected_fewer),
        ] {
            assert_eq!(strict.judge(measure(2, 7), target), of_strict, "{target:?}");
            assert_eq!(more.judge(measure(2, 7), target), of_more, "{target:?}");
            assert_eq!(fewer.judge(measure(2, 7), target), of_fewer, "{target:?}");
        }
    }

    #[test]
    fn samples_of_successive_days_hold_every_partition() {
        for (take, classes) in [(1, 1), (1, 7), (2, 7), (2, 4), (3, 5), (7, 7)] {
            for index in 0..30 {
                let days = |from: u64, count: u64| {
                    (from..from + count).filter(|day| Sample { take, classes, day: *day }.holds(index)).count()
                };
                assert!(days(738_000, classes.div_ceil(take)) >= 1, "{take}/{classes}: partition {index} has no day");
                assert_eq!(days(738_000, classes), take as usize, "{take}/{classes}: partition {index}");
            }
        }
        assert_eq!(
            (0..9).filter(|index| Sample { take: 1, classes: 3, day: 8 }.holds(*index)).collect::<Vec<_>>(),
            [2, 5, 8]
        );
    }

    #[test]
    fn a_difference_is_found_on_either_side() {
        let side =
            |sums: &[(u64, u64)]| sums.iter().map(|(key, sum)| (*key, measure(1, *sum))).collect::<Measures<u64>>();
        let found = differing(&side(&[(1, 1), (2, 2), (3, 3)]), &side(&[(2, 2), (3, 4), (4, 4)]));
        let keys: Vec<u64> = found.iter().map(|(key, ..)| *key).collect();
        assert_eq!(keys, [1, 3, 4]);
        assert_eq!((found[0].1.rows, found[0].2.rows), (1, 0));
    }

    #[test]
    fn the_number_of_buckets_grows_with_the_number_of_rows() {
        assert_eq!([0, 1000, 1001, 10_000, 1 << 40].map(finer), [1, 1, 2, 32, 4096]);
    }

    #[test]
    fn numeric_keys_are_ordered_by_value() {
        let keys = [["2018-01-02", "9"], ["2018-01-02", "10"], ["2018-01-01", "70"], ["2018-01-02", "-3"]];
        let keys = keys.map(|key| key.map(str::to_owned).to_vec());
        let (first, last) = outermost(keys.iter()).unwrap();
        assert_eq!((first.join(" "), last.join(" ")), ("2018-01-01 70".into(), "2018-01-02 10".into()));
        assert_eq!(outermost([].iter()), None);
    }
}
