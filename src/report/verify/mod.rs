//! The output of `verify`: a line for each partition, with its differences below it, or all as one JSON object.

mod text;

use serde::Serialize;

use crate::operations::verify::{
    By, Comparison, KeyDifference, PartitionComparison, PartitionVerdict, Sample, TableComparison,
};

/// The result of a comparison, as JSON:
/// `{"verdict", "by", "sample"?, "remarks", "tables": [{"table", "source", "target", "verdict", "remarks", "key_columns",
/// "left_out", "error"?, "not_compared", "partitions": [{"partition", "verdict", "reason"?, "source_rows", "target_rows",
/// "misplaced", "keys", "more_keys", "more_at_least"?, "between"?, "keys_error"?}]}]}`, where a key is `{"key": […], "source_rows",
/// "target_rows", "contents_differ"?}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The result of all tables.
    pub(crate) verdict: ComparisonResult,
    /// `count` or `checksum`.
    pub(crate) by: &'static str,
    /// The sample, if not all partitions were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sample: Option<SampleReport>,
    /// Remarks for the user.
    pub(crate) remarks: Vec<String>,
    /// The table jobs.
    pub(crate) tables: Vec<TableReport>,
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparisonResult {
    /// Both sides are the same.
    Equal,
    /// The sides differ for a known reason that is no fault.
    Expected,
    /// A part was not compared, and the compared part is the same.
    Unknown,
    /// Something differs.
    Different,
}

/// The partitions that were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SampleReport {
    /// The number of compared classes.
    pub(crate) take: u64,
    /// The number of all classes.
    #[serde(rename = "of")]
    pub(crate) classes: u64,
}

/// The comparison of a table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TableReport {
    /// The name of the table job in the task.
    pub(crate) table: String,
    /// The source table.
    pub(crate) source: String,
    /// The target table.
    pub(crate) target: String,
    /// The result of the table.
    pub(crate) verdict: ComparisonResult,
    /// Remarks for the user.
    pub(crate) remarks: Vec<String>,
    /// The columns of a key.
    pub(crate) key_columns: Vec<String>,
    /// The number of partitions that are not in the sample.
    pub(crate) left_out: usize,
    /// Why some partitions were not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The names of the partitions that were not compared.
    pub(crate) not_compared: Vec<String>,
    /// The partitions that were compared.
    pub(crate) partitions: Vec<PartitionReport>,
}

/// The comparison of a partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PartitionReport {
    /// The literal of the partition.
    pub(crate) partition: String,
    /// The result of the partition.
    pub(crate) verdict: ComparisonResult,
    /// The reason why a difference is no fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Rows on all source shards.
    pub(crate) source_rows: u64,
    /// Rows on all target shards.
    pub(crate) target_rows: u64,
    /// One sentence for each problem: rows on the wrong shard, or replicas that do not agree.
    pub(crate) misplaced: Vec<String>,
    /// The keys that differ.
    pub(crate) keys: Vec<KeyReport>,
    /// The number of further keys that differ.
    pub(crate) more_keys: u64,
    /// Whether there may be more than these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) more_at_least: bool,
    /// Approximately the first and the last differing key, if not all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) between: Option<(Vec<String>, Vec<String>)>,
    /// Why the differing keys could not be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys_error: Option<String>,
}

/// A key whose rows differ between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyReport {
    /// The values of the key.
    pub(crate) key: Vec<String>,
    /// The number of rows of the key at the source.
    pub(crate) source_rows: u64,
    /// The number of rows of the key on the target.
    pub(crate) target_rows: u64,
    /// Whether the contents differ. `None` if rows were only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contents_differ: Option<bool>,
}

impl VerifyReport {
    /// Makes the report from a comparison.
    pub fn of(found: &Comparison, by: By, sample: Option<Sample>) -> Self {
        let tables: Vec<TableReport> = found.tables.iter().map(|table| table_report(table, by)).collect();
        Self {
            verdict: worst(tables.iter().map(|table| table.verdict)),
            by: match by {
                By::Count => "count",
                By::Checksum => "checksum",
            },
            sample: sample.map(|sample| SampleReport { take: sample.take, classes: sample.classes }),
            remarks: found.remarks.clone(),
            tables,
        }
    }

    /// Returns the number of partitions that differ.
    pub(crate) fn different(&self) -> usize {
        self.count(ComparisonResult::Different)
    }

    /// Returns whether a part could not be compared.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.tables.iter().any(|table| table.error.is_some())
    }

    /// Returns the number of partitions with this result.
    fn count(&self, verdict: ComparisonResult) -> usize {
        self.tables.iter().flat_map(|table| &table.partitions).filter(|partition| partition.verdict == verdict).count()
    }
}

/// Returns the worst result. A difference is known even if another part was not compared.
fn worst(outcomes: impl Iterator<Item = ComparisonResult>) -> ComparisonResult {
    let rank = |outcome: &ComparisonResult| match outcome {
        ComparisonResult::Equal => 0,
        ComparisonResult::Expected => 1,
        ComparisonResult::Unknown => 2,
        ComparisonResult::Different => 3,
    };
    outcomes.max_by_key(rank).unwrap_or(ComparisonResult::Equal)
}

fn table_report(found: &TableComparison, by: By) -> TableReport {
    let partitions: Vec<PartitionReport> =
        found.partitions.iter().map(|partition| partition_report(partition, by)).collect();
    let unknown = found.error.iter().map(|_| ComparisonResult::Unknown);
    TableReport {
        table: found.name.clone(),
        source: found.source.to_string(),
        target: found.target.to_string(),
        verdict: worst(partitions.iter().map(|partition| partition.verdict).chain(unknown)),
        remarks: found.remarks.clone(),
        key_columns: found.key.clone(),
        left_out: found.left_out,
        error: found.error.clone(),
        not_compared: found.missed.clone(),
        partitions,
    }
}

fn partition_report(found: &PartitionComparison, by: By) -> PartitionReport {
    let (verdict, reason) = match &found.verdict {
        PartitionVerdict::Equal => (ComparisonResult::Equal, None),
        PartitionVerdict::Expected(reason) => (ComparisonResult::Expected, Some(reason.clone())),
        PartitionVerdict::Different => (ComparisonResult::Different, None),
    };
    let (narrowed, keys_error) = match &found.narrowed {
        Some(Ok(narrowed)) => (Some(narrowed), None),
        Some(Err(error)) => (None, Some(error.clone())),
        None => (None, None),
    };
    PartitionReport {
        partition: found.name.clone(),
        verdict,
        reason,
        source_rows: found.source.rows,
        target_rows: found.target.rows,
        misplaced: found.misplaced.clone(),
        keys: narrowed.iter().flat_map(|narrowed| &narrowed.keys).map(|key| key_report(key, by)).collect(),
        more_keys: narrowed.map_or(0, |narrowed| narrowed.more),
        more_at_least: narrowed.is_some_and(|narrowed| narrowed.at_least),
        between: narrowed.and_then(|narrowed| narrowed.between.clone()).map(|keys| (keys.first, keys.last)),
        keys_error,
    }
}

fn key_report(found: &KeyDifference, by: By) -> KeyReport {
    KeyReport {
        key: found.key.clone(),
        source_rows: found.source.rows,
        target_rows: found.target.rows,
        contents_differ: (by == By::Checksum).then_some(found.source.sum != found.target.sum),
    }
}
