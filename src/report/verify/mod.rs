//! What `verify` prints: a line for each partition with what differs below it, or all as one JSON object.

mod text;

use serde::Serialize;

use crate::operations::verify::{By, Comparison, KeyDifference, PartitionComparison, Sample, TableComparison, Verdict};

/// What a comparison found, as JSON:
/// `{"verdict", "by", "sample"?, "remarks", "tables": [{"table", "source", "target", "verdict", "remarks", "key_columns",
/// "left_out", "error"?, "not_compared", "partitions": [{"partition", "verdict", "reason"?, "source_rows", "target_rows",
/// "misplaced", "keys", "more_keys", "more_at_least"?, "between"?, "keys_error"?}]}]}`, where a key is `{"key": […], "source_rows",
/// "target_rows", "contents_differ"?}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Of all tables.
    pub verdict: Outcome,
    /// `count` or `checksum`.
    pub by: &'static str,
    /// Which partitions, where not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleReport>,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// The table jobs.
    pub tables: Vec<TableReport>,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Both sides are the same.
    Equal,
    /// They are not, for a reason that makes it no fault.
    Expected,
    /// Something was not compared, and what was is the same.
    Unknown,
    /// Something differs.
    Different,
}

/// Which partitions were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleReport {
    /// So many classes.
    pub take: u64,
    /// Of so many.
    pub of: u64,
}

/// A table job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Its name in the task.
    pub table: String,
    /// The source table.
    pub source: String,
    /// The target table.
    pub target: String,
    /// What it comes to.
    pub verdict: Outcome,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// What keys are made of.
    pub key_columns: Vec<String>,
    /// So many partitions are not in the sample.
    pub left_out: usize,
    /// Why some were not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The names of those.
    pub not_compared: Vec<String>,
    /// Those that were.
    pub partitions: Vec<PartitionReport>,
}

/// A partition of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// How a person writes it.
    pub partition: String,
    /// What it comes to.
    pub verdict: Outcome,
    /// Why a difference is no fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows on all source shards.
    pub source_rows: u64,
    /// Rows on all target shards.
    pub target_rows: u64,
    /// Rows on the wrong shard, and replicas that do not agree: a sentence each.
    pub misplaced: Vec<String>,
    /// Keys that differ.
    pub keys: Vec<KeyReport>,
    /// So many more do.
    pub more_keys: u64,
    /// Whether there may be still more than that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_at_least: bool,
    /// Nearly the first and the last key that differ, where not all are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<(Vec<String>, Vec<String>)>,
    /// Why keys could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_error: Option<String>,
}

/// A key that has not the same rows on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Its values.
    pub key: Vec<String>,
    /// Its rows at the source.
    pub source_rows: u64,
    /// Its rows on the target.
    pub target_rows: u64,
    /// Whether the contents differ; not known where rows were only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents_differ: Option<bool>,
}

impl VerifyReport {
    /// Of what was found.
    pub fn of(found: &Comparison, by: By, sample: Option<Sample>) -> Self {
        let tables: Vec<TableReport> = found.tables.iter().map(|table| of_table(table, by)).collect();
        Self {
            verdict: worst(tables.iter().map(|table| table.verdict)),
            by: match by {
                By::Count => "count",
                By::Checksum => "checksum",
            },
            sample: sample.map(|sample| SampleReport { take: sample.take, of: sample.of }),
            remarks: found.remarks.clone(),
            tables,
        }
    }

    /// How many partitions differ.
    pub fn different(&self) -> usize {
        self.count(Outcome::Different)
    }

    /// Whether something could not be compared.
    pub fn is_incomplete(&self) -> bool {
        self.tables.iter().any(|table| table.error.is_some())
    }

    /// How many partitions came to this.
    fn count(&self, verdict: Outcome) -> usize {
        self.tables.iter().flat_map(|table| &table.partitions).filter(|of| of.verdict == verdict).count()
    }
}

/// A difference is known whatever else was not compared.
fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Equal => 0,
        Outcome::Expected => 1,
        Outcome::Unknown => 2,
        Outcome::Different => 3,
    };
    outcomes.max_by_key(rank).unwrap_or(Outcome::Equal)
}

fn of_table(found: &TableComparison, by: By) -> TableReport {
    let partitions: Vec<PartitionReport> =
        found.partitions.iter().map(|partition| of_partition(partition, by)).collect();
    let unknown = found.error.iter().map(|_| Outcome::Unknown);
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

fn of_partition(found: &PartitionComparison, by: By) -> PartitionReport {
    let (verdict, reason) = match &found.verdict {
        Verdict::Equal => (Outcome::Equal, None),
        Verdict::Expected(reason) => (Outcome::Expected, Some(reason.clone())),
        Verdict::Different => (Outcome::Different, None),
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
        keys: narrowed.iter().flat_map(|of| &of.keys).map(|key| of_key(key, by)).collect(),
        more_keys: narrowed.map_or(0, |of| of.more),
        more_at_least: narrowed.is_some_and(|of| of.at_least),
        between: narrowed.and_then(|of| of.between.clone()),
        keys_error,
    }
}

fn of_key(found: &KeyDifference, by: By) -> KeyReport {
    KeyReport {
        key: found.key.clone(),
        source_rows: found.source.rows,
        target_rows: found.target.rows,
        contents_differ: (by == By::Checksum).then_some(found.source.sum != found.target.sum),
    }
}
