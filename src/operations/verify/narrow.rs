//! The search for the keys that differ in a partition. It divides the rows into buckets by the hash of the sorting key, and splits
//! differing buckets until they hold few rows. This takes a few statements per node, each with a limited number of groups.

use std::borrow::Cow;

use futures::future::{try_join, try_join_all};

use super::judge::{LEVELS, Measures, differing, finer, outermost};
use super::sides::{Reader, Sides, key_hash};
use crate::client::{Digest, Error};
use crate::model::bytes_of_text;
use crate::nodes::checksums::Measure;
use crate::plan::PartitionPlan;
use crate::sql::quote::value_literal;
use crate::sql::{KeyElement, Slice};

/// The differences in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// The keys that differ, at most the requested number.
    pub keys: Vec<KeyDifference>,
    /// The number of further keys that differ.
    pub more: u64,
    /// Whether there may be even more of them.
    pub at_least: bool,
    /// The first and the last of all keys that were found, if there are more than requested and the keys have an order. The keys are
    /// from some buckets only, so these are nearly the first and the last of the partition.
    pub between: Option<KeyRange>,
}

/// The first and the last of some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The values of the first key, as texts.
    pub first: Vec<String>,
    /// The values of the last key.
    pub last: Vec<String>,
}

/// A key with different rows on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDifference {
    /// The values of the key, as texts.
    pub key: Vec<String>,
    /// The rows with this key on all source shards.
    pub source: Measure,
    /// The rows with this key on all target shards.
    pub target: Measure,
}

/// Some of `count` buckets. `None` means all of them.
struct Buckets {
    count: u64,
    numbers: Option<Vec<u64>>,
}

impl Sides<'_> {
    /// Finds the keys that differ in a partition of about `rows` rows. Returns at most `most` keys.
    pub(super) async fn narrow(&self, partition: &PartitionPlan, rows: u64, most: usize) -> Result<Narrowed, Error> {
        let mut buckets = Buckets { count: 1, numbers: None };
        let (mut rows, mut unseen) = (rows, 0);
        for _ in 0..LEVELS {
            let factor = finer(rows);
            if factor == 1 {
                break;
            }
            let count = buckets.count * factor;
            let bucket = |reader: &Reader| {
                vec![KeyElement {
                    expression: format!("({}) % {count}", self.hash(reader)),
                    type_name: "UInt64".into(),
                }]
            };
            let (source, target) = self.both(partition, &buckets, bucket).await?;
            let mut found = differing(&source, &target);
            if found.is_empty() {
                // The rows have changed meanwhile.
                return Ok(Narrowed { keys: Vec::new(), more: 0, at_least: false, between: None });
            }
            if found.len() > most.max(1) {
                unseen += (found.len() - most.max(1)) as u64;
                found.truncate(most.max(1));
            }
            rows = found.iter().map(|(_, source, target)| source.rows.max(target.rows)).max().unwrap_or(0);
            let numbers = found.iter().filter_map(|(number, ..)| number.first()?.parse().ok()).collect();
            buckets = Buckets { count, numbers: Some(numbers) };
        }
        let texts = |reader: &Reader| match self.key.as_slice() {
            [] => vec![KeyElement { expression: reader.row.clone(), type_name: "UInt64".into() }],
            key => key.iter().map(|element| element.text.clone()).collect(),
        };
        let (source, target) = self.both(partition, &buckets, texts).await?;
        let found = differing(&source, &target);
        let more = found.len().saturating_sub(most) as u64 + unseen;
        let between =
            if more > 0 && !self.key.is_empty() { outermost(found.iter().map(|(key, ..)| key)) } else { None };
        let between = between.map(|(first, last)| KeyRange { first: self.legible(first), last: self.legible(last) });
        let keys = found.into_iter().take(most).map(|(key, source, target)| KeyDifference {
            key: self.legible(key),
            source,
            target,
        });
        Ok(Narrowed { keys: keys.collect(), more, at_least: unseen > 0, between })
    }

    /// Measures the rows of both sides in some buckets, by a key.
    async fn both(
        &self,
        partition: &PartitionPlan,
        buckets: &Buckets,
        key: impl Fn(&Reader) -> Vec<KeyElement>,
    ) -> Result<(Measures<Vec<String>>, Measures<Vec<String>>), Error> {
        let ask = |reader| {
            let slice = buckets.numbers.as_ref().map(|numbers| Slice::Buckets {
                hash: self.hash(reader),
                count: buckets.count,
                numbers: numbers.clone(),
            });
            let key = key(reader);
            async move { self.digest(reader, &[partition], slice, &key, false).await }
        };
        let sources = try_join_all(self.sources.iter().map(&ask));
        let targets = try_join_all(self.target_readers().map(&ask));
        let (sources, targets) = try_join(sources, targets).await?;
        Ok((add_up(sources), add_up(targets)))
    }

    /// Returns the hash that assigns the rows of a node to buckets.
    fn hash(&self, reader: &Reader) -> String {
        if self.key.is_empty() { reader.row.clone() } else { key_hash(&self.key) }
    }

    /// Returns the values of a key in a readable form. A DateTime is compared by its seconds and shown as a time.
    fn legible(&self, values: Vec<String>) -> Vec<String> {
        if self.key.is_empty() {
            return values
                .iter()
                .map(|hash| hash.parse().map_or(hash.clone(), |hash: u64| format!("{hash:016x}")))
                .collect();
        }
        let shown = |(value, type_name): (String, &str)| match value.parse() {
            Ok(seconds) if type_name.starts_with("DateTime") && !type_name.starts_with("DateTime64") => {
                utc(seconds).unwrap_or(value)
            }
            _ => match bytes_of_text(&value) {
                Cow::Owned(_) => value_literal(&value, 0),
                Cow::Borrowed(_) => value,
            },
        };
        values.into_iter().zip(self.key.iter().map(|element| element.type_name.as_str())).map(shown).collect()
    }
}

/// Returns a time in the form `2018-01-31 12:00:00 UTC`.
fn utc(seconds: i64) -> Option<String> {
    let form = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    time::OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(form).ok()
}

/// Adds up the digests of several nodes by key.
fn add_up(nodes: Vec<Vec<Digest>>) -> Measures<Vec<String>> {
    let mut all = Measures::new();
    for digest in nodes.into_iter().flatten() {
        let entry: &mut Measure = all.entry(digest.value.0).or_default();
        *entry = entry.and(Measure { rows: digest.rows, sum: digest.sum });
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_shown_in_utc() {
        assert_eq!(super::utc(1_517_400_000).as_deref(), Some("2018-01-31 12:00:00 UTC"));
    }
}
